from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genai_lib import Noise
from genai_lib.models.ngram import NGram


def text(seed, n, size):
    """Every other token, by chance, follows from the two before it; the others are uniform."""
    noise = Noise(seed)
    drawn, free = noise.integers(size, n).tolist(), noise.integers(2, n).tolist()
    for t in range(2, n):
        if not free[t]:
            drawn[t] = (drawn[t - 1] + 2 * drawn[t - 2]) % size
    return torch.tensor(drawn)


def witten_bell(tokens, order, size, context, token):
    """p(token | context), from its definition, with dictionaries and exact fractions."""
    if len(context) >= order:
        context = context[len(context) - order + 1 :]
    n = len(context)
    after = Counter(tokens[i + n] for i in range(len(tokens) - n) if tuple(tokens[i : i + n]) == tuple(context))
    lower = Fraction(1, size) if n == 0 else witten_bell(tokens, order, size, context[1:], token)
    if not after:
        return lower
    return Fraction(after[token] + len(after) * lower) / (sum(after.values()) + len(after))


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_every_probability_is_the_definitions(seed, order):
    seen, new, size = text(seed, 97, 7), text(seed + 100, 31, 7), 7
    found = NGram(order, size).fit(seen).log_prob(new)
    assert (found.shape, found.dtype) == ((31,), torch.float64)
    for t, log_p in enumerate(found.tolist()):
        exact = witten_bell(seen.tolist(), order, size, new[:t].tolist(), new[t].item())
        assert log_p == pytest.approx(math.log(exact), rel=1e-12)


def test_by_hand():
    model = NGram(2, 3).fit(torch.tensor([0, 1, 0, 0]))  # token 2 never occurs
    first = [(3 + 2 / 3) / 6, (1 + 2 / 3) / 6, (0 + 2 / 3) / 6]  # c = 4 tokens, t = 2 different ones
    after_0 = [(1 + 2 * first[0]) / 4, (1 + 2 * first[1]) / 4, (0 + 2 * first[2]) / 4]  # c = 2, t = 2
    after_1 = [(1 + first[0]) / 2, first[1] / 2, first[2] / 2]  # c = 1, t = 1
    pairs = torch.tensor(list(itertools.product(range(3), repeat=2)))
    p = model.log_prob(pairs).exp()
    assert p[::3, 0].tolist() == pytest.approx(first)
    assert p[:3, 1].tolist() == pytest.approx(after_0)
    assert p[3:6, 1].tolist() == pytest.approx(after_1)
    assert p[6:, 1].tolist() == pytest.approx(first)  # after a token never seen: as after nothing


@given(order=st.integers(1, 5), size=st.sampled_from([1, 2, 3, 5]), seed=st.integers(0, 100))
def test_the_probabilities_of_all_sequences_sum_to_one(order, size, seed):
    model = NGram(order, size).fit(text(seed, 17, size))
    sequences = torch.tensor(list(itertools.product(range(size), repeat=4)))
    assert model.log_prob(sequences).sum(dim=1).exp().sum().item() == pytest.approx(1, abs=1e-12)


@given(order=st.integers(1, 5), length=st.integers(0, 7), rows=st.integers(1, 5), seed=st.integers(0, 100))
def test_rows_are_judged_one_by_one(order, length, rows, seed):
    model, many = NGram(order, 5).fit(text(seed, 53, 5)), Noise(seed).integers(5, rows, length)
    together = model.log_prob(many)
    assert together.shape == (rows, length)
    assert all(torch.equal(model.log_prob(row), log_p) for row, log_p in zip(many, together, strict=True))
    sheets = model.log_prob(torch.stack([many, many.flip(0)]))  # (2, rows, length)
    assert torch.equal(sheets, torch.stack([together, together.flip(0)]))


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_only_the_last_tokens_and_none_ahead_count(order):
    model, tokens = NGram(order, 7).fit(text(0, 211, 7)), text(1, 31, 7)
    other = tokens.clone()
    other[13] = (other[13] + 1) % 7
    same = model.log_prob(tokens) == model.log_prob(other)
    assert same[:13].all()
    assert same[13 + order :].all()
    assert not same[13]


@pytest.mark.parametrize("seed", range(5))
def test_the_source_is_found_where_its_entropy_is_known(seed):
    # one or no token of context says nothing: log 7. Two say: probability ½ + ½ · 1/7 for one token, 1/14 for six.
    seen, new = text(seed, 30_011, 7), text(seed + 100, 10_007, 7)
    nats = [-NGram(order, 7).fit(seen).log_prob(new).mean().item() for order in (1, 2, 3, 4)]
    entropy = -(4 / 7 * math.log(4 / 7) + 6 / 14 * math.log(1 / 14))
    assert nats[0] == pytest.approx(math.log(7), abs=0.005)
    assert nats[1] == pytest.approx(math.log(7), abs=0.005)
    assert nats[2] == pytest.approx(entropy, abs=0.07)  # six standard errors of the mean over the new text
    assert nats[2] < nats[3] < nats[2] + 0.2  # a context longer than the source's costs a little


