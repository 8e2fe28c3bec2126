"""Run as a program, by torchrun or alone: train recipes for a few steps and keep their weights.

    python by_torchrun.py FOLDER STOP RECIPE …      STOP: the step after which the run is interrupted; 0 for never
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from genai_lib import recipes
from genai_lib.training import Callback, Trainer, accelerator

STEPS = 8


class Stop(Callback):
    """A stop in the middle, where no checkpoint is due."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, trainer: Trainer) -> None:
        if trainer.step == self.step:
            raise KeyboardInterrupt


def train(name: str, folder: Path, stop: int) -> None:
    recipe = recipes.get(name)
    rows = len(recipe.data(torch.device("cpu"))[0])
    epochs = STEPS * recipe.turns / (rows // 16)
    try:
        run = recipes.run(
            name, epochs=epochs, batch_size=16, precision="fp32", ema=None,
            folder=folder / name, save_every=3, callbacks=[Stop(stop)],
        )  # fmt: skip
    except KeyboardInterrupt:
        return
    if accelerator().is_main_process:
        torch.save(run.model.state_dict(), folder / f"{name}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for recipe in sys.argv[3:]:
        train(recipe, Path(sys.argv[1]), int(sys.argv[2]))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
