"""Do rules make what is generated more accurate (claim K30)? Ten paired seeds of two writers: levels, and poems.

The unit is the seed of the training. A writer is trained, then it writes twice with the same random numbers: without a rule,
and with it. So the two sides differ only from the first cell or character on at which the rule forbids what the model wants.

Levels: the `sokoban` recipe in its minute version, 400 levels a side, orders of up to five boxes, temperature 0.5. The rules
are those of `genai_lib.recipes.levels.draw`: one player, the boxes and goals that were asked for, wall around the room. They
are checked cell by cell while it writes, and say nothing about a solution. Kept of each side, as shares of all levels drawn:

    well-formed, solvable    the second by a search of at most 2,000 states; what it gives up on does not count
    new                      well-formed, and no copy of a training level or of an earlier one of this side
    solvable and new         both at once: what a rule gains after what it costs in novelty
    new among solved         what is left of novelty if the search throws away all that it has not solved (rejection)
    seconds of search        processor seconds for that

Poems: the `gpt-poems` recipe in its minute version, 400 poems a side, temperature 0.8. The form is four lines of five
characters; the rule forbids a line break inside a line and any other character at its end. A third side must also rhyme:
the last character of line 4 is one that has stood opposite that of line 2 in a training poem. The table of this rule is
made of every second training poem; that of the judge, who also accepts two characters with a common partner, of the others.
Kept: in form; rhyme (in form, and the judge knows it); lines that stand in a training poem; poems that repeat none.

Beside the verdict, the solver as a teacher: each writer of levels is trained for another 60 steps, once with training levels
alone, once with half of each batch its own levels that the search has solved, and once with half of each batch its own levels
as they come, so that what the search's choice does can be told from what own levels do.

    python benchmarks/k30_rules.py --out genai_lib/data/k30_rules.json

Rows are written as they come; a file that has some is completed.
"""

from __future__ import annotations

import time
from collections import defaultdict
from copy import deepcopy
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import genai_lib
from genai_lib import recipes, sweep
from genai_lib.data import Batches
from genai_lib.data.levels import Level
from genai_lib.data.texts import load_poems
from genai_lib.games import puzzle, solve
from genai_lib.models.gpt import LanguageModel, probabilities
from genai_lib.models.mixture import pick
from genai_lib.noise import Noise
from genai_lib.recipes import levels
from genai_lib.recipes.core import Effort, token_player
from genai_lib.recipes.text import POEM, poem_characters
from genai_lib.training import Trainer

SEEDS = range(10)
LEVELS, POEMS = 400, 400
TEACHING = Effort(epochs=1, batch_size=16, lr=4e-3, beta2=0.99)
STEPS, OWN = 60, 600


def judged(drawn: list[Level]) -> dict[str, float]:
    """What is kept of one side."""
    known, new, solved, both, pushes = set(map(puzzle, levels.small_levels("train"))), 0, 0, 0, []
    whole, start = [level for level in drawn if not level.faults()], time.process_time()
    answers = [solve(level, limit=levels.LIMIT) for level in whole]
    seconds = time.process_time() - start
    for level, answer in zip(whole, answers, strict=True):
        fresh = puzzle(level) not in known
        known.add(puzzle(level))
        new, solved, both = new + fresh, solved + (answer.pushes > 0), both + (fresh and answer.pushes > 0)
        pushes += [answer.pushes] if answer.pushes else []
    shares = {"well-formed": len(whole), "solvable": solved, "new": new, "solvable and new": both}
    return {name: count / len(drawn) for name, count in shares.items()} | {
        "new among solved": round(both / max(1, solved), 4), "pushes": median(pushes or [0]),
        "seconds of search": round(seconds, 2),
    }  # fmt: skip


def written(model: nn.Module, seed: int, n: int = LEVELS, *, rules: bool = True) -> list[Level]:
    """Levels to orders that depend on the seed alone."""
    noise, asked = Noise(seed, 15, 1), levels.prompts(n, Noise(seed, 15))
    return [level for part in asked.split(200) for level in levels.draw(model, part, noise, temperature=0.5, rules=rules)]


