from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genai_lib.data import load_levels
from genai_lib.data.levels import CELLS, Level, format_levels, parse_levels, read_sok, save_sok

SMALL = """\
#####
#@$.#
#+* #
#####"""


def rotated(level, turns, mirrored):
    grid = np.rot90(level.grid[:, ::-1] if mirrored else level.grid, turns)
    return Level.parse("\n".join("".join(row) for row in grid))


# ---------------------------------------------------------------- reading and writing


def test_each_character_means_what_the_format_says():
    level = Level.parse(SMALL)
    assert level.grid.shape == (4, 5)
    assert np.argwhere(level.boxes).tolist() == [[1, 2], [2, 2]]
    assert np.argwhere(level.goals).tolist() == [[1, 3], [2, 1], [2, 2]]
    assert level.walls.sum() == 14
    assert level.player == (1, 1)
    assert Level.parse(SMALL.replace("@", " ")).player == (2, 1)  # the player on a goal


def test_what_is_empty_around_a_level_is_left_away_and_what_is_empty_inside_stays():
    assert Level.parse("\n\n   ###  \n   #@#\n   ###\n \n") == Level.parse("###\n#@#\n###")
    assert Level.parse("##\n\n##").rows == ("##", "", "##")


def test_levels_are_equal_if_their_cells_are():
    assert Level.parse(SMALL, "one") == Level.parse(SMALL, "two")
    assert len({Level.parse(SMALL, "one"), Level.parse(SMALL, "two")}) == 1
    assert Level.parse(SMALL) != Level.parse(SMALL.replace("$", " "))


@settings(deadline=None, derandomize=True)
@given(rows=st.lists(st.text(CELLS, max_size=11), min_size=1, max_size=7), title=st.text("abc XYZ,()", max_size=9))
def test_what_is_written_is_read_again(rows, title):
    text = "\n".join(rows)
    if not text.strip():
        with pytest.raises(ValueError, match="there is no level in this text"):
            Level.parse(text)
        return
    level = Level.parse(text)
    assert Level.parse(str(level)) == level
    assert level.grid.shape == (len(level.rows), max(map(len, level.rows)))
    assert level.boxes.sum() == text.count("$") + text.count("*")
    assert level.goals.sum() == sum(map(text.count, ".*+"))
    if all(level.rows):  # an empty row would end a level in a collection
        assert parse_levels(format_levels([Level(level.rows, title.strip()), level])) == [level, level]
        assert [read.title for read in parse_levels(format_levels([Level(level.rows, title.strip())]))] == [title.strip()]


def test_a_collection_may_say_other_things_between_its_levels():
    text = f"A collection\n\n; first\n{SMALL}\nAuthor: me\n\n\n{SMALL}\n; third\n\n{SMALL}"
    assert [(level, level.title) for level in parse_levels(text)] == [(Level.parse(SMALL), t) for t in ("first", "", "third")]
    assert parse_levels("nothing here\n\n") == []


def test_unknown_characters_are_refused():
    with pytest.raises(ValueError) as error:
        Level.parse("#####\n#@x?#\n#####")
    assert str(error.value) == "a level is written with ' #@$.*+', got '?x'"


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("text, faults", [
    ("#####\n#@$.#\n#####", []),
    ("#####\n#+$*#\n#####", []),
    ("#####\n# $.#\n#####", ["there must be one player, not 0"]),
    ("######\n#@$.+#\n######", ["there must be one player, not 2",
                                "there must be as many boxes as goals, and at least one, not 1 and 2"]),
    ("#####\n#@$ #\n#####", ["there must be as many boxes as goals, and at least one, not 1 and 0"]),
    ("#####\n#@  #\n#####", ["there must be as many boxes as goals, and at least one, not 0 and 0"]),
    ("#####\n#@$.\n#####", ["the walls are open: the player can leave"]),
    ("#####\n#@$.#\n## ##", ["the walls are open: the player can leave"]),
    ("@$.", ["the walls are open: the player can leave"]),
    ("####\n#@$.#\n#####", []),  # a corner may be missing: nobody moves diagonally
    ("#####  $\n#@$.#  .\n#####", []),  # what lies outside does not let the player out
])  # fmt: skip
def test_faults_are_named(text, faults):
    assert Level.parse(text).faults() == faults


