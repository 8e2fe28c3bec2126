"""What a training step costs: all players' turns, the average of the weights, and the fetching of the batches."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Mapping

import torch

from genai_lib.callbacks import EMA
from genai_lib.data import Batches
from genai_lib.noise import setup
from genai_lib.recipes import Recipe
from genai_lib.training import Trainer


class _Timed(Batches):
    """Batches that add up the seconds it took to make them."""

    seconds = 0.0

    def __getitem__(self, number: int) -> tuple[torch.Tensor, ...]:
        start = time.perf_counter()
        batch = super().__getitem__(number)
        self.seconds += time.perf_counter() - start
        return batch


def step_cost(
    recipe: Recipe, *, precision: str = "fp32", layout: torch.memory_format = torch.contiguous_format, seconds: float = 4.0,
    repeats: int = 3,
) -> dict[str, float] | None:  # fmt: skip
    """Train the minute version of a recipe for some seconds, after ten steps that are not counted.

    Parameters
    ----------
    recipe : Recipe
        One that trains by steps.
    precision : str
        ``"fp32"`` or ``"bf16"``.
    layout : torch.memory_format
        Of the networks: ``torch.channels_last`` may be faster for pictures.
    seconds : float
        About how long to train in all; at least `repeats` times four steps.
    repeats : int
        Parts that the seconds are cut into. What is told is their median: what disturbs the machine for one does not count.

    Returns
    -------
    dict or None
        ``"ms a step"``; ``"examples a second"``; ``"data"``, the share of the time that fetching batches takes; ``"steps a
        pass"`` over the data. None if bf16 is asked of a processor that has no instructions for it.

    Raises
    ------
    ValueError
        The recipe has no steps: it is fitted as a whole.
    """
    if recipe.players is None:
        raise ValueError(f"{recipe.name} is fitted as a whole: it has no training step to be timed")
    device, effort = setup(), recipe.minute
    model = recipe.build().to(device, memory_format=layout)  # type: ignore[call-overload]
    average = [EMA(recipe.product(model), decay=effort.ema)] if effort.ema else []
    with warnings.catch_warnings(action="ignore"):  # what it warns of is what None tells
        trainer = Trainer(recipe.players(model, effort, 10**9), _Timed(*recipe.data(device), batch_size=effort.batch_size),
                          precision=precision, callbacks=average)  # fmt: skip
    batches = trainer.batches  # this process's share
    assert isinstance(batches, _Timed)
    if precision == "bf16" and not trainer.bf16:
        return None
    start, steps = time.perf_counter(), 10
    trainer.run(steps)  # the first steps are slow, and tell how many make up the seconds
    more = max(4, round(steps * seconds / repeats / (time.perf_counter() - start)))
    times, shares = [], []
    for _ in range(repeats):
        batches.seconds, start = 0.0, time.perf_counter()
        trainer.run(trainer.step + more)
        times.append(time.perf_counter() - start)
        shares.append(batches.seconds / times[-1])
    took = statistics.median(times)
    return {
        "ms a step": 1000 * took / more, "examples a second": more * recipe.turns * effort.batch_size / took,
        "data": statistics.median(shares), "steps a pass": batches.per_epoch / recipe.turns,
    }  # fmt: skip


def seconds_in_turns(trainers: Mapping[str, Trainer], *, block: int, blocks: int = 4) -> dict[str, float]:
    """Mean processor seconds of a step of each trainer; they take turns, so that a slow minute slows all alike.

    After two steps that are not counted, each runs `blocks` times `block` steps.
    """
    spent = dict.fromkeys(trainers, 0.0)
    for trainer in trainers.values():
        trainer.run(2)  # the first is slow
    for name, trainer in [*trainers.items()] * blocks:
        start = time.process_time()
        trainer.run(trainer.step + block)
        spent[name] += time.process_time() - start
    return {name: round(total / (blocks * block), 5) for name, total in spent.items()}