def taught(model: nn.Module, seed: int, own: Tensor | None) -> dict[str, float]:
    """A copy of the writer after more steps, with or without its own levels in half of each batch."""
    model = deepcopy(model)

    def mixed(x: Tensor, noise: Noise) -> Tensor:
        return x if own is None else torch.cat([x[len(x) // 2 :], own[noise.integers(len(own), len(x) // 2)]])

    players = token_player(model, TEACHING, STEPS, prepare=mixed)
    batches = Batches(levels.rows("train"), batch_size=TEACHING.batch_size, seed=seed + 1)
    Trainer(players, batches, seed=seed + 1).run(STEPS)
    return judged(written(model.eval(), seed))


def level_row(seed: int) -> dict[str, Any]:
    """Train a writer of levels, and let it write with and without the rules."""
    start = time.process_time()
    model = recipes.run("sokoban", "minute", seed=seed).product
    row: dict[str, Any] = {"seed": seed, "seconds": round(time.process_time() - start, 1)}
    row |= {name: judged(written(model, seed, rules=rules)) for name, rules in (("none", False), ("rules", True))}
    every, _ = levels.fresh(model, OWN, Noise(0, 1), temperature=1.0)  # those of which `own` keeps the solved
    mixed_in = {"more training": None, "own levels": levels.own(model, OWN), "own levels, unmarked": levels.encode(every)}
    return row | {side: taught(model, seed, own) for side, own in mixed_in.items()}


# ---------------------------------------------------------------- poems


def partners(poems: list[list[str]]) -> dict[str, set[str]]:
    """For each character those that stood opposite it, at the ends of lines 2 and 4."""
    table: dict[str, set[str]] = defaultdict(set)
    for poem in poems:
        table[poem[1][-1]].add(poem[3][-1])
        table[poem[3][-1]].add(poem[1][-1])
    return table


def rhymes(table: dict[str, set[str]], a: str, b: str) -> bool:
    """Partners, or two characters with a common one."""
    first, second = table.get(a, set()), table.get(b, set())
    return a != b and (b in first or bool(first & second))


@torch.no_grad()
def poems(model: nn.Module, n: int, noise: Noise, *, form: bool, rhyme: dict[str, set[str]] | None = None) -> list[list[str]]:
    """Draw n quatrains, each a list of lines, with or without the rules."""
    assert isinstance(model, LanguageModel)
    alphabet, state = poem_characters(), None
    end = int(alphabet.encode("\n")[0])
    tokens = torch.full((n, 1), end)
    for place in range(1, POEM):
        logits, state = model.step(tokens, state)
        if form:
            forbidden = (torch.arange(alphabet.size) == end) ^ (place % 6 == 0)
            logits = logits.masked_fill(forbidden, -torch.inf)
        if rhyme is not None and place == 23:  # the last character of line 4; that of line 2 is token 11
            for row, first in zip(logits, tokens[:, 11].tolist(), strict=True):
                if allowed := rhyme.get(alphabet.decode(torch.tensor([first]))):
                    row[~torch.isin(torch.arange(alphabet.size), alphabet.encode("".join(sorted(allowed))))] = -torch.inf
        newest = pick(probabilities(logits, temperature=0.8), noise.uniform(n))
        tokens = torch.cat([tokens, newest[:, None]], dim=1)
    return [alphabet.decode(row).strip("\n").split("\n") for row in tokens]


def poem_row(seed: int) -> dict[str, Any]:
    """Train a poet, and let it write without a rule, in form, and in form with a rhyme."""
    start = time.process_time()
    model = recipes.run("gpt-poems", "minute", seed=seed).product
    row: dict[str, Any] = {"seed": seed, "seconds": round(time.process_time() - start, 1)}
    read = [poem.text.split("\n") for poem in load_poems("train")]
    rule, judge, lines = partners(read[::2]), partners(read[1::2]), {line for poem in read for line in poem}
    for name, form, rhyme in (("none", False, None), ("form", True, None), ("form and rhyme", True, rule)):
        drawn = poems(model, POEMS, Noise(seed, 15), form=form, rhyme=rhyme)
        formed = [poem for poem in drawn if list(map(len, poem)) == [5] * 4]
        every = [line for poem in drawn for line in poem]
        row[name] = {
            "in form": len(formed) / POEMS,
            "rhyme": sum(rhymes(judge, poem[1][-1], poem[3][-1]) for poem in formed) / POEMS,
            "lines copied": round(sum(line in lines for line in every) / len(every), 4),
            "poems all new": sum(not lines & set(poem) for poem in drawn) / POEMS,
        }
    return row


def main() -> None:
    """Run all seeds and write one file."""
    options = sweep.options(
        "Ten paired seeds for claim K30.",
        own={"--seeds": {"type": int, "default": len(SEEDS), "help": "how many, to time one"}},
    )
    genai_lib.setup(seed=0, threads=1)
    report = sweep.reopen(options.out, lambda: {
        "claim": "K30",
        **sweep.head("k30_rules", options.note),
        "settings": {"levels a side": LEVELS, "poems a side": POEMS, "states": levels.LIMIT,
                     "temperature of levels": 0.5, "of poems": 0.8, "more steps": STEPS, "own levels": OWN},
        "levels": [], "poems": [],
    })  # fmt: skip
    for seed in SEEDS[: options.seeds]:
        for place, one in {"levels": level_row, "poems": poem_row}.items():
            if seed not in [row["seed"] for row in report[place]]:
                sweep.keep(one(seed), report, options.out, place=place)


if __name__ == "__main__":
    main()
