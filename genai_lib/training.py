"""The one loop: training is a game, and players take turns.

A VAE is a game with one player, a GAN has two, and a Wasserstein critic moves more often than its generator. That is
all the difference there is, so one loop serves every model::

    for each step:  for each player's turn:  loss(batch) → backward → clip → step        then callbacks

The loop knows no model. Device, several processes and gradient reduction come from Hugging Face Accelerate.
"""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm.auto import tqdm

from genai_lib import checkpoint, progress
from genai_lib.data.batches import Batches
from genai_lib.noise import Noise

Loss = Callable[[tuple[Tensor, ...], Noise], Mapping[str, Tensor]]


@dataclass
class Player:
    """Who moves, what for, and how.

    Parameters
    ----------
    name : str
        For logs and checkpoints.
    module : nn.Module
        The parameters this player moves. Everybody else's are frozen during his turn.
    loss : function (batch, noise) → dict
        Scalars by name. The one named ``"loss"`` is minimised, the others are only logged. It must touch all the
        player's parameters.
    optimizer : torch.optim.Optimizer
    schedule : LRScheduler, optional
        Steps once a turn.
    turns : int
        Turns a step, each on a fresh batch.
    clip : float, optional
        Largest norm of the gradient.
    """

    name: str
    module: nn.Module
    loss: Loss
    optimizer: Optimizer
    schedule: LRScheduler | None = None
    turns: int = 1
    clip: float | None = None


def accelerator() -> Accelerator:
    """Which device this process computes on, and how it speaks to the others of a run: there is one answer a process."""
    return Accelerator(cpu=not torch.cuda.is_available())