@pytest.mark.parametrize("row, column", [(0, 2), (3, 2), (1, 0), (2, 0), (1, 5), (2, 5)])
def test_every_hole_in_the_wall_is_found(row, column):
    room = [list("######"), list("#@$. #"), list("#    #"), list("######")]
    assert Level.parse("\n".join(map("".join, room))).faults() == []
    room[row][column] = " "
    assert Level.parse("\n".join(map("".join, room))).faults() == ["the walls are open: the player can leave"]


# ---------------------------------------------------------------- the room


def test_the_room_is_where_the_player_could_go_if_no_box_stood_there():
    level = Level.parse("  #####\n###@  ##\n#  $#. #\n####   #\n   #####\n #*# $")
    assert level.room.tolist() == [list("##@  #"), list("  $#. "), list("###   ")]
    assert str(Level.walled(level.room, "again")) == "########\n###@  ##\n#  $#. #\n####   #\n########"
    assert Level.walled(level.room, "again").title == "again"
    assert (Level.walled(level.room).room == level.room).all()
    assert Level.walled(level.room).faults() == []  # what lay outside is gone
    assert level.faults() == ["there must be as many boxes as goals, and at least one, not 3 and 2"]


@settings(deadline=None, derandomize=True)
@given(rows=st.lists(st.text("# $.", min_size=1, max_size=6), min_size=1, max_size=5), above=st.integers(0, 2),
       left=st.integers(0, 2))  # fmt: skip
def test_thicker_walls_leave_the_room_as_it_is(rows, above, left):
    width = max(map(len, rows))
    inner = np.array([list("@" * (i == 0) + row.ljust(width)[i == 0:]) for i, row in enumerate(rows)])
    thick = np.pad(inner, [(above, 1), (left, 2)], constant_values="#")
    assert Level.walled(thick).room.tolist() == Level.walled(inner).room.tolist()
    room = Level.walled(inner).room
    assert all((edge != "#").any() for edge in (room[0], room[-1], room[:, 0], room[:, -1]))
    assert room.shape[0] <= inner.shape[0]
    assert room.shape[1] <= inner.shape[1]


# ---------------------------------------------------------------- turned and mirrored copies


@settings(deadline=None, derandomize=True)
@given(rows=st.lists(st.text(CELLS, min_size=1, max_size=7), min_size=1, max_size=5), turns=st.integers(0, 3),
       mirrored=st.booleans())  # fmt: skip
def test_a_turned_copy_has_the_same_canonical_text(rows, turns, mirrored):
    framed = "\n".join(["#" * 9, *(f"#{row.ljust(7)}#" for row in rows), "#" * 9])
    level = Level.parse(framed)
    assert rotated(level, turns, mirrored).canonical() == level.canonical()
    assert Level.parse(level.canonical()).boxes.sum() == level.boxes.sum()


def test_levels_that_differ_have_different_canonical_texts():
    moved = [Level.parse(f"#####\n#{row}#\n#   #\n#####") for row in ("@$.", "@.$", "$@.")]
    assert len({level.canonical() for level in moved}) == 3


# ---------------------------------------------------------------- the packed levels


@pytest.fixture(scope="module")
def packed():
    return load_levels(), load_levels("test")


def test_every_packed_level_is_well_formed_and_credited(packed):
    train, test = packed
    assert (len(train), len(test)) == (805, 89)
    assert [level.title for level in train + test if level.faults()] == []
    authors = [re.fullmatch(r".+ \((David W. Skinner|GRIGoRusha)\)", level.title)[1] for level in train + test]
    assert {name: authors.count(name) for name in set(authors)} == {"David W. Skinner": 740, "GRIGoRusha": 154}
    assert len({level.title for level in train + test}) == 894


def test_the_first_level_of_microban_is_the_one_everybody_knows(packed):
    (level,) = [level for level in packed[0] + packed[1] if level.title == "Microban 1, 1 (David W. Skinner)"]
    assert str(level) == "####\n# .#\n#  ###\n#*@  #\n#  $ #\n#  ###\n####"


def test_no_level_and_no_turned_copy_of_it_lies_on_both_sides(packed):
    train, test = ({level.canonical() for level in part} for part in packed)
    assert not train & test
    assert sum(max(level.grid.shape) <= 10 for level in packed[0]) == 232


# ---------------------------------------------------------------- .sok files


@settings(deadline=None, derandomize=True, max_examples=40)
@given(picked=st.lists(st.integers(0, 804), min_size=1, max_size=5), titles=st.lists(st.text(
    st.characters(exclude_categories=["C", "Z"]), max_size=12), min_size=5, max_size=5), head=st.booleans())  # fmt: skip
