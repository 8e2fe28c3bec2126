"""Run as a program, by torchrun or alone: train recipes for a few steps and keep their weights.

    python by_torchrun.py FOLDER STOP RECIPE …      STOP: the step in which Ctrl-C reaches one of the processes; 0 for never
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from genai_lib import recipes
from genai_lib.training import Callback, Trainer, accelerator

STEPS = 8


class Stop(Callback):
    """Ctrl-C in the last process alone, where no checkpoint is due."""

    def __init__(self, step: int) -> None:
        self.step, self.played = step, 0

    def after_step(self, trainer: Trainer) -> None:
        self.played += 1
        if trainer.step == self.step and trainer.accelerator.is_last_process:
            os.kill(os.getpid(), signal.SIGINT)


def train(name: str, folder: Path, stop: int) -> None:
    recipe = recipes.get(name)
    rows = len(recipe.data(torch.device("cpu"))[0])
    epochs, stopping = STEPS * recipe.turns / (rows // 16), Stop(stop)
    try:
        run = recipes.run(
            name, epochs=epochs, batch_size=16, precision="fp32", ema=None,
            folder=folder / name, save_every=3, callbacks=[stopping],
        )  # fmt: skip
    except KeyboardInterrupt as stopped:
        print(f"{name} in process {accelerator().process_index} of {accelerator().num_processes}: {stopped}", flush=True)
        return
    if accelerator().is_main_process:
        torch.save(run.model.state_dict(), folder / f"{name}.pt")
        print(f"{name}: {stopping.played} steps played", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for recipe in sys.argv[3:]:
        train(recipe, Path(sys.argv[1]), int(sys.argv[2]))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
