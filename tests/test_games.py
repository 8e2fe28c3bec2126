from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genai_lib.data import load_levels
from genai_lib.data.levels import Level
from genai_lib.games import NEVER, Room, novelty, play, playability, puzzle, solve

CORRIDOR = "#######\n#@ $ .#\n#######"


def level(*rows, title=""):
    return Level.parse("\n".join(rows), title)


def solved(end):
    return bool((end.boxes == end.goals).all())


def fewest_pushes(start):
    """Every state there is, cell by cell, without any of the solver's ideas: None if no state is a solution."""
    walls, goals = start.walls, set(map(tuple, np.argwhere(start.goals).tolist()))
    first = (start.player, frozenset(map(tuple, np.argwhere(start.boxes).tolist())))
    seen, queue = {first: 0}, deque([first])
    while queue:  # walking costs nothing: such states go to the front
        state = queue.popleft()
        (row, column), boxes = state
        if boxes == goals:
            return seen[state]
        for down, right in (-1, 0), (1, 0), (0, -1), (0, 1):
            to, beyond = (row + down, column + right), (row + 2 * down, column + 2 * right)
            pushes = to in boxes
            if walls[to] or (pushes and (walls[beyond] or beyond in boxes)):
                continue
            after = (to, boxes - {to} | {beyond} if pushes else boxes)
            if seen[state] + pushes < seen.get(after, NEVER):
                seen[after] = seen[state] + pushes
                (queue.append if pushes else queue.appendleft)(after)
    return None


@st.composite
def tiny(draw):
    """A level of 5 × 5 to 6 × 6 with a wall all around, a few more inside, and one to three boxes."""
    height, width = draw(st.integers(3, 4)), draw(st.integers(3, 4))
    cells = draw(st.permutations(range(height * width)))
    boxes = draw(st.integers(1, 3))
    room = np.full(height * width, " ")
    for place in cells[:draw(st.integers(0, 3))]:
        room[place] = "#"
    free = [place for place in cells if room[place] == " "]
    goals = draw(st.permutations(free))[:boxes]
    room[free[0]] = "@"
    room[free[1:1 + boxes]] = "$"
    for place in goals:
        room[place] = {"@": "+", "$": "*"}.get(room[place], ".")
    return Level.walled(room.reshape(height, width))


# ---------------------------------------------------------------- solutions


@pytest.mark.parametrize("rows, pushes", [
    (["#####", "#@$.#", "#####"], 1),
    (["#######", "#@ $ .#", "#######"], 2),
    (["#####", "#@* #", "#####"], 0),
    (["######", "#.   #", "# $$ #", "#@  .#", "######"], 4),
    (["####", "# .#", "#  ###", "#*@  #", "#  $ #", "#  ###", "####"], 8),  # Microban 1, 1
    (["######", "#    #", "# #@ #", "# $* #", "# .* #", "#    #", "######"], 3),  # Microban 1, 2: a box must leave its goal
])  # fmt: skip
def test_levels_whose_fewest_pushes_are_known(rows, pushes):
    answer = solve(level(*rows))
    assert (answer.verdict, answer.pushes) == ("solved", pushes)
    assert solved(play(level(*rows), answer.moves))
    assert fewest_pushes(level(*rows)) == pushes


def test_moves_are_written_in_the_usual_letters():
    assert solve(level(*CORRIDOR.split("\n"))).moves == "rRR"
    assert solve(level("#####", "#.$@#", "#####")).moves == "L"
    assert solve(level("###", "#@#", "#$#", "#.#", "###")).moves == "D"
    assert solve(level("###", "#.#", "#$#", "#@#", "###")).moves == "U"
    assert solve(level("#####", "#  ##", "#@$.#", "#####")).moves == "R"
    assert solve(level("######", "#.$ @#", "#    #", "######")).moves == "lL"


@settings(deadline=None, derandomize=True, max_examples=300)
@given(start=tiny())
def test_the_solver_agrees_with_exhaustive_search(start):
    expected = fewest_pushes(start)
    answer = solve(start, limit=100_000)
    if expected is None:
        assert (answer.verdict, answer.moves, answer.pushes) == ("unsolvable", "", 0)
    else:
        assert (answer.verdict, answer.pushes) == ("solved", expected)
        assert solved(play(start, answer.moves))
        assert sum(map(str.isupper, answer.moves)) == expected


@pytest.mark.parametrize("rows", [
    ["#####", "#@ .#", "#$  #", "#####"],  # a box in a corner
    ["######", "#@ . #", "#    #", "# $  #", "######"],  # a box at a wall without a goal
    ["######", "#@ ..#", "# $$ #", "# $$ #", "#  ..#", "######"],  # four boxes in a square
    ["#######", "#@$ #.#", "#######"],  # the goal is out of reach
    ["#####", "#@$##", "#$ .#", "#.###", "#####"],  # the player is locked in
])  # fmt: skip
def test_what_has_no_solution_is_proven_to_have_none(rows):
    assert solve(level(*rows)).verdict == "unsolvable"
    assert fewest_pushes(level(*rows)) is None


def test_a_limit_that_is_reached_proves_nothing():
    start = next(level for level in load_levels() if level.title.startswith("Microban 1, 1 "))
    whole = solve(start)
    assert whole.verdict == "solved"
    assert solve(start, limit=whole.states) == whole
    assert solve(start, limit=whole.states - 1) == ("unknown", "", 0, whole.states - 1)


def test_what_lies_outside_the_room_is_no_hindrance_unless_it_belongs_to_the_puzzle():
    assert solve(level("#####  ###", "#@$.#  #*#", "#####  ###")).pushes == 1
    assert solve(level("#####  ###", "#@$.#  #$#", "#####  #.#", "       ###")).verdict == "unsolvable"


