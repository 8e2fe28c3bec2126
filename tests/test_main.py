"""The command line: in this process, and once as a program of its own."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import genai_lib.__main__ as command_line
from genai_lib import Noise, checkpoint, data, pretrained, recipes
from genai_lib.__main__ import main
from genai_lib.data.levels import read_sok
from genai_lib.data.pictures import tile
from genai_lib.recipes import RECIPES


@functools.cache
def digits(name, split="train", device="cpu"):
    return data.load(name, split, device=device)


@pytest.fixture(autouse=True)
def small_world(monkeypatch, tmp_path):
    """Own working folder; digits unpacked once, 1,000 to measure on; no judge; torch's threads and precision put back."""

    def load(name, split="train", *, device="cpu"):
        whole = digits(name, split, device)
        return whole if split == "train" else data.Split(*(t[:1_000] for t in whole))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipes.core, "load", load)
    monkeypatch.setattr(pretrained, "judge", lambda name: None)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def train(name, folder, *more, epochs=0.05):
    return main(["train", name, "--epochs", str(epochs), "--precision", "fp32", "--folder", str(folder), *more])


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refused(capsys, *arguments):
    """Run a command that must fail with status 2; returns what it says."""
    capsys.readouterr()
    try:
        status = main(list(arguments))
    except SystemExit as stop:  # argparse's way
        status = stop.code
    said = capsys.readouterr()
    assert status == 2
    assert "Traceback" not in said.err
    return said.err


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize("name", ["vae-mlp", "gan-mlp"])
def test_train_sample_evaluate(name, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(name, run, "--seed", "3", "--save-every", "5") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{name}, minute version, seed 3; checkpoints, logs, pictures go to {run}\n")
    assert said.endswith(f"weights: {run / name}.safetensors\n")
    assert len(list((run / "checkpoints").glob("*.safetensors"))) == 2
    assert list((run / "logs").glob("events.out.tfevents.*"))
    card = pretrained.card(name, folder=run)
    assert (card["version"], card["seed"], card["effort"]["epochs"]) == ("minute", 3, 0.05)

    sheet = tmp_path / "pictures" / "sheet.png"
    assert main(["sample", name, "--weights", str(run), "-n", "7", "--seed", "5", "--out", str(sheet)]) == 0
    assert capsys.readouterr().out == f"{sheet}\n"
    expected = tile(pretrained.load(name, folder=run).sample(7, Noise(5)))
    assert expected.shape == (3 * 30 - 2, 3 * 30 - 2, 3)  # seven digits in three rows of three, gaps of two
    with Image.open(sheet) as picture:
        assert (picture.format, picture.size) == ("PNG", (176, 176))  # twice as large
        assert np.array_equal(np.asarray(picture), expected.repeat(2, axis=0).repeat(2, axis=1))

    assert main(["evaluate", name, "--weights", str(run)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("measuring on the test set …\n")
    for figure, value in card["figures"].items():
        assert f"  {figure:24} {value:10.4f}   card: {value:.4f}\n" in said


def test_evaluate_writes_on_the_card_when_asked(tmp_path, capsys):
    assert train("autoencoder", tmp_path) == 0
    path = tmp_path / "autoencoder.json"
    right = path.read_text(encoding="utf-8")
    wrong = right.replace('"squared error": 0.', '"squared error": 9.')
    path.write_text(wrong, encoding="utf-8")
    capsys.readouterr()
    assert main(["evaluate", "autoencoder", "--weights", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "   card: 9." in said.out
    assert re.fullmatch(r"off: squared error is 0\.\d{4}, and should be 9\.\d{4} ± 0\.04\d as on the card\n", said.err)
    assert path.read_text(encoding="utf-8") == wrong  # only looked at
    assert main(["evaluate", "autoencoder", "--weights", str(tmp_path), "--write"]) == 0
    assert "   card: 9." in capsys.readouterr().out  # what it was before
    assert path.read_text(encoding="utf-8") == right != wrong


def test_the_mixture_is_trained_too(tmp_path, monkeypatch):
    few = data.Split(*(t[:1_000] for t in digits("mnist")))
    monkeypatch.setattr(recipes.core, "load", lambda name, split, device="cpu": few)
    assert train("mixture", tmp_path, epochs=2) == 0
    assert pretrained.card("mixture", folder=tmp_path)["steps"] == 1
    assert main(["sample", "mixture", "--weights", str(tmp_path), "-n", "1"]) == 0
    with Image.open(tmp_path / "samples.png") as picture:  # the default name, in the working folder
        assert picture.size == (56, 56)


def test_of_what_is_not_kept_the_card_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pretrained, "measure", lambda name, product: {"bits per character": 2.0})
    assert train("ngram", tmp_path, epochs=1) == 0
    assert capsys.readouterr().out.endswith(f"card: {tmp_path / 'ngram.json'}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["ngram.json"]


def test_the_same_seed_gives_the_same_weights(tmp_path):
    for folder, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert train("autoencoder", tmp_path / folder, "--seed", seed) == 0
    a, b, c = (digest(tmp_path / folder / "autoencoder.safetensors") for folder in "abc")
    assert a == b != c


def test_a_run_goes_into_a_folder_of_its_name_by_default(tmp_path):
    assert main(["train", "autoencoder", "--epochs", "0.01", "--seed", "7"]) == 0
    assert (tmp_path / "runs" / "autoencoder-minute-7" / "autoencoder.safetensors").is_file()


def test_pictures_are_drawn_as_it_trains(tmp_path, monkeypatch):
    def often(draw, folder, *, every=4, samples=command_line.Samples):
        return samples(draw, folder, every=every)

    monkeypatch.setattr(command_line, "Samples", often)
    assert train("gan-mlp", tmp_path, epochs=10 / 937) == 0  # ten steps of 64 digits
    sheets = sorted((tmp_path / "samples").iterdir())
    assert [sheet.name for sheet in sheets] == ["samples_00000004.png", "samples_00000008.png"]
    first, second = (np.asarray(Image.open(sheet)) for sheet in sheets)
    assert first.shape == ((8 * 30 - 2) * 2, (8 * 30 - 2) * 2, 3)
    assert not np.array_equal(first, second)  # the same noise, a better generator


def test_list_shows_what_the_cards_say(capsys, monkeypatch):
    figures = {"fid": 3.74849, "kid": 0.0925912, "elbo": -100.448, "more": 1.0}
    card = {"figures": figures, "seconds": 1351.4, "parameters": 534275}
    cards = {"dcgan": card, "mixture": card | {"figures": {}, "sha256": None, "parameters": 7}}
    monkeypatch.setattr(pretrained, "names", lambda: list(cards))
    monkeypatch.setattr(pretrained, "card", lambda name: cards[name])
    Path("dcgan.safetensors").write_bytes(b"x" * 1_071_400)  # of the mixture only the card is there
    monkeypatch.setattr(pretrained, "FOLDER", Path())
    assert main(["list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["recipe", "quality", "seconds", "parameters", "kB"]
    assert [line.split()[0] for line in lines] == list(RECIPES)
    for line in lines:
        name, *cells = re.split(r"  +", line)
        title = cells.pop()
        assert title == RECIPES[name].title
        if name == "dcgan":
            assert cells == ["fid 3.748, kid 0.09259, elbo -100.4", "1,351", "534,275", "1,071"]
        else:
            assert cells == (["1,351", "7", "0"] if name == "mixture" else ["no weights shipped"])
        assert line.index(title) == lines[0].index(RECIPES["classifier"].title)  # in columns
    (line,) = [line for line in lines if line.startswith("dcgan ")]
    for word, number in ("seconds", "1,351"), ("parameters", "534,275"), ("kB", "1,071"):  # numbers end under their heads
        assert line[: head.index(word) + len(word)].endswith(f"  {number}")


def test_list_reads_the_shipped_cards(capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for name in set(pretrained.names()) & set(RECIPES):
        card = pretrained.card(name)
        (line,) = [line for line in said.splitlines() if line.split()[0] == name]
        assert f"{card['parameters']:,}" in line
        assert all(f"{key} {value:.4g}" in line for key, value in list(card["figures"].items())[:3])


# ---------------------------------------------------------------- where samples go


def test_text_goes_to_the_screen_or_into_a_file(capsys):
    assert main(["sample", "gpt", "-n", "9", "--seed", "5"]) == 0
    printed = capsys.readouterr().out
    assert printed == RECIPES["gpt"].text(pretrained.load("gpt"), 9, Noise(5)) + "\n"
    assert len(printed) == 10
    assert list(Path().iterdir()) == []
    assert main(["sample", "gpt", "-n", "9", "--seed", "5", "--out", "new/play.txt"]) == 0
    assert capsys.readouterr().out == f"{Path('new/play.txt')}\n"
    assert Path("new/play.txt").read_text(encoding="utf-8") == printed


def test_chinese_poems_go_into_a_file(capsys):
    assert main(["sample", "gpt-poems", "-n", "2", "--out", "poems.TXT"]) == 0
    poems = Path("poems.TXT").read_text(encoding="utf-8").split("\n\n")
    assert [len(poem.split()) for poem in poems] == [4, 4]


def test_levels_go_to_the_screen_or_into_a_file(capsys):
    assert main(["sample", "sokoban", "-n", "2", "--seed", "5"]) == 0
    printed = capsys.readouterr().out
    assert main(["sample", "sokoban", "-n", "2", "--seed", "5", "--out", "levels.txt"]) == 0
    assert capsys.readouterr().out == "levels.txt\n"
    assert Path("levels.txt").read_text(encoding="utf-8") == printed
    levels = read_sok("levels.txt")
    assert [level.title.split(",")[0] for level in levels] == ["Level 1", "Level 2"]
    assert all(row in printed for level in levels for row in level.rows)


@pytest.mark.parametrize("name, out, ending, kind", [
    ("gpt", "a.png", ".txt", "text"),
    ("ngram", "a", ".txt", "text"),
    ("sokoban", "a.sok", ".txt", "text"),
    ("chorales", "a.png", ".mid", "music"),
    ("dcgan", "a.xyz", ".png", "pictures"),
    ("mixture", "png", ".png", "pictures"),
])  # fmt: skip
def test_an_ending_that_does_not_fit_is_refused_before_anything_is_loaded(name, out, ending, kind, capsys, monkeypatch):
    monkeypatch.setattr(pretrained, "load", None)
    assert refused(capsys, "sample", name, "--out", out) == f"error: --out must end in {ending} for {kind}, got {out}\n"
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("drawn, out, ending, kind", [
    ("To be", "a.png", ".txt", "text"),
    (np.zeros((3, 1, 8, 8), dtype=np.float32), "a.txt", ".png", "pictures"),
])  # fmt: skip
def test_so_it_is_with_an_exported_model(drawn, out, ending, kind, capsys, monkeypatch):
    monkeypatch.setattr(command_line, "draw", lambda path, n, noise: drawn)
    said = refused(capsys, "sample", "--from", "m.onnx", "--out", out)
    assert said == f"error: --out must end in {ending} for {kind}, got {out}\n"
    assert main(["sample", "--from", "m.onnx", "--out", f"b{ending}"]) == 0
    assert [path.name for path in Path().iterdir()] == [f"b{ending}"]


# ---------------------------------------------------------------- one file


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def test_an_exported_model_draws_what_the_recipe_draws(tmp_path, capsys):
    assert train("vae-map", tmp_path, epochs=0.05) == 0
    assert main(["export", "vae-map", "--weights", str(tmp_path), "--out", "models/map.onnx"]) == 0
    path = Path("models/map.onnx")
    told = f"{path}: {path.stat().st_size:,} bytes. Draw from it: python -m genai_lib sample --from {path}\n"
    assert capsys.readouterr().out.endswith(told)
    asked = ["-n", "7", "--seed", "5", "--out"]
    assert main(["sample", "vae-map", "--weights", str(tmp_path), *asked, "a.png"]) == 0
    (tmp_path / "vae-map.safetensors").unlink()
    assert main(["sample", "--from", str(path), *asked, "b.png"]) == 0
    assert capsys.readouterr().out == "a.png\nb.png\n"
    assert np.abs(pixels("a.png") - pixels("b.png")).max() <= 1  # a grey level, where rounding falls the other way
    assert pixels("a.png").std() > 10


def test_an_exported_model_may_write(capsys, monkeypatch):
    monkeypatch.setattr(command_line, "draw", lambda path, n, noise: f"{path} {n} {noise.integers(9, 3).tolist()}")
    assert main(["sample", "--from", "gpt.onnx", "-n", "70", "--seed", "4"]) == 0
    assert capsys.readouterr().out == f"gpt.onnx 70 {Noise(4).integers(9, 3).tolist()}\n"
    assert list(Path().iterdir()) == []


def test_a_file_is_named_after_its_recipe(capsys, monkeypatch):
    asked = []

    def export(name, path, *, folder):
        asked.append((name, str(path), folder))
        Path(path).write_bytes(b"1234")
        return Path(path)

    monkeypatch.setattr(command_line, "export", export)
    assert main(["export", "dcgan"]) == 0
    assert asked == [("dcgan", "dcgan.onnx", pretrained.FOLDER)]
    assert capsys.readouterr().out.startswith("dcgan.onnx: 4 bytes. ")


# ---------------------------------------------------------------- how fast


def short(monkeypatch, name, batch_size):
    """A bench of ten steps, of few examples each; returns the recipe."""
    recipe = replace(RECIPES[name], minute=replace(RECIPES[name].minute, batch_size=batch_size))
    monkeypatch.setitem(RECIPES, name, recipe)
    monkeypatch.setattr(command_line, "SECONDS", 0.01)
    return recipe


@pytest.mark.parametrize("name", ["vae-map", "wgan-gp"])
def test_bench_measures_a_training_step(name, capsys, monkeypatch):
    recipe = short(monkeypatch, name, 3)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # a processor without bfloat16
    assert main(["bench", name]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{name}, batches of {recipe.minute.batch_size}, on ")
    line = r"  fp32: ([\d.]+) ms a step, ([\d,]+) examples a second, ([\d.]+)% of the time spent on loading"
    ms, rate, share = (float(number.replace(",", "")) for number in re.fullmatch(line, said[1]).groups())
    assert rate == pytest.approx(recipe.turns * 3 * 1000 / ms, rel=0.01, abs=1)
    assert 0 < share < 50
    assert said[2:] == ["  bf16: this processor has no bfloat16 instructions"]


def test_bench_tells_slow_loading(capsys, monkeypatch):
    quick = data.Batches.__getitem__

    def slow(self, number):
        time.sleep(0.05)
        return quick(self, number)

    short(monkeypatch, "vae-map", 3)
    monkeypatch.setattr(data.Batches, "__getitem__", slow)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    assert main(["bench", "vae-map"]) == 0
    said = capsys.readouterr().out
    shares = re.findall(r"(fp32|bf16): .* ([\d.]+)% of the time spent on loading", said)
    assert [precision for precision, _ in shares] == ["fp32", "bf16"]
    ms = [float(number) for number in re.findall(r"([\d.]+) ms a step", said)]
    for step, (_, share) in zip(ms, shares, strict=True):
        assert step >= 50
        assert step * float(share) / 100 >= 49


def test_bench_of_what_has_no_steps(capsys):
    assert refused(capsys, "bench", "mixture") == "error: mixture is fitted as a whole: it has no training step to be timed\n"


# ---------------------------------------------------------------- stop and go on


class Interrupting(command_line.TensorBoard):
    """Presses Ctrl-C in the middle of the third step."""

    def after_step(self, trainer):
        super().after_step(trainer)
        if trainer.step == 3:
            os.kill(os.getpid(), signal.SIGINT)


Interrupting.__name__ = "TensorBoard"  # a run's callbacks are part of what it is


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, capsys, monkeypatch):
    assert train("vae-mlp", tmp_path / "whole") == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(command_line, "TensorBoard", Interrupting)
        assert train("vae-mlp", tmp_path / "cut") == 130
    checkpoints = tmp_path / "cut" / "checkpoints"
    assert f"stopped after step 3 of 23 (saved in {checkpoints}: run again to go on)" in capsys.readouterr().err
    assert [path.name for path in checkpoints.iterdir()] == ["step_00000003.safetensors"]
    assert not (tmp_path / "cut" / "vae-mlp.safetensors").exists()
    assert train("vae-mlp", tmp_path / "cut") == 0
    assert digest(tmp_path / "cut" / "vae-mlp.safetensors") == digest(tmp_path / "whole" / "vae-mlp.safetensors")


@pytest.mark.parametrize("name", ["mixture", "ngram"])
def test_an_interrupted_fit_promises_and_keeps_nothing(name, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt  # as Ctrl-C does, where it is not ignored as in a job in the background

    monkeypatch.setattr("genai_lib.models.ngram.NGram.fit", interrupted)
    monkeypatch.setattr("genai_lib.models.mixture.climb", interrupted)
    assert train(name, tmp_path / "run", epochs=2) == 130
    said = capsys.readouterr()
    assert said.out == f"{name}, minute version, seed 0; weights (a fit has no checkpoints) go to {tmp_path / 'run'}\n"
    assert said.err == "\nstopped in the middle of a fit, which has no checkpoints: nothing is saved\n"
    assert not (tmp_path / "run").exists()


def test_one_process_says_that_a_run_was_stopped(capsys, monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "_list", interrupted)
    assert main(["list"]) == 130
    assert capsys.readouterr().err == "\nstopped\n"
    monkeypatch.setenv("RANK", "1")
    assert main(["list"]) == 130
    assert capsys.readouterr().err == ""


def test_a_finished_run_is_only_measured_again(tmp_path, monkeypatch):
    assert train("autoencoder", tmp_path) == 0
    before = digest(tmp_path / "autoencoder.safetensors")

    def no_more(self):
        raise AssertionError("a finished run makes no step")

    monkeypatch.setattr("genai_lib.training.Trainer._play", no_more)
    assert train("autoencoder", tmp_path) == 0
    assert digest(tmp_path / "autoencoder.safetensors") == before


def test_a_folder_of_another_seed_is_refused(tmp_path, capsys):
    assert train("autoencoder", tmp_path) == 0
    said = refused(capsys, "train", "autoencoder", "--epochs", "0.05", "--precision", "fp32", "--folder", str(tmp_path),
                   "--seed", "1")  # fmt: skip
    assert f"the checkpoints in {tmp_path / 'checkpoints'} are of another run" in said
    assert "Choose another folder, or delete that one." in said


def test_a_folder_of_a_shorter_run_is_refused(tmp_path, capsys):
    """Its learning rate has already sunk to zero, as planned for the shorter run."""
    assert train("autoencoder", tmp_path, epochs=0.02) == 0
    before = digest(tmp_path / "autoencoder.safetensors")
    said = refused(capsys, "train", "autoencoder", "--epochs", "0.04", "--precision", "fp32", "--folder", str(tmp_path))
    assert "Choose another folder" in said
    assert digest(tmp_path / "autoencoder.safetensors") == before


def test_a_run_without_a_schedule_may_be_made_longer(tmp_path):
    """Five steps and then five more are ten steps."""
    for epochs in (5 / 468, 10 / 468):
        assert train("gan-mlp", tmp_path / "twice", epochs=epochs) == 0
    assert train("gan-mlp", tmp_path / "once", epochs=10 / 468) == 0
    assert digest(tmp_path / "twice" / "gan-mlp.safetensors") == digest(tmp_path / "once" / "gan-mlp.safetensors")


@pytest.mark.filterwarnings("ignore:passing over a checkpoint")
def test_damaged_checkpoints_are_refused(tmp_path, capsys):
    assert train("autoencoder", tmp_path) == 0
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    said = refused(capsys, "train", "autoencoder", "--epochs", "0.05", "--precision", "fp32", "--folder", str(tmp_path))
    assert f"every checkpoint in {tmp_path / 'checkpoints'} is damaged. Delete the folder to start anew." in said


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "export", "bench"])
def test_an_unknown_recipe(command, capsys):
    said = refused(capsys, command, "vae")
    assert "'vae'" in said
    assert all(name in said for name in RECIPES)


@pytest.mark.parametrize("arguments, names", [
    ([], []),
    (["bake"], ["train", "sample", "evaluate", "export", "bench", "list"]),
    (["train", "dcgan", "--version", "hour"], ["minute", "shipped"]),
    (["train", "dcgan", "--precision", "fp8"], ["fp32", "bf16"]),
    (["train", "dcgan", "--seed", "x"], ["invalid int value: 'x'"]),
])  # fmt: skip
def test_wrong_arguments(arguments, names, capsys):
    said = refused(capsys, *arguments)
    assert "usage: python -m genai_lib" in said
    if arguments:
        assert all(name in said for name in names)


@pytest.mark.parametrize("name, fault", [
    ("autoencoder", "makes no step: an epoch has 234 steps"),
    ("gan-mlp", "makes no step: an epoch has 937 steps"),
    *((name, f"makes no round: {name} is fitted in whole rounds, 1 or more") for name in ("mixture", "hmm", "ngram")),
])  # fmt: skip
def test_too_few_epochs_is_an_error(name, fault, capsys, tmp_path):
    for epochs in ("0", "-1", "nan", "inf", "-inf"):
        said = refused(capsys, "train", name, f"--epochs={epochs}", "--folder", str(tmp_path))
        assert said == f"error: epochs must be a finite number above 0, got {float(epochs)}\n"
    said = refused(capsys, "train", name, "--epochs=0.0001", "--folder", str(tmp_path))
    assert said == f"error: epochs=0.0001 {fault}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["autoencoder", "mixture"])
@pytest.mark.parametrize("steps", ["0", "-5"])
def test_checkpoints_lie_a_step_apart_or_more(name, steps, capsys, tmp_path):
    said = refused(capsys, "train", name, f"--save-every={steps}", "--folder", str(tmp_path))
    assert said == f"error: --save-every must be 1 step or more, got {steps}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_no_number_is_told_in_a_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("genai_lib.recipes.simple.bernoulli_nll", lambda logits, x: logits.sum(dim=(1, 2, 3)) / 0)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    said = refused(capsys, "train", "autoencoder", "--epochs=0.05", "--precision", "fp32", "--folder", str(tmp_path))
    assert said == (
        "error: autoencoder/loss is not a finite number after step 12. Lower the learning rate, or clip the gradient.\n"
    )


def test_checkpoints_of_another_model_or_version_are_told_in_a_line(capsys, tmp_path, monkeypatch):
    assert train("autoencoder", tmp_path) == 0
    (path,) = (tmp_path / "checkpoints").iterdir()
    whole = checkpoint.load(path)
    other = {"autoencoder": {**whole["players"]["autoencoder"], "module": {}}}
    for state, fault in (
        ({**whole, "players": other}, "are of another model or optimiser"),
        ({part: whole[part] for part in whole if part != "random"}, "lack 'random'"),
    ):
        checkpoint.save(state, path)
        said = refused(capsys, "train", "autoencoder", "--epochs=0.05", "--precision", "fp32", "--folder", str(tmp_path))
        where = tmp_path / "checkpoints"
        assert said == f"error: the checkpoints in {where} {fault}. Choose another folder, or delete that one.\n"


def test_weights_that_are_not_there(tmp_path, capsys):
    for command in ("sample", "evaluate", "export"):
        said = refused(capsys, command, "vae-mlp", "--weights", str(tmp_path))
        assert said == f"error: there are no weights named 'vae-mlp' in {tmp_path}. There are: none.\n"


def test_damaged_weights(tmp_path, capsys):
    assert train("vae-mlp", tmp_path) == 0
    path = tmp_path / "vae-mlp.safetensors"
    raw = bytearray(path.read_bytes())
    raw[1_009] ^= 4
    path.write_bytes(raw)
    for command in ("sample", "evaluate"):
        said = refused(capsys, command, "vae-mlp", "--weights", str(tmp_path))
        assert said.startswith("error: vae-mlp.safetensors is damaged (SHA-256 ")
    assert not (tmp_path / "samples.png").exists()


def test_a_damaged_set(tmp_path, capsys, monkeypatch):
    (tmp_path / "manifest.json").write_text((data.store.FOLDER / "manifest.json").read_text())
    (tmp_path / "mnist.npz").write_bytes(b"not the digits")
    monkeypatch.setattr(recipes.core, "load", functools.partial(data.load, folder=tmp_path))
    said = refused(capsys, "train", "autoencoder", "--epochs", "0.01", "--folder", str(tmp_path / "run"))
    assert said.startswith("error: mnist.npz is damaged (SHA-256 ")


def test_samples_of_what_draws_none(tmp_path, capsys):
    assert train("autoencoder", tmp_path) == 0
    said = refused(capsys, "sample", "autoencoder", "--weights", str(tmp_path))
    assert said == "error: autoencoder is no generative model: it has no way to draw samples\n"


@pytest.mark.parametrize("n", [0, -3, 10_001, 10**12])
def test_none_or_too_many_samples(n, capsys):
    for source in (["dcgan"], ["--from", "m.onnx"]):
        assert refused(capsys, "sample", *source, f"-n={n}") == f"error: -n must lie between 1 and 10,000, got {n}\n"


@pytest.mark.parametrize("source", [[], ["dcgan", "--from", "m.onnx"]])
def test_samples_come_from_a_recipe_or_from_a_file(source, capsys):
    said = refused(capsys, "sample", *source)
    assert said == f"error: give either a recipe ({', '.join(RECIPES)}) or --from FILE.onnx\n"


def test_a_file_that_was_not_exported(capsys):
    said = refused(capsys, "sample", "--from", "m.onnx")
    assert said == "error: there is no file m.onnx. Write one: python -m genai_lib export RECIPE --out m.onnx\n"
    Path("m.onnx").write_bytes(b"onnx")
    said = refused(capsys, "sample", "--from", "m.onnx")
    assert said.startswith("error: m.onnx is damaged, or `python -m genai_lib export` did not write it. ")


def test_what_cannot_be_exported(capsys):
    said = refused(capsys, "export", "autoencoder")
    assert said.startswith("error: autoencoder cannot be exported. What can: VAEs, ")
    assert list(Path().iterdir()) == []


def test_a_place_that_cannot_be_written(capsys, monkeypatch):
    Path("file").write_text("in the way")
    Path("folder.png").mkdir()
    monkeypatch.setattr(command_line, "draw", lambda path, n, noise: np.zeros((n, 1, 8, 8), dtype=np.float32))
    for out, reason in ("file/a.png", "Not a directory"), ("folder.png", "Is a directory"):
        assert refused(capsys, "sample", "--from", "m.onnx", "--out", out) in (
            f"error: {path}: {why}\n" for path, why in [(out, reason), ("file", "File exists")]
        )
    said = refused(capsys, "train", "autoencoder", "--epochs", "0.01", "--folder", "file/run")
    assert re.fullmatch(r"error: file/run\S*: Not a directory", said.splitlines()[-1])


def test_an_error_of_the_system_without_a_path(capsys, monkeypatch):
    def full(path, n, noise):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command_line, "draw", full)
    assert refused(capsys, "sample", "--from", "m.onnx") == "error: [Errno 28] No space left on device\n"


def test_help_names_commands_and_recipes(capsys):
    commands, names = ["train", "sample", "evaluate", "export", "bench", "list"], list(RECIPES)
    for arguments, expected in (["--help"], commands), (["train", "--help"], names), (["bench", "--help"], names):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        said = re.sub(r"-\n\s+", "-", capsys.readouterr().out)  # a line may end at a hyphen
        assert all(word in said for word in expected)


# ---------------------------------------------------------------- as a program


def test_as_a_program(tmp_path):
    def program(*arguments):
        return subprocess.run([sys.executable, "-m", "genai_lib", *arguments], capture_output=True, text=True, cwd=tmp_path)

    trained = program("train", "autoencoder", "--epochs", "0.02", "--folder", "run")
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.splitlines()[-1] == "weights: run/autoencoder.safetensors".replace("/", os.sep)
    assert [line.split()[0] for line in program("list").stdout.splitlines()[1:]] == list(RECIPES)
    unknown = program("train", "vae")
    assert unknown.returncode == 2
    assert "Traceback" not in unknown.stderr
    assert all(name in unknown.stderr for name in RECIPES)
