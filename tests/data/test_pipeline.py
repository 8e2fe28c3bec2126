from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from genai_lib import Noise
from genai_lib.data import Split, load
from genai_lib.data.pipeline import (
    Report,
    augment,
    deduplicate,
    near_pictures,
    near_texts,
    normalise,
    number,
    split,
    validate,
)


@pytest.fixture(scope="module")
def digits():
    """1,009 test digits and their labels."""
    x, y = load("mnist", "test")
    return Split(x[:1_009], y[:1_009])


# ---------------------------------------------------------------- reports


def test_a_report_says_what_was_done_and_cannot_be_changed():
    report = Report("split", 70_000, 63_000, {"test rows": 7_000, "mean": 0.130663})
    assert str(report) == "split: 70,000 → 63,000 rows (test rows 7,000, mean 0.1307)"
    with pytest.raises(AttributeError):
        report.after = 70_000


# ---------------------------------------------------------------- validate


def test_planted_faults_are_found_counted_and_left_out(digits):
    x, y = digits.x.clone(), digits.y.clone()
    x[3, 0, 5, 7], x[11, 0, 0, 0], x[13, 0, 27, 27] = torch.nan, torch.inf, -torch.inf
    x[17, 0, 2, 2], x[19, 0, 2, 3] = 1.001, -0.001
    y[[17, 23]], y[29] = 10, -1  # row 17 has two faults
    kept, report = validate(Split(x, y), shape=(1, 28, 28), classes=10)
    rows = [i for i in range(1_009) if i not in (3, 11, 13, 17, 19, 23, 29)]
    assert torch.equal(kept.x, digits.x[rows])
    assert torch.equal(kept.y, digits.y[rows])
    assert report == Report("validate", 1_009, 1_002, {"not finite": 3, "out of range": 2, "unknown label": 3})


def test_sound_rows_and_the_ends_of_the_range_stay(digits):
    kept, report = validate(digits, shape=(1, 28, 28), classes=10)
    assert torch.equal(kept.x, digits.x)
    assert (report.before, report.after, set(report.details.values())) == (1_009, 1_009, {0})
    ends = Split(torch.tensor([[-1.0, 2.0], [-1.1, 0.0], [0.0, 2.1]]), torch.zeros(3, dtype=torch.int64))
    assert validate(ends, shape=(2,), classes=1, low=-1, high=2)[0].x.tolist() == [[-1.0, 2.0]]


@pytest.mark.parametrize("data, got", [
    (Split(torch.zeros(7, 28, 28), torch.zeros(7)), "(7, 28, 28) and (7,)"),
    (Split(torch.zeros(7, 1, 28, 28), torch.zeros(5)), "(7, 1, 28, 28) and (5,)")])  # fmt: skip
def test_a_set_of_another_shape_is_refused(data, got):
    with pytest.raises(ValueError, match=re.escape(f"expected examples of shape (1, 28, 28) and as many labels, got {got}")):
        validate(data, shape=(1, 28, 28), classes=10)


# ---------------------------------------------------------------- groups of like rows


@settings(deadline=None, derandomize=True)
@given(labels=st.lists(st.one_of(st.integers(0, 5), st.text("ab", max_size=2)), max_size=17))
def test_labels_are_numbered_as_they_appear(labels):
    numbers = number(labels).tolist()
    assert list(dict.fromkeys(numbers)) == list(range(len(set(labels))))
    assert [labels.index(label) for label in labels] == [numbers.index(n) for n in numbers]


def test_exact_copies_and_only_they_are_grouped(digits):
    x = torch.cat([digits.x, digits.x[[5, 7, 5]]])
    x[1_010, 0, 0, 0] += 1 / 255  # no longer the copy of row 7
    groups = near_pictures(x).tolist()
    assert groups[:1_009] == list(range(1_009))
    assert groups[1_009:] == [5, 1_009, 5]


@pytest.mark.parametrize("change", [
    lambda x: 0.7 * x, lambda x: 0.8 * x + 0.1, lambda x: (15 * x).round() / 15,
    lambda x: (x + 0.02 * Noise(0).normal(*x.shape)).clamp(0, 1),
], ids=["contrast", "brightness", "16 greys", "noise"])  # fmt: skip
def test_near_copies_are_found_and_digits_that_differ_are_not(digits, change):
    copied = torch.arange(3, 1_009, 10)
    groups = near_pictures(torch.cat([digits.x, change(digits.x[copied])]), similarity=0.995)
    assert torch.equal(groups[:1_009], torch.arange(1_009))  # no two of the originals are like each other
    assert (groups[1_009:] == copied).float().mean() >= 0.95


