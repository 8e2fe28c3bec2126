"""Sokoban on the page: levels to play with the keyboard, or with buttons on a phone, and the solver's way on demand.

The rules run in the browser (sokoban.js). Levels and solutions travel with the notebook, so no kernel is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from genai_lib.data.levels import Level
from genai_lib.games import play, solve
from genai_lib.widgets.script import with_theme

MOST, SIDE = 50, 20  # levels, and rows or columns of one


class Sokoban(anywidget.AnyWidget):
    """Levels to play. With a live kernel `level` and `moves` follow the player, and setting them moves him.

    Parameters
    ----------
    levels : sequence of Level
        At least one, at most 50 of up to 20 rows and columns, each of which the search can solve with a push or more.
    level : int
        Where to start, from 0.
    limit : int
        States the search may look at for each.

    Attributes
    ----------
    moves : str
        What was played in this level so far: ``udlr``, and ``UDLR`` for a push. Another level begins with none.
    solutions : list of str
        The solver's, with the fewest pushes.

    Raises
    ------
    ValueError
        No level, too many or too large ones, or one that is not well-formed or not solved within the limit.
    traitlets.TraitError
        There is no such level, or its rules forbid such moves.
    """

    _esm = with_theme("sokoban")
    _css = Path(__file__).with_name("sokoban.css")

    boards = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    titles = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    solutions = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    level = traitlets.Int().tag(sync=True)
    moves = traitlets.Unicode().tag(sync=True)

    def __init__(self, levels: Sequence[Level], *, level: int = 0, limit: int = 20_000, **options: Any) -> None:
        if not 1 <= len(levels) <= MOST or any(max(one.grid.shape) > SIDE for one in levels):
            sizes = ", ".join(f"{height} × {width}" for height, width in sorted({one.grid.shape for one in levels})[-3:])
            raise ValueError(f"give 1 to {MOST} levels of at most {SIDE} rows and columns, got {len(levels)} ({sizes})")
        answers = [solve(one, limit=limit) for one in levels]
        for number, (one, answer) in enumerate(zip(levels, answers, strict=True), start=1):
            if not answer.pushes:
                found = "is solved before the first push" if answer.verdict == "solved" else f"is {answer.verdict}"
                raise ValueError(f"level {number} ({one.title!r}) {found}: only levels that can be solved are put on a page")
        values = {"boards": map(str, levels), "titles": [one.title for one in levels], "solutions": [a.moves for a in answers]}
        for name, value in values.items():
            self.set_trait(name, list(value))
        super().__init__(level=level, **options)

    @traitlets.validate("level")
    def _check_level(self, proposal: dict[str, Any]) -> int:
        level: int = proposal["value"]
        if not 0 <= level < len(self.boards):
            raise traitlets.TraitError(f"the levels are numbered 0 to {len(self.boards) - 1}, got {level}")
        return level

    @traitlets.validate("moves")
    def _check_moves(self, proposal: dict[str, Any]) -> str:
        moves: str = proposal["value"]
        try:
            play(Level.parse(self.boards[self.level]), moves)
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from None
        return moves

    @traitlets.observe("level")
    def _begin(self, change: dict[str, Any]) -> None:
        self.moves = ""

    def __repr__(self) -> str:
        return f"Sokoban(level {self.level + 1} of {len(self.boards)}, {len(self.moves)} moves made)"
