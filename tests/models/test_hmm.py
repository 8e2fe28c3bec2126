from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hmmlearn.hmm import CategoricalHMM

from genai_lib import Noise
from genai_lib.models.hmm import HiddenMarkovModel

S, V, B, T = 3, 5, 7, 11
SEEDS = pytest.mark.parametrize("seed", range(20))


def chain(seed, states=S, symbols=V):
    """A random model; about half its rows lean strongly to one side."""
    noise, model = Noise(seed), HiddenMarkovModel(states, symbols)
    model.maximise(tuple(noise.uniform(*table.shape).double() ** 3 for table in model.buffers()), smoothing=0.01)
    return model


def sequences(seed, n=B, length=T):
    return Noise(seed, 1).integers(V, n, length)


def padded(seed):
    """Sequences of seven lengths, 1 and 11 among them: the padded table, and each alone."""
    x, lengths = sequences(seed), [11, 1, 2, 7, 3, 11, 5]
    for row, length in zip(x, lengths, strict=True):
        row[length:] = -1
    return x, [row[:length] for row, length in zip(x, lengths, strict=True)]


def theirs_with(model, **settings):
    """hmmlearn's model with our tables."""
    states, symbols = model.emissions.shape
    other = CategoricalHMM(states, n_features=symbols, init_params="", **settings)
    other.startprob_, other.transmat_, other.emissionprob_ = (table.numpy().copy() for table in model.buffers())
    return other


def for_them(rows):
    return torch.cat(rows).numpy()[:, None], [len(row) for row in rows]


def paths(model, x):
    """Every path of states and its joint probability with the sequence x, by multiplication."""
    for path in itertools.product(range(len(model.start)), repeat=len(x)):
        p = model.start[path[0]] * model.emissions[path[0], x[0]]
        for before, now, symbol in zip(path, path[1:], x[1:], strict=False):
            p = p * model.transitions[before, now] * model.emissions[now, symbol]
        yield path, p.item()


# ---------------------------------------------------------------- one model, exactly


@SEEDS
def test_probability_posterior_and_best_path_by_enumeration(seed):
    model, x = chain(seed), sequences(seed, 3, 5)
    for i, row in enumerate(x):
        table = list(paths(model, row))
        total = sum(p for _, p in table)
        assert model.log_prob(x)[i].item() == pytest.approx(math.log(total), rel=1e-12)
        assert tuple(model.viterbi(x)[i].tolist()) == max(table, key=lambda entry: entry[1])[0]
        for t, s in itertools.product(range(5), range(S)):
            expected = sum(p for path, p in table if path[t] == s) / total
            assert model.posterior(x)[i, t, s].item() == pytest.approx(expected, abs=1e-12)


@SEEDS
def test_the_probabilities_of_all_sequences_sum_to_one(seed):
    x = torch.tensor(list(itertools.product(range(V), repeat=4)))
    assert chain(seed).log_prob(x).exp().sum().item() == pytest.approx(1, abs=1e-12)


@SEEDS
def test_likelihood_posterior_and_path_agree_with_hmmlearn(seed):
    model, (x, rows) = chain(seed), padded(seed)
    theirs = theirs_with(model)
    for i, row in enumerate(rows):
        assert model.log_prob(x)[i].item() == pytest.approx(theirs.score(*for_them([row])), rel=1e-10)
    values, lengths = for_them(rows)
    seen, path = x >= 0, model.viterbi(x)
    assert (path[~seen] == -1).all()
    for i, row in enumerate(rows):
        s = path[i, : len(row)]
        joint = model.start[s[0]].log() + model.emissions[s, row].log().sum() + model.transitions[s[:-1], s[1:]].log().sum()
        best = theirs.decode(*for_them([row]))[0]
        assert joint.item() == pytest.approx(best, rel=1e-10)  # not path by path: two may be equally probable
    np.testing.assert_allclose(model.posterior(x)[seen].numpy(), theirs.predict_proba(values, lengths), atol=1e-10)