def test_before_it_is_fitted_nothing_is_known():
    model = NGram(3, 7)
    torch.testing.assert_close(model.log_prob(text(0, 11, 7)), torch.full((11,), -math.log(7)).double())
    assert model.sample(3, Noise(0), length=5).shape == (3, 5)


# ---------------------------------------------------------------- drawing


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("prompt", [None, [2], [1, 2, 0, 1, 2]])
def test_draws_have_the_models_probabilities(order, prompt):
    model = NGram(order, 3).fit(text(0, 41, 3))
    given = torch.tensor(prompt or [], dtype=torch.int64)
    drawn = model.sample(20_011, Noise(order), length=2, prompt=None if prompt is None else given)
    assert (drawn.shape, drawn.dtype) == ((20_011, len(given) + 2), torch.int64)
    assert (drawn[:, : len(given)] == given).all()
    for pair in itertools.product(range(3), repeat=2):
        whole = torch.cat([given, torch.tensor(pair)])
        p = model.log_prob(whole)[-2:].sum().exp().item()
        share = (drawn == whole).all(dim=1).double().mean().item()
        assert share == pytest.approx(p, abs=6 * math.sqrt(p * (1 - p) / 20_011) + 1e-4)  # six standard errors


def test_the_same_key_draws_the_same_text():
    model = NGram(3, 7).fit(text(0, 211, 7))
    assert torch.equal(model.sample(5, Noise(1), length=13), model.sample(5, Noise(1), length=13))
    assert not torch.equal(model.sample(5, Noise(1), length=13), model.sample(5, Noise(2), length=13))
    assert model.sample(5, Noise(1), length=0, prompt=torch.tensor([3, 4])).tolist() == [[3, 4]] * 5


def test_a_text_learned_by_heart_is_told_again():
    seen = torch.tensor([0, 1, 2, 3, 4, 5, 6] * 400)
    drawn = NGram(3, 7).fit(seen).sample(7, Noise(0), length=11, prompt=torch.tensor([3, 4]))
    assert (drawn == torch.arange(3, 16) % 7).all(dim=1).double().mean() > 0.8


# ---------------------------------------------------------------- the table


def test_the_table_is_sorted_and_holds_each_sequence_once():
    tokens, order = text(0, 211, 7), 4
    model = NGram(order, 7).fit(tokens)
    different = [len({tuple(tokens[i : i + n].tolist()) for i in range(211 - n + 1)}) for n in range(1, order + 1)]
    assert len(model.keys) == sum(different)
    assert (model.keys.diff() > 0).all()
    assert len(model.count) == len(model.total) == len(model.types) == sum(different) + 2
    assert model.total[0] == 211
    assert model.types[0] == different[0]
    assert sorted(model.state_dict()) == ["count", "keys", "total", "types"]


def test_a_large_vocabulary_does_not_overflow():
    size = 50_257  # of GPT-2: 50,257⁶ is far beyond 64 bits
    tokens = Noise(0).integers(size, 1_009)
    model = NGram(6, size).fit(tokens.repeat(2))
    assert (model.log_prob(tokens).exp()[6:] > 0.3).all()


@pytest.mark.parametrize("order, size", [(0, 5), (5, 0)])
def test_sizes_must_be_positive(order, size):
    with pytest.raises(ValueError, match=f"order and size must be 1 or more, got order={order}, size={size}"):
        NGram(order, size)


@pytest.mark.parametrize("shape", [(2,), (5, 7), (0,)])
def test_a_text_is_one_row_and_long_enough(shape):
    with pytest.raises(ValueError, match=r"tokens must have shape \(T ≥ 3,\), got \(" + str(shape[0])):
        NGram(3, 5).fit(torch.zeros(shape, dtype=torch.int64))
    NGram(3, 5).fit(torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("wrong, told", [([0, 4, 5], "0 to 5"), ([-1, 0, 1], "-1 to 1")])
def test_tokens_of_another_vocabulary_are_refused(wrong, told):
    for method in (NGram(2, 5).fit, NGram(2, 5).log_prob):
        with pytest.raises(ValueError, match=f"tokens must lie between 0 and 4, got {told}"):
            method(torch.tensor(wrong))
