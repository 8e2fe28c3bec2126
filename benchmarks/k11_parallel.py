"""Is a GPT faster to train than a GRU, and slower to sample from (claim K11)? Ten rounds, at equal parameters.

The GPT is the recipe's. The GRU has one layer, as its recipe has, and the width at which both have equally many parameters up
to one in a hundred. Each round times, for each length, first the one, then the other: a training step (batches of 8, forward,
backward, Adam), and the drawing of one text token by token (the GPT with its cache, and without). So whatever else the machine
does falls on both. Times are processor seconds on one thread. For lengths above 128 the GPT gets more places; they add
parameters, and no operations.

Beside the clock the quality: both read the same 199 batches, each at the best of five learning rates on a seed of its own
(`--tune`), and are measured on the test plays. Five seeds.

    python benchmarks/k11_parallel.py --out genai_lib/data/k11_parallel.json

Rows are written as they come; a file that has some is completed. `--tune` prints the grid and writes nothing; `--clock` leaves
out the quality.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

import genai_lib
from genai_lib import recipes, sweep
from genai_lib.compression import Forgetful
from genai_lib.models.gpt import GPT, GPTConfig, LanguageModel
from genai_lib.models.recurrent import GRU
from genai_lib.noise import Noise
from genai_lib.objectives import next_token_nll
from genai_lib.recipes.core import run_recipe
from genai_lib.recipes.text import CONTEXT, characters

ROUNDS, SEEDS, TUNING_SEED = range(10), range(5), 100
GRID = 2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2
RATES = {"GPT": 2e-2, "GRU": 1e-2}  # of the grid, the best on the tuning seed
LENGTHS, LONGEST_WITHOUT_CACHE = (16, 64, 128, 256), 128
WIDTH, BATCH, EPOCHS = 360, 8, 0.2
BUILD: dict[str, Callable[[int], Any]] = {
    "GPT": lambda context: GPT(GPTConfig(size=characters().size, context=max(context, CONTEXT))),
    "GRU": lambda context: GRU(characters().size, width=WIDTH),
}


def quality(name: str, seed: int, rate: float) -> dict[str, Any]:
    """Train on 199 batches; bits per character of the test plays."""
    recipe = replace(recipes.get(name.lower()), build=partial(BUILD[name], CONTEXT))
    start = time.process_time()
    run = run_recipe(recipe, seed=seed, epochs=EPOCHS, batch_size=BATCH, lr=rate, beta2=0.99, climb=0.1, sink="linear")
    seconds = time.process_time() - start
    return {"bits": round(recipe.quality(run.product, None)["bits per character"], 4), "seconds": round(seconds, 1),
            "steps": int(run.history["step"][-1])}  # fmt: skip


def timed(work: Callable[[], Any], times: int) -> float:
    """Processor seconds of one of several turns."""
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times


def training_step(name: str, length: int) -> Callable[[], None]:
    """One step of Adam on 8 texts of so many tokens."""
    torch.manual_seed(0)
    model, tokens = BUILD[name](length), Noise(0, length).integers(characters().size, BATCH, length + 1)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        (next_token_nll(model, tokens).mean() / length).backward()
        adam.step()
        adam.zero_grad()

    step()  # the first is slow
    return step


def drawing(model: LanguageModel, length: int) -> Callable[[], object]:
    """One text of so many tokens after the first."""
    return partial(model.eval().sample, torch.zeros(1, 1, dtype=torch.int64), length, Noise(0))


def one_round(number: int) -> dict[str, Any]:
    """All lengths once, the two sides in turns; which of them begins changes from round to round."""
    names = list(BUILD) if number % 2 == 0 else list(BUILD)[::-1]
    found: dict[str, Any] = {"round": number, "training": {}, "sampling": {}}
    for length in LENGTHS:
        steps = {name: training_step(name, length) for name in names}
        times = max(1, 128 // length)
        parts = [{name: timed(steps[name], times) for name in names} for _ in range(2)]
        found["training"][length] = {name: round(sum(part[name] for part in parts) / 2, 6) for name in BUILD}
        models = {name: BUILD[name](length) for name in names}
        if length <= LONGEST_WITHOUT_CACHE:
            models["GPT without cache"] = Forgetful(models["GPT"])
        found["sampling"][length] = {
            name: round(timed(drawing(model, length), max(1, 128 // length)) / length, 7) for name, model in models.items()
        }
    return found


def main() -> None:
    """Tune, or run all and write one file."""
    options = sweep.options(
        "Ten rounds for claim K11.",
        tune="try every learning rate on the tuning seed, write nothing",
        own={"--clock": {"action": "store_true", "help": "only the rounds, not the quality"}},
    )
    genai_lib.setup(seed=0, threads=1)
    if options.tune:
        for rate in GRID:
            for name in BUILD:
                print(name, rate, json.dumps(quality(name, TUNING_SEED, rate)), flush=True)
        return
    report = sweep.reopen(options.out, lambda: {
        "claim": "K11",
        **sweep.head("k11_parallel", options.note),
        "settings": {"lengths": LENGTHS, "batch size": BATCH, "GRU width": WIDTH, "epochs": EPOCHS, "learning rates": RATES,
                     "grid": GRID, "tuning seed": TUNING_SEED},
        "parameters": {name: sum(p.numel() for p in build(CONTEXT).parameters()) for name, build in BUILD.items()},
        "quality": [],
        "rounds": [],
    })  # fmt: skip

    for number in sweep.missing(ROUNDS, report, place="rounds", key="round"):
        sweep.keep(one_round(number), report, options.out, place="rounds")
    for seed in () if options.clock else sweep.missing(SEEDS, report, place="quality"):
        row = {"seed": seed, **{name: quality(name, seed, rate) for name, rate in RATES.items()}}
        sweep.keep(row, report, options.out, place="quality")


if __name__ == "__main__":
    main()