@SEEDS
def test_padding_changes_nothing_and_is_forecast(seed):
    model, (x, rows) = chain(seed), padded(seed)
    for i, row in enumerate(rows):
        n = len(row)
        assert model.log_prob(x)[i].item() == pytest.approx(model.log_prob(row[None]).item(), rel=1e-12)
        torch.testing.assert_close(model.posterior(x)[i, :n], model.posterior(row[None])[0])
        assert torch.equal(model.viterbi(x)[i, :n], model.viterbi(row[None])[0])
        if n < T:
            torch.testing.assert_close(model.posterior(x)[i, n], model.posterior(row[None])[0, -1] @ model.transitions)


@SEEDS
def test_one_state_is_a_bag_of_symbols_and_showing_the_state_is_a_markov_chain(seed):
    x, one = sequences(seed), chain(seed, states=1)
    torch.testing.assert_close(one.log_prob(x), one.emissions[0].log()[x].sum(dim=1))
    visible = chain(seed, V, V)
    visible.emissions.copy_(torch.eye(V))
    by_hand = visible.start.log()[x[:, 0]] + visible.transitions.log()[x[:, :-1], x[:, 1:]].sum(dim=1)
    torch.testing.assert_close(visible.log_prob(x), by_hand)
    assert torch.equal(visible.viterbi(x), x)


def test_long_sequences_do_not_underflow():
    model, x = chain(0), sequences(0, 2, 10_007)  # about 20,000 nats: e to that is 0 in any float
    log_prob = model.log_prob(x)
    theirs = [theirs_with(model).score(*for_them([row])) for row in x]
    np.testing.assert_allclose(log_prob.numpy(), theirs, rtol=1e-10)
    assert (log_prob < -10_000).all()
    torch.testing.assert_close(model.posterior(x).sum(dim=2), torch.ones(2, 10_007).double())


def test_what_is_impossible_has_probability_zero_and_no_nan():
    model = HiddenMarkovModel(2, 3)  # state 0 leads to 1 for ever; symbol 2 is never shown
    model.maximise((torch.tensor([1.0, 0]), torch.tensor([[0, 1.0], [0, 1]]), torch.tensor([[1.0, 0, 0], [0, 1, 0]])))
    x = torch.tensor([[0, 1, 1], [0, 0, 1], [0, 1, 2], [1, 1, 1]])
    assert model.log_prob(x).tolist() == [0.0, -math.inf, -math.inf, -math.inf]
    assert model.viterbi(x[:1]).tolist() == [[0, 1, 1]]


def test_tables_and_batch_keep_their_places():
    model, x, order = chain(0), padded(0)[0], Noise(2).permutation(B)
    assert [tuple(table.shape) for table in model.buffers()] == [(S,), (S, S), (S, V)]
    for function in (model.log_prob, model.posterior, model.viterbi):
        torch.testing.assert_close(function(x[order]), function(x)[order])
    twin = HiddenMarkovModel(S, V)
    torch.testing.assert_close(twin.log_prob(x), -(x >= 0).sum(dim=1).double() * math.log(V))  # a fresh model knows nothing
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.log_prob(x), model.log_prob(x))


def test_a_step_needs_no_numbers_to_know_its_shapes():
    model, x = chain(0).to("meta"), sequences(0).to("meta")
    log_prob, counts = model.expect(x)
    model.maximise(counts)
    shapes = [tuple(v.shape) for v in (log_prob, *counts, model.log_prob(x), model.posterior(x), model.viterbi(x))]
    assert shapes == [(B,), (S,), (S, S), (S, V), (B,), (B, T, S), (B, T)]
    assert model.sample(B, Noise(0, device="meta"), length=T).shape == (B, T)


# ---------------------------------------------------------------- samples


@SEEDS
def test_drawn_sequences_are_as_frequent_as_they_are_probable(seed):
    model, n = chain(seed, 3, 2), 20_011
    x = model.sample(n, Noise(seed, 1), length=4)
    assert (x.shape, x.dtype) == ((n, 4), torch.int64)
    every = torch.tensor(list(itertools.product(range(2), repeat=4)))
    p = model.log_prob(every).exp()
    shares = (x @ torch.tensor([8, 4, 2, 1])).bincount(minlength=16) / n
    assert ((shares - p).abs() < 6 * (p * (1 - p) / n).sqrt()).all()
    assert torch.equal(x, model.sample(n, Noise(seed, 1), length=4))
    assert not torch.equal(x, model.sample(n, Noise(seed, 2), length=4))


