"""The game's Python side: what it keeps and refuses. What a player sees is tested in a browser: tests/book/test_sokoban.py."""

from __future__ import annotations

import json

import pytest
import traitlets
from ipywidgets.embed import dependency_state

from genai_lib.data import load_levels
from genai_lib.data.levels import Level
from genai_lib.games import play, solve
from genai_lib.widgets import Sokoban

CORRIDOR = Level.parse("#######\n#@ $ .#\n#######", "Corridor")
CORNER = Level.parse("#####\n#@ .#\n#$  #\n#####", "Corner")  # the box is lost
BENT = Level.parse("######\n#.   #\n# $$ #\n#@  .#\n######", "Bent")


@pytest.fixture
def game():
    return Sokoban([CORRIDOR, BENT])


def test_it_keeps_the_levels_and_the_solvers_solutions(game):
    assert game.boards == [str(CORRIDOR), str(BENT)]
    assert game.titles == ["Corridor", "Bent"]
    assert game.solutions == ["rRR", solve(BENT).moves]
    assert (game.level, game.moves) == (0, "")
    for number, level in enumerate((CORRIDOR, BENT)):
        game.level = number
        game.moves = game.solutions[number]
        solved = play(level, game.moves)
        assert (solved.boxes == solved.goals).all()


def test_another_level_begins_without_moves(game):
    game.moves = "rR"
    game.level = 1
    assert (game.level, game.moves) == (1, "")


def test_the_browser_may_send_a_level_and_its_moves_together(game):
    game.moves = "rR"
    game.set_state({"level": 1, "moves": ""})
    assert (game.level, game.moves) == (1, "")
    game.set_state({"moves": "u"})
    assert (game.level, game.moves) == (1, "u")


@pytest.mark.parametrize("moves, message", [
    ("R", "move 1, 'R': a push is written in upper case, a walk in lower case"),
    ("l", "move 1, 'l', is not possible: something is in the way"),
    ("rRRR", "move 4, 'R', is not possible: something is in the way"),
    ("x", "moves are written with 'udlrUDLR', got 'x'"),
])  # fmt: skip
def test_moves_that_the_rules_forbid_are_refused_and_the_old_ones_stay(game, moves, message):
    game.moves = "rR"
    with pytest.raises(traitlets.TraitError) as error:
        game.moves = moves
    assert str(error.value) == message
    assert game.moves == "rR"


@pytest.mark.parametrize("level", [-1, 2])
def test_a_level_that_is_not_there_is_refused(game, level):
    message = f"the levels are numbered 0 to 1, got {level}"
    with pytest.raises(traitlets.TraitError, match=message):
        game.level = level
    with pytest.raises(traitlets.TraitError, match=message):
        Sokoban([CORRIDOR, BENT], level=level)
    assert Sokoban([CORRIDOR, BENT], level=1).level == 1


@pytest.mark.parametrize("levels, options, message", [
    ([], {}, "give 1 to 50 levels of at most 20 rows and columns, got 0 ()"),
    ([CORRIDOR] * 51, {}, "give 1 to 50 levels of at most 20 rows and columns, got 51 (3 × 7)"),
    ([Level(("#" * 21, "#@$." + "#" * 17, "#" * 21))], {},
     "give 1 to 50 levels of at most 20 rows and columns, got 1 (3 × 21)"),
    ([CORRIDOR, CORNER], {}, "level 2 ('Corner') is unsolvable: only levels that can be solved are put on a page"),
    ([BENT], {"limit": 1}, "level 1 ('Bent') is unknown: only levels that can be solved are put on a page"),
    ([Level.parse("#####\n#@* #\n#####")], {},
     "level 1 ('') is solved before the first push: only levels that can be solved are put on a page"),
    ([Level.parse("#####\n# $.#\n#####")], {},
     "this level cannot be played (there must be one player, not 0). Ask `faults` first, or mend it."),
])  # fmt: skip
def test_what_nobody_could_play_is_refused(levels, options, message):
    with pytest.raises(ValueError) as error:
        Sokoban(levels, **options)
    assert str(error.value) == message


def test_the_state_is_small_and_carries_the_code(game):
    state = dependency_state([game], drop_defaults=False)[game.model_id]
    assert {"boards", "titles", "solutions", "level", "moves"} <= set(state["state"])
    assert "export default" in state["state"]["_esm"]
    assert ".sokoban" in state["state"]["_css"]
    assert "http" not in state["state"]["_esm"] + state["state"]["_css"]
    assert len(json.dumps(state)) < 25_000
    assert [name for name in ("boards", "titles", "solutions") if not game.traits()[name].read_only] == []


def test_it_says_what_it_is_without_an_address(game):
    game.moves = "rR"
    assert repr(game) == "Sokoban(level 1 of 2, 2 moves made)"
    assert game._repr_mimebundle_()[0]["text/plain"] == repr(game)


def test_levels_with_open_corners_and_short_rows_are_kept_as_they_are():
    level = next(level for level in load_levels() if level.title.startswith("Microban 1, 1 "))
    assert Sokoban([level]).boards == [str(level)]
