from __future__ import annotations

import copy
import functools
import itertools
import math
import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Theirs
from torch.distributions import Bernoulli, Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from genai_lib import Noise, progress
from genai_lib.models.mixture import BernoulliMixture, GaussianMixture, PictureMixture, climb, pick

K, D = 3, 5
DIAGONAL = pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])


def mixture(seed):
    """Three random Gaussians in five dimensions, float64."""
    noise, model = Noise(seed), GaussianMixture(K, D).double()
    model.weights.copy_(noise.uniform(K).add(0.1) / noise.uniform(K).add(0.1).sum())
    model.weights.div_(model.weights.sum())
    model.means.copy_(2 * noise.normal(K, D))
    spread = noise.normal(K, D, D).double()
    model.factors.copy_(torch.linalg.cholesky(spread @ spread.mT + 0.1 * torch.eye(D)))
    return model


def planted(seed, n=1_009):
    """Points from three well-separated round clusters of unequal size, and the clusters' centres and shares."""
    centres = torch.tensor([[6.0, 0, 0, 0, 0], [0, 6, 0, 0, 0], [0, 0, -6, 0, 0]]).double()
    shares = torch.tensor([0.5, 0.3, 0.2]).double()
    noise = Noise(seed, 77)
    k = torch.searchsorted(shares.cumsum(0), noise.uniform(n).double()).clamp(max=2)
    return centres[k] + noise.normal(n, D), centres, shares


def theirs_with(model):
    """scikit-learn's mixture with our parameters."""
    other = Theirs(len(model.weights))
    covariances = (model.factors @ model.factors.mT).numpy()
    other.weights_, other.means_, other.covariances_ = model.weights.numpy(), model.means.numpy(), covariances
    other.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(covariances))
    return other


# ---------------------------------------------------------------- the density


@pytest.mark.parametrize("seed", range(20))
def test_log_densities_agree_with_scikit_learn_and_torch(seed):
    model, x = mixture(seed), 2 * Noise(seed, 1).normal(101, D).double()
    np.testing.assert_allclose(model.log_prob(x).numpy(), theirs_with(model).score_samples(x.numpy()), rtol=1e-9)
    parts = MultivariateNormal(model.means, scale_tril=model.factors)
    torch.testing.assert_close(model.log_prob(x), MixtureSameFamily(Categorical(model.weights), parts).log_prob(x))
    shares = model.log_joint(x).softmax(dim=1).numpy()
    np.testing.assert_allclose(shares, theirs_with(model).predict_proba(x.numpy()), atol=1e-9)


def test_a_fresh_model_is_the_standard_normal():
    x = Noise(0).normal(7, D)
    expected = -0.5 * x.square().sum(dim=1) - 0.5 * D * math.log(2 * math.pi)
    torch.testing.assert_close(GaussianMixture(K, D).log_prob(x), expected)


@pytest.mark.parametrize("seed", range(20))
def test_samples_have_the_mixtures_moments(seed):
    model, n = mixture(seed).float(), 10_007
    x = model.sample(n, Noise(seed, 2))
    assert x.shape == (n, D)
    mean = model.weights @ model.means
    second = (model.weights[:, None, None] * (model.factors @ model.factors.mT)).sum(0)
    offset = model.means - mean
    second = second + (model.weights[:, None] * offset).T @ offset
    error = 6 * (second.diagonal() / n).sqrt()  # six standard errors
    assert ((x.mean(dim=0) - mean).abs() < error).all()
    products = (x - mean)[:, :, None] * (x - mean)[:, None, :]
    assert ((products.mean(dim=0) - second).abs() < 6 * products.std(dim=0) / math.sqrt(n)).all()
    log_prob = model.log_prob(x)  # samples fit their density: E log p is the same for another draw
    other = model.log_prob(model.sample(n, Noise(seed, 3)))
    assert abs(log_prob.mean() - other.mean()) < 6 * math.sqrt(2 / n) * log_prob.std()


def test_components_are_picked_as_often_as_their_weights_say():
    model = GaussianMixture(3, 1)
    model.weights.copy_(torch.tensor([0.0, 0.25, 0.75]))
    model.means.copy_(torch.tensor([[-100.0], [0.0], [100.0]]))
    x = model.sample(10_007, Noise(0))
    assert not (x < -50).any()  # weight 0: never
    assert abs((x > 50).double().mean() - 0.75) < 6 * math.sqrt(0.75 * 0.25 / 10_007)


