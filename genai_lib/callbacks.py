"""What may happen between the steps: averaged weights, pictures, logs, a look at the quality."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from genai_lib.data.pictures import save_png, tile
from genai_lib.training import Callback, Trainer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class EMA(Callback):
    """Keep an exponential moving average of a module's weights: smoother than the weights themselves, and often better.

    Parameters
    ----------
    module : nn.Module
        What to average; its buffers are averaged too.
    decay : float
        Share of the old average kept at each step; 0.999 looks back about 1,000 steps.

    Attributes
    ----------
    module : nn.Module
        The averaged copy.
    """

    def __init__(self, module: nn.Module, *, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.source = module
        self._average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

    @property
    def module(self) -> nn.Module:
        return self._average.module

    def after_step(self, trainer: Trainer) -> None:
        self._average.to(trainer.device)
        self._average.update_parameters(self.source)

    def state_dict(self) -> dict[str, Any]:
        return dict(self._average.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._average.load_state_dict(state)


class Every(Callback):
    """Call a function of the trainer every so many steps, and keep what it returns.

    Parameters
    ----------
    steps : int
        Steps between two calls.
    function : function (trainer) → number or dict of numbers

    Attributes
    ----------
    record : list of (step, result)
    """

    def __init__(self, steps: int, function: Callable[[Trainer], Any]) -> None:
        self.steps, self.function = steps, function
        self.record: list[tuple[int, Any]] = []

    def after_step(self, trainer: Trainer) -> None:
        if trainer.step % self.steps == 0:
            self.record.append((trainer.step, self.function(trainer)))

    def state_dict(self) -> dict[str, Any]:
        return {"record": self.record}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.record = list(state["record"])


class Samples(Callback):
    """Write a sheet of samples into `folder` every so many steps: ``samples_00000500.png`` and so on.

    `draw` takes nothing and returns pictures (N, C, H, W) in [0, 1]; use the same noise each time, so that the sheets show
    one set of pictures growing.
    """

    def __init__(self, draw: Callable[[], Tensor], folder: Path | str, *, every: int = 500) -> None:
        self.draw, self.folder, self.every = draw, Path(folder), every

    def after_step(self, trainer: Trainer) -> None:
        if trainer.step % self.every == 0 and trainer.accelerator.is_main_process:
            save_png(_drawn(self.draw, trainer), self.folder / f"samples_{trainer.step:08d}.png")


class TensorBoard(Callback):
    """Write the trainer's history where ``tensorboard --logdir FOLDER`` finds it, and samples every so many steps.

    `draw`, without which there are none, is as in `Samples`.
    """

    def __init__(self, folder: Path | str, *, draw: Callable[[], Tensor] | None = None, every: int = 500) -> None:
        self.folder, self.draw, self.every = Path(folder), draw, every
        self._writer: SummaryWriter | None = None
        self._written = 0

    def after_step(self, trainer: Trainer) -> None:
        if not trainer.accelerator.is_main_process:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # takes two seconds: only those who log pay

            self._writer = SummaryWriter(str(self.folder))
        steps = trainer.history.get("step", [])
        for i in range(self._written, len(steps)):  # the entries that came since the last step
            for name, column in trainer.history.items():
                if name != "step":
                    self._writer.add_scalar(name, column[i], int(steps[i]))
        self._written = len(steps)
        if self.draw is not None and trainer.step % self.every == 0:
            sheet = tile(_drawn(self.draw, trainer))
            self._writer.add_image("samples", sheet, trainer.step, dataformats="HWC")

    def after_run(self, trainer: Trainer) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def state_dict(self) -> dict[str, Any]:
        return {"written": self._written}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._written = state["written"]


@torch.no_grad()
def _drawn(draw: Callable[[], Tensor], trainer: Trainer) -> Tensor:
    """Draw with the players' modules in evaluation mode, and let them train on."""
    for player in trainer.players:
        player.module.eval()
    try:
        return draw()
    finally:
        for player in trainer.players:
            player.module.train()