def test_colour_counts():
    red, blue = torch.ones(2, 3, 5, 7)
    red[1:, 1:4], blue[:2, 1:4] = 0, 0  # the same shape in two colours
    assert near_pictures(torch.stack([red, blue, 0.9 * red]), similarity=0.98).tolist() == [0, 1, 0]


def test_what_is_linked_over_others_is_one_group_across_blocks():
    """A row of 2,503 pictures, each like the next (0.9997) and the first not like the last: one group, in any order."""
    turn = torch.linspace(0, 2, 2_503)
    waves = torch.stack([torch.cos(k * torch.arange(256) * torch.pi / 128) for k in (1, 2)])
    x = (turn.cos()[:, None] * waves[0] + turn.sin()[:, None] * waves[1]).view(-1, 1, 16, 16)
    order = Noise(0).permutation(2_503)
    assert near_pictures(x[order], similarity=0.9999).unique().tolist() == [0]
    gap = torch.cat([x[:1_200], x[1_300:]])  # without the middle they are two
    assert near_pictures(gap, similarity=0.9999).tolist() == [0] * 1_200 + [1] * 1_203
    assert near_pictures(x[[0, 2_502]], similarity=0.9999).tolist() == [0, 1]


def test_one_grey_all_over_is_like_nothing_but_itself():
    x = torch.stack([torch.full((1, 3, 5), grey) for grey in (0.0, 0.5, 0.0)])
    assert near_pictures(x, similarity=0.99).tolist() == [0, 1, 0]


def test_texts_are_compared_by_letters_and_digits():
    texts = ["Speak, speak.", "speak speak", "SPEAK: SPEAK!", "Speak.", "", "--"]
    assert near_texts(texts).tolist() == [0, 0, 0, 1, 2, 2]


def test_texts_are_near_if_they_share_most_of_their_pieces():
    text = "Now is the winter of our discontent made glorious summer by this sun of York"
    slip = text.replace("winter", "wintre")
    other = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer"
    assert near_texts([text, other, slip, "", "ab"], similarity=0.8).tolist() == [0, 1, 0, 2, 3]
    assert near_texts([text, other, slip], similarity=0.99).tolist() == [0, 1, 2]


@settings(deadline=None, derandomize=True)
@given(texts=st.lists(st.text("ab", max_size=9), min_size=1, max_size=9), similarity=st.sampled_from([0.31, 0.53, 0.79]))
def test_text_groups_are_those_of_pairwise_cosines(texts, similarity):
    pieces = [{t[i : i + 3] for i in range(max(1, len(t) - 2))} for t in texts]
    every = sorted(set().union(*pieces))
    near = cosine_similarity([[float(p in mine) for p in every] for mine in pieces]) >= similarity
    reached = np.linalg.matrix_power(near.astype(float), len(texts)) > 0  # over any number of links
    groups = near_texts(texts, similarity=similarity)
    assert np.array_equal(groups[:, None] == groups, reached)


# ---------------------------------------------------------------- deduplicate


def test_the_first_of_each_group_is_kept(digits):
    groups = torch.arange(1_009)
    groups[[100, 200, 300]] = torch.tensor([7, 7, 8])
    groups = number(groups.tolist())
    kept, report = deduplicate(digits, groups)
    rows = [i for i in range(1_009) if i not in (100, 200, 300)]
    assert torch.equal(kept.x, digits.x[rows])
    assert torch.equal(kept.y, digits.y[rows])
    assert report == Report("deduplicate", 1_009, 1_006, {"groups with copies": 2, "largest": 3})


def test_texts_are_deduplicated_by_the_same_step():
    kept, report = deduplicate(["one", "two", "one", "three"], torch.tensor([0, 1, 0, 2]))
    assert kept == ["one", "two", "three"]
    assert (report.before, report.after) == (4, 3)
    assert deduplicate(kept, near_texts(kept))[0] == kept


# ---------------------------------------------------------------- normalise, augment


def test_a_training_set_gets_mean_0_and_a_test_set_the_same_scale(digits):
    train, test = Split(*(t[:700] for t in digits)), Split(*(t[700:] for t in digits))
    scaled, report = normalise(train)
    assert scaled.x.double().mean().item() == pytest.approx(0, abs=1e-5)
    assert scaled.x.double().std().item() == pytest.approx(1, abs=1e-5)
    assert report.details == {"mean": pytest.approx(train.x.mean().item()), "deviation": pytest.approx(train.x.std().item())}
    also, same = normalise(test, **report.details)
    torch.testing.assert_close(also.x, (test.x - report.details["mean"]) / report.details["deviation"])
    assert same.details == report.details
    assert also.x.mean().abs() > 1e-3  # its own mean is another
    assert torch.equal(also.y, test.y)


