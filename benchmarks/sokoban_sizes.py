"""How many of the Sokoban levels that the shipped model writes can be solved, when full 10 × 10 levels are asked for?

    python benchmarks/sokoban_sizes.py --out benchmarks/results/sokoban_sizes.json      a minute

The card of the recipe sokoban tells it for orders like the training levels', most of which are smaller rooms. Here the room is
8 × 8, so that the level with its wall is 10 × 10, with one to five boxes: 400 levels each, temperature 0.5, and the rules kept
while it writes (one player, as many boxes and goals as asked, wall around). One more row has orders as on the card. Nothing
that is drawn is thrown away. Kept are the share that a search of at most 2,000 states solves, with one push or more (what it
gives up on counts as not solved), Wilson's 95 % interval, copies of training levels, how many levels are different, the pushes
of those in the middle, and the processor's seconds for drawing and searching: over the solved, what a solved level costs.

Rows are written as they come; a file that has some is completed.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from genai_lib import Noise, pretrained, setup, sweep
from genai_lib.games import playability, puzzle
from genai_lib.recipes import levels

LEVELS, TEMPERATURE = 400, 0.5
ROWS = {**{f"10 × 10, boxes: {boxes}": boxes for boxes in range(1, 6)}, "as on the card": 0}


def measured(name: str) -> dict[str, Any]:
    """One row: so many levels of one kind."""
    boxes, noise, start = ROWS[name], Noise(0, ROWS[name]), time.process_time()
    side = levels.SIDE
    asked = levels.ask(LEVELS, height=side, width=side, boxes=boxes) if boxes else levels.prompts(LEVELS, noise)
    drawn = levels.draw(pretrained.load("sokoban"), asked, noise, temperature=TEMPERATURE)
    found = playability(drawn, limit=levels.LIMIT)
    seconds = time.process_time() - start
    known, written = set(map(puzzle, levels.small_levels("train"))), [puzzle(level) for level in drawn if not level.faults()]
    return {
        "levels": len(drawn), "solvable": found.solvable.estimate, "low": found.solvable.low, "high": found.solvable.high,
        "well-formed": found.well_formed, "copies": sum(text in known for text in written), "different": len(set(written)),
        "pushes": statistics.median(answer.pushes for answer in found.answers), "seconds": round(seconds, 2),
    }  # fmt: skip


def main() -> None:
    options = sweep.options(__doc__.split("\n")[0])
    setup(seed=0)
    report = sweep.reopen(options.out, lambda: {
        **sweep.head("sokoban_sizes", options.note, folder="benchmarks/results"), "temperature": TEMPERATURE,
        "states": levels.LIMIT, "rows": [],
    })  # fmt: skip
    for name in sweep.missing(ROWS, report, key="orders"):
        sweep.keep({"orders": name, **measured(name)}, report, options.out)


if __name__ == "__main__":
    main()
