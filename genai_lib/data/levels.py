"""Sokoban levels as text.

In the XSB format a wall is ``#``, the player ``@``, a box ``$``, a goal ``.``, floor a space; a box on a goal is ``*``,
the player on one ``+``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from genai_lib.data.store import FOLDER, read_text

CELLS = " #@$.*+"


@dataclass(frozen=True)
class Level:
    """A level of H rows and W columns. Two levels are equal if their cells are; the title does not count."""

    rows: tuple[str, ...]
    title: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str, title: str = "") -> Level:
        """Read one level, without what is empty around it. Raises ValueError for unknown characters and empty text."""
        lines = [line.rstrip() for line in text.splitlines()]
        full = [i for i, line in enumerate(lines) if line]
        if not full:
            raise ValueError("there is no level in this text: not one row has a wall, a box, a goal or a player")
        rows = lines[full[0] : full[-1] + 1]
        if unknown := sorted(set("".join(rows)) - set(CELLS)):
            raise ValueError(f"a level is written with {CELLS!r}, got {''.join(unknown)!r}")
        margin = min(len(line) - len(line.lstrip()) for line in rows if line)
        return cls(tuple(row[margin:] for row in rows), title)

    def __str__(self) -> str:
        return "\n".join(self.rows)

    @property
    def grid(self) -> np.ndarray:
        """The characters, (H, W), as `walls`, `goals` and `boxes` (bool) are."""
        width = max(map(len, self.rows))
        return np.array([list(row.ljust(width)) for row in self.rows])

    @property
    def walls(self) -> np.ndarray:
        return self.grid == "#"

    @property
    def goals(self) -> np.ndarray:
        return np.isin(self.grid, list(".*+"))

    @property
    def boxes(self) -> np.ndarray:
        return np.isin(self.grid, list("$*"))

    @property
    def player(self) -> tuple[int, int]:
        """Row and column."""
        row, column = np.argwhere(np.isin(self.grid, list("@+")))[0]
        return int(row), int(column)

    def faults(self) -> list[str]:
        """Say what makes this no level one could play: nothing, if it is well-formed. It may still have no solution."""
        found = []
        if (players := sum(map(str(self).count, "@+"))) != 1:
            found.append(f"there must be one player, not {players}")
        boxes, goals = int(self.boxes.sum()), int(self.goals.sum())
        if boxes != goals or boxes == 0:
            found.append(f"there must be as many boxes as goals, and at least one, not {boxes} and {goals}")
        places, _ = ndimage.label(np.pad(~self.walls, 1, constant_values=True))  # (H + 2, W + 2) 0: wall, 1: outside
        if players and places[1:-1, 1:-1][self.player] == 1:
            found.append("the walls are open: the player can leave")
        return found

    @property
    def room(self) -> np.ndarray:
        """The cells (h, w) that the player could reach if boxes did not stand in his way; what else lies between is wall.

        Needs a player. Levels that differ only in how thick their walls are, or where they lie, have equal rooms.
        """
        places, _ = ndimage.label(~self.walls)
        inside = places == places[self.player]  # (H, W)
        rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        return np.where(inside, self.grid, "#")[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    @classmethod
    def walled(cls, room: np.ndarray, title: str = "") -> Level:
        """Put a wall around a room (h, w): a level of (h + 2, w + 2)."""
        return cls(tuple(map("".join, np.pad(room, 1, constant_values="#"))), title)

    def canonical(self) -> str:
        """One text for a level and its turned and mirrored copies."""
        turned = [np.rot90(grid, k) for grid in (self.grid, self.grid[:, ::-1]) for k in range(4)]
        return min("\n".join("".join(row).rstrip() for row in grid) for grid in turned)


def parse_levels(text: str) -> list[Level]:
    """Read a collection: levels with other lines between them; ``; title`` names the level that follows."""
    levels: list[Level] = []
    title, rows = "", list[str]()
    for line in [*text.splitlines(), ""]:
        if line.strip() and set(line) <= set(CELLS):
            rows.append(line)
            continue
        if rows:
            levels.append(Level.parse("\n".join(rows), title))
            title, rows = "", []
        title = line[1:].strip() if line.startswith(";") else title
    return levels


def format_levels(levels: list[Level]) -> str:
    """Write a collection that `parse_levels` reads."""
    return "\n".join(f"; {level.title}\n{level}\n" for level in levels)


SPELLINGS = str.maketrans("pPbB-_", "@+$*  ")  # other characters that .sok allows for the same cells
NOTES = re.compile(
    r"::|(author|collection|comment|copyright|date|solution|saved game|snapshot)\b|[lurd\d\s()]+$", re.IGNORECASE
)


def save_sok(
    levels: Sequence[Level], path: Path | str, *, collection: str = "", author: str = "", solutions: Sequence[str] = ()
) -> Path:
    """Write levels into a ``.sok`` file, as programs that play Sokoban read it; returns the path.

    Parameters
    ----------
    levels : sequence of Level
        Well-formed ones: `Level.faults` finds nothing.
    path : path
        Its folder must exist.
    collection, author : str
        Of all levels, for the head of the file.
    solutions : sequence of str, optional
        Moves, ``udlrUDLR``, for each level; empty where none is known.

    Raises
    ------
    ValueError
        A level is not well-formed, a title has a line break, or there are not as many solutions as levels.

    Source: Sokoban YASC's file format 0.17, sokobano.de/wiki, "Sok format".
    """
    if solutions and len(solutions) != len(levels):
        raise ValueError(f"give a solution for each level, empty where none is known: got {len(solutions)} for {len(levels)}")
    if any(len(name.splitlines()) > 1 for name in (collection, author, *(level.title for level in levels))):
        raise ValueError("a title, a collection and an author are one line each")
    head = [f"{key}: {value}" for key, value in (("Collection", collection), ("Author", author)) if value]
    blocks = [":: Sokoban levels", *(["\n".join(head)] if head else [])]
    for number, level in enumerate(levels):
        if faults := level.faults():
            raise ValueError(f"level {number + 1} ({level.title!r}) cannot be played: {'; '.join(faults)}. Leave it out.")
        board = [row if row.strip() else "-" for row in level.rows]  # an empty line would end the board
        blocks.append("\n".join([*board, *([f"Title: {level.title}"] if level.title else [])]))
        blocks += [f"Solution\n{solutions[number]}"] if solutions and solutions[number] else []
    path = Path(path)
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return path


def read_sok(path: Path | str) -> list[Level]:
    """Read the levels of a ``.sok``, ``.xsb`` or text file; notes, solutions and comments are passed over.

    A title is a line ``Title: …`` after the board, or else the last line before it, without the ``;`` it may begin with.

    Raises
    ------
    ValueError
        The file is no text, has no level, has one in run-length encoding, or one that cannot be played; says which line.
    """
    path, levels = Path(path), list[Level]()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is no text file. Levels are read from .sok, .xsb and .txt.") from None
    rows, title, after = list[str](), "", False
    for number, line in enumerate([*lines, ""], start=1):
        cells = line.rstrip().translate(SPELLINGS)
        if line.strip() and set(cells) <= set(CELLS) and ("#" in cells or rows):
            rows.append(cells)
            continue
        if rows:
            level = Level.parse("\n".join(rows), title)
            if faults := level.faults():
                where = f"{path.name}, level {len(levels) + 1}, lines {number - len(rows)} to {number - 1}"
                raise ValueError(f"{where}: {'; '.join(faults)}. Mend it or take it out.")
            levels.append(level)
            rows, title, after = [], "", True
        key, _, value = line.partition(":")
        if key.strip().lower() == "title" and after:
            levels[-1], after = Level(levels[-1].rows, value.strip()), False
        elif "#" in line and set(line) - set(" 0123456789|()") <= set(CELLS) | set("pPbB-_"):
            raise ValueError(f"{path.name}, line {number}: run-length encoding is not read. Write the board cell by cell.")
        elif line.strip():
            title = "" if NOTES.match(line) else line.removeprefix(";").strip()
    if not levels:
        raise ValueError(f"{path.name} has no level: no line is made of {CELLS!r} with a wall in it.")
    return levels


def load_levels(split: str = "train", *, name: str = "sokoban", folder: Path | str = FOLDER) -> list[Level]:
    """Load one split of a set of levels: nine and one of ten, a level and its turned or mirrored copies on one side."""
    return parse_levels(read_text(name, split, "levels", folder))
