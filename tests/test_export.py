"""One ONNX file: it holds what torch holds, draws what torch draws, and says so when it cannot."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from genai_lib import Noise, pretrained, recipes
from genai_lib import export as exporting
from genai_lib.__main__ import main
from genai_lib.export import ExportError, draw, export
from genai_lib.models.gan import dcgan
from genai_lib.models.gpt import GPT, GPTConfig
from genai_lib.models.vae import conditional_vae, conv_vae, mlp_vae
from genai_lib.recipes import Effort, Recipe, Run

LETTERS = 63  # of the plays
PICTURES = {
    "VAE": lambda: mlp_vae(latent=3, width=7),
    "convolutional VAE": lambda: conv_vae(latent=5, width=2),
    "conditional VAE": lambda: conditional_vae(latent=3, width=7, classes=5),
    "colour generator": lambda: dcgan(latent=5, width=2, size=32, channels=3).generator,
    "conditional generator": lambda: dcgan(latent=3, width=2, classes=7).generator,
}


def tiny_gpt(size=LETTERS, context=13):
    return GPT(GPTConfig(size=size, context=context, layers=1, heads=3, width=12))


def keep(patch, folder, build, text=None):
    """Make "tiny" a recipe, with weights in a folder as a run leaves them; returns the product."""
    recipe = Recipe("tiny", "A tiny model", build, Effort(1), Effort(1), lambda model, judge: {}, text=text)
    patch.setitem(recipes.RECIPES, "tiny", recipe)
    patch.setattr(pretrained, "judge", lambda name: None)
    torch.manual_seed(3)
    model = build()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p + 0.3 * torch.randn_like(p))  # fresh weights are small: a model should have an opinion
    pretrained.save(Run(recipe, recipe.minute, model, model, {"step": [1.0]}, 0.0), version="minute", seed=0, folder=folder)
    return pretrained.load("tiny", folder=folder)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Each kind of picture maker, exported once: product and file."""
    made = {}
    for number, (kind, build) in enumerate(PICTURES.items()):
        folder = tmp_path_factory.mktemp(f"kind{number}")
        with pytest.MonkeyPatch.context() as patch:
            product = keep(patch, folder, build)
            made[kind] = product, export("tiny", folder / "tiny.onnx", folder=folder)
    return made


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A small GPT that writes as the recipe "gpt" does: product and file."""
    folder = tmp_path_factory.mktemp("writer")
    with pytest.MonkeyPatch.context() as patch:
        product = keep(patch, folder, tiny_gpt, text=recipes.get("gpt").text)
        return product, export("tiny", folder / "tiny.onnx", folder=folder)


def facts(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


# ---------------------------------------------------------------- the same numbers


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("n", [1, 7])
def test_a_file_draws_the_pictures_that_the_model_draws(exported, kind, n):
    product, path = exported[kind]
    for seed in range(5):
        found, expected = draw(path, n, Noise(seed)), product.sample(n, Noise(seed)).numpy()
        assert (found.dtype, found.shape) == (np.float32, expected.shape)
        assert found.min() >= 0
        assert found.max() <= 1
        np.testing.assert_allclose(found, expected, atol=3e-6)  # a thousandth of a grey level: 1 / 255,000
    assert np.abs(found - draw(path, n, Noise(6))).max() > 0.01


def test_a_conditional_file_obeys_the_class(exported):
    for kind, classes in ("conditional VAE", 5), ("conditional generator", 7):
        product, path = exported[kind]
        y, z = torch.arange(classes), Noise(0).normal(classes, product.latent)
        (found,) = onnxruntime.InferenceSession(path).run(None, {"y": y.numpy(), "z": z.numpy()})
        expected = product.given(y).decode(z).sigmoid() if kind == "conditional VAE" else (product(z, y) + 1) / 2
        np.testing.assert_allclose(found, expected.numpy(), atol=3e-6)
        again = onnxruntime.InferenceSession(path).run(None, {"y": y.flip(0).numpy(), "z": z.numpy()})[0]
        assert np.abs(again - found).max() > 0.01


@pytest.mark.parametrize("n", [1, 12, 13, 14, 60])
def test_a_file_writes_the_text_that_the_model_writes(writer, n):
    """Also beyond the context, 13 characters, where the last six are read anew."""
    product, path = writer
    texts = [draw(path, n, Noise(seed)) for seed in range(5)]
    assert texts == [recipes.get("gpt").text(product, n, Noise(seed)) for seed in range(5)]
    assert all(len(text) == n for text in texts)
    assert n == 1 or len(set(texts)) == 5


@pytest.mark.parametrize("B, T", [(1, 1), (1, 13), (3, 5), (7, 11)])
def test_the_step_of_a_gpt_takes_any_number_of_texts_and_tokens(writer, B, T):
    product, path = writer
    tokens = Noise(0, B, T).integers(LETTERS, B, T)
    (found,) = onnxruntime.InferenceSession(path).run(None, {"tokens": tokens.numpy()})
    np.testing.assert_allclose(found, product.step(tokens, None)[0].numpy(), rtol=1e-4, atol=1e-4)
    assert found.shape == (B, LETTERS)


def test_a_file_suffices(exported, writer, monkeypatch):
    """Weights, card and recipe are gone, and what only exports is not installed."""
    monkeypatch.setattr(pretrained, "load", None)
    monkeypatch.setattr(recipes, "RECIPES", {})
    for package in ("onnx", "onnxscript", "onnx_ir", "onnx_ir.passes.common"):
        monkeypatch.setitem(sys.modules, package, None)
    assert draw(exported["VAE"][1], 2, Noise(0)).shape == (2, 1, 28, 28)
    assert len(draw(writer[1], 5, Noise(0))) == 5


@pytest.fixture(scope="module", params=["vae-conv", "dcgan-conditional", "gpt"])
def shipped(request, tmp_path_factory):
    """The name of a shipped model, and the file that the command line makes of it."""
    path = tmp_path_factory.mktemp("shipped") / f"{request.param}.onnx"
    assert main(["export", request.param, "--out", str(path)]) == 0
    return request.param, path


@pytest.mark.slow
def test_the_file_of_a_shipped_model_holds_its_numbers(shipped):
    name, path = shipped
    product, runtime = pretrained.load(name), onnxruntime.InferenceSession(path)
    for B in (1, 5):
        noise = Noise(0, B)
        if name == "gpt":
            inputs = {"tokens": noise.integers(LETTERS, B, 64)}
            expected = product(inputs["tokens"])[:, -1]
        elif name == "vae-conv":
            inputs = {"z": noise.normal(B, product.latent)}
            expected = product.decode(inputs["z"]).sigmoid()
        else:
            inputs = {"z": noise.normal(B, product.latent), "y": noise.integers(10, B)}
            expected = (product(**inputs) + 1) / 2
        (found,) = runtime.run(None, {key: value.numpy() for key, value in inputs.items()})
        assert found.shape == expected.shape
        assert found.std() > 0.1
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_command_line_draws_from_the_file_what_it_draws_from_the_recipe(shipped, tmp_path, capsys):
    name, path = shipped
    asked = ["-n", "30", "--seed", "7", "--out"]
    ending = "txt" if name == "gpt" else "png"
    for number, source in enumerate((["--from", str(path)], [name])):
        assert main(["sample", *source, *asked, str(tmp_path / f"{number}.{ending}")]) == 0
    if name == "gpt":
        written, expected = ((tmp_path / f"{number}.txt").read_text(encoding="utf-8") for number in (0, 1))
        assert written == expected
        assert len(written) == 31  # and the end of the line
        assert len(set(written)) > 8
    else:
        drawn, expected = (np.asarray(Image.open(tmp_path / f"{number}.png")).astype(int) for number in (0, 1))
        assert drawn.shape == ((5 * 30 - 2) * 2, (6 * 30 - 2) * 2, 3)
        assert np.abs(drawn - expected).max() <= 1  # a grey level, where rounding falls the other way
        assert 0.05 < (drawn[2:54, 2:54] > 200).mean() < 0.5 < (drawn[2:54, 2:54] < 50).mean()  # white strokes on black


# ---------------------------------------------------------------- what is in the file


def test_the_file_tells_what_it_is(exported, writer):
    for kind, latent, classes in ("VAE", 3, 0), ("colour generator", 5, 0), ("conditional VAE", 3, 5):
        path = exported[kind][1]
        card = pretrained.card("tiny", folder=path.parent)
        told = facts(path)
        assert len(told.pop("sha256")) == 64
        assert told == {"recipe": "tiny", "title": "A tiny model", "weights": card["sha256"], "makes": "pictures",
                        "latent": str(latent), "classes": str(classes)}  # fmt: skip
    told = facts(writer[1])
    assert (told["makes"], told["context"], told["temperature"], told["prompt"]) == ("text", "13", "0.8", "\n")
    assert len(told["vocabulary"]) == LETTERS
    assert told["vocabulary"] == "".join(sorted(told["vocabulary"]))
    assert not told.keys() & {"latent", "classes"}


def test_onnx_finds_nothing_to_complain_about(exported, writer):
    shapes = {"VAE": {"z": 2}, "conditional VAE": {"y": 1, "z": 2}, "conditional generator": {"z": 2, "y": 1}}
    for kind, expected in shapes.items():
        model = onnx.load(exported[kind][1])
        onnx.checker.check_model(model, full_check=True)
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", exporting.OPSET)]
        inputs = {i.name: i.type.tensor_type.shape.dim for i in model.graph.input}
        assert {name: len(dims) for name, dims in inputs.items()} == expected
        assert list(inputs) == list(expected)  # the order in which `sample` draws them
        assert all(dims[0].dim_param for dims in inputs.values())  # B is free
    tokens = onnx.load(writer[1]).graph.input[0].type.tensor_type.shape.dim
    assert tokens[0].dim_param != tokens[1].dim_param != ""


def test_the_opset_is_told_wherever_one_looks_for_it(capsys):
    page = Path(__file__).resolve().parents[1] / "book" / "how_to_use.md"
    assert f"(opset {exporting.OPSET}, `OPSET`)" in export.__doc__
    assert f"version {exporting.OPSET} of ONNX's operators (its *opset*)" in page.read_text(encoding="utf-8")
    for command in ([], ["export"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        assert f"opset {exporting.OPSET}" in " ".join(capsys.readouterr().out.split())


def test_no_file_tells_where_it_was_made(exported, writer):
    for _, path in [*exported.values(), writer]:
        assert all(word not in path.read_bytes() for word in (b"site-packages", b"torch/", b".py", b"models/"))


def test_a_file_holds_the_weights_of_what_draws_and_nothing_else(exported):
    product, path = exported["VAE"]
    decoder = sum(p.nbytes for p in product.decoder.parameters())
    assert decoder < path.stat().st_size < decoder + 5_000  # not the encoder


def test_the_seal_is_an_entry_of_the_metadata(exported):
    path = exported["VAE"][1]
    whole, seal = path.read_bytes(), len(exporting._seal(b""))
    assert facts(path)["sha256"] == hashlib.sha256(whole[:-seal]).hexdigest()
    assert onnx.load_from_string(whole[:-seal]).graph == onnx.load(path).graph


def test_exporting_twice_gives_one_file_and_makes_its_folder(exported, monkeypatch, tmp_path):
    keep(monkeypatch, tmp_path, PICTURES["VAE"])
    again = export("tiny", str(tmp_path / "a" / "b" / "again.onnx"), folder=str(tmp_path))
    assert again == tmp_path / "a" / "b" / "again.onnx"
    assert again.read_bytes() == exported["VAE"][1].read_bytes()


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("place", [0, 97, 0.3, 0.6, 0.99, -75, -74, -70, -1])
def test_one_wrong_bit_is_noticed(exported, tmp_path, place):
    raw = bytearray(exported["VAE"][1].read_bytes())
    raw[int(place * len(raw)) if isinstance(place, float) else place] ^= 1
    refused(tmp_path, bytes(raw))


def refused(folder, content):
    path = folder / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ExportError) as error:
        draw(path, 1, Noise(0))
    message = f"{path} is damaged, or `python -m genai_lib export` did not write it. Export the model again."
    assert str(error.value) == message


def test_a_file_cut_short_or_of_somebody_else_is_refused(exported, tmp_path):
    whole = exported["VAE"][1].read_bytes()
    for content in (b"", b"\x89PNG", whole[:-1], whole[: len(whole) // 2], whole + b"\n", whole[:-74]):
        refused(tmp_path, content)
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    refused(tmp_path, onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [other])).SerializeToString())


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "no.onnx", tmp_path):
        with pytest.raises(ExportError) as error:
            draw(path, 1, Noise(0))
        assert str(error.value) == f"there is no file {path}. Write one: python -m genai_lib export RECIPE --out {path}"


@pytest.mark.parametrize("name", ["autoencoder", "classifier", "mixture", "diffusion"])
def test_what_cannot_be_exported(name, tmp_path):
    with pytest.raises(ExportError) as error:
        export(name, tmp_path / "m.onnx")
    assert str(error.value) == f"{name} cannot be exported. What can: VAEs, generators of GANs, and GPTs that write characters."
    assert list(tmp_path.iterdir()) == []


def spelled(model, n, noise, **choice):
    tokens = model.sample(torch.zeros(1, 1, dtype=torch.int64), n, noise, **choice)
    return "".join(chr(97 + token) for token in tokens[0, 1:].tolist())


@pytest.mark.parametrize("text", [
    None,
    lambda model, n, noise: spelled(model, n, noise, top_k=3),
    lambda model, n, noise: spelled(model, n, noise)[:-1],
    lambda model, n, noise: "abcdefghijk",  # without asking the model
    lambda model, n, noise: "".join(map(str, model.sample(torch.zeros(n, 2, dtype=torch.int64), 3, noise).tolist())),
])  # fmt: skip
def test_a_gpt_that_does_more_than_draw_characters_is_refused(text, monkeypatch, tmp_path):
    keep(monkeypatch, tmp_path, lambda: tiny_gpt(size=11), text=text)
    with pytest.raises(ExportError) as error:
        export("tiny", tmp_path / "m.onnx", folder=tmp_path)
    assert str(error.value) == "tiny cannot be exported: it does more than draw single characters at some temperature"
    assert not (tmp_path / "m.onnx").exists()


def test_without_a_temperature_it_is_one(monkeypatch, tmp_path):
    product = keep(monkeypatch, tmp_path, lambda: tiny_gpt(size=11), text=spelled)
    path = export("tiny", tmp_path / "m.onnx", folder=tmp_path)
    assert (facts(path)["temperature"], facts(path)["prompt"], facts(path)["vocabulary"]) == ("1.0", "a", "abcdefghijk")
    assert [draw(path, 30, Noise(i)) for i in range(9)] == [spelled(product, 30, Noise(i)) for i in range(9)]


@pytest.mark.parametrize("gap, accepted", [(5e-5, True), (2e-4, False), (float("nan"), False)])
def test_a_runtime_that_computes_something_else_is_found_out(gap, accepted, monkeypatch, tmp_path):
    class Session(onnxruntime.InferenceSession):
        def run(self, names, inputs):
            return [out + np.float32(gap) for out in super().run(names, inputs)]

    options = onnxruntime.SessionOptions
    keep(monkeypatch, tmp_path, PICTURES["VAE"])
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session, SessionOptions=options))
    path = tmp_path / "m.onnx"
    if accepted:
        assert export("tiny", path, folder=tmp_path).is_file()
        return
    with pytest.raises(ExportError) as error:
        export("tiny", path, folder=tmp_path)
    found = "nan" if gap != gap else "0.0002"
    assert str(error.value) == f"ONNX Runtime differs from torch by {found}, more than 0.0001: nothing was written"
    assert not path.exists()


@pytest.mark.parametrize("package", ["onnx_ir.passes.common", "onnxscript", "onnxruntime"])
def test_a_package_that_is_missing(package, exported, monkeypatch, tmp_path):
    keep(monkeypatch, tmp_path, PICTURES["VAE"])
    monkeypatch.setitem(sys.modules, package, None)
    message = f"^{package.split('.')[0]} is not installed: pip install 'genai_lib\\[export\\]'$"
    with pytest.raises(ExportError, match=message):
        export("tiny", tmp_path / "m.onnx", folder=tmp_path)
    if package == "onnxruntime":
        with pytest.raises(ExportError, match=message):
            draw(exported["VAE"][1], 1, Noise(0))
