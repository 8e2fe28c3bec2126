from __future__ import annotations

import functools
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import small_game
import torch
from small_game import fingerprint, game, trainer
from torch import nn

from genai_lib import progress
from genai_lib.checkpoint import CheckpointError
from genai_lib.data import Batches
from genai_lib.data.toys import ring
from genai_lib.models.vae import mlp_vae
from genai_lib.noise import Noise
from genai_lib.objectives import elbo
from genai_lib.training import Callback, Player, Trainer


def line_player(**options) -> tuple[Player, Batches]:
    """Fit y = 2x: one weight, one player."""
    x = torch.linspace(-1, 1, 64)[:, None]
    model = nn.Linear(1, 1)

    def loss(batch, noise):
        return {"loss": (model(batch[0]) - 2 * batch[0]).square().mean()}

    return Player("line", model, loss, torch.optim.SGD(model.parameters(), lr=0.3), **options), Batches(x, batch_size=8)


def test_the_loop_is_the_loop_written_by_hand():
    """Bit for bit: the same VAE trained by the library and by the few lines anyone would write."""
    x = torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    results = []
    for by_hand in (True, False):
        torch.manual_seed(5)
        model = mlp_vae(latent=3, width=11)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        batches = Batches(x, batch_size=13, seed=6)
        if by_hand:
            for step in range(17):
                loss = elbo(model, batches[step][0], Noise(7, step, 0, 0)).loss()
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
        else:
            player = Player("vae", model, lambda b, n, m=model: {"loss": elbo(m, b[0], n).loss()}, optimizer, clip=5.0)
            Trainer([player], batches, seed=7).run(17)
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*results)


def test_it_learns():
    player, batches = line_player()
    history = Trainer([player], batches, log_every=10).run(100)
    assert history["step"] == list(range(10, 101, 10))
    assert history["line/loss"][-1] < 1e-6 < history["line/loss"][0]
    assert abs(player.module.weight.item() - 2) < 1e-3


def test_a_player_moves_only_his_own_parameters():
    players, _ = game()
    before = [p.detach().clone() for p in players[1].module.parameters()]
    others: list[bool] = []
    spied = players[0].loss

    def loss(batch, noise):
        others.extend(p.requires_grad for p in players[1].module.parameters())
        return spied(batch, noise)

    players[0].loss = loss
    alone = Trainer([players[0]], Batches(ring(50, Noise(0)), batch_size=10))
    alone.run(3)
    assert all(torch.equal(a, b) for a, b in zip(before, players[1].module.parameters(), strict=True))
    others.clear()
    Trainer(players, Batches(ring(50, Noise(0)), batch_size=10)).run(2)
    assert others
    assert not any(others)  # frozen during his turn …
    assert all(p.requires_grad for p in players[1].module.parameters())  # … and free again afterwards


def test_turns_see_fresh_batches_and_fresh_noise():
    seen = []
    player, batches = line_player(turns=3)
    inner = player.loss

    def loss(batch, noise):
        seen.append((tuple(batch[0].flatten().tolist()), noise.normal(1).item()))
        return inner(batch, noise)

    player.loss = loss
    Trainer([player], batches).run(2)
    assert len(seen) == 6
    assert len(set(seen)) == 6
    assert sorted(v for b, _ in seen for v in b) == sorted(v for i in range(6) for v in batches[i][0].flatten().tolist())


def test_clipping_bounds_the_step():
    player, batches = line_player(clip=0.01)
    weight = player.module.weight.item(), player.module.bias.item()
    Trainer([player], batches).run(1)
    moved = abs(player.module.weight.item() - weight[0]) ** 2 + abs(player.module.bias.item() - weight[1]) ** 2
    assert moved**0.5 <= 0.3 * 0.01 * 1.001