def test_sampling_repeats_with_its_key():
    model = mixture(0).float()
    assert torch.equal(model.sample(7, Noise(1)), model.sample(7, Noise(1)))
    assert not torch.equal(model.sample(7, Noise(1)), model.sample(7, Noise(2)))


@pytest.mark.parametrize("seed", range(20))
def test_a_diagonal_mixture_is_a_full_one_without_covariances(seed):
    """Values, gradients and samples, against torch, scikit-learn and our own full mixture with the same numbers."""
    full = mixture(seed)
    spread = full.factors.diagonal(dim1=1, dim2=2).clone()  # (K, D)
    full.factors.copy_(torch.diag_embed(spread))
    model = GaussianMixture(K, D, diagonal=True).double()
    model.load_state_dict(full.state_dict() | {"factors": spread})
    x = (2 * Noise(seed, 1).normal(101, D).double()).requires_grad_()
    parts = Independent(Normal(model.means, spread), 1)
    oracle = MixtureSameFamily(Categorical(model.weights), parts)
    torch.testing.assert_close(model.log_prob(x), oracle.log_prob(x))
    gradients = [torch.autograd.grad(density.log_prob(x).sum(), x)[0] for density in (model, oracle, full)]
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[0], gradients[2])
    theirs = Theirs(K, covariance_type="diag")
    theirs.weights_, theirs.means_, theirs.precisions_cholesky_ = (v.numpy() for v in (model.weights, model.means, 1 / spread))
    np.testing.assert_allclose(model.log_prob(x).detach().numpy(), theirs.score_samples(x.detach().numpy()), rtol=1e-9)
    torch.testing.assert_close(model.float().sample(101, Noise(seed, 2)), full.float().sample(101, Noise(seed, 2)))


@DIAGONAL
def test_a_density_needs_no_numbers_to_know_its_shape_and_keeps_the_order_of_the_batch(diagonal):
    model = GaussianMixture(K, D, diagonal=diagonal)
    x, order = Noise(0).normal(7, D), Noise(1).permutation(7)
    torch.testing.assert_close(model.log_prob(x[order]), model.log_prob(x)[order])
    assert model.to("meta").log_prob(x.to("meta")).shape == (7,)


@DIAGONAL
@given(n=st.sampled_from([7, 31, 101]), seed=st.integers(0, 100), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_a_mixture_computes_in_the_precision_it_is_given(diagonal, n, seed, dtype):
    """Fitting, density and samples: float32 stays float32, close to what float64 finds, and float64 loses nothing."""
    x, fine = Noise(seed).normal(n, D).to(dtype), GaussianMixture(K, D, diagonal=diagonal).double()
    model = GaussianMixture(K, D, diagonal=diagonal).to(dtype)
    history = model.fit(x, Noise(seed, 1), steps=2)
    assert {type(value) for value in history} == {float}
    found, drawn = model.log_prob(x), model.sample(n, Noise(seed, 2))
    assert {values.dtype for values in (*model.buffers(), found, drawn)} == {dtype}
    fine.load_state_dict(model.state_dict())
    atol = 1e-3 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found.double(), fine.log_prob(x.double()), atol=atol, rtol=0)
    torch.testing.assert_close(drawn.double(), fine.sample(n, Noise(seed, 2)), atol=atol, rtol=0)


@pytest.mark.parametrize("rows", [False, True])
def test_picks_are_as_frequent_as_they_are_probable(rows):
    p = torch.tensor([0.0, 0.3, 0.0, 0.6, 0.1])
    u = Noise(0).uniform(10_007)
    picks = pick(p.expand(10_007, 5) if rows else p, u)
    shares = picks.bincount(minlength=5) / 10_007
    assert ((shares - p).abs() <= 6 * (p * (1 - p) / 10_007).sqrt()).all()  # never one of probability 0
    edges = torch.tensor([0.0, 0.25, 0.75, 1 - 2**-24])
    assert pick(torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25]), edges).tolist() == [1, 3, 4, 4]


# ---------------------------------------------------------------- expectation-maximisation


