"""Sokoban: whether a level has a solution, with how few pushes, and whether it is new.

No quick way to tell is known: Sokoban is PSPACE-complete (Culberson 1997). The search below answers for small levels, and
says so when it gives up. It is A* (Hart, Nilsson & Raphael 1968) over pushes: walking between two of them costs nothing,
so a state is the cells of the boxes and the cells that the player can reach.

A set of cells is one whole number, a bit a cell, so that one shift moves all cells of a set at once.
"""

from __future__ import annotations

import heapq
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest

from genai_lib.data.levels import Level
from genai_lib.metrics import Interval

STEPS = {"u": (-1, 0), "d": (1, 0), "l": (0, -1), "r": (0, 1)}  # rows and columns
NEVER = 10_000  # pushes that bring a box to a goal it cannot reach


class Answer(NamedTuple):
    """What a search found.

    Parameters
    ----------
    verdict : str
        ``"solved"``; ``"unsolvable"``, which is then proven; or ``"unknown"``: the search reached its limit.
    moves : str
        A solution with the fewest pushes, a letter a step: ``udlr``, and ``UDLR`` where the step pushes a box.
    pushes : int
        Of that solution.
    states : int
        How many states were searched: the level's difficulty for this search.
    """

    verdict: str
    moves: str
    pushes: int
    states: int


def shift(cells: int, step: int) -> int:
    """Move each cell of a set `step` places on in reading order."""
    return cells << step if step > 0 else cells >> -step


def places(cells: int) -> list[int]:
    """The numbers of a set's cells, in reading order."""
    return [place for place in range(cells.bit_length()) if cells >> place & 1]


class Room:
    """A level as sets of cells, with a wall all around it, and what follows from its walls and goals alone."""

    def __init__(self, level: Level) -> None:
        padded = Level.walled(level.grid)
        height, self.width = padded.grid.shape

        def cells(mask: np.ndarray) -> int:
            return sum(1 << int(place) for place in np.flatnonzero(mask))

        self.floor, self.goals, self.boxes = cells(~padded.walls), cells(padded.goals), cells(padded.boxes)
        self.player = 1 << padded.player[0] * self.width + padded.player[1]
        self.steps = {letter: row * self.width + column for letter, (row, column) in STEPS.items()}
        self.pushes = np.full((height * self.width, self.goals.bit_count()), NEVER)  # from a cell to a goal
        for number, goal in enumerate(places(self.goals)):  # pull a box from here: where it gets, it can be pushed back from
            wave, seen, count = 1 << goal, 0, 0
            while wave:
                self.pushes[places(wave), number] = count
                seen, count, before, wave = seen | wave, count + 1, wave, 0
                for step in self.steps.values():  # the box goes one step, and the player, who pulls, one further
                    wave |= shift(before, step) & self.floor & shift(self.floor, -step) & ~seen
        self.alive = cells(self.pushes.min(axis=1) < NEVER)

    def bound(self, boxes: int) -> int:
        """At least so many pushes are left: each box is given its goal as if no other stood in the way. NEVER: it is lost."""
        if self.frozen(boxes) & ~self.goals:
            return NEVER
        table = self.pushes[places(boxes)]  # (boxes, goals)
        return min(NEVER, int(table[linear_sum_assignment(table)].sum()))

    def frozen(self, boxes: int) -> int:
        """Boxes no solution moves again: along either axis a wall or another of them is in the way, or both ends are dead."""
        dead, before = self.floor & ~self.alive, 0
        while boxes != before:
            before, solid = boxes, ~self.floor | boxes
            for step in (1, self.width):
                boxes &= shift(solid, step) | shift(solid, -step) | (shift(dead, step) & shift(dead, -step))
        return boxes

    def reach(self, player: int, boxes: int) -> list[int]:
        """What the player can walk to: at first the cell where he stands, then each time a step more, until nothing is new."""
        waves, free = [player], self.floor & ~boxes
        while len(waves) == 1 or waves[-1] != waves[-2]:
            seen = waves[-1]
            waves.append((seen | seen << 1 | seen >> 1 | seen << self.width | seen >> self.width) & free)
        return waves

    def walk(self, player: int, end: int, boxes: int) -> str:
        """The letters of a shortest way to a cell in reach."""
        letters = ""
        for wave in reversed([wave for wave in self.reach(player, boxes) if not wave & end]):
            letter, end = next((name, cell) for name, step in self.steps.items() if (cell := shift(end, -step)) & wave)
            letters = letter + letters
        return letters