@pytest.mark.parametrize("stop", [1, 6, 7, 8, 20, 39])
def test_stopping_anywhere_and_going_on_changes_nothing(tmp_path, stop):
    whole = trainer(None)
    whole.run(40)
    first = trainer(str(tmp_path))
    first.run(stop)
    torch.manual_seed(999)  # whatever happened to the global generator in between
    torch.rand(5)
    second = trainer(str(tmp_path))
    second.run(40)
    assert second.step == 40
    if stop % 20 == 0:  # the history's windows are cut where a run ends, so it is compared where the cut falls on a window
        assert fingerprint(second) == fingerprint(whole)
    for a, b in zip(second.players, whole.players, strict=True):
        for left, right in zip(a.module.state_dict().values(), b.module.state_dict().values(), strict=True):
            assert torch.equal(left, right)


@pytest.mark.slow
def test_ten_kills_change_nothing(tmp_path, monkeypatch):
    """SIGKILL at ten random moments, resume each time: the last bits are those of the run that was left alone."""
    context = multiprocessing.get_context("forkserver")  # a clean process that has imported torch, and forks in milliseconds
    monkeypatch.setenv("PYTHONPATH", str(Path(small_game.__file__).parent))  # so that it finds what it is to import
    context.set_forkserver_preload(["small_game"])

    def start(folder: str, steps: int) -> multiprocessing.Process:
        ready = context.Event()
        child = context.Process(target=small_game.play, args=(tmp_path / folder, steps, tmp_path / f"{folder}.txt", ready))
        child.start()
        assert ready.wait(60)
        return child

    generator = random.Random(0)
    places = []
    for _ in range(10):
        child = start("killed", small_game.TOTAL)
        time.sleep(generator.uniform(0.05, 0.6))
        assert child.is_alive(), "the run ended before it could be killed: give it more steps"
        child.kill()
        child.join()
        files = sorted((tmp_path / "killed").glob("step_*.safetensors"))
        places.append(int(files[-1].stem.split("_")[1]) if files else 0)
    assert places == sorted(places)
    assert len(set(places)) > 3  # the kills really fell on different moments
    steps = places[-1] + 140
    for folder in ("killed", "left alone"):
        start(folder, steps).join()
    killed, left_alone = ((tmp_path / f"{folder}.txt").read_text() for folder in ("killed", "left alone"))
    assert len(killed) == 64
    assert killed == left_alone


def test_a_truncated_checkpoint_is_passed_over_and_the_run_ends_the_same(tmp_path):
    whole = trainer(None)
    whole.run(40)
    trainer(str(tmp_path)).run(20)  # leaves steps 14 and 20
    newest = sorted(tmp_path.glob("step_*"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    again = trainer(str(tmp_path))
    with pytest.warns(UserWarning, match="passing over a checkpoint: .*step_00000020"):
        again.run(40)
    assert fingerprint(again) == fingerprint(whole)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    trainer(str(tmp_path)).run(7)
    player, batches = line_player()
    with pytest.raises(CheckpointError, match=r"the checkpoints in .* are of another run: .*critic.*, not .*line.*Choose"):
        Trainer([player], batches, folder=tmp_path).run(10)


def test_a_missing_random_state_is_an_error(tmp_path):
    from genai_lib import checkpoint

    run = trainer(str(tmp_path))
    run.run(7)
    file = run.folder.files()[-1]
    state = checkpoint.load(file)
    del state["random"]
    checkpoint.save(state, file)
    with pytest.raises(CheckpointError) as error:
        trainer(str(tmp_path)).run(14)
    assert str(error.value) == (
        f"the checkpoints in {tmp_path} lack 'random'. Choose another folder, or delete that one."
    )


@pytest.mark.parametrize("fault", ["model", "optimiser"])
def test_a_checkpoint_of_another_model_is_refused(tmp_path, fault):
    player, batches = line_player()
    Trainer([player], batches, folder=tmp_path).run(2)
    if fault == "model":
        player.module = nn.Linear(1, 2)
    else:
        player.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    with pytest.raises(CheckpointError, match=r"are of another model or optimiser\. Choose another folder"):
        Trainer([player], batches, folder=tmp_path).run(4)


@pytest.mark.parametrize("before, after", [(8, 1), (1, 8), (3, 3), (0, 2), (2, 0)])
def test_a_run_goes_on_where_there_are_more_or_fewer_gpus(tmp_path, monkeypatch, before, after):
    restored = []
    first, second = trainer(str(tmp_path)), trainer(str(tmp_path))  # the weights stay on the processor
    monkeypatch.setattr(torch.cuda, "is_available", lambda: before > 0)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [torch.tensor([i], dtype=torch.uint8) for i in range(before)])
    first.run(7)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: after > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: after)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda states: restored.extend(state.item() for state in states))
    assert second.resume()
    assert second.step == 7
    assert restored == list(range(min(before, after)))