def test_climbing_alternates_the_two_steps_and_stops():
    """One parameter, t; the "log-likelihood" is −t², and each M step halves t."""
    t, trace = [torch.tensor(8.0)], []

    def expect():
        trace.append("E")
        return -t[-1].square().expand(3), t[-1] / 2

    def maximise(value):
        trace.append("M")
        t.append(value)

    assert climb(expect, maximise, steps=50, tolerance=1.0) == [-64.0, -16.0, -4.0, -1.0, -0.25]  # the last gains 0.75
    assert trace == ["E", "M"] * 4 + ["E"]
    assert len(climb(expect, maximise, steps=2, tolerance=-math.inf)) == 2


def test_a_long_climb_shows_the_likelihood_so_far(capsys, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(progress, "tqdm", functools.partial(progress.tqdm, mininterval=0))  # every update is drawn
    rises = iter([-64.0, -16.0, -4.125, -4.0])
    real, asked = progress.bar, []
    monkeypatch.setattr(progress, "bar", lambda *what, delay: asked.append((*what, delay)) or real(*what))
    climb(lambda: (torch.full((3,), next(rises)), None), lambda _: None, steps=9, tolerance=1.0)
    assert asked == [(9, "round", 1.0)]  # what takes a second is long
    said = capsys.readouterr().err
    rounds = re.findall(r"(\d+/\d+) [^\r]*log-likelihood=(\S+)\]", said)
    assert rounds[:3] == [("1/9", "-64"), ("2/9", "-16"), ("3/9", "-4.125")]
    assert re.search(r"4/4 .*log-likelihood=-4\] *\n$", said)  # it ended before the ninth round, and the bar is full


def test_a_climb_may_end_at_its_second_round():
    rises = iter([-4.0, -3.5, -3.4])
    assert climb(lambda: (torch.full((3,), next(rises)), None), lambda _: None, steps=3, tolerance=1.0) == [-4.0, -3.5]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("steps", [1, 13])
@DIAGONAL
def test_em_takes_the_same_steps_as_scikit_learn(seed, steps, diagonal):
    """From the same start, the same parameters after the same number of steps."""
    x, ridge = planted(seed)[0], 1e-4
    ours = GaussianMixture(K, D, diagonal=diagonal).double()
    history = ours.fit(x, Noise(seed), steps=steps, tolerance=-math.inf, ridge=ridge)
    floor = ridge * x.var(dim=0).mean().item()
    start = np.cov(x.numpy().T) + floor * np.eye(D)
    start = 1 / start.diagonal() if diagonal else np.linalg.inv(start)
    theirs = Theirs(
        K, tol=0.0, reg_covar=floor, max_iter=steps, covariance_type="diag" if diagonal else "full",
        weights_init=np.full(K, 1 / K),
        means_init=x[Noise(seed).permutation(len(x))[:K]].numpy(), precisions_init=np.stack([start] * K),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is told to stop early
        theirs.fit(x.numpy())
    assert len(history) == steps
    np.testing.assert_allclose(ours.weights.numpy(), theirs.weights_, rtol=1e-5)
    np.testing.assert_allclose(ours.means.numpy(), theirs.means_, atol=1e-5)
    covariances = ours.factors.square() if diagonal else ours.factors @ ours.factors.mT
    np.testing.assert_allclose(covariances.numpy(), theirs.covariances_, atol=1e-5)
    assert ours.log_prob(x).mean().item() == pytest.approx(theirs.score(x.numpy()), abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
@DIAGONAL
def test_the_likelihood_never_falls(seed, diagonal):
    x = planted(seed)[0] + Noise(seed).normal(1_009, D)
    history = GaussianMixture(4, D, diagonal=diagonal).double().fit(x, Noise(seed), steps=40, tolerance=-math.inf, ridge=0.0)
    assert len(history) == 40
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(history))
    assert history[-1] > history[0] + 0.1


@pytest.mark.parametrize("seed", range(20))
def test_after_each_step_the_mixture_has_the_datas_mean_and_covariance(seed):
    """A property of every M step: Σ π_k μ_k and Σ π_k (Σ_k + μ_k μ_kᵀ) are the data's own."""
    x = planted(seed)[0]
    for steps in (1, 2, 7):
        model = GaussianMixture(4, D).double()
        model.fit(x, Noise(seed), steps=steps, tolerance=-math.inf, ridge=0.0)
        mean = model.weights @ model.means
        offset = model.means - mean
        covariance = (model.weights[:, None, None] * (model.factors @ model.factors.mT)).sum(0)
        covariance = covariance + (model.weights[:, None] * offset).T @ offset
        torch.testing.assert_close(mean, x.mean(dim=0), atol=1e-6, rtol=0)
        torch.testing.assert_close(covariance, torch.cov(x.T, correction=0), atol=1e-5, rtol=1e-6)


@DIAGONAL
def test_a_round_needs_no_numbers_to_know_its_shapes(diagonal, monkeypatch):
    """The first parameters, an E step and an M step on the meta device; `climb` asks for the gain, which is a number."""
    rounds = []

    def once(expect, maximise, **limits):
        log_prob, share = expect()
        maximise(share)
        rounds.append((log_prob, share))
        return []

    monkeypatch.setattr("genai_lib.models.mixture.climb", once)
    monkeypatch.setattr(torch, "cov", lambda x: x @ x.T)  # torch.cov looks at its weights first: no shapes without numbers
    model, x = GaussianMixture(K, D, diagonal=diagonal).to("meta"), planted(0)[0].float().to("meta")
    assert model.fit(x, Noise(0, device="meta")) == []
    ((log_prob, share),) = rounds
    drawn = model.sample(7, Noise(0, device="meta"))
    assert (log_prob.shape, share.shape, drawn.shape) == ((1_009,), (1_009, K), (7, D))
    assert {v.device.type for v in (log_prob, share, drawn, *model.buffers())} == {"meta"}


@pytest.mark.parametrize("seed", range(20))
def test_planted_components_are_recovered(seed):
    x, centres, shares = planted(seed)
    models = [GaussianMixture(K, D).double() for _ in range(6)]
    reached = [model.fit(x, Noise(seed, start), steps=200, tolerance=1e-7)[-1] for start, model in enumerate(models, 1)]
    best = models[reached.index(max(reached))]  # EM climbs the nearest hill: take the best of six starts
    nearest = torch.cdist(centres, best.means).argmin(dim=1)
    assert sorted(nearest.tolist()) == [0, 1, 2]
    error = 6 * (D / (shares * len(x))).sqrt()
    assert ((best.means[nearest] - centres).norm(dim=1) < error).all()
    assert ((best.weights[nearest] - shares).abs() < 6 * (shares * (1 - shares) / len(x)).sqrt()).all()
    covariances = (best.factors @ best.factors.mT)[nearest]
    assert ((covariances - torch.eye(D)).abs() < 6 * (2 / (shares.min() * len(x))).sqrt()).all()


@pytest.mark.parametrize(
    "model", [GaussianMixture(K, D), GaussianMixture(K, D, diagonal=True), BernoulliMixture(K, shape=(D,))],
    ids=["full", "diagonal", "stencils"],
)  # fmt: skip
def test_a_second_fit_forgets_the_first(model):
    twin, x, other = copy.deepcopy(model), planted(0)[0].float(), planted(1)[0].float()[:211]
    if isinstance(model, BernoulliMixture):
        x, other = (x > 1).float(), (other > 1).float()
    first = twin.fit(x, Noise(0), steps=3)
    model.fit(other, Noise(1), steps=5)
    assert model.fit(x, Noise(0), steps=3) == first
    for ours, fresh in zip(model.buffers(), twin.buffers(), strict=True):
        assert torch.equal(ours, fresh)


def test_it_stops_when_it_gains_too_little():
    x = planted(0)[0]
    history = GaussianMixture(K, D).double().fit(x, Noise(0), steps=500, tolerance=1e-3)
    gains = [after - before for before, after in itertools.pairwise(history)]
    assert len(history) < 500
    assert gains[-1] < 1e-3
    assert all(gain >= 1e-3 for gain in gains[:-1])


def test_one_component_is_the_sample_mean_and_covariance():
    x, model = planted(0)[0], GaussianMixture(1, D).double()
    model.fit(x, Noise(0), steps=3, ridge=0.0)
    torch.testing.assert_close(model.means[0], x.mean(dim=0), atol=1e-6, rtol=0)
    torch.testing.assert_close(model.factors[0] @ model.factors[0].T, torch.cov(x.T, correction=0), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("seed", range(20))
@DIAGONAL
def test_repeated_points_do_not_shrink_a_component_to_nothing(seed, diagonal):
    x = torch.cat([Noise(seed).normal(53, D), torch.ones(11, D)])  # eleven equal points invite a spike
    model = GaussianMixture(5, D, diagonal=diagonal)
    history = model.fit(x, Noise(seed, 1))
    assert all(math.isfinite(value) for value in history)
    for values in (model.weights, model.means, model.factors, model.log_prob(x)):
        assert values.isfinite().all()
    assert model.weights.sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("shape", [(2, D), (7, D + 1), (7,), (7, D, 1)])
def test_examples_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError) as error:
        GaussianMixture(K, D).fit(torch.zeros(shape), Noise(0))
    assert str(error.value) == f"x must have shape (N ≥ 3, 5), got {shape}"


# ---------------------------------------------------------------- black-and-white pixels


def stencils(seed, components=3, shape=(1, 2, 4)):
    """Random stencils for eight pixels, float64."""
    noise, model = Noise(seed), BernoulliMixture(components, shape=shape).double()
    model.weights.copy_((noise.uniform(components) + 0.1).double())
    model.weights.div_(model.weights.sum())
    model.means.copy_(0.02 + 0.96 * noise.uniform(*model.means.shape))
    return model


def every_picture(pixels, *shape):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=pixels)), dtype=torch.float64).view(-1, *shape)


