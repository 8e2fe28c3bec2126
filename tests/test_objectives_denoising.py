from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal, kl_divergence

from genai_lib import Noise
from genai_lib.models.diffusion import Diffusion, Flow, Schedule
from genai_lib.models.unet import UNet
from genai_lib.objectives import denoising_loss, diffusion_bound, discretised_gaussian_nll

SEEDS = pytest.mark.parametrize("seed", range(20))
NAMES = pytest.mark.parametrize("name", ["linear", "cosine"])


class Network(nn.Module):
    """Any function in a network's place; it remembers what it was asked."""

    def __init__(self, function):
        super().__init__()
        self.function, self.asked = function, []

    def forward(self, x, t, y=None):
        self.asked.append((x, t, y))
        return self.function(x, t, y)


def nothing(x, t, y):
    return torch.zeros_like(x)


def grey(seed, *shape):
    """Pixels k / 255."""
    return Noise(seed).integers(256, *shape) / 255


# ---------------------------------------------------------------- the losses

MODELS = {"diffusion": lambda network: Diffusion(network, Schedule(T=100)), "flow": Flow,
          "velocity": lambda network: Diffusion(network, Schedule(T=100), predicts="v")}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
@SEEDS
def test_the_loss_by_hand(model, seed):
    built = MODELS[model](Network(lambda x, t, y: (x + t.view(-1, 1, 1, 1)).sin()))
    x, y = grey(seed, 7, 3, 5, 2), torch.arange(7)
    loss = denoising_loss(built, x, Noise(seed, 1), y=y)
    x_t, t, target = built.corrupt(2 * x - 1, Noise(seed, 1))
    by_hand = ((x_t + t.view(-1, 1, 1, 1)).sin() - target).square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(loss, by_hand)
    asked = built.network.asked[0]
    assert torch.equal(asked[0], x_t)
    assert torch.equal(asked[1], t)


@pytest.mark.parametrize("model, expected", [("diffusion", 1.0), ("flow", 1.25), ("velocity", 0.628)])
def test_a_network_that_says_nothing_pays_the_targets_variance(model, expected):
    """E ε² = 1 a pixel; E (ε − x_0)² = 1 + x_0², E v² = ᾱ + (1 − ᾱ) x_0², here with x_0 = ±½ and ᾱ about ½ on average."""
    x = 0.25 + 0.5 * Noise(0).integers(2, 2_003, 1, 5, 7)
    loss = denoising_loss(MODELS[model](Network(nothing)), x, Noise(1))
    assert loss.shape == (2_003,)
    assert loss.mean().item() == pytest.approx(35 * expected, rel=6 * math.sqrt(2 / (35 * 2_003)))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["class", "vector"])
def test_a_share_of_the_conditions_is_replaced_by_none(model, share, kind):
    n = 5_003
    y = 1 + Noise(0).integers(10, n) if kind == "class" else 1 + Noise(0).uniform(n, 3)
    kept, built = y.clone(), MODELS[model](Network(nothing))
    denoising_loss(built, torch.zeros(n, 1, 1, 1), Noise(1), y=y, drop=share)
    told = built.network.asked[0][2]
    assert (told.shape, told.dtype) == (y.shape, y.dtype)
    none = (told.view(n, -1) == (-1 if kind == "class" else 0)).all(dim=1)
    assert abs(none.double().mean().item() - share) <= 6 * math.sqrt(share * (1 - share) / n)
    assert torch.equal(told[~none], y[~none])
    assert torch.equal(y, kept)  # the batch itself is left alone


def test_a_tenth_of_the_conditions_is_dropped_by_default():
    built, y = Flow(Network(nothing)), torch.zeros(10_007, dtype=torch.long)
    denoising_loss(built, torch.zeros(10_007, 1, 1, 1), Noise(1), y=y)
    assert (built.network.asked[0][2] == -1).double().mean().item() == pytest.approx(0.1, abs=0.018)


def test_no_condition_stays_no_condition():
    built = Flow(Network(nothing))
    denoising_loss(built, torch.zeros(3, 1, 1, 1), Noise(1), drop=1.0)
    assert built.network.asked[0][2] is None