def test_ctrl_c_ends_after_the_step_and_saves(tmp_path):
    class Interrupt(Callback):
        def after_step(self, trainer: Trainer) -> None:
            if trainer.step == 5:
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    player, batches = line_player()
    run = Trainer([player], batches, callbacks=[Interrupt()], folder=tmp_path)
    with pytest.raises(KeyboardInterrupt, match=r"stopped after step 5 of 100 \(saved in .*: run again to go on\)"):
        run.run(100)
    assert [f.name for f in run.folder.files()] == ["step_00000005.safetensors"]
    assert signal.getsignal(signal.SIGINT) is before


def test_the_bar_shows_the_losses_so_far(capsys, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(progress, "tqdm", functools.partial(progress.tqdm, mininterval=0))  # every update is drawn
    run = trainer(None, log_every=5)
    run.run(17)
    lines = capsys.readouterr().err.split("\r")
    names = [name for name in run.history if name != "step"]
    assert len(names) == 3  # two losses, and the norm of the gradient that is clipped
    for row, step in enumerate(run.history["step"][:-1]):
        (line,) = [line for line in lines if f" {step + 1:.0f}/17 " in line]  # it is drawn with the next step
        assert ", ".join(f"{name}={run.history[name][row]:.4g}" for name in names) in line
    assert ", ".join(f"{name}={run.history[name][-1]:.4g}" for name in names) in lines[-1]  # and it stays


def test_bad_arguments_and_bad_numbers_are_named():
    player, batches = line_player()
    with pytest.raises(ValueError, match=r"a game needs players with different names, got \['line', 'line'\]"):
        Trainer([player, player], batches)
    with pytest.raises(ValueError, match="precision must be 'fp32' or 'bf16', got 'int8'"):
        Trainer([player], batches, precision="int8")
    for counts in ({"save_every": 0}, {"log_every": 0}, {"save_every": -3}):
        given = " and ".join(str({"save_every": 500, "log_every": 20, **counts}[name]) for name in ("save_every", "log_every"))
        with pytest.raises(ValueError, match=f"^save_every and log_every must be 1 step or more, got {given}$"):
            Trainer([player], batches, **counts)
    with pytest.raises(ValueError, match="this Trainer has no folder to save in"):
        Trainer([player], batches).save()
    player.optimizer.param_groups[0]["lr"] = 1e6
    with pytest.raises(FloatingPointError, match=r"line/loss is not a finite number after step .* Lower the learning rate"):
        Trainer([player], batches, log_every=5).run(1000)


def test_bf16_is_refused_where_it_would_crawl(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    player, batches = line_player()
    with pytest.warns(UserWarning, match="this processor has no bfloat16 instructions: training in fp32 instead"):
        assert not Trainer([player], batches, precision="bf16").bf16


def test_bf16_learns_the_same(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    player, batches = line_player()
    Trainer([player], batches, precision="bf16").run(60)
    assert abs(player.module.weight.item() - 2) < 0.02  # bfloat16 keeps 8 bits: steps of 2⁻⁷ at 2