@pytest.mark.parametrize("seed", range(20))
def test_the_probabilities_of_all_pictures_sum_to_one_and_agree_with_torch(seed):
    model, x = stencils(seed), every_picture(8, 1, 2, 4)
    log_prob = model.log_prob(x)
    assert log_prob.shape == (256,)
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-12)
    oracle = MixtureSameFamily(Categorical(model.weights), Independent(Bernoulli(model.means), 1))
    torch.testing.assert_close(log_prob, oracle.log_prob(x.flatten(1)))
    picture = torch.tensor([[[[0, 1, 1, 0], [1, 0, 0, 1]]]]).double()
    by_hand = sum(w * math.prod(m if v else 1 - m for m, v in zip(means, picture.flatten(), strict=True))
                  for w, means in zip(model.weights.tolist(), model.means.tolist(), strict=True))  # fmt: skip
    assert model.log_prob(picture).exp().item() == pytest.approx(by_hand)


@pytest.mark.parametrize("seed", range(20))
def test_drawn_pictures_are_as_frequent_as_they_are_probable(seed):
    model, n = stencils(seed, shape=(3,)), 20_011
    x = model.sample(n, Noise(seed, 1)).double()
    assert ((x == 0) | (x == 1)).all()
    shares = (x @ torch.tensor([4.0, 2.0, 1.0]).double()).long().bincount(minlength=8) / n
    p = model.log_prob(every_picture(3, 3)).exp()
    assert ((shares - p).abs() < 6 * (p * (1 - p) / n).sqrt()).all()
    assert torch.equal(x, model.sample(n, Noise(seed, 1)))


