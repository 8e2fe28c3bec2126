from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genai_lib.data import Batches
from genai_lib.data.tokens import BytePairs, Characters, windows

TEXT = "how much wood would a woodchuck chuck if a woodchuck could chuck wood? — naïve 木, 🪵\r\n\ttoo  much\0"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # surrogates alone are no text


@pytest.fixture(scope="module")
def pairs():
    return BytePairs.train(TEXT, size=290)


# ---------------------------------------------------------------- characters


def test_characters_are_numbered_in_order():
    characters = Characters("hello, b")
    assert (characters.characters, characters.size) == (" ,behlo", 7)
    tokens = characters.encode("hole")
    assert (tokens.tolist(), tokens.dtype) == ([4, 6, 5, 3], torch.int64)
    assert characters.decode(tokens) == "hole"


@given(text=ANY_TEXT)
def test_characters_come_back(text):
    characters = Characters(text)
    tokens = characters.encode(text)
    assert tokens.shape == (len(text),)
    assert characters.size == len(tokens.unique())  # no number is left out
    assert characters.decode(tokens) == text
    again = Characters(characters.characters)  # the vocabulary is text enough to build itself from
    assert torch.equal(again.encode(text), tokens)


@pytest.mark.parametrize("unknown", ["é", "'", "\n"])
def test_an_unknown_character_is_named(unknown):
    with pytest.raises(ValueError) as error:
        Characters("abc").encode(f"ab{unknown}c")
    assert str(error.value) == (
        f"{unknown!r} is none of the 3 characters of this vocabulary: replace it, or build Characters from a text that has it"
    )


# ---------------------------------------------------------------- byte pairs


def test_the_most_frequent_pair_becomes_a_token():
    pairs = BytePairs.train("ab ab ab ab cb", size=257)
    assert pairs.size == 257
    assert len(set(pairs.encode("abab").tolist())) == 1
    assert len(pairs.encode("abab")) == 2
    assert len(pairs.encode("cbba")) == 4


def test_pieces_are_fewer_than_bytes(pairs):
    assert pairs.size == 290
    tokens = pairs.encode(TEXT)
    assert tokens.dtype == torch.int64
    assert len(tokens) < 0.7 * len(TEXT.encode())
    assert tokens.min() >= 0
    assert tokens.max() < 290


def test_training_stops_when_no_pair_is_left():
    assert BytePairs.train("ab", size=1_000).size == 257


@given(text=ANY_TEXT)
def test_any_text_comes_back_from_its_pieces(pairs, text):
    tokens = pairs.encode(text)
    assert tokens.shape == (len(tokens),)
    assert pairs.decode(tokens) == text


def test_a_space_in_front_is_neither_added_nor_lost(pairs):
    assert [pairs.decode(pairs.encode(text)) for text in (" wood", "wood", "")] == [" wood", "wood", ""]


def test_every_byte_is_known(pairs):
    text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000, 257)]))  # one to four bytes each
    assert len(set(text.encode())) == 256 - 13  # 13 bytes occur in no text
    assert pairs.decode(pairs.encode(text)) == text


def test_byte_pairs_survive_as_json(pairs):
    text = pairs.json
    assert json.loads(text)["model"]["type"] == "BPE"
    again = BytePairs(text)
    assert (again.size, again.json) == (290, text)
    assert torch.equal(again.encode(TEXT), pairs.encode(TEXT))


def test_training_repeats(pairs):
    assert BytePairs.train(TEXT, size=290).json == pairs.json
    assert BytePairs.train(TEXT[::-1], size=290).json != pairs.json


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match="size must be 256 or more, since every byte is a token, got 255"):
        BytePairs.train(TEXT, size=255)
    assert BytePairs.train(TEXT, size=256).encode("木").tolist() != []


@pytest.mark.parametrize("damaged", ["", "{}", "no json"])
def test_a_damaged_vocabulary_is_refused(damaged):
    with pytest.raises(ValueError, match=r"this is no vocabulary of byte pairs \(.+\)\. Make one: BytePairs\.train"):
        BytePairs(damaged)


# ---------------------------------------------------------------- windows


@given(length=st.integers(1, 11))
def test_windows_are_all_the_stretches_there_are(length):
    tokens = torch.arange(100, 111)
    cut = windows(tokens, length)
    assert cut.tolist() == [list(range(100 + i, 100 + i + length)) for i in range(12 - length)]
    assert cut.data_ptr() == tokens.data_ptr()  # a view: it costs no memory


def test_batches_pick_from_windows():
    tokens = torch.arange(101)
    (rows,) = Batches(windows(tokens, 7), batch_size=5, seed=3)[4]
    assert rows.shape == (5, 7)
    assert torch.equal(rows, rows[:, :1] + torch.arange(7))


@pytest.mark.parametrize("length", [0, 6, -1])
def test_a_window_longer_than_the_text_is_refused(length):
    with pytest.raises(ValueError, match=f"length must lie between 1 and the 5 tokens there are, got {length}"):
        windows(torch.arange(5), length)
