"""The recipe of the level writer: a GPT that writes Sokoban levels cell by cell, told their size and their boxes.

A level of 10 × 10 has a wall all around, so 8 × 8 cells remain to be written, row by row. Before them stand three
numbers: height and width of the room, and its boxes. Todd et al. 2023 found that language models can write such levels.

Two things help besides the levels. While it writes, the model must keep the rules that can be checked cell by cell. And
in further rounds it learns from its own levels: from those that are new, and that a search has solved. Each round writes
them anew, with what the round before has learned (expert iteration: Anthony et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genai_lib import progress
from genai_lib.data.levels import CELLS, Level, format_levels, load_levels
from genai_lib.games import playability, puzzle, solve
from genai_lib.models.gpt import GPT, GPTConfig, LanguageModel, probabilities
from genai_lib.models.mixture import pick
from genai_lib.noise import Noise
from genai_lib.recipes.core import Effort, Judge, Quality, Recipe, token_player
from genai_lib.training import Player

SIDE = 8  # of the room
BOXES, FEW = 20, 5  # at most so many can be asked for; where nobody says how many, it is up to FEW
LIMIT = 2_000  # states, when a written level is to be solved
Orders = Callable[[int, Noise], Tensor]  # (n, noise) → what `draw` wants to know for n levels, (n, 3)
CONTENT = [(0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 0, 1)]  # players, boxes, goals in each cell


@cache
def small_levels(split: str) -> list[Level]:
    """The levels whose room fits and holds all their boxes, without what surrounds it."""
    levels = [Level.walled(level.room, level.title) for level in load_levels(split) if max(level.room.shape) <= SIDE]
    return [level for level in levels if not level.faults()]


def encode(levels: list[Level]) -> Tensor:
    """Each level, turned and mirrored, as rows of tokens: (8 N, 3 + SIDE²), the cells as in `CELLS`, the numbers after them."""
    found = []
    for level in levels:
        for room in (np.rot90(side, k) for side in (level.room, level.room[:, ::-1]) for k in range(4)):
            frame = np.pad(room, [(0, SIDE - n) for n in room.shape], constant_values="#")  # (SIDE, SIDE)
            numbers = [len(CELLS) + n for n in (*room.shape, int(level.boxes.sum()))]
            found.append([*numbers, *map(CELLS.index, frame.flat)])
    return torch.tensor(found)


@cache
def rows(split: str) -> Tensor:
    """The small levels of a split, encoded."""
    return encode(small_levels(split))


def ask(n: int, *, height: int, width: int, boxes: int) -> Tensor:
    """What `draw` wants to know, for n levels of one size: (n, 3) tokens."""
    if not (1 <= height <= SIDE and 1 <= width <= SIDE and 1 <= boxes <= min(BOXES, height * width - 1)):
        got = f"got height={height}, width={width}, boxes={boxes}"
        raise ValueError(f"a room has 1 to {SIDE} rows and columns, up to {BOXES} boxes, and a cell for the player; {got}")
    return (len(CELLS) + torch.tensor([height, width, boxes])).repeat(n, 1)


def prompts(n: int, noise: Noise) -> Tensor:
    """The same of n training levels with up to FEW boxes, drawn at random."""
    asked = rows("train")[:, :3]
    asked = asked[asked[:, 2] <= len(CELLS) + FEW]
    return asked[noise.integers(len(asked), n)]


def full_rooms(n: int, noise: Noise) -> Tensor:
    """The same of n rooms as large as they come, SIDE × SIDE, with 1 to FEW boxes."""
    asked = ask(n, height=SIDE, width=SIDE, boxes=1)
    asked[:, 2] += noise.integers(FEW, n)
    return asked


def both_kinds(n: int, noise: Noise) -> Tensor:
    """One half like `prompts`, the other like `full_rooms`."""
    return torch.cat([prompts(n - n // 2, noise), full_rooms(n // 2, noise)])


@torch.no_grad()
def draw(model: LanguageModel, asked: Tensor, noise: Noise, *, temperature: float = 1.0, rules: bool = True) -> list[Level]:
    """Write a level for each row of `asked` (B, 3), which are tokens, as `ask` and `prompts` make them.

    With `rules` a cell that breaks its order has probability 0: there is one player, as many boxes and as many goals as
    asked, and wall around the room. What is still missing is placed in the last cells. A solution is not promised.
    """
    tokens, state, content = asked, None, torch.tensor(CONTENT)
    height, width, boxes = (asked - len(CELLS)).T[..., None]  # (B, 1) each
    left = torch.cat([torch.ones_like(boxes), boxes, boxes], dim=1)  # (B, 3) players, boxes and goals still to be placed
    for place in range(SIDE**2):
        logits, state = model.step(tokens, state)
        logits = logits[:, : len(CELLS)]
        if rules:
            row, column = divmod(place, SIDE)
            after = left[:, None] - content  # (B, 7, 3)
            needed = torch.maximum(after[..., 0] + after[..., 1], after[..., 2])  # cells, (B, 7)
            fits = (after >= 0).all(dim=2) & (needed <= (height - row) * width - column - 1)
            inside, wall = (row < height) & (column < width), torch.arange(len(CELLS)) == CELLS.index("#")
            logits = logits.masked_fill(~torch.where(inside, fits, wall), -torch.inf)
        newest = pick(probabilities(logits, temperature=temperature), noise.uniform(len(tokens)))  # (B,)
        tokens, left = torch.cat([tokens, newest[:, None]], dim=1), left - content[newest]
    letters = np.array(list(CELLS))[tokens[:, 3:].view(-1, SIDE, SIDE).numpy()]  # (B, SIDE, SIDE)
    return [Level.walled(room) for room in letters]


def fresh(
    model: LanguageModel, n: int, noise: Noise, *, orders: Orders = prompts, temperature: float = 0.5
) -> tuple[list[Level], float]:
    """Draw until n levels are there that are new, to the training levels and to each other; with the share of those drawn."""
    known, found, drawn = set(map(puzzle, small_levels("train"))), list[Level](), 0
    with progress.bar(n, "level", delay=1.0) as bar:
        while len(found) < n:
            if drawn > 50 * n:
                few = f"only {len(found)} of {drawn} levels drawn were new"
                raise ValueError(f"{few}: train for fewer epochs, or draw more warmly")
            for level in draw(model, orders(min(n, 250), noise), noise, temperature=temperature):
                drawn += 1
                if (text := puzzle(level)) not in known:
                    known.add(text)
                    found.append(level)
            bar.update(min(n, len(found)) - bar.n)
    return found[:n], len(found) / drawn


def own(model: LanguageModel, n: int, *, orders: Orders = prompts) -> Tensor:
    """Of n new levels that the model writes, those that the search solves soon, encoded."""
    levels, _ = fresh(deepcopy(model).cpu(), n, Noise(0, 1), orders=orders, temperature=1.0)
    found = []
    with progress.bar(n, "search", delay=1.0) as bar:
        for level in levels:
            if solve(level, limit=LIMIT // 4).pushes:
                found.append(level)
            bar.update()
    if not found:
        raise ValueError(f"none of the {n} levels written could be solved: train longer before the rounds of own levels")
    return encode(found)


def _players(model: LanguageModel, effort: Effort, steps: int) -> list[Player]:
    if not any(effort is one for one in OWN.stages):
        return token_player(model, effort, steps)
    before = deepcopy(model)  # it writes in the first step; a round that goes on, or is finished, has other weights by then

    @cache
    def written() -> Tensor:
        return own(before, WRITTEN, orders=both_kinds)

    def mixed(x: Tensor, noise: Noise) -> Tensor:  # half of the batch are levels of its own
        return torch.cat([x[len(x) // 2 :], written().to(x.device)[noise.integers(len(written()), len(x) // 2)]])

    return token_player(model, effort, steps, prepare=mixed)


def _quality(model: LanguageModel, judge: Judge | None, n: int = 400) -> Quality:
    """Of n new levels with few boxes: the share the search solves, and how long those are; of all drawn, the share of new.

    The share it solves of n new full rooms. And nats for each of the SIDE² cells of the test levels, told the three numbers.
    """
    levels, new = fresh(model, n, Noise(0))
    found, x = playability(levels, limit=LIMIT), rows("test")
    full = playability(fresh(model, n, Noise(0), orders=full_rooms)[0], limit=LIMIT)
    with torch.no_grad():
        nats = F.cross_entropy(model(x[:, :-1])[:, 2:].transpose(1, 2), x[:, 3:]).item()  # of (8 N, V, SIDE²)
    return {
        "solvable": found.solvable.estimate, "solvable, full rooms": full.solvable.estimate, "new": new,
        "pushes": float(np.median([answer.pushes for answer in found.answers] or [0])),
        "well-formed": found.well_formed, "nats per cell": nats,
    }  # fmt: skip


def write(model: LanguageModel, n: int, noise: Noise) -> str:
    """A collection of n new levels; each title tells its boxes, and its pushes or that no solution was found."""
    titled = []
    for number, level in enumerate(fresh(model, n, noise)[0], start=1):
        answer = solve(level, limit=LIMIT)
        end = f"pushes: {answer.pushes}" if answer.verdict == "solved" else answer.verdict
        titled.append(Level(level.rows, f"Level {number}, boxes: {level.boxes.sum()}, {end}"))
    return format_levels(titled)


ROUNDS, WRITTEN = 6, 8_000  # of its own levels; new ones a round
OWN = Effort(epochs=3, batch_size=16, lr=4e-3, beta2=0.99)  # a round: half of each batch are levels of its own
for _ in range(ROUNDS - 1):
    OWN = replace(OWN, then=OWN)
RECIPES = [
    Recipe(
        "sokoban", "GPT that writes Sokoban levels, told size and boxes",
        lambda: GPT(GPTConfig(size=len(CELLS) + BOXES + 1, context=SIDE**2 + 2, width=64)),
        minute=Effort(epochs=2, batch_size=16, lr=8e-3, beta2=0.99),
        shipped=Effort(epochs=5, batch_size=16, lr=8e-3, beta2=0.99, then=OWN),
        data=lambda device: (rows("train").to(device),), quality=_quality, players=_players, text=write,
    ),
]  # fmt: skip