def test_a_range_of_minus_one_to_one_is_a_mean_and_a_deviation_too(digits):
    scaled = normalise(digits, mean=0.5, deviation=0.5)[0].x
    assert (scaled.min().item(), scaled.max().item()) == (-1.0, 1.0)


def test_what_does_not_vary_cannot_be_normalised():
    flat = Split(torch.full((5, 3), 0.25), torch.zeros(5))
    with pytest.raises(ValueError) as error:
        normalise(flat)
    assert str(error.value) == "the deviation must be larger than 0, got 0.0: do the examples differ at all?"


def test_moved_copies_are_added_behind_the_originals(digits):
    few = Split(*(t[:101] for t in digits))
    more, report = augment(few, Noise(0), copies=2, pixels=1)
    assert report == Report("augment", 101, 303, {"copies": 2, "pixels": 1})
    assert torch.equal(more.x[:101], few.x)
    assert torch.equal(more.y, torch.cat([few.y] * 3))
    moved = more.x[101:].view(2, 101, 1, 28, 28)
    assert torch.equal(moved.sum(dim=(2, 3, 4)).round(), few.x.sum(dim=(1, 2, 3)).round().expand(2, -1))  # no ink is lost
    assert not torch.equal(moved[0], moved[1])
    assert torch.equal(augment(few, Noise(0), copies=2, pixels=1)[0].x, more.x)


# ---------------------------------------------------------------- split


@settings(deadline=None, derandomize=True)
@given(seed=st.integers(0, 1_000), sizes=st.lists(st.integers(1, 5), min_size=50, max_size=70),
       share=st.sampled_from([0.1, 0.3, 0.5]))  # fmt: skip
def test_no_group_lies_on_both_sides(seed, sizes, share):
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    groups = number(labels[Noise(seed).permutation(len(labels))].tolist())
    data = Split(torch.arange(len(groups)).float()[:, None], torch.arange(len(groups)))
    train, test, report = split(data, groups, Noise(seed, 1), share=share)
    assert sorted(train.y.tolist() + test.y.tolist()) == list(range(len(groups)))
    assert not set(groups[train.y].tolist()) & set(groups[test.y].tolist())
    assert share * len(groups) - max(sizes) < len(test.y) <= share * len(groups)
    assert report == Report("split", len(groups), len(train.y), {"test rows": len(test.y), "groups": len(sizes)})


def test_every_group_is_drawn_equally_often():
    groups, counts = torch.arange(10).repeat(3), torch.zeros(10)
    for seed in range(1_009):
        test = split(Split(groups.float()[:, None], groups), groups, Noise(seed), share=0.2)[1]
        counts += test.y.unique().bincount(minlength=10)
    assert counts.sum() == 2 * 1_009
    assert (counts - 201.8).abs().max() < 64  # five standard deviations


def test_texts_are_split_by_the_same_step():
    texts = [f"verse {i // 2}" for i in range(40)]
    train, test, _ = split(texts, near_texts(texts), Noise(0), share=0.25)
    assert (len(train), len(test)) == (30, 10)
    assert not set(train) & set(test)


@pytest.mark.parametrize("groups, share", [
    (torch.zeros(7, dtype=torch.int64), 0.5), (torch.arange(7), 0.1), (torch.arange(7), 1.0)])  # fmt: skip
def test_a_split_that_leaves_a_side_empty_is_refused(groups, share):
    sizes = groups.bincount()
    with pytest.raises(ValueError) as error:
        split(list("abcdefg"), groups, Noise(0), share=share)
    assert str(error.value) == (
        f"a share of {share} leaves one side empty: the {len(sizes)} groups have up to {sizes.max()} rows")  # fmt: skip


# ---------------------------------------------------------------- the steps together


def test_the_steps_mend_planted_faults(digits):
    """Ten broken rows and fifty disguised copies: after the pipeline the clean digits are left, and nothing leaks."""
    x = torch.cat([digits.x, 0.8 * digits.x[:50], digits.x[:10] * torch.nan])
    data, first = validate(Split(x, torch.arange(1_069) % 10), shape=(1, 28, 28), classes=10)
    groups = near_pictures(data.x, similarity=0.995)
    numbered = Split(data.x, groups)  # the label tells the group
    train, test, _ = split(numbered, torch.arange(1_059), Noise(0))  # as if there were no copies
    assert set(train.y.tolist()) & set(test.y.tolist())
    train, test, _ = split(numbered, groups, Noise(0))
    assert not set(train.y.tolist()) & set(test.y.tolist())
    data, second = deduplicate(data, groups)
    assert [first.after, second.after] == [1_059, 1_009]
    assert torch.equal(data.x, digits.x)
