"""What a training step costs: fetching data, precision, memory layout, memory; and the GPT beside bare matrix products.

    python benchmarks/step.py --out benchmarks/results/step.json      seven minutes

For each recipe that trains by steps: the time of a step of its minute version, and the share of it that fetching the batches
takes; the median of three stretches, two or three seconds in all. A recipe that is fitted as a whole is: the seconds are
those of its whole minute version. Each has a process of its own, and the most memory that process ever held is kept, as it
stands after the minute version's precision. For the GPT at its
shipped size, in fp32: the floating-point operations of its matrix products over the step's time, against the rate at
which the very same products run alone, one after another, on this machine.

Rows are written as they come; a file that has some is completed.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from genai_lib import Noise, recipes, setup, sweep
from genai_lib.data import Batches
from genai_lib.recipes.text import CONTEXT
from genai_lib.speed import step_cost


def median(function: Callable[[int], object], times: int) -> float:
    """Seconds a call, after three that are not counted."""
    seconds = []
    for i in range(times + 3):
        start = time.perf_counter()
        function(i)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[3:])


SECONDS = 2.4  # of training in each way
VARIANTS: dict[str, dict[str, Any]] = {
    "fp32": {}, "bf16": {"precision": "bf16"}, "bf16, channels last": {"precision": "bf16", "layout": torch.channels_last},
}  # fmt: skip


def gpt_against_products() -> dict[str, float]:
    """Operations a second in the GPT's step, and in its matrix products alone."""
    recipe = recipes.get("gpt")
    effort = recipe.shipped
    torch.manual_seed(0)
    model = recipe.build().train()
    rows = effort.batch_size * CONTEXT
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    shapes = [(m.in_features, m.out_features) for m in layers] + [(model.config.width, model.config.size)]
    operands = [(torch.randn(rows, a), torch.randn(a, b), torch.randn(rows, b)) for a, b in shapes]

    def products(i: int) -> Tensor:
        for x, w, g in operands:  # forward, gradient of the input, gradient of the weights
            (x @ w, g @ w.T, x.T @ g)
        return x

    operations = sum(3 * 2 * rows * a * b for a, b in shapes)
    (player,) = recipe.players(model, effort, 1_000)  # type: ignore[misc]
    batches = Batches(*recipe.data(torch.device("cpu")), batch_size=effort.batch_size)

    def step(i: int) -> None:
        loss = player.loss(batches[i], Noise(0, i))["loss"]
        player.optimizer.zero_grad()
        loss.backward()
        player.optimizer.step()

    alone, whole = median(products, 20), median(step, 12)
    return {
        "GFLOP a step": operations / 1e9, "products alone, GFLOP/s": operations / alone / 1e9,
        "step, GFLOP/s": operations / whole / 1e9, "share": alone / whole,
    }  # fmt: skip


def most_memory() -> float:
    """The most memory that this process ever held, in GB; the system counts in KiB, on a Mac in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def measured(name: str) -> dict[str, Any]:
    """The row of one recipe; to be called in a fresh process."""
    recipe = recipes.get(name)
    minute = recipe.minute
    if recipe.players is None:
        run = recipes.run(name)
        return {"minute, s": run.seconds, "rounds": len(run.history["step"]), "memory, GB": most_memory()}
    pictures = any(isinstance(m, nn.Conv2d) for m in recipe.build().modules())
    row: dict[str, Any] = {}
    for variant in sorted(VARIANTS, key=lambda variant: variant != minute.precision):  # the minute version's own first
        if pictures or "layout" not in VARIANTS[variant]:
            found = step_cost(recipe, seconds=SECONDS, **VARIANTS[variant])
            row |= {} if found is None else {variant: found}
            row.setdefault("memory, GB", most_memory())
    own = row.get(minute.precision, row["fp32"])  # a processor without bfloat16 trains in fp32
    return {"minute, s": minute.epochs * own["steps a pass"] * own["ms a step"] / 1000, "data": own["data"], **row}


def main() -> None:
    own = {"--one": {"metavar": "RECIPE", "help": "measure this recipe alone, in this process, and keep its row"}}
    options = sweep.options(__doc__.split("\n")[0], own=own)
    setup(seed=0)
    report = sweep.reopen(options.out, lambda: {
        **sweep.head("step", options.note, folder="benchmarks/results"), "GPT": gpt_against_products(), "recipes": [],
    })  # fmt: skip
    if options.one:
        sweep.keep({"recipe": options.one, **measured(options.one)}, report, options.out, place="recipes")
        return
    print("GPT:", {k: round(v, 2) for k, v in report["GPT"].items()}, flush=True)
    sweep.save(report, options.out)
    for name in sweep.missing(recipes.RECIPES, report, place="recipes", key="recipe"):
        subprocess.run([sys.executable, __file__, "--one", name, "--out", options.out], check=True,
                       env=os.environ | {"TQDM_DISABLE": "1"})  # fmt: skip


if __name__ == "__main__":
    main()
