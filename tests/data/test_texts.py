from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from genai_lib.data import DataError, emoji_names, load, load_poems, load_text
from genai_lib.data.pipeline import near_pictures, near_texts

# ---------------------------------------------------------------- Shakespeare


@pytest.fixture(scope="module")
def plays():
    return {split: load_text("shakespeare", split) for split in ("train", "validation", "test")}


def test_the_plays_begin_and_end_where_tiny_shakespeare_does(plays):
    assert plays["train"].startswith("First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n\n")
    assert plays["test"].endswith("Thou let'st thy fortune sleep--die, rather; wink'st\nWhiles thou art waking.\n")
    length = sum(map(len, plays.values()))
    assert 1.0 < length / 1_115_394 < 1.02  # tiny-shakespeare has so many characters, with a few speeches lost
    assert [round(100 * len(text) / length) for text in plays.values()] == [90, 5, 5]


@pytest.mark.parametrize("name, splits", [("shakespeare", ("train", "validation", "test")), ("macbeth", ("train", "test"))])
def test_a_play_is_speeches_under_their_speakers_names(name, splits):
    for split in splits:
        text = load_text(name, split)
        assert set(text) <= set("\n !&',-.:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
        assert text.endswith("\n")
        assert not re.search(r"\n\n\n|  |[ ]\n", text)
        for speech in text.removesuffix("\n").split("\n\n"):
            assert re.match(r"[A-Z][^:\n]{0,40}:\n.", speech), speech
        assert not re.search(r"^(Enter [A-Z]+\b|Exeunt|Re-enter|ACT [IV]+|SCENE [IV]+)", text, flags=re.MULTILINE)


def test_the_plays_are_those_of_tiny_shakespeare_and_macbeth_is_none_of_them(plays):
    everything = "".join(plays.values())
    heroes = ("CORIOLANUS", "KING RICHARD III", "KING RICHARD II", "ROMEO", "KING HENRY VI", "LEONTES", "ISABELLA", "PETRUCHIO",
              "PROSPERO")  # fmt: skip
    places = [everything.index(f"\n{hero}:\n") for hero in heroes]
    assert len(set(places)) == 9
    assert "MACBETH:" not in everything
    assert load_text("macbeth").count("\nMACBETH:\n") + load_text("macbeth", "test").count("\nMACBETH:\n") > 100
    assert "Is this a dagger which I see before me" in load_text("macbeth")
    assert "To-morrow, and to-morrow, and to-morrow" in load_text("macbeth", "test")


def test_a_text_by_another_name_or_split_is_refused():
    with pytest.raises(DataError, match=re.escape("there is no set named 'hamlet'. The sets are: digits8, emoji, macbeth")):
        load_text("hamlet")
    with pytest.raises(DataError, match=re.escape("macbeth has no split named 'validation'. Its splits are: train, test.")):
        load_text("macbeth", "validation")
    with pytest.raises(DataError, match=re.escape("mnist holds pictures, not text: open it with load().")):
        load_text("mnist")


def test_a_text_of_ones_own_loads_through_the_same_door(tmp_path):
    np.savez(tmp_path / "mine.npz", train_text=np.frombuffer("Grüß Gott\n".encode(), np.uint8))
    sha256 = hashlib.sha256((tmp_path / "mine.npz").read_bytes()).hexdigest()
    entry = {"file": "mine.npz", "sha256": sha256, "splits": {"train": 10}, "kind": "text"}
    (tmp_path / "manifest.json").write_text(json.dumps({"mine": entry}))
    assert load_text("mine", folder=tmp_path) == "Grüß Gott\n"


# ---------------------------------------------------------------- quatrains


@pytest.fixture(scope="module")
def poems():
    return load_poems(), load_poems("test")


def test_a_poem_has_four_lines_of_five_characters(poems):
    assert [len(part) for part in poems] == [3_580, 396]
    for poem in poems[0] + poems[1]:
        assert re.fullmatch(r"[\u3400-\u9fff\U00020000-\U0003ffff]{5}(\n[\u3400-\u9fff\U00020000-\U0003ffff]{5}){3}", poem.text)
        assert poem.author


def test_the_poem_every_child_in_china_knows_is_there(poems):
    found = [poem for poem in poems[0] + poems[1] if poem.text.endswith("舉頭望山月\n低頭思故鄉")]
    assert "李白" in {poem.author for poem in found}
    assert "靜夜思" in {poem.title for poem in found}


def test_no_copy_and_no_variant_of_a_poem_lies_on_both_sides(poems):
    train, test = ([poem.text for poem in part] for part in poems)
    groups = near_texts(train + test, similarity=0.35)
    assert not set(groups[: len(train)].tolist()) & set(groups[len(train) :].tolist())
    by_line = defaultdict(list)
    for i, poem in enumerate(train):
        for line in set(poem.split("\n")):
            by_line[line].append(i)
    for poem in test:  # said without the library: no two lines of it stand together in one poem of the training set
        seen = Counter(i for line in set(poem.split("\n")) for i in by_line.get(line, ()))
        assert max(seen.values(), default=0) < 2


# ---------------------------------------------------------------- the names of the emoji


@pytest.fixture(scope="module")
def names():
    return emoji_names(), emoji_names("test")


def test_every_picture_has_its_names(names):
    for split, part in zip(("train", "test"), names, strict=True):
        y = load("emoji", split).y.tolist()
        assert len(part) == len(y)
        groups = dict(zip(y, (name.group for name in part), strict=True))
        assert all(groups[label] == name.group for label, name in zip(y, part, strict=True))
        assert len(groups) == 8
    everything = names[0] + names[1]
    for field in ("hexcode", "english", "chinese"):
        assert len({getattr(name, field) for name in everything}) == 1_644
    assert all(re.search(r"[\u4e00-\u9fff]|^[\w×]", name.chinese) for name in everything)
    assert sum(bool(name.tags) for name in everything) > 1_640
    assert sum(bool(name.chinese_tags) for name in everything) > 1_630
    assert all(name.english not in name.tags and name.chinese not in name.chinese_tags for name in everything)


def test_flags_skin_tones_and_components_are_left_out(names):
    for name in names[0] + names[1]:
        assert not re.search("1F3F[B-F]|1F1[EF]", name.hexcode)
        assert "skin tone" not in name.english


def test_names_are_what_they_should_be(names):
    found = {name.english: name for name in names[0] + names[1]}
    assert (found["grinning face"].hexcode, found["grinning face"].chinese, found["grinning face"].group) == (
        "1F600", "嘿嘿", "smileys-emotion")  # fmt: skip
    assert found["tiger"].chinese == "老虎"
    assert {"happy", "smile", "grin"} <= set(found["grinning face"].tags)
    assert found["red apple"].concept == found["green apple"].concept


def test_red_is_redder_in_the_picture_called_red():
    x = torch.cat([load("emoji").x, load("emoji", "test").x]).mean(dim=(2, 3))  # (N, 3)
    row = {name.english: i for i, name in enumerate(emoji_names() + emoji_names("test"))}
    for thing in ("heart", "circle", "square"):
        red, blue = x[row[f"red {thing}"]], x[row[f"blue {thing}"]]
        assert red[0] > red[2]
        assert blue[2] > blue[0]


def test_variants_of_one_thing_stay_on_one_side(names):
    train, test = ({name.concept for name in part} for part in names)
    assert not train & test
    assert 0.08 < len(test) / (len(train) + len(test)) < 0.12
    side = {name.english: split for split, part in zip(("train", "test"), names, strict=True) for name in part}
    checked = 0
    for english in side:
        if (woman := f"woman {english}") in side:
            assert side[english] == side[woman] == side[f"man {english}"]
            checked += 1
    assert checked >= 20


def test_no_two_pictures_that_look_the_same_lie_on_both_sides():
    train, test = load("emoji").x, load("emoji", "test").x
    groups = near_pictures(torch.cat([train, test]), similarity=0.98)
    assert not set(groups[: len(train)].tolist()) & set(groups[len(train) :].tolist())
    nearest = torch.cdist(test.flatten(1), train.flatten(1)).min(dim=1).values / 3_072**0.5  # root mean square
    assert nearest.min() > 0.05
