"""Several processes on one machine, by torchrun and gloo: the way to several GPUs and machines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROGRAM = Path(__file__).with_name("by_torchrun.py")
NAMES = ["vae-mlp", "gan-mlp", "gpt"]  # one player, two players, next tokens; none has batch normalisation


def launch(processes: int, *arguments: str) -> str:
    """What a program, started in so many processes, writes on the screen."""
    environment = {**os.environ, "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    alone = [sys.executable]
    together = [*alone, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", "29521"]
    command = [*(alone if processes == 1 else together), *arguments]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def play(folder: Path, *, processes: int, stop: int = 0) -> str:
    return launch(processes, str(PROGRAM), str(folder), str(stop), *NAMES)


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return torch.load(folder / f"{name}.pt", weights_only=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    play(folder, processes=1)
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    play(folder, processes=2)
    return folder


@pytest.fixture(scope="module")
def two_then_one(tmp_path_factory) -> Path:
    """Two processes until Ctrl-C reaches the second of them in step 5; one process goes on."""
    folder = tmp_path_factory.mktemp("two then one")
    told = play(folder, processes=2, stop=5)
    for name in NAMES:
        assert [path.stem for path in sorted((folder / name).iterdir())] == ["step_00000003", "step_00000005"]
        for process in (0, 1):  # both stopped after the same step
            stopped = f"stopped after step 5 of 8 (saved in {folder / name}: run again to go on)"
            assert f"{name} in process {process} of 2: {stopped}" in told
        assert not (folder / f"{name}.pt").exists()
    told = play(folder, processes=1)
    assert all(f"{name}: 3 steps played" in told for name in NAMES)
    return folder


@pytest.fixture(scope="module")
def one_then_two(alone, tmp_path_factory) -> Path:
    """One process until step 6; two processes go on from its checkpoint."""
    folder = tmp_path_factory.mktemp("one then two")
    for name in NAMES:
        (folder / name).mkdir()
        shutil.copy(alone / name / "step_00000006.safetensors", folder / name)
    told = play(folder, processes=2)
    assert all(f"{name}: 2 steps played" in told for name in NAMES)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["together", "two_then_one", "one_then_two"])
def test_the_weights_do_not_depend_on_the_number_of_processes(how, name, alone, request):
    """Each process has half of every batch and half of its noise; sums in another order round otherwise, and no more."""
    ours, one = weights(request.getfixturevalue(how), name), weights(alone, name)
    assert ours.keys() == one.keys()
    for key in one:
        torch.testing.assert_close(ours[key], one[key], rtol=1e-4, atol=2e-5, msg=lambda m, key=key: f"{key}: {m}")
    assert any(not torch.equal(ours[key], one[key]) for key in one)  # they were not one run copied


@pytest.mark.slow
def test_the_command_line_trains_in_two_processes_and_one_of_them_speaks(tmp_path):
    told = launch(2, "-m", "genai_lib", "train", "autoencoder", "--epochs", "0.02", "--folder", str(tmp_path))
    assert told.count("trained in") == told.count("weights: ") == told.count("autoencoder, minute version") == 1
    assert {"autoencoder.json", "autoencoder.safetensors", "checkpoints"} <= {path.name for path in tmp_path.iterdir()}