# ---------------------------------------------------------------- Baum and Welch


@SEEDS
def test_expected_counts_by_enumeration(seed):
    model, x = chain(seed), sequences(seed, 2, 4)
    start, moves, shows = torch.zeros(S), torch.zeros(S, S), torch.zeros(S, V)
    for row in x:
        table = list(paths(model, row))
        total = sum(p for _, p in table)
        for path, p in table:
            start[path[0]] += p / total
            for before, now in itertools.pairwise(path):
                moves[before, now] += p / total
            for state, symbol in zip(path, row, strict=True):
                shows[state, symbol] += p / total
    log_prob, counts = model.expect(x)
    torch.testing.assert_close(log_prob, model.log_prob(x))
    for ours, by_hand in zip(counts, (start, moves, shows), strict=True):
        torch.testing.assert_close(ours, by_hand.double(), atol=1e-5, rtol=0)


@SEEDS
@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_em_steps_agree_with_hmmlearn(seed, smoothing):
    """The same tables after one step and after five; the smoothing is the prior's concentration minus 1."""
    x, rows = padded(seed)
    prior = 1 + smoothing
    for steps in (1, 5):
        model = chain(seed)
        theirs = theirs_with(model, n_iter=steps, tol=-math.inf, startprob_prior=prior, transmat_prior=prior,
                             emissionprob_prior=prior, implementation="log").fit(*for_them(rows))  # fmt: skip
        for _ in range(steps):
            model.maximise(model.expect(x)[1], smoothing=smoothing)
        for ours, other in zip(model.buffers(), (theirs.startprob_, theirs.transmat_, theirs.emissionprob_), strict=True):
            np.testing.assert_allclose(ours.numpy(), other, atol=1e-9)


@SEEDS
def test_the_likelihood_never_falls(seed):
    x = chain(seed).sample(53, Noise(seed, 1), length=T)
    x[::3, 7:] = -1
    model = HiddenMarkovModel(S, V)
    history = model.fit(x, Noise(seed, 2), steps=40, tolerance=-math.inf, smoothing=0.0)
    assert len(history) == 40
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(history))
    assert history[-1] > history[0] + 0.01
    assert model.log_prob(x).mean().item() >= history[-1]
    for table in model.buffers():
        torch.testing.assert_close(table.sum(dim=-1), torch.ones_like(table.sum(dim=-1)))


@pytest.mark.parametrize("seed", range(4))
def test_a_planted_chain_is_recovered(seed):
    truth = HiddenMarkovModel(3, 5)
    truth.maximise((
        torch.tensor([0.6, 0.3, 0.1]),
        torch.tensor([[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.25, 0.05, 0.7]]),
        torch.tensor([[0.7, 0.2, 0.1, 0, 0], [0, 0.1, 0.8, 0.1, 0], [0.1, 0, 0, 0.2, 0.7]]),
    ))  # fmt: skip
    x = truth.sample(503, Noise(seed), length=31)
    model = HiddenMarkovModel(3, 5)
    history = model.fit(x, Noise(seed, 1), starts=2, steps=200, tolerance=1e-4)
    assert history[-1] >= truth.log_prob(x).mean().item() - 0.01  # at least as likely as the truth
    twin = torch.cdist(truth.emissions, model.emissions).argmin(dim=1)
    assert sorted(twin.tolist()) == [0, 1, 2]
    assert (model.emissions[twin] - truth.emissions).abs().max() < 0.03
    assert (model.transitions[twin][:, twin] - truth.transitions).abs().max() < 0.04
    assert (model.start[twin] - truth.start).abs().max() < 0.1
    fresh = truth.sample(211, Noise(seed, 2), length=31)
    assert model.log_prob(fresh).mean().item() == pytest.approx(truth.log_prob(fresh).mean().item(), abs=0.1)