class Callback:
    """Something that happens after steps. Override what you need."""

    def after_step(self, trainer: Trainer) -> None:
        """Act after a step; `trainer.step` steps are done."""

    def after_run(self, trainer: Trainer) -> None:
        """Act when `run` ends, for whatever reason: close what is open."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold of this callback."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


class Trainer:
    """Plays the game, and can stop and go on at any step.

    Parameters
    ----------
    players : sequence of Player
        In the order in which they move.
    batches : Batches
        Batch number i for the i-th turn. Several processes share each batch out among them.
    seed : int
        All noise in the losses depends on (seed, step, turn) alone.
    precision : str
        ``"fp32"``, or ``"bf16"`` for automatic mixed precision in bfloat16. On a CPU without bfloat16 instructions it
        would be many times slower, so it is refused there with a warning.
    callbacks : sequence of Callback
    folder : path, optional
        Where checkpoints go. If it holds some of this run, the run goes on from the newest sound one.
    save_every : int
        Steps between two checkpoints.
    log_every : int
        Steps averaged into one entry of `history`.

    Attributes
    ----------
    step : int
        Steps done.
    history : dict
        ``"step"`` and, for each player and each scalar, ``"player/scalar"``: lists of equal length.
    """

    def __init__(
        self,
        players: Sequence[Player],
        batches: Batches,
        *,
        seed: int = 0,
        precision: str = "fp32",
        callbacks: Sequence[Callback] = (),
        folder: Path | str | None = None,
        save_every: int = 500,
        log_every: int = 20,
    ) -> None:
        names = [p.name for p in players]
        if not players or len(set(names)) < len(names):
            raise ValueError(f"a game needs players with different names, got {names}")
        if save_every < 1 or log_every < 1:
            raise ValueError(f"save_every and log_every must be 1 step or more, got {save_every} and {log_every}")
        self.accelerator = accelerator()
        self.device = self.accelerator.device
        self.players, self.seed, self.callbacks = list(players), seed, list(callbacks)
        self.batches = batches.share(self.accelerator.process_index, self.accelerator.num_processes)
        self.bf16 = _bf16(precision, self.device)
        self.folder = checkpoint.Folder(folder) if folder is not None else None
        self.save_every, self.log_every = save_every, log_every
        self.step = 0
        self.history: dict[str, list[float]] = {}
        self._sums: dict[str, Tensor] = {}
        for player in self.players:
            player.module.to(self.device)
        self._others = {p.name: _parameters_of_others(p, self.players) for p in self.players}

    # ------------------------------------------------------------ the loop

    def run(self, steps: int) -> dict[str, list[float]]:
        """Play until `steps` steps are done in all, from a checkpoint if there is one; returns `history`.

        Ctrl-C (or a notebook's stop button) ends the run after the step in progress, with a checkpoint if there is a
        `folder`. Several processes stop after the same step, whichever of them it reaches first.
        """
        if self.step == 0:
            self.resume()
        for player in self.players:
            player.module.train()
        bar = progress.bar(steps, "step", initial=self.step)
        try:
            with bar, _postponed_interrupt() as interrupted:
                while self.step < steps:
                    self._play()
                    self._after_step(steps, bar, interrupted)
        finally:
            for callback in self.callbacks:
                callback.after_run(self)
        return self.history

    def _after_step(self, steps: int, bar: tqdm, interrupted: list[int]) -> None:
        self.step += 1
        bar.update()
        if self.step % self.log_every == 0 or self.step == steps:
            self._log(bar)
        for callback in self.callbacks:
            callback.after_step(self)
        stop = self._any(bool(interrupted))
        if self.folder and (self.step % self.save_every == 0 or self.step == steps or stop):
            self.save()
        if stop:
            self.accelerator.wait_for_everyone()  # torchrun ends the others as soon as one has ended: not before it is saved
            where = f"saved in {self.folder.path}: run again to go on" if self.folder else "no folder, nothing saved"
            raise KeyboardInterrupt(f"stopped after step {self.step} of {steps} ({where})")

    def _play(self) -> None:
        """One step: each player's turns."""
        longest = max(p.turns for p in self.players)
        for number, player in enumerate(self.players):
            for turn in range(player.turns):
                batch = tuple(t.to(self.device) for t in self.batches[self.step * longest + turn])
                noise = self._noise(number, turn)
                with self._only(player):
                    with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                        scalars = player.loss(batch, noise)
                    player.optimizer.zero_grad()
                    scalars["loss"].backward()
                    self._reduce(player)
                    if player.clip is not None:
                        norm = nn.utils.clip_grad_norm_(player.module.parameters(), player.clip)
                        scalars = {**scalars, "gradient norm": norm}
                    player.optimizer.step()
                    if player.schedule is not None:
                        player.schedule.step()
                for name, scalar in scalars.items():
                    self._add(f"{player.name}/{name}", scalar.detach() / player.turns)

    def _noise(self, player: int, turn: int) -> Noise:
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        return Noise(self.seed, self.step, player, turn, device=self.device, rank=rank, world=world)

    @contextmanager
    def _only(self, player: Player) -> Iterator[None]:
        """Freeze everybody else's parameters: no gradient is computed for them, none is left behind in them."""
        others = [p for p in self._others[player.name] if p.requires_grad]
        for p in others:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in others:
                p.requires_grad_(True)

    def _reduce(self, player: Player) -> None:
        """Average the gradients over the processes, in one message."""
        if self.accelerator.num_processes > 1:
            gradients = [p.grad for p in player.module.parameters() if p.grad is not None]
            joint = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), reduction="mean")
            for g, mean in zip(gradients, joint.split([g.numel() for g in gradients]), strict=True):
                g.copy_(mean.view_as(g))

    def _any(self, mine: bool) -> bool:
        """Whether it is so in any of the processes."""
        if self.accelerator.num_processes == 1:
            return mine
        return bool(self.accelerator.reduce(torch.tensor([float(mine)], device=self.device)).item())

    # ------------------------------------------------------------ what is kept

    def _add(self, name: str, scalar: Tensor) -> None:
        self._sums[name] = self._sums.get(name, torch.zeros((), device=scalar.device)) + scalar.float()

    def _log(self, bar: tqdm) -> None:
        done = self.step - (int(self.history["step"][-1]) if self.history.get("step") else 0)
        means = {name: (total / done).item() for name, total in self._sums.items()}
        self._sums.clear()
        bad = [name for name, mean in means.items() if mean != mean or abs(mean) == float("inf")]
        if bad:
            raise FloatingPointError(
                f"{bad[0]} is not a finite number after step {self.step}. Lower the learning rate, or clip the gradient."
            )
        self.history.setdefault("step", []).append(self.step)
        for name, mean in means.items():
            self.history.setdefault(name, []).append(mean)
        bar.set_postfix({name: f"{mean:.4g}" for name, mean in means.items()}, refresh=False)

    def save(self) -> Path | None:
        """Write a checkpoint into `folder`; only the first process writes."""
        if self.folder is None:
            raise ValueError("this Trainer has no folder to save in: give it one, Trainer(…, folder=…)")
        return self.folder.write(self._state(), self.step) if self.accelerator.is_main_process else None

    def resume(self) -> bool:
        """Take up the newest sound checkpoint of `folder`; False if there is none.

        Raises CheckpointError if all are damaged, or if it is of another run or model.
        """
        if self.folder is None or (state := self.folder.newest()) is None:
            return False
        where, remedy = f"the checkpoints in {self.folder.path}", "Choose another folder, or delete that one."
        if state["run"] != self._run():
            raise checkpoint.CheckpointError(f"{where} are of another run: {state['run']}, not {self._run()}. {remedy}")
        try:
            self._take_up(state)
        except (KeyError, RuntimeError, ValueError) as error:
            fault = f"lack {error}" if isinstance(error, KeyError) else "are of another model or optimiser"
            raise checkpoint.CheckpointError(f"{where} {fault}. {remedy}") from error
        return True

    def _take_up(self, state: dict[str, Any]) -> None:
        for player in self.players:
            saved = state["players"][player.name]
            player.module.load_state_dict(saved["module"])
            player.optimizer.load_state_dict(saved["optimizer"])
            if player.schedule is not None:
                player.schedule.load_state_dict(saved["schedule"])
        for callback, saved in zip(self.callbacks, state["callbacks"], strict=True):
            callback.load_state_dict(saved)
        torch.set_rng_state(state["random"]["cpu"])
        if torch.cuda.is_available():
            kept = state["random"]["cuda"][: torch.cuda.device_count()]  # another machine may have had more GPUs, or fewer
            torch.cuda.set_rng_state_all(kept)
        self.step, self.history = state["step"], state["history"]
        self._sums = {name: total.to(self.device) for name, total in state["sums"].items()}

    def _run(self) -> dict[str, Any]:
        """What must be equal for a run to go on from a checkpoint."""
        return {
            "players": [p.name for p in self.players],
            "callbacks": [type(c).__name__ for c in self.callbacks],
            "seed": self.seed,
            "batch_size": self.batches.batch_size,
            "length of schedules": [getattr(p.schedule, "total_steps", None) for p in self.players],
            "bf16": self.bf16,
        }

    def _state(self) -> dict[str, Any]:
        return {
            "run": self._run(),
            "step": self.step,
            "history": self.history,
            "sums": self._sums,
            "players": {
                p.name: {
                    "module": dict(p.module.state_dict()),
                    "optimizer": p.optimizer.state_dict(),
                    "schedule": p.schedule and _plain(p.schedule.state_dict()),
                }
                for p in self.players
            },
            "callbacks": [c.state_dict() for c in self.callbacks],
            "random": {
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            },
        }


def _parameters_of_others(player: Player, players: Sequence[Player]) -> list[nn.Parameter]:
    mine = {id(p) for p in player.module.parameters()}
    return [p for q in players for p in q.module.parameters() if id(p) not in mine]


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Leave out the functions a schedule's state may hold: they are code, not state."""
    return {k: v for k, v in state.items() if v is None or isinstance(v, bool | int | float | str | list | dict)}


def _bf16(precision: str, device: torch.device) -> bool:
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
    if precision == "bf16" and device.type == "cpu":
        can = torch.cpu.get_capabilities()
        if not (can.get("avx512_bf16") or can.get("amx_bf16")):
            warnings.warn("this processor has no bfloat16 instructions: training in fp32 instead", stacklevel=3)
            return False
    return precision == "bf16"


@contextmanager
def _postponed_interrupt() -> Iterator[list[int]]:
    """Collect Ctrl-C instead of raising it in the middle of a step. Yields a list that is no longer empty once it came."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen  # signals only reach the main thread
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