def test_a_sok_file_gives_back_its_levels_and_titles(tmp_path_factory, picked, titles, head):
    packed = load_levels()
    levels = [Level(packed[i].rows, title) for i, title in zip(picked, titles, strict=False)]
    path = tmp_path_factory.mktemp("sok") / "levels.sok"
    names = {"collection": "Lurd #1", "author": "A. N. Author"} if head else {}
    assert save_sok(levels, path, **names, solutions=["lurdLURD"] * len(levels)) == path
    read = read_sok(path)
    assert read == levels
    assert [level.title for level in read] == [level.title for level in levels]


def test_a_sok_file_is_written_as_the_format_asks(tmp_path):
    small = "#####\n#@$.#\n# * #\n#####\n"
    levels = [Level.parse(small, "First"), Level(("  #####", "###@$.#", "#######"))]
    path = save_sok(levels, tmp_path / "two.sok", collection="Two", author="Me", solutions=["", "R"])
    assert path.read_text(encoding="utf-8") == (
        f":: Sokoban levels\n\nCollection: Two\nAuthor: Me\n\n{small}Title: First\n\n"
        "  #####\n###@$.#\n#######\n\nSolution\nR\n"
    )
    assert read_sok(path) == levels


def test_what_other_programs_write_is_read(tmp_path):
    path = tmp_path / "others.txt"
    path.write_text("\ufeff:: made elsewhere ::\nAuthor: somebody\nDate: now\n\nOne\n\n#####\n#pb.#\n#B--#\n#####\nAuthor: me\n"
                    "Title: by key\n\nSolution\nlurdR\n\n; Two\n#####\n#@$.#\n-----\n#####\n\nThree\n#####\n#P*b#\n#####\n",
                    encoding="utf-8")  # fmt: skip
    with pytest.raises(ValueError) as error:
        read_sok(path)
    where = "others.txt, level 2, lines 18 to 21"
    assert str(error.value) == f"{where}: the walls are open: the player can leave. Mend it or take it out."
    path.write_text(path.read_text(encoding="utf-8").replace("-----", "#___#"), encoding="utf-8")
    assert [str(level) for level in read_sok(path)] == [
        "#####\n#@$.#\n#*  #\n#####", "#####\n#@$.#\n#   #\n#####", "#####\n#+*$#\n#####"
    ]  # fmt: skip
    assert [level.title for level in read_sok(path)] == ["by key", "Two", "Three"]


@pytest.mark.parametrize("content, message", [
    (b"\x89PNG\r\n\x1a\n\xff\xfe", "wrong.sok is no text file. Levels are read from .sok, .xsb and .txt."),
    (b"", "wrong.sok has no level: no line is made of ' #@$.*+' with a wall in it."),
    (b"Bob\npPbB\n\nSolution\nlurd\n", "wrong.sok has no level: no line is made of ' #@$.*+' with a wall in it."),
    (b"#####\n#@$.#\n#####\n\n5#\n#@$.#|5#\n",
     "wrong.sok, line 5: run-length encoding is not read. Write the board cell by cell."),
    (b"#####\n#@$ #\n#####\n", "wrong.sok, level 1, lines 1 to 3: there must be as many boxes as goals, and at least one, "
                               "not 1 and 0. Mend it or take it out."),
])  # fmt: skip
def test_a_wrong_file_is_refused_and_the_line_is_named(tmp_path, content, message):
    path = tmp_path / "wrong.sok"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_sok(path)
    assert str(error.value) == message


TINY = "#####\n#@$.#\n#####"


@pytest.mark.parametrize("levels, options, message", [
    ([Level.parse(TINY, "a\nb")], {}, "a title, a collection and an author are one line each"),
    ([Level.parse(TINY)], {"author": "a\rb"}, "a title, a collection and an author are one line each"),
    ([Level.parse(TINY)], {"solutions": ["R", "R"]},
     "give a solution for each level, empty where none is known: got 2 for 1"),
    ([Level.parse(TINY), Level.parse(TINY.replace("@", " "), "odd")], {},
     "level 2 ('odd') cannot be played: there must be one player, not 0. Leave it out."),
])  # fmt: skip
def test_what_no_program_could_read_is_not_written(tmp_path, levels, options, message):
    with pytest.raises(ValueError) as error:
        save_sok(levels, tmp_path / "none.sok", **options)
    assert str(error.value).startswith(message)
    assert not (tmp_path / "none.sok").exists()