def log_prior(model, smoothing):
    """The Beta and Dirichlet densities whose mode the M step finds, but for a constant."""
    return smoothing * (model.means.log() + (1 - model.means).log()).sum() + smoothing * model.weights.log().sum()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 3.0])
def test_likelihood_and_prior_of_stencils_never_fall_together(seed, smoothing):
    x, reached = stencils(seed).sample(211, Noise(seed, 1)), []
    for steps in range(1, 12):
        model = BernoulliMixture(4, shape=(1, 2, 4)).double()
        history = model.fit(x, Noise(seed, 2), steps=steps, tolerance=-math.inf, smoothing=smoothing)
        assert len(history) == steps
        reached.append((model.log_prob(x).sum() + log_prior(model, smoothing)).item())
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(reached))
    assert reached[-1] > reached[0] + 0.1
    if smoothing == 0:
        assert all(after >= before - 1e-12 for before, after in itertools.pairwise(history))


@pytest.mark.parametrize("seed", range(20))
def test_one_em_step_of_stencils_by_its_definition(seed):
    x, noise_of = stencils(seed).sample(53, Noise(seed, 1)).double(), lambda: Noise(seed, 2)
    first, second = (BernoulliMixture(3, shape=(1, 2, 4)).double() for _ in range(2))
    first.fit(x, noise_of(), steps=1, smoothing=0.5)
    second.fit(x, noise_of(), steps=2, tolerance=-math.inf, smoothing=0.5)
    flat = x.flatten(1)
    parts = torch.stack([Bernoulli(m).log_prob(flat).sum(dim=1) for m in first.means], dim=1)  # (N, K)
    share = first.weights * parts.exp()
    share = share / share.sum(dim=1, keepdim=True)
    for k in range(3):
        lit = sum(share[i, k] * flat[i] for i in range(53))
        torch.testing.assert_close(second.means[k], (lit + 0.5) / (share[:, k].sum() + 1.0))
        torch.testing.assert_close(second.weights[k], (share[:, k].sum() + 0.5) / (53 + 1.5))


