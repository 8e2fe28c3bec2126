"""What a training step costs: fetching data, precision, memory layout; and the GPT beside bare matrix products.

    python benchmarks/step.py

For each recipe that trains by steps: the mean time of a step of its minute version over about four seconds, and the share of
it that fetching the batches takes. For the GPT at its
shipped size, in fp32: the floating-point operations of its matrix products over the step's time, against the rate at
which the very same products run alone, one after another, on this machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genai_lib import Noise, pretrained, recipes, setup
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    setup(seed=0)
    figures: dict[str, Any] = {"machine": pretrained.machine(), "GPT": gpt_against_products(), "steps": {}}
    print("GPT:", {k: round(v, 2) for k, v in figures["GPT"].items()}, flush=True)
    for name, recipe in recipes.RECIPES.items():
        if recipe.players is None:
            continue
        pictures = any(isinstance(m, nn.Conv2d) for m in recipe.build().modules())
        for variant in VARIANTS if pictures else list(VARIANTS)[:2]:
            found = step_cost(recipe, **VARIANTS[variant])
            if found is not None:
                figures["steps"].setdefault(name, {})[variant] = found
                print(f"{name}, {variant}:", {k: round(v, 4) for k, v in found.items()}, flush=True)
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
