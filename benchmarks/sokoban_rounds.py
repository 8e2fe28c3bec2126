"""What do rounds of learning from one's own solved levels change in a writer of Sokoban levels?

    python benchmarks/sokoban_rounds.py --out genai_lib/data/sokoban_rounds.json      fifty minutes

The recipe `sokoban`, shipped version, trains with three seeds. After its levels made by people come six rounds: it writes new
levels, a search of 500 states marks them, and half of each batch are its own levels that were solved. The other side trains
for as many steps at the same learning rates, with levels made by people alone.

After each stage the writer is measured on 400 orders like the training levels' and on 400 full rooms of 8 × 8, up to five
boxes each, temperature 0.5, rules kept while it writes. Kept of both kinds: the share of all drawn that a search of at most
2,000 states solves, with one push or more; the share that it solves within the 500 states of the search that marked; how many
levels are different; and the pushes of the solved level in the middle.

Rows are written as they come; a file that has some is completed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from genai_lib import Noise, recipes, setup, sweep
from genai_lib.games import playability, puzzle
from genai_lib.models.gpt import LanguageModel
from genai_lib.recipes import levels
from genai_lib.recipes.core import run_recipe, token_player

LEVELS, TEMPERATURE = 400, 0.5
ORDERS = {"as in training": levels.prompts, "full rooms": levels.full_rooms}
SIDES: dict[str, Callable[..., Any] | None] = {"own levels": None, "by people alone": token_player}
RUNS = {f"{side}, seed {seed}": (side, seed) for seed in range(3) for side in SIDES}


def measured(model: LanguageModel, kind: str) -> dict[str, float]:
    """What the writer does with one kind of orders."""
    noise = Noise(0, 16)
    drawn = levels.draw(model, ORDERS[kind](LEVELS, noise), noise, temperature=TEMPERATURE)
    found = playability(drawn, limit=levels.LIMIT)
    return {
        "solvable": found.solvable.estimate,
        "within 500 states": sum(answer.states <= levels.LIMIT // 4 for answer in found.answers) / LEVELS,
        "different": len(set(map(puzzle, drawn))),
        "pushes": statistics.median([answer.pushes for answer in found.answers] or [0]),
    }  # fmt: skip


def row(name: str) -> dict[str, Any]:
    """One writer, measured after each of its stages."""
    (side, seed), recipe = RUNS[name], recipes.get("sokoban")
    if (players := SIDES[side]) is not None:
        recipe = replace(recipe, players=players)
    stages: list[dict[str, Any]] = []

    def look(model: nn.Module) -> list[Any]:  # it is shown as each stage begins
        model.eval()
        stages.append({kind: measured(model, kind) for kind in ORDERS})
        model.train()
        return []

    run = run_recipe(recipe, "shipped", seed=seed, callbacks=look)
    look(run.model)
    return {"run": name, "side": side, "seed": seed, "seconds": round(run.seconds, 1), "stages": stages[1:]}


def main() -> None:
    options = sweep.options(__doc__.split("\n")[0])
    setup(seed=0)
    report = sweep.reopen(options.out, lambda: {
        **sweep.head("sokoban_rounds", options.note), "temperature": TEMPERATURE,
        "levels": LEVELS, "states": levels.LIMIT, "rows": [],
    })  # fmt: skip
    for name in sweep.missing(RUNS, report, key="run"):
        sweep.keep(row(name), report, options.out)


if __name__ == "__main__":
    main()