@SEEDS
def test_the_best_of_several_starts_is_kept(seed):
    x = chain(seed).sample(31, Noise(seed, 1), length=T)
    noise, alone = Noise(seed, 2), []
    for _ in range(4):
        model = HiddenMarkovModel(S, V)
        alone.append((model.fit(x, noise, steps=15), model.log_prob(x).sum().item()))  # the stream goes on
    model = HiddenMarkovModel(S, V)
    history = model.fit(x, Noise(seed, 2), starts=4, steps=15)
    assert history == max((run[0] for run in alone), key=lambda run: run[-1])
    assert model.log_prob(x).sum().item() == {run[0][-1]: run[1] for run in alone}[history[-1]]
    assert len({run[0][-1] for run in alone}) == 4


@pytest.fixture
def asked(monkeypatch):
    """What `fit` hands to `maximise` as random beginnings, and to `climb`, which does nothing here."""
    seen = []
    monkeypatch.setattr(HiddenMarkovModel, "maximise", lambda self, *counts, **options: seen.append((*counts, options)))
    monkeypatch.setattr("genai_lib.models.hmm.climb", lambda expect, maximise, **options: seen.append(options) or [0.0])
    return seen


def test_a_start_is_random_everywhere(asked):
    """Rows that begin alike stay alike: two states that nothing tells apart are one."""
    HiddenMarkovModel(S, V).fit(sequences(0), Noise(0), starts=2)
    (first, smoothing), _, (second, _), _ = asked
    assert [tuple(table.shape) for table in first] == [(S,), (S, S), (S, V)]
    assert smoothing == {"smoothing": 0.1}
    assert not torch.equal(first[1], second[1])


def test_how_long_it_fits_by_default(asked):
    HiddenMarkovModel(S, V).fit(sequences(0), Noise(0))
    assert asked[1] == {"steps": 50, "tolerance": 1e-3}


def test_by_default_a_hundredth_of_a_count_is_added():
    x = torch.cat([sequences(0), torch.full((1, T), -1).index_fill(1, torch.tensor([0]), 2)])  # one row has a single symbol
    default, given, other = (HiddenMarkovModel(S, V) for _ in range(3))
    history = default.fit(x, Noise(0), steps=3)
    assert given.fit(x, Noise(0), steps=3, smoothing=0.01) == history
    assert other.fit(x, Noise(0), steps=3, smoothing=0.02) != history


def test_smoothing_leaves_nothing_impossible():
    x, model = torch.zeros(7, T, dtype=torch.int64), HiddenMarkovModel(S, V)
    model.fit(x, Noise(0), smoothing=0.01)
    assert model.log_prob(torch.full((1, T), 4)).isfinite().all()
    assert all((table > 0).all() for table in model.buffers())


def test_a_sequence_that_is_hardly_possible_keeps_its_digits_beside_a_likely_one():
    """They lie some 5,000 nats apart: one scale for both would lose the smaller altogether."""
    model = chain(0)
    model.emissions[:, 0] = 1e-60
    model.emissions /= model.emissions.sum(dim=1, keepdim=True)
    x = torch.tensor([[0], [1]]).repeat(1, 40)
    together, counts = model.expect(x)
    each = [model.expect(row[None]) for row in x]
    assert together[0] < together[1] - 5_000
    torch.testing.assert_close(together, torch.cat([log_prob for log_prob, _ in each]))
    torch.testing.assert_close(model.log_prob(x), together)
    for number, count in enumerate(counts):
        torch.testing.assert_close(count, sum(alone[number] for _, alone in each))


@pytest.mark.parametrize("x, got", [
    ([[0, 5]], "(1, 2) torch.int64 from 0 to 5"),
    ([[0, -2]], "(1, 2) torch.int64 from -2 to 0"),
    ([[0, -1, 3]], "(1, 3) torch.int64 from -1 to 3"),
    ([[1, -1, 0]], "(1, 3) torch.int64 from -1 to 1"),
    ([[-1, -1], [0, 1]], "(2, 2) torch.int64 from -1 to 1"),
    ([[0.0, 1.0]], "(1, 2) torch.float32 from 0.0 to 1.0"),
    ([0, 1], "(2,) torch.int64 from 0 to 1"),
])  # fmt: skip
def test_other_symbols_are_refused(x, got):
    with pytest.raises(ValueError) as error:
        HiddenMarkovModel(S, V).fit(torch.tensor(x), Noise(0))
    assert str(error.value) == f"x must be (B, T) int64 from 0 to 4, with −1 only as padding at the end of a row; got {got}"