def test_a_level_that_is_not_well_formed_is_refused():
    with pytest.raises(ValueError) as error:
        solve(level("#####", "# $.#", "#####"))
    assert str(error.value) == (
        "this level cannot be played (there must be one player, not 0). Ask `faults` first, or mend it."
    )


def test_the_first_levels_of_microban_are_solved():
    small = [level for level in load_levels() if level.title.startswith("Microban 1,") and max(level.grid.shape) <= 10][:45]
    answers = [solve(level, limit=5_000) for level in small]
    assert all(answer.verdict == "solved" for answer in answers[:40])
    assert all(solved(play(*pair)) for pair in zip(small, [answer.moves for answer in answers], strict=True) if pair[1])
    assert sorted(answer.states for answer in answers)[20] < 500  # the median is a matter of milliseconds


# ---------------------------------------------------------------- what the search knows of a room


def test_the_bound_is_exact_for_one_box_and_never_too_high_for_more():
    for rows in ["######", "#@  .#", "# $  #", "#    #", "######"], ["######", "#.@ .#", "# $$ #", "#    #", "######"]:
        room = Room(level(*rows))
        assert room.bound(room.boxes) == fewest_pushes(level(*rows))


def test_boxes_that_cannot_move_are_seen_before_they_are_pushed():
    for rows, frozen in (
        (["######", "#@   #", "# $$ #", "# $$ #", "#   ..", "######"], 4),  # a square
        (["######", "#@ $$#", "#    #", "# .. #", "######"], 2),  # side by side along a wall
        (["######", "#@$ .#", "#    #", "######"], 0),  # alone at a wall: it slides to its goal
        (["######", "#@$  #", "#   .#", "######"], 1),  # alone at a wall, and no goal there
        (["######", "#@$$ #", "#  . #", "#  . #", "######"], 2),
    ):
        room = Room(level(*rows))
        assert room.frozen(room.boxes).bit_count() == frozen, rows


# ---------------------------------------------------------------- playing


def test_moves_lead_where_the_rules_say():
    start = level(*CORRIDOR.split("\n"), title="a corridor")
    assert str(play(start, "r")) == "#######\n# @$ .#\n#######"
    end = play(start, "rRR")
    assert str(end) == "#######\n#   @*#\n#######"
    assert end.title == "a corridor"
    assert str(play(end, "lll")) == "#######\n#@   *#\n#######"
    assert str(start) == CORRIDOR  # nothing happened to it
    assert str(play(level("######", "#@*  #", "######"), "R")) == "######\n# +$ #\n######"


@pytest.mark.parametrize("moves, message", [
    ("u", "move 1, 'u', is not possible: something is in the way"),
    ("rRRR", "move 4, 'R', is not possible: something is in the way"),
    ("rr", "move 2, 'r': a push is written in upper case, a walk in lower case"),
    ("R", "move 1, 'R': a push is written in upper case, a walk in lower case"),
    ("rx", "moves are written with 'udlrUDLR', got 'x'"),
])  # fmt: skip
def test_moves_against_the_rules_are_refused(moves, message):
    with pytest.raises(ValueError) as error:
        play(level(*CORRIDOR.split("\n")), moves)
    assert str(error.value) == message


def test_two_boxes_in_a_row_are_too_heavy():
    with pytest.raises(ValueError, match="something is in the way"):
        play(level("#######", "#@$$..#", "#######"), "R")


# ---------------------------------------------------------------- sets of levels


def test_playability_counts_what_was_shown_to_be_solvable():
    good, done = level(*CORRIDOR.split("\n")), level("#####", "#@* #", "#####")
    stuck, broken = level("#####", "#@ .#", "#$  #", "#####"), level("#####", "# $.#", "#####")
    found = playability([good, done, stuck, broken, good])
    assert found.well_formed == 0.8
    assert found.solvable.estimate == 0.4  # the one that is done before the first push is no puzzle
    assert found.answers == [solve(good)] * 2
    z, n, p = 1.959964, 5, 0.4  # Wilson 1927
    middle, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    assert found.solvable.low == pytest.approx((middle - half) / (1 + z**2 / n), abs=1e-6)
    assert found.solvable.high == pytest.approx((middle + half) / (1 + z**2 / n), abs=1e-6)
    assert playability([good], limit=1).solvable.estimate == 0.0  # given up
    assert playability([good], limit=1).answers == []


def test_a_puzzle_is_its_room_and_boxes_and_goals():
    start = level("#######", "##@ $.#", "##    #", "#######")
    same = [
        level("######", "# @$.#", "#    #", "######"),  # thinner walls, another place
        level("######", "#.$ @#", "#    #", "######"),  # mirrored
        Level.parse("\n".join("".join(row) for row in np.rot90(start.grid))),
    ]
    assert {puzzle(other) for other in [start, *same]} == {puzzle(start)}
    assert puzzle(start) != puzzle(level("######", "#@ .$#", "#    #", "######"))
    assert start.room.tolist() == [list("@ $."), list("    ")]  # nothing happened to it


def test_novelty_counts_neither_copies_nor_repetitions():
    one, two, three = (level("######", row, "#    #", "######") for row in ("#@$ .#", "#@ $.#", "# @$.#"))
    assert novelty([one, two], []) == 1.0
    assert novelty([one, two], [replace(one, title="known")]) == 0.5
    assert novelty([one, one, two, three], []) == 0.5
    assert novelty([one, two], [one, two]) == 0.0