@pytest.mark.parametrize("model", ["diffusion", "flow"])
def test_the_exact_answer_costs_what_nobody_can_know(model):
    """x_0 ~ N(0, s²): the smallest loss is the variance of the target given x_t, and a gradient there is 0."""
    s, n = 0.3, 40_009
    q = Schedule(T=100)

    def best(x, t, y, scale=1.0):
        if model == "flow":
            a, b = 1 - t, t
        else:
            a, b = (v.view(-1) for v in q.scales((t * 100).round().long(), t))
        a, b = a.view(-1, 1, 1, 1), b.view(-1, 1, 1, 1)
        covariance = b - a * s**2 if model == "flow" else b  # of target and x_t
        return scale * x * covariance / (a**2 * s**2 + b**2)

    x = 0.5 + 0.5 * s * Noise(0).normal(n, 1, 1, 1)
    scale = torch.ones((), requires_grad=True)
    losses = denoising_loss(MODELS[model](Network(lambda x, t, y: best(x, t, y, scale))), x, Noise(1))
    (slope,) = torch.autograd.grad(losses.mean(), scale)
    assert abs(slope.item()) < 0.03
    for wrong in (0.8, 1.2):
        worse = denoising_loss(MODELS[model](Network(lambda x, t, y, w=wrong: best(x, t, y, w))), x, Noise(1))
        assert worse.mean() > losses.mean() + 0.01


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("condition", [{}, {"classes": 10}, {"features": 5}])
def test_the_loss_runs_on_the_meta_device(model, condition):
    with torch.device("meta"):
        built = MODELS[model](UNet(width=8, **condition))
        y = {"classes": torch.zeros(7, dtype=torch.long), "features": torch.zeros(7, 5)}.get(next(iter(condition), ""))
    loss = denoising_loss(built, torch.empty(7, 1, 28, 28, device="meta"), Noise(0, device="meta"), y=y)
    loss.mean().backward()
    assert (loss.shape, loss.device.type) == ((7,), "meta")
    assert all(p.grad is not None for p in built.parameters())


# ---------------------------------------------------------------- the decoder