def solve(level: Level, *, limit: int = 20_000) -> Answer:
    """Search for a solution with the fewest pushes, among at most `limit` states.

    Parameters
    ----------
    level : Level
        A well-formed one: `Level.faults` finds nothing.
    limit : int
        After so many states the answer is ``"unknown"``.

    Returns
    -------
    Answer
        `play` replays its moves.

    Raises
    ------
    ValueError
        For a level that is not well-formed.

    Source: Hart, Nilsson & Raphael 1968 (A*); the bound, a cheapest matching of boxes and goals, and deadlocks as in
    Junghanns & Schaeffer 2001.
    """
    if faults := level.faults():
        raise ValueError(f"this level cannot be played ({'; '.join(faults)}). Ask `faults` first, or mend it.")
    room = Room(level)
    bound = cache(room.bound)
    start = room.boxes, room.reach(room.player, room.boxes)[-1]
    least = {start: 0}  # pushes from the start
    origin: dict[tuple[int, int], tuple[tuple[int, int], int, str]] = {}  # the state before, the box pushed, where to
    heap, done = [(bound(room.boxes), 0, start)], set[tuple[int, int]]()
    while heap and heap[0][0] < NEVER:
        _, _, state = heapq.heappop(heap)
        if state in done:
            continue
        boxes, reach = state
        if boxes == room.goals:
            pushes, letters = least[state], ""
            while state != start:
                state, box, letter = origin[state]
                player = origin[state][1] if state != start else room.player  # he stands where the last box was
                letters = room.walk(player, shift(box, -room.steps[letter]), state[0]) + letter.upper() + letters
            return Answer("solved", letters, pushes, len(done))
        if len(done) == limit:
            return Answer("unknown", "", 0, limit)
        done.add(state)
        for letter, step in room.steps.items():
            behind, free = shift(reach, step), shift(room.alive & ~boxes, -step)  # the player stands here, the way is free
            for place in places(boxes & behind & free):
                box = 1 << place
                moved = boxes ^ box ^ shift(box, step)
                if (left := bound(moved)) == NEVER:
                    continue
                after = moved, room.reach(box, moved)[-1]
                if (pushes := least[state] + 1) < least.get(after, NEVER):
                    least[after], origin[after] = pushes, (state, box, letter)
                    heapq.heappush(heap, (pushes + left, left, after))
    return Answer("unsolvable", "", 0, len(done))


def play(level: Level, moves: str) -> Level:
    """Make moves, ``udlr`` and ``UDLR`` where the step pushes a box; returns the level as it stands then.

    It shares no line with `solve`: a solution that it replays is one.

    Raises
    ------
    ValueError
        For a move that the rules forbid, or one that is written as a push and is none, or the other way round.
    """
    walls, boxes, player = level.walls, level.boxes, level.player
    for number, letter in enumerate(moves):
        if letter.lower() not in STEPS:
            raise ValueError(f"moves are written with 'udlrUDLR', got {letter!r}")
        row, column = STEPS[letter.lower()]
        to, beyond = (player[0] + row, player[1] + column), (player[0] + 2 * row, player[1] + 2 * column)
        if walls[to] or (boxes[to] and (walls[beyond] or boxes[beyond])):
            raise ValueError(f"move {number + 1}, {letter!r}, is not possible: something is in the way")
        if boxes[to] != letter.isupper():
            raise ValueError(f"move {number + 1}, {letter!r}: a push is written in upper case, a walk in lower case")
        if boxes[to]:
            boxes[to], boxes[beyond] = False, True
        player = to
    cells = np.select([walls, boxes & level.goals, boxes, level.goals], list("#*$."), " ")
    cells[player] = "+" if level.goals[player] else "@"
    return Level(tuple("".join(row).rstrip() for row in cells), level.title)


class Playability(NamedTuple):
    """How playable a set of levels is.

    Parameters
    ----------
    well_formed : float
        Share in which `Level.faults` finds nothing.
    solvable : Interval
        Share the search has solved, with one push or more, and Wilson's 95 % interval. What it gave up on does not count.
    answers : list of Answer
        To each of the solved: how long a level is, and how hard for the search.
    """

    well_formed: float
    solvable: Interval
    answers: list[Answer]


def playability(levels: list[Level], *, limit: int = 2_000) -> Playability:
    """Search for a solution of each level; a level solved before the first push is no puzzle and does not count.

    Source of the interval: Wilson 1927.
    """
    whole = [level for level in levels if not level.faults()]
    solved = [answer for level in whole if (answer := solve(level, limit=limit)).pushes]
    wilson = binomtest(len(solved), len(levels)).proportion_ci(method="wilson")
    share = len(solved) / len(levels)
    return Playability(len(whole) / len(levels), Interval(share, float(wilson.low), float(wilson.high)), solved)


def puzzle(level: Level) -> str:
    """One text for all levels that are the same puzzle: room, boxes and goals, turned or mirrored; not the player's place."""
    room = level.room
    room[room == "@"], room[room == "+"] = " ", "."
    return Level.walled(room).canonical()


def novelty(levels: list[Level], training: list[Level]) -> float:
    """Share of levels, each with a player, whose `puzzle` is none of the training levels' and none of an earlier one."""
    known = set(map(puzzle, training))
    return len(set(map(puzzle, levels)) - known) / len(levels)