@pytest.mark.parametrize("seed", range(20))
def test_planted_stencils_are_recovered(seed):
    truth = BernoulliMixture(3, shape=(31,)).double()
    truth.weights.copy_(torch.tensor([0.5, 0.3, 0.2]))
    truth.means.copy_(0.1 + 0.8 * Noise(seed).integers(2, 3, 31))  # 10 % or 90 %
    x = truth.sample(2_003, Noise(seed, 1))
    models = [BernoulliMixture(3, shape=(31,)).double() for _ in range(6)]
    reached = [model.fit(x, Noise(seed, 2, i), steps=100, tolerance=1e-6)[-1] for i, model in enumerate(models)]
    best = models[reached.index(max(reached))]
    twin = torch.cdist(truth.means, best.means).argmin(dim=1)
    assert sorted(twin.tolist()) == [0, 1, 2]
    seen = truth.weights[:, None] * 2_003
    assert ((best.means[twin] - truth.means).abs() < 6 * (0.09 / seen).sqrt()).all()
    assert ((best.weights[twin] - truth.weights).abs() < 6 * (truth.weights * (1 - truth.weights) / 2_003).sqrt()).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_pixels_that_never_change_leave_nothing_impossible(smoothing):
    x = torch.zeros(53, 1, 3, 5)
    x[:, 0, 0] = 1.0
    model = BernoulliMixture(7, shape=(1, 3, 5))
    history = model.fit(x, Noise(0), steps=30, smoothing=smoothing)
    assert all(math.isfinite(value) for value in history)
    assert ((model.means > 0) & (model.means < 1)).all()
    assert model.weights.sum().item() == pytest.approx(1, abs=1e-5)
    flipped = model.log_prob(1 - x[:1])
    assert flipped.isfinite().all()
    assert flipped < model.log_prob(x[:1])


@given(n=st.integers(1, 13), seed=st.integers(0, 100),
       dtype=st.sampled_from([torch.bool, torch.uint8, torch.bfloat16, torch.float32, torch.float64]))  # fmt: skip
def test_stencils_judge_in_float64_whatever_the_pixels_come_in(n, seed, dtype):
    model, x = stencils(seed), Noise(seed, 1).integers(2, n, 1, 2, 4).to(dtype)
    found = model.log_prob(x)
    assert (found.shape, found.dtype) == ((n,), torch.float64)
    assert torch.equal(found, model.log_prob(x.double()))


def test_stencils_need_no_numbers_to_know_their_shapes_and_keep_the_order_of_the_batch():
    model, x, order = stencils(0), every_picture(8, 1, 2, 4), Noise(1).permutation(256)
    torch.testing.assert_close(model.log_prob(x[order]), model.log_prob(x)[order])
    model = model.to("meta")
    assert model.log_prob(x.to("meta")).shape == (256,)
    assert model.sample(7, Noise(0, device="meta")).shape == (7, 1, 2, 4)


@pytest.mark.parametrize("value, shape", [(0.5, (7, 1, 2, 4)), (0.0, (2, 1, 2, 4)), (0.0, (7, 8))], ids=["grey", "few", "flat"])
def test_pictures_that_do_not_fit_a_stencil_are_refused(value, shape):
    x = torch.full(shape, value)
    with pytest.raises(ValueError) as error:
        BernoulliMixture(3, shape=(1, 2, 4)).fit(x, Noise(0))
    assert str(error.value) == f"x must be (N ≥ 3, (1, 2, 4)) pixels of 0 or 1 (try `binarise`), got {tuple(x.shape)}"


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("seed", range(5))
def test_a_picture_mixture_learns_and_draws_pictures(seed):
    noise = Noise(seed)
    centres = 0.3 + 0.4 * noise.uniform(2, 1, 28, 28)
    x = centres[noise.integers(2, 211)] + 0.02 * noise.normal(211, 1, 28, 28)
    model = PictureMixture(components=2, dimensions=5)
    history = model.fit(x, Noise(seed, 1), steps=20)
    assert history[-1] > history[0]
    drawn = model.sample(101, Noise(seed, 2))
    assert (drawn.shape, drawn.dtype, drawn.requires_grad) == ((101, 1, 28, 28), torch.float32, False)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert torch.equal(drawn, model.sample(101, Noise(seed, 2)))
    # Every picture lies near the line through the two planted ones, and their average is the data's.
    line = (centres[1] - centres[0]).flatten()
    place = (drawn - centres[0]).flatten(1) @ line / line.square().sum()  # 0 at one, 1 at the other
    aside = (drawn - centres[0]).flatten(1) - place[:, None] * line
    assert aside.norm(dim=1).max() < 0.25 * line.norm()
    planted = (x - centres[0]).flatten(1) @ line / line.square().sum()
    assert abs(place.mean() - planted.mean()) < 6 * place.std() / math.sqrt(101)