@pytest.mark.parametrize("sigma", [0.003, 0.01, 0.1, 1.0, 3.0])
@SEEDS
def test_the_discretised_gaussian_by_hand(seed, sigma):
    """Differences of cumulative probabilities in float64, where they have digits."""
    x0 = 2 * grey(seed, 7, 1, 5, 3).double() - 1
    mean = x0 + 2 * sigma * Noise(seed, 1).normal(7, 1, 5, 3).double()
    normal = Normal(mean, torch.full_like(mean, sigma))
    high = torch.where(x0 > 0.999, 1.0, normal.cdf(x0 + 1 / 255))
    low = torch.where(x0 < -0.999, 0.0, normal.cdf(x0 - 1 / 255))
    by_hand = -(high - low).log().sum(dim=(1, 2, 3))
    for dtype in (torch.float32, torch.float64):
        ours = discretised_gaussian_nll(mean.to(dtype), x0.to(dtype), torch.tensor(sigma).to(dtype))
        torch.testing.assert_close(ours.double(), by_hand, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("mean", [-1.0, -0.3, 0.0, 0.9, 1.0, 1.7])
@pytest.mark.parametrize("sigma", [0.002, 0.01, 0.3, 2.0])
def test_the_probabilities_of_the_256_levels_sum_to_one(mean, sigma):
    levels = 2 * torch.arange(256).double()[:, None] / 255 - 1
    nll = discretised_gaussian_nll(torch.full_like(levels, mean), levels, torch.tensor(sigma).double())
    assert nll.shape == (256,)
    assert (-nll).exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("level", [-1.0, -127 / 255, 1 / 255, 1.0])
@pytest.mark.parametrize("guess", [-1.0, 0.0, 0.4, 1.0])
def test_a_pixel_hundreds_of_sigmas_away_has_a_finite_loss_and_pulls_the_guess_towards_it(level, guess):
    mean = torch.full((1, 1), guess, requires_grad=True)
    nll = discretised_gaussian_nll(mean, torch.full((1, 1), level), torch.tensor(0.0064))
    nll.sum().backward()
    distance = max(abs(level - guess) - 1 / 255, 0) / 0.0064
    assert nll.item() == pytest.approx(0.5 * distance**2, rel=0.02, abs=10)  # the tail of a Gaussian
    assert mean.grad.isfinite().all()
    if distance > 1:
        assert mean.grad.item() * (guess - level) > 0


# ---------------------------------------------------------------- the bound


@NAMES
@pytest.mark.parametrize("T", [2, 3, 11])
def test_the_bounds_terms_agree_with_torch_distributions(name, T):
    """−(L_T + Σ L_{t−1} + L_0), written out with the Gaussians themselves, and the same draws."""
    q, x = Schedule(name, T=T), grey(0, 5, 1, 3, 7)
    model = Diffusion(Network(lambda x, t, y: 0.8 * x + 0.1 * t.view(-1, 1, 1, 1)), q)
    x0, total = 2 * x - 1, torch.zeros(5)
    for step in range(2, T + 1):
        t, noise = torch.full((5,), step), Noise(1, step)
        bound = diffusion_bound(model, x, Noise(1, step), t=t)

        def guess(t, noise=noise):
            x_t = q.q_sample(x0, t, noise.normal(5, 1, 3, 7))
            eps = 0.8 * x_t + 0.1 * (t / T).view(-1, 1, 1, 1)
            return x_t, q.predict_x0(x_t, t, eps).clamp(-1, 1)

        x_t, x0_hat = guess(t)
        truth, ours = ((mean, variance.sqrt()) for mean, variance in (q.posterior(v, x_t, t) for v in (x0, x0_hat)))
        between = kl_divergence(Normal(*truth), Normal(*ours)).sum(dim=(1, 2, 3))
        decoder = discretised_gaussian_nll(guess(torch.ones_like(t))[1], x0, q.beta_t[1].sqrt().float())
        left, sigma = q.alpha_bar[T].sqrt().float(), (1 - q.alpha_bar[T]).sqrt().float()
        prior = kl_divergence(Normal(left * x0, sigma), Normal(0.0, 1.0)).sum(dim=(1, 2, 3))
        torch.testing.assert_close(bound, -(prior + (T - 1) * between + decoder), rtol=1e-4, atol=1e-3)
        total = total + bound / (T - 1)
    assert (total < 0).all()


@NAMES
@pytest.mark.parametrize("seed", range(3))
def test_one_random_step_stands_for_the_whole_sum(name, seed):
    T, n = 7, 40_009
    model = Diffusion(Network(lambda x, t, y: 0.7 * x), Schedule(name, T=T))
    x = grey(seed, 1, 1, 2, 1).expand(n, 1, 2, 1)
    whole = [diffusion_bound(model, x, Noise(seed, t), t=torch.full((n,), t)) for t in range(2, T + 1)]
    one = diffusion_bound(model, x, Noise(seed, 100))
    error = math.sqrt(one.var().item() / n + sum(w.var().item() for w in whole) / n / (T - 1) ** 2)
    assert abs(one.mean().item() - torch.stack(whole).mean().item()) < 6 * error
    assert error < 0.02 * abs(one.mean().item())


@NAMES
@pytest.mark.parametrize("network", [lambda x, t, y: 0.9 * x, lambda x, t, y: x - 0.2 * t.view(-1, 1, 1, 1), nothing])
def test_the_bound_lies_below_the_exact_likelihood_of_a_single_pixel(name, network):
    """With one pixel p(x) is an integral over x_1 … x_T that a grid can do: P(x) = ∫ p(x_T) … p(x_1 | x_2) P(x | x_1)."""
    q = Schedule(name, T=4)
    grid = torch.linspace(-7, 7, 1_401).double()
    width = 14 / 1_400

    def guess(step):
        t = torch.full((len(grid),), step)
        eps = network(grid.view(-1, 1, 1, 1), t / 4, None).view(-1)
        return t, q.predict_x0(grid, t, eps).clamp(-1, 1)

    density = Normal(0.0, 1.0).log_prob(grid).exp()  # of x_4
    for step in (4, 3, 2):
        t, x0 = guess(step)
        mean, variance = q.posterior(x0, grid, t)
        onwards = Normal(mean, variance.sqrt()).log_prob(grid[:, None]).exp()  # p(x_{t−1} | x_t): rows x_{t−1}, columns x_t
        density = width * onwards @ density
    assert width * density.sum().item() == pytest.approx(1, abs=1e-3)
    levels = torch.arange(0, 256, 15)
    pixel = 2 * levels[:, None, None].double() / 255 - 1
    _, x0 = guess(1)
    decoder = discretised_gaussian_nll(x0.repeat(len(levels)).view(-1, 1), pixel.expand(-1, 1_401, 1).reshape(-1, 1),
                                       q.beta_t[1].sqrt())  # fmt: skip
    log_p = (width * ((-decoder).exp().view(len(levels), -1) * density).sum(dim=1)).log()
    n, model = 3_001, Diffusion(Network(network), q)
    for level, exact in zip(levels, log_p, strict=True):
        x = (level / 255).expand(n, 1, 1, 1).double()
        bounds = torch.stack([diffusion_bound(model, x, Noise(1, t), t=torch.full((n,), t)) for t in (2, 3, 4)]).mean(dim=0)
        assert bounds.mean() < exact + 6 * bounds.std() / math.sqrt(n)


@NAMES
def test_for_gaussian_data_and_its_best_network_the_sum_is_known(name):
    """x_0 ~ N(0, s²): L_{t−1} = ½ (SNR(t−1) − SNR(t)) Var(x_0 | x_t) on average (Kingma et al. 2021, §4.1)."""
    s, T, n = 0.15, 50, 20_011
    q = Schedule(name, T=T)

    def best(x, t, y):
        a, b = q.scales((t * T).round().long(), x)
        return x * b / (a**2 * s**2 + b**2)

    model, x = Diffusion(Network(best), q), 0.5 + 0.5 * s * Noise(0).normal(n, 1, 1, 1).double()
    snr = q.alpha_bar / (1 - q.alpha_bar)
    for t in (2, 3, 11, 37):
        both = [diffusion_bound(model, x, Noise(1), t=torch.full((n,), step)) for step in (t, T)]
        known = [0.5 * (snr[k - 1] - snr[k]) * s**2 / (1 + s**2 * snr[k]) for k in (t, T)]
        # prior and decoder are the same in both and fall out of the difference
        difference = (both[1] - both[0]) / (T - 1)
        assert abs(difference.mean() - (known[0] - known[1])) < 6 * difference.std() / math.sqrt(n)
        assert known[0] - known[1] > 50 * difference.std() / math.sqrt(n)  # the test is sharp


def test_a_network_that_points_at_the_picture_pays_for_prior_and_rounding_only():
    q, x = Schedule("linear"), grey(0, 7, 1, 5, 3)

    def knows(x_t, t, y):
        return q.predict_eps(x_t, (t * 1000).round().long(), 2 * x - 1)

    bound = diffusion_bound(Diffusion(Network(knows), q), x, Noise(1))
    centre = discretised_gaussian_nll(2 * x - 1, 2 * x - 1, torch.tensor(0.01))
    assert ((-bound - centre).abs() < 0.05).all()


def test_the_bound_tells_the_network_time_and_condition():
    model, y = Diffusion(Network(nothing), Schedule(T=10)), torch.arange(3)
    diffusion_bound(model, torch.zeros(3, 1, 2, 2), Noise(0), y=y, t=torch.tensor([2, 7, 10]))
    (_, t, first), (_, one, second) = model.network.asked
    assert t.tolist() == pytest.approx([0.2, 0.7, 1.0])
    assert one.tolist() == pytest.approx([0.1, 0.1, 0.1])
    assert first is y
    assert second is y


@NAMES
def test_the_bound_is_the_same_for_a_velocity_network(name):
    q, x = Schedule(name, T=50), grey(0, 7, 1, 5, 3).double()

    def velocity(x, t, y):
        signal, sigma = q.scales((t * 50).round().long(), x)
        return ((2 * x).sin() - sigma * x) / signal

    bounds = [diffusion_bound(model, x, Noise(1)) for model in (Diffusion(Network(lambda x, t, y: (2 * x).sin()), q),
                                                                Diffusion(Network(velocity), q, predicts="v"))]  # fmt: skip
    torch.testing.assert_close(*bounds)


def test_random_steps_leave_out_the_first_and_reach_the_last():
    model = Diffusion(Network(nothing), Schedule(T=5))
    diffusion_bound(model, torch.zeros(4_001, 1, 1, 1), Noise(0))
    steps, counts = (5 * model.network.asked[0][1]).round().long().unique(return_counts=True)
    assert steps.tolist() == [2, 3, 4, 5]
    assert ((counts / 4_001 - 0.25).abs() < 6 * math.sqrt(0.25 * 0.75 / 4_001)).all()


@given(n=st.sampled_from([1, 2, 5]), seed=st.integers(0, 20))
def test_the_bound_can_be_trained_and_is_one_number_an_example(n, seed):
    torch.manual_seed(seed)
    model = Diffusion(UNet(width=8, classes=10), Schedule(T=20))
    bound = diffusion_bound(model, grey(seed, n, 1, 7, 5), Noise(seed), y=Noise(seed, 1).integers(10, n))
    assert bound.shape == (n,)
    (-bound.mean()).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradients)
    assert sum(g.abs().sum() for g in gradients) > 0


def test_the_bound_runs_on_the_meta_device():
    with torch.device("meta"):
        model = Diffusion(UNet(width=8), Schedule())
    bound = diffusion_bound(model, torch.empty(7, 1, 28, 28, device="meta"), Noise(0, device="meta"))
    (-bound.mean()).backward()
    assert (bound.shape, bound.device.type) == ((7,), "meta")
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("model", MODELS)
def test_bf16_losses_stay_close_to_fp32(model):
    torch.manual_seed(0)
    built = MODELS[model](UNet(width=8))
    for p in built.parameters():
        p.data += 0.1 * torch.randn_like(p)
    x = grey(0, 7, 1, 28, 28)
    exact = denoising_loss(built, x, Noise(1))
    with torch.autocast("cpu", torch.bfloat16):
        rough = denoising_loss(built, x, Noise(1))
        bound = rough if model == "flow" else diffusion_bound(built, x, Noise(1))
    assert rough.dtype == bound.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0)