def test_pixels_are_clipped_to_their_range():
    model = PictureMixture(components=1, dimensions=2)
    model.mixture.means.fill_(100.0)  # far beyond white, along the first two directions
    drawn = model.sample(7, Noise(0))
    assert (drawn.flatten(1)[:, :2] == 1).all()
    assert drawn.max() == 1


def test_a_picture_mixture_travels_as_a_state():
    x = Noise(0).uniform(53, 1, 28, 28)
    model, twin = PictureMixture(components=2, dimensions=3), PictureMixture(components=2, dimensions=3)
    model.fit(x, Noise(1), steps=3)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(model.sample(7, Noise(2)), twin.sample(7, Noise(2)))


def test_a_picture_mixture_has_a_hundred_gaussians_on_fifty_components_unless_told():
    model = PictureMixture()
    assert model.mixture.means.shape == (100, 50)
    assert model.pca.directions.shape == (50, 784)


def test_a_picture_mixture_climbs_as_many_steps_as_it_is_told_and_fifty_unasked(monkeypatch):
    asked = []
    monkeypatch.setattr(GaussianMixture, "fit", lambda self, z, noise, *, steps: asked.append(steps) or [])
    model, x = PictureMixture(components=2, dimensions=3), Noise(0).uniform(53, 1, 28, 28)
    model.fit(x, Noise(1), steps=3)
    model.fit(x, Noise(1))
    assert asked == [3, 50]


@pytest.mark.parametrize("diagonal", [True, False])
def test_samples_have_the_mixtures_precision(diagonal):
    model = GaussianMixture(3, 2, diagonal=diagonal)
    single, double = model.sample(5, Noise(0)), model.double().sample(5, Noise(0))
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(double.float(), single)


def test_a_fresh_mixture_of_stencils_knows_nothing():
    model = BernoulliMixture(5, shape=(3, 2))
    assert model.weights.sum() == 1
    assert model.weights.dtype == model.means.dtype == torch.float64
    assert (model.means == 0.5).all()
    torch.testing.assert_close(model.log_prob(torch.ones(1, 3, 2)), torch.tensor([-6 * math.log(2)], dtype=torch.float64))


def test_a_choice_is_never_beyond_the_last():
    assert pick(torch.tensor([0.25, 0.25, 0.4999]), torch.tensor([0.0, 0.25, 0.5, 0.9999, 1.0])).tolist() == [0, 1, 2, 2, 2]


def test_as_many_examples_as_components_are_enough():
    GaussianMixture(3, 2).fit(Noise(0).normal(3, 2), Noise(1), steps=2)
    BernoulliMixture(3, shape=(4,)).fit((Noise(0).uniform(3, 4) > 0.5).float(), Noise(1), steps=2)


def test_what_fitting_does_unless_told():
    x, bits = Noise(0).normal(80, 2), (Noise(0).uniform(80, 9) > 0.4).float()
    points = [GaussianMixture(2, 2).fit(x, Noise(1), **options)
              for options in ({}, {"steps": 50, "tolerance": 1e-3, "ridge": 1e-4})]  # fmt: skip
    stencils = [BernoulliMixture(2, shape=(9,)).fit(bits, Noise(1), **options)
                for options in ({}, {"steps": 50, "tolerance": 1e-2, "smoothing": 0.1})]  # fmt: skip
    assert points[0] == points[1]
    assert stencils[0] == stencils[1]
    assert len(GaussianMixture(2, 2).fit(x, Noise(1), tolerance=-math.inf)) == 50
    assert len(BernoulliMixture(2, shape=(9,)).fit(bits, Noise(1), tolerance=-math.inf)) == 50
    assert BernoulliMixture(2, shape=(9,)).fit(bits, Noise(1), tolerance=-math.inf, smoothing=0.2)[-1] != stencils[0][-1]
