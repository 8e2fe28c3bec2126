from __future__ import annotations

import itertools
import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from genai_lib import Noise
from genai_lib.models.diffusion import Diffusion, Flow, Schedule, ddim, ddim_step, ddpm, ddpm_step, flow, guided

SEEDS = pytest.mark.parametrize("seed", range(20))
NAMES = pytest.mark.parametrize("name", ["linear", "cosine"])
THEIR_NAME = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


def theirs(kind, name, **changes):
    """Their scheduler. It keeps its tables in float32, where 1 − ᾱ_1 has four digits; the steps are compared in float64."""
    scheduler = kind(1000, beta_schedule=THEIR_NAME[name], **changes)
    scheduler.alphas_cumprod = Schedule(name).alpha_bar[1:]
    return scheduler


def pictures(seed, *shape):
    return Noise(seed).normal(*shape).double()


# ---------------------------------------------------------------- the forward process


@NAMES
def test_the_tables_agree_with_diffusers(name):
    ours, other = Schedule(name), DDPMScheduler(1000, beta_schedule=THEIR_NAME[name])
    torch.testing.assert_close(ours.beta_t[1:].float(), other.betas, rtol=2e-4, atol=1e-7)  # they subtract in float32
    torch.testing.assert_close(ours.alpha_bar[1:].float(), other.alphas_cumprod, rtol=1e-3, atol=1e-7)
    assert (ours.beta_t[0], ours.alpha_bar[0]) == (0, 1)


@NAMES
@given(T=st.integers(2, 1500))
def test_the_share_of_the_picture_sinks_from_one_to_almost_nothing(name, T):
    q = Schedule(name, T=T)
    assert q.beta_t.shape == q.alpha_bar.shape == (T + 1,)
    assert ((q.beta_t[1:] > 0) & (q.beta_t[1:] < 1)).all()
    assert (q.alpha_bar.diff() < 0).all()
    assert 0 < q.alpha_bar[-1] < (2e-3 if T > 2 else 3e-2)
    torch.testing.assert_close(q.alpha_bar[1:] / q.alpha_bar[:-1], 1 - q.beta_t[1:])


def test_the_schedules_by_hand():
    q = Schedule("linear")
    assert q.beta_t[[1, 1000]].tolist() == pytest.approx([1e-4, 0.02])
    assert Schedule("linear", T=100).beta_t[[1, 100]].tolist() == pytest.approx([1e-3, 0.2])
    wave = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1000)]
    assert Schedule("cosine").alpha_bar[:1000].tolist() == pytest.approx([w / wave[0] for w in wave])
    assert Schedule("cosine").beta_t[1000] == 0.999  # the wave ends at 0, which nothing could be divided by


@NAMES
def test_jumping_agrees_with_diffusers(name):
    x0, eps = pictures(0, 7, 3, 5, 2), pictures(1, 7, 3, 5, 2)
    t = torch.tensor([1, 2, 3, 250, 500, 999, 1000])
    other = theirs(DDPMScheduler, name).add_noise(x0, eps, t - 1)  # they count steps from 0
    torch.testing.assert_close(Schedule(name).q_sample(x0, t, eps), other)
    assert torch.equal(Schedule(name).q_sample(x0, torch.zeros(7, dtype=torch.long), eps), x0)


@NAMES
@pytest.mark.parametrize("seed", range(5))
def test_one_jump_is_many_small_steps(name, seed):
    q, noise, n = Schedule(name, T=20), Noise(seed), 20_011
    x = x0 = torch.tensor([0.7, -1.0]).expand(n, 2).double()
    for t in range(1, 14):
        x = (1 - q.beta_t[t]).sqrt() * x + q.beta_t[t].sqrt() * noise.normal(n, 2)
    jumped = q.q_sample(x0, torch.full((n,), 13), noise.normal(n, 2).double())
    for column in range(2):
        assert stats.ks_2samp(x[:, column].numpy(), jumped[:, column].numpy()).pvalue > 1e-6
    spread = (1 - q.alpha_bar[13]).sqrt()
    assert ((x.mean(dim=0) - q.alpha_bar[13].sqrt() * x0[0]).abs() < 6 * spread / math.sqrt(n)).all()
    assert ((x.std(dim=0) / spread - 1).abs() < 6 / math.sqrt(2 * n)).all()


@NAMES
@given(T=st.sampled_from([2, 3, 11, 1000]), seed=st.integers(0, 100), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_x0_and_epsilon_are_two_ways_to_say_the_same(name, T, seed, dtype):
    """In the pictures' own precision, though the tables are float64: at the ends a division magnifies what is rounded."""
    q, x0, eps = Schedule(name, T=T), pictures(seed, 7, 1, 5, 3).to(dtype), pictures(seed + 1, 7, 1, 5, 3).to(dtype)
    t = 1 + Noise(seed, 2).integers(T, 7)
    x_t, digits = q.q_sample(x0, t, eps), torch.finfo(dtype).eps
    assert {values.dtype for values in (x_t, *q.posterior(x0, x_t, t))} == {dtype}
    share = q.alpha_bar[t].view(7, 1, 1, 1)
    torch.testing.assert_close(x_t.double(), share.sqrt() * x0 + (1 - share).sqrt() * eps, atol=9 * digits, rtol=0)
    signal, sigma = q.scales(t, x_t)
    back, again = q.predict_x0(x_t, t, eps) - x0, q.predict_eps(x_t, t, x0) - eps
    assert back.dtype == again.dtype == dtype
    assert (back.abs() <= 50 * digits / signal).all()
    assert (again.abs() <= 50 * digits / sigma).all()


@NAMES
@SEEDS
def test_the_posterior_is_bayes_rule(name, seed):
    """Multiply the two Gaussians q(x_t | x_{t−1}) and q(x_{t−1} | x_0): precisions add."""
    q, x0, x_t = Schedule(name), pictures(seed, 7, 3, 5, 2), pictures(seed + 100, 7, 3, 5, 2)
    t = 2 + Noise(seed, 2).integers(999, 7)
    mean, variance = q.posterior(x0, x_t, t)
    assert (mean.shape, variance.shape) == ((7, 3, 5, 2), (7, 1, 1, 1))
    alpha, beta, before = ((a.view(7, 1, 1, 1)) for a in (1 - q.beta_t[t], q.beta_t[t], q.alpha_bar[t - 1]))
    precision = alpha / beta + 1 / (1 - before)
    torch.testing.assert_close(variance, 1 / precision)
    torch.testing.assert_close(mean, (alpha.sqrt() / beta * x_t + before.sqrt() / (1 - before) * x0) / precision)


@NAMES
def test_the_first_steps_posterior_is_the_clean_picture(name):
    x0, x_t, t = pictures(0, 5, 2), pictures(1, 5, 2), torch.ones(5, dtype=torch.long)
    mean, variance = Schedule(name).posterior(x0, x_t, t)
    torch.testing.assert_close(mean, x0)
    assert (variance == 0).all()


def test_float32_keeps_its_digits_in_the_first_steps():
    """Tables are float64: in float32, 1 − ᾱ_1 ≈ 4·10⁻⁵ would be wrong in the fourth digit."""
    q, t = Schedule("cosine"), torch.tensor([1, 2, 3])
    x0, eps = pictures(0, 3, 7), pictures(1, 3, 7)
    x_t = q.q_sample(x0, t, eps)
    rough = q.posterior(x0.float(), x_t.float(), t)
    for ours, exact in zip(rough, q.posterior(x0, x_t, t), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), exact, rtol=1e-6, atol=1e-6)


def test_the_tables_move_with_the_module_and_are_not_saved():
    model = Diffusion(nn.Identity(), Schedule())
    assert model.state_dict() == {}
    assert model.to("meta").schedule.alpha_bar.device.type == "meta"


@pytest.mark.parametrize("name", ["sigmoid", "", "Linear"])
def test_an_unknown_schedule_is_refused(name):
    with pytest.raises(ValueError) as error:
        Schedule(name)
    assert str(error.value) == f"there is no schedule named {name!r}. The schedules are: linear, cosine."


@pytest.mark.parametrize("T", [1, 0, -3])
def test_a_schedule_needs_two_steps(T):
    with pytest.raises(ValueError) as error:
        Schedule(T=T)
    assert str(error.value) == f"T must be 2 or more, got {T}"


# ---------------------------------------------------------------- one step back, against diffusers
#
# Their DDIM needs two settings to be ours: "trailing" spacing (T itself is visited; by default it is not) and
# use_clipped_model_output (by default ε is kept where x̂_0 was clipped, and the two no longer make x_t together).


def same_step(ours, other, *inputs):
    """Values and gradients, float64."""
    made = []
    for step in (ours, other):
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = step(*leaves)
        gradients = torch.autograd.grad((out * pictures(9, *out.shape)).sum(), leaves)
        made.append((out, *gradients))
    for mine, their in zip(*made, strict=True):
        torch.testing.assert_close(mine, their, rtol=1e-9, atol=1e-9)


@NAMES
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("step", [1, 2, 17, 500, 999, 1000])
def test_a_ddpm_step_agrees_with_diffusers(name, clip, step):
    q, other, t = Schedule(name), theirs(DDPMScheduler, name, clip_sample=clip), torch.full((7,), step)
    z = torch.randn(7, 3, 5, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def their_step(x, eps):
        return other.step(eps, step - 1, x, generator=torch.Generator().manual_seed(5)).prev_sample

    same_step(lambda x, eps: ddpm_step(q, x, t, eps, z, clip=clip), their_step,
              pictures(1, 7, 3, 5, 2), pictures(2, 7, 3, 5, 2))  # fmt: skip


@NAMES
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("step, stride", [(1, 1), (20, 20), (500, 20), (1000, 20), (1000, 1), (1000, 1000)])
def test_a_ddim_step_agrees_with_diffusers(name, clip, eta, step, stride):
    q, other = Schedule(name), theirs(DDIMScheduler, name, clip_sample=clip)
    other.set_timesteps(1000 // stride)
    t, z = torch.full((7,), step), pictures(3, 7, 3, 5, 2)

    def their_step(x, eps):
        return other.step(eps, step - 1, x, eta=eta, use_clipped_model_output=True, variance_noise=z).prev_sample

    same_step(lambda x, eps: ddim_step(q, x, t, eps, z, s=t - stride, eta=eta, clip=clip), their_step,
              pictures(1, 7, 3, 5, 2), pictures(2, 7, 3, 5, 2))  # fmt: skip


@NAMES
@pytest.mark.parametrize("steps", [1, 2, 5, 50])
def test_the_whole_ddim_run_agrees_with_diffusers(name, steps):
    x = start = pictures(1, 7, 1, 5, 3)

    def network(x, t, y):
        return (x * (1 + t.view(-1, 1, 1, 1))).sin()

    other = theirs(DDIMScheduler, name, timestep_spacing="trailing")
    other.set_timesteps(steps)
    for t in other.timesteps:
        eps = network(x, (t.double() + 1).expand(7) / 1000, None)
        x = other.step(eps, t, x, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(ddim(network, Schedule(name), start, Noise(0), steps=steps), x, rtol=1e-7, atol=1e-7)


@NAMES
def test_steps_of_their_own_for_each_example(name):
    q, x, eps, z = Schedule(name), pictures(1, 7, 3, 5), pictures(2, 7, 3, 5), pictures(3, 7, 3, 5)
    t = torch.tensor([1, 2, 3, 11, 500, 999, 1000])
    s = t // 2
    whole = ddpm_step(q, x, t, eps, z), ddim_step(q, x, t, eps, z, s=s, eta=0.5)
    for i in range(7):
        one = slice(i, i + 1)
        torch.testing.assert_close(ddpm_step(q, x[one], t[one], eps[one], z[one]), whole[0][one])
        torch.testing.assert_close(ddim_step(q, x[one], t[one], eps[one], z[one], s=s[one], eta=0.5), whole[1][one])


@NAMES
@SEEDS
def test_ddim_with_all_the_noise_and_every_step_is_ddpm(name, seed):
    q, x = Schedule(name, T=11), pictures(seed, 7, 1, 5, 3)

    def network(x, t, y):
        return (2 * x).sin()

    for clip in (True, False):
        ours = ddim(network, q, x, Noise(seed, 1), steps=11, eta=1.0, clip=clip)
        torch.testing.assert_close(ours, ddpm(network, q, x, Noise(seed, 1), clip=clip))


@NAMES
def test_a_picture_the_network_knows_is_found_whatever_the_noise(name):
    """If the network always points at one x_0, every sampler ends there."""
    q, x0 = Schedule(name, T=50), pictures(0, 1, 3, 5).clamp(-1, 1)

    def network(x, t, y):
        return q.predict_eps(x, (t * 50).round().long(), x0.expand_as(x))

    x = pictures(1, 7, 3, 5)
    for found in (ddpm(network, q, x, Noise(2)), *(ddim(network, q, x, Noise(2), steps=n, eta=e)
                                                   for n in (1, 7, 50) for e in (0.0, 0.5, 1.0))):  # fmt: skip
        torch.testing.assert_close(found, x0.expand(7, 3, 5), atol=1e-9, rtol=0)


@pytest.mark.parametrize("steps", [0, -1, 12])
def test_ddim_refuses_more_steps_than_there_are(steps):
    with pytest.raises(ValueError) as error:
        ddim(lambda x, t, y: x, Schedule(T=11), torch.zeros(1, 2), Noise(0), steps=steps)
    assert str(error.value) == f"steps must lie between 1 and T=11, got {steps}"


# ---------------------------------------------------------------- all steps back, with the exact answer of a known mixture

SHARES = torch.tensor([0.5, 0.3, 0.2]).double()
MEANS = torch.tensor([[1.5, 0.0], [-1.0, 1.2], [-0.5, -1.4]]).double()
SPREADS = torch.tensor([0.15, 0.3, 0.1]).double()


def exact(x, signal, sigma, y=None):
    """E[x_0 | x] and E[ε | x] for x = signal · x_0 + sigma · ε, x_0 from the mixture, or from its component y."""
    variance = signal**2 * SPREADS**2 + sigma**2  # (B, K) of x within each component
    off = x[:, None, :] - signal[..., None] * MEANS  # (B, K, 2)
    weight = SHARES.log() - variance.log() - off.square().sum(dim=2) / (2 * variance)
    if y is not None:
        weight = torch.where(torch.arange(3) == y[:, None], 0.0, -torch.inf)
    weight = weight.softmax(dim=1)[..., None]
    x0 = MEANS + (signal * SPREADS**2 / variance)[..., None] * off
    eps = (sigma / variance)[..., None] * off
    return (weight * x0).sum(dim=1), (weight * eps).sum(dim=1)


def exact_epsilon(q):
    def network(x, t, y):
        alpha_bar = q.alpha_bar[(t * q.T).round().long()][:, None]
        return exact(x, alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), y)[1]

    return network


def exact_velocity(x, t, y):
    x0, eps = exact(x, 1 - t[:, None], t[:, None], y)
    return eps - x0


def assert_is_the_mixture(x, *, bias=0.0):
    """Shares, means and spreads of the modes, within six standard errors (and a sampler's own bias)."""
    n, mode = len(x), (x[:, None, :] - MEANS).square().sum(dim=2).argmin(dim=1)
    for k in range(3):
        mine, p, s = x[mode == k], SHARES[k].item(), SPREADS[k].item()
        assert abs(len(mine) / n - p) < 6 * math.sqrt(p * (1 - p) / n) + bias
        assert ((mine.mean(dim=0) - MEANS[k]).abs() < 6 * s / math.sqrt(n * p) + bias * s).all()
        assert ((mine.std(dim=0) / s - 1).abs() < 6 / math.sqrt(2 * n * p) + bias).all()
        for column in range(2):  # and the shape: Gaussian
            standard = (mine[:, column] - mine[:, column].mean()) / mine[:, column].std()
            assert stats.kstest(standard.numpy(), "norm").statistic < 2.5 / math.sqrt(n * p)


@NAMES
@pytest.mark.parametrize("seed", range(2))
def test_ddpm_recovers_a_mixture_from_its_exact_epsilon(name, seed):
    q = Schedule(name, T=400)
    assert_is_the_mixture(ddpm(exact_epsilon(q), q, pictures(seed, 3_001, 2), Noise(seed, 1), clip=False), bias=0.03)


@NAMES
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_ddim_recovers_a_mixture_from_its_exact_epsilon(name, eta, seed):
    q = Schedule(name)
    start = pictures(seed, 3_001, 2)
    made = ddim(exact_epsilon(q), q, start, Noise(seed, 1), steps=200, eta=eta, clip=False)
    assert_is_the_mixture(made, bias=0.04)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("heun, steps", [(True, 50), (False, 300)])
def test_flow_recovers_a_mixture_from_its_exact_velocity(heun, steps, seed):
    assert_is_the_mixture(flow(exact_velocity, pictures(seed, 3_001, 2), heun=heun, steps=steps), bias=0.03)


def test_the_mixtures_samplers_are_not_right_by_accident():
    q, start = Schedule("cosine", T=100), pictures(0, 3_001, 2)
    half = exact_epsilon(q)
    for wrong in (lambda x, t, y: 0.9 * half(x, t, y), lambda x, t, y: half(x, (t - 0.05).clamp(min=0.01), y)):
        with pytest.raises(AssertionError):
            assert_is_the_mixture(ddim(wrong, q, start, Noise(1), steps=100, clip=False), bias=0.04)


@pytest.mark.parametrize("component", range(3))
def test_a_condition_draws_from_its_component_alone(component):
    q, start, y = Schedule("cosine"), pictures(0, 1_009, 2), torch.full((1_009,), component)
    runs = (ddpm(exact_epsilon(Schedule("cosine", T=300)), Schedule("cosine", T=300), start, Noise(1), y=y, clip=False),
            ddim(exact_epsilon(q), q, start, Noise(1), y=y, steps=100, clip=False), flow(exact_velocity, start, y=y, steps=50))
    for made in runs:
        assert ((made.mean(dim=0) - MEANS[component]).abs() < 6 * SPREADS[component] / math.sqrt(1_009)).all()
        assert ((made.std(dim=0) / SPREADS[component] - 1).abs() < 6 / math.sqrt(2_018) + 0.03).all()


@pytest.mark.parametrize("heun, order", [(True, 2), (False, 1)])
def test_the_flows_error_falls_with_the_order_of_the_method(heun, order):
    """For one Gaussian N(m, s²) the path is known: x_0 = m + s · x_1."""
    start = pictures(0, 101, 2)

    def velocity(x, t, y):
        variance = (1 - t) ** 2 * 0.25 + t**2
        off = x - (1 - t)[:, None] * 1.3
        return (t / variance)[:, None] * off - (1.3 + ((1 - t) * 0.25 / variance)[:, None] * off)

    errors = [(flow(velocity, start, steps=n, heun=heun) - (1.3 + 0.5 * start)).abs().max().item() for n in (20, 40, 80)]
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(2**order, rel=0.2)


def test_a_straight_path_needs_one_step():
    x0, x1 = pictures(0, 7, 3), pictures(1, 7, 3)
    for heun in (True, False):
        torch.testing.assert_close(flow(lambda x, t, y: x1 - x0, x1, steps=1, heun=heun), x0)


@pytest.mark.parametrize("steps", [0, -3])
def test_flow_refuses_no_steps(steps):
    with pytest.raises(ValueError) as error:
        flow(lambda x, t, y: x, torch.zeros(1, 2), steps=steps)
    assert str(error.value) == f"steps must be 1 or more, got {steps}"


# ---------------------------------------------------------------- guidance


@SEEDS
def test_guidance_goes_from_the_free_prediction_through_the_told_one(seed):
    x, t, y = pictures(seed, 7, 3), torch.rand(7).double(), torch.arange(7)

    def network(x, t, y):
        return x + t[:, None] if y is None else x * (1 + y[:, None])

    free, told = network(x, t, None), network(x, t, y)
    for scale in (0.0, 0.5, 1.0, 2.0, 7.5):
        torch.testing.assert_close(guided(network, y, scale)(x, t), free + scale * (told - free))
    torch.testing.assert_close(guided(network, None, 1)(x, t), free)


def test_without_guidance_the_network_is_asked_once():
    asked = []

    def network(x, t, y):
        asked.append(y)
        return x

    y = torch.arange(3)
    guided(network, y, 1.0)(torch.zeros(3, 2), torch.zeros(3))
    assert [a is y for a in asked] == [True]
    guided(network, y, 3.0)(torch.zeros(3, 2), torch.zeros(3))
    assert asked[2] is None


def test_guidance_towards_nothing_is_refused():
    with pytest.raises(ValueError) as error:
        guided(lambda x, t, y: x, None, 2.0)
    assert str(error.value) == "guidance=2.0 needs a condition: give y, or leave guidance at 1"


# ---------------------------------------------------------------- models


class Function(nn.Module):
    """Any function in a network's place."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


class Probe(nn.Module):
    """Predicts a fixed function of x and y, and remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))
        self.times, self.conditions = [], []

    def forward(self, x, t, y=None):
        self.times.append(t)
        self.conditions.append(y)
        return self.weight * x + (0 if y is None else 0.01 * y.view(-1, 1, 1, 1))


MODELS = {"diffusion": lambda shape: Diffusion(Probe(), Schedule(T=100), shape=shape),
          "flow": lambda shape: Flow(Probe(), shape=shape)}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 7, 11)])
def test_samples_have_their_shape_and_range_and_no_gradient(model, shape):
    drawn = MODELS[model](shape).sample(5, Noise(0), steps=3)
    assert (drawn.shape, drawn.dtype, drawn.requires_grad) == ((5, *shape), torch.float32, False)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert drawn.std() > 0.05


def test_samples_are_the_samplers_in_pixel_units():
    y, start = torch.arange(5), Noise(3).normal(5, 1, 3, 7)
    model = MODELS["diffusion"]((1, 3, 7))
    after = Noise(3)
    after.normal(5, 1, 3, 7)
    made = ddim(model.network, model.schedule, start, after, y=y, guidance=2.0, steps=7, eta=0.5)
    torch.testing.assert_close(model.sample(5, Noise(3), y=y, guidance=2.0, steps=7, eta=0.5), ((made + 1) / 2).clamp(0, 1))
    model = MODELS["flow"]((1, 3, 7))
    made = flow(model.network, start, y=y, guidance=2.0, steps=7)
    torch.testing.assert_close(model.sample(5, Noise(3), y=y, guidance=2.0, steps=7), ((made + 1) / 2).clamp(0, 1))


@pytest.mark.parametrize("model, calls", [("diffusion", 50), ("flow", 50)])
def test_by_default_a_sample_asks_the_network_fifty_times_from_noise_to_picture(model, calls):
    built = MODELS[model]((1, 3, 7))
    built.sample(2, Noise(0))
    times = torch.stack(built.network.times)
    assert times.shape == (calls, 2)
    assert times[0, 0] == 1
    assert (times.diff(dim=0) <= 0).all()
    assert times[-1, 0] == (0 if model == "flow" else 0.02)  # diffusion's last step starts at t = 2 of 100


@pytest.mark.parametrize("push, colour", [(-9.0, 1.0), (9.0, 0.0)])
def test_a_flow_that_runs_too_far_still_ends_as_a_picture(push, colour):
    model = Flow(Function(lambda x, t, y: torch.full_like(x, push)), shape=(1, 5, 3))
    assert (model.sample(7, Noise(0), steps=3) == colour).all()


@pytest.mark.parametrize("heun", [True, False])
def test_a_flow_samples_by_either_method(heun):
    model = MODELS["flow"]((1, 5, 3))
    drawn = model.sample(7, Noise(0), steps=3, heun=heun)
    expected = flow(model.network, Noise(0).normal(7, 1, 5, 3), steps=3, heun=heun)
    assert torch.equal(drawn, ((expected + 1) / 2).clamp(0, 1))
    assert torch.equal(model.sample(7, Noise(0), steps=3), drawn) is heun  # Heun's is the default


def test_by_default_a_step_keeps_pictures_in_range_and_takes_no_fresh_noise():
    q, t = Schedule(T=11), torch.full((7,), 6)
    x, eps, z = (3 * Noise(0, i).normal(7, 5, 3) for i in range(3))
    assert torch.equal(ddpm_step(q, x, t, eps, z), ddpm_step(q, x, t, eps, z, clip=True))
    assert not torch.equal(ddpm_step(q, x, t, eps, z), ddpm_step(q, x, t, eps, z, clip=False))
    default = ddim_step(q, x, t, eps, z, s=t - 2)
    assert torch.equal(default, ddim_step(q, x, t, eps, z, s=t - 2, eta=0.0, clip=True))
    for other in ({"eta": 1.0}, {"clip": False}):
        assert not torch.equal(default, ddim_step(q, x, t, eps, z, s=t - 2, **other))


@pytest.mark.parametrize("model", MODELS)
def test_the_same_key_draws_the_same_pictures(model):
    built = MODELS[model]((1, 3, 7))
    assert torch.equal(built.sample(5, Noise(4), steps=5), built.sample(5, Noise(4), steps=5))
    assert not torch.equal(built.sample(5, Noise(4), steps=5), built.sample(5, Noise(5), steps=5))


@given(n=st.sampled_from([1, 2, 3, 7]), seed=st.integers(0, 50))
def test_the_order_of_the_batch_does_not_matter(n, seed):
    x, y, order = Noise(seed).normal(n, 1, 3, 7), Noise(seed, 1).integers(10, n), Noise(seed, 2).permutation(n)
    network, q = Probe(), Schedule(T=20)
    for sampler in (lambda x, y: ddim(network, q, x, Noise(0), y=y, guidance=2.0, steps=5),
                    lambda x, y: flow(network, x, y=y, guidance=2.0, steps=5)):  # fmt: skip
        torch.testing.assert_close(sampler(x[order], y[order]), sampler(x, y)[order])


@pytest.mark.parametrize("seed", range(5))
def test_a_diffusion_corrupts_at_every_step_alike(seed):
    model, x0 = Diffusion(Probe(), Schedule(T=7)), Noise(seed).normal(7_001, 1, 1, 3)
    x_t, t, eps = model.corrupt(x0, Noise(seed, 1))
    step = (t * 7).round().long()
    torch.testing.assert_close(x_t, model.schedule.q_sample(x0, step, eps))
    counts = torch.bincount(step, minlength=8)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:].numpy()).pvalue > 1e-6
    assert stats.kstest(eps.flatten().numpy(), "norm").pvalue > 1e-6


@NAMES
@SEEDS
def test_epsilon_can_be_predicted_as_a_velocity(name, seed):
    """v is the speed along the circle: with √ᾱ = cos φ and √(1 − ᾱ) = sin φ, x_t = x_0 cos φ + ε sin φ and v = dx_t / dφ."""
    q, x0 = Schedule(name), pictures(seed, 7, 1, 5, 3)
    plain, turned = Diffusion(Probe(), q), Diffusion(Probe(), q, predicts="v")
    (x_t, t, eps), (same, s, v) = plain.corrupt(x0, Noise(seed, 1)), turned.corrupt(x0, Noise(seed, 1))
    assert torch.equal(x_t, same)
    assert torch.equal(t, s)
    phi = (1 - q.alpha_bar[(1000 * t).round().long()]).sqrt().asin().view(-1, 1, 1, 1)
    h = 1e-5
    ahead, behind = ((phi + d).cos() * x0 + (phi + d).sin() * eps for d in (h, -h))
    torch.testing.assert_close(v, (ahead - behind) / (2 * h), rtol=1e-4, atol=1e-4)
    turned.network = plain.network = Function(lambda x, t, y: v)
    torch.testing.assert_close(turned.epsilon(x_t, t), eps.double(), rtol=1e-6, atol=1e-6)
    assert plain.epsilon(x_t, t) is v


@pytest.mark.parametrize("seed", range(2))
def test_a_velocity_network_draws_what_its_epsilon_twin_draws(seed):
    q = Schedule("cosine", T=100)
    knows = exact_epsilon(q)

    def twin(x, t, y):
        signal, sigma = q.scales((t * 100).round().long(), x)
        return (knows(x, t, y) - sigma * x) / signal

    y, model = Noise(seed).integers(3, 101), Diffusion(Function(twin), q, predicts="v", shape=(2,))
    made = ddim(knows, q, Noise(seed, 1).normal(101, 2), Noise(0), y=y, guidance=1.5, steps=20)
    torch.testing.assert_close(model.sample(101, Noise(seed, 1), y=y, guidance=1.5, steps=20),
                               ((made + 1) / 2).clamp(0, 1), rtol=1e-3, atol=1e-3)  # fmt: skip


@pytest.mark.parametrize("wanted", ["x0", "", "velocity"])
def test_a_network_that_predicts_something_else_is_refused(wanted):
    with pytest.raises(ValueError) as error:
        Diffusion(Probe(), Schedule(), predicts=wanted)
    assert str(error.value) == f"a network predicts 'eps' or 'v', not {wanted!r}"


@pytest.mark.parametrize("seed", range(5))
def test_a_flow_corrupts_on_straight_lines(seed):
    x0 = Noise(seed).normal(7_001, 1, 1, 3)
    x_t, t, velocity = Flow(Probe()).corrupt(x0, Noise(seed, 1))
    assert stats.kstest(t.numpy(), "uniform").pvalue > 1e-6
    eps = x0 + velocity
    assert stats.kstest(eps.flatten().numpy(), "norm").pvalue > 1e-6
    torch.testing.assert_close(x_t, (1 - t).view(-1, 1, 1, 1) * x0 + t.view(-1, 1, 1, 1) * eps)
    torch.testing.assert_close(x_t + (1 - t).view(-1, 1, 1, 1) * velocity, eps, atol=1e-5, rtol=1e-5)  # follow it: noise


@pytest.mark.parametrize("model", MODELS)
def test_samples_are_drawn_on_the_meta_device_too(model):
    with torch.device("meta"):
        built = MODELS[model]((1, 3, 7))
    drawn = built.sample(5, Noise(0, device="meta"), y=torch.zeros(5, device="meta"), guidance=2.0, steps=3)
    assert (drawn.shape, drawn.device.type) == ((5, 1, 3, 7), "meta")


class Told(nn.Module):
    """A network that notes what it is told, and sees no noise."""

    def __init__(self, classes):
        super().__init__()
        self.classes, self.heard = classes, []

    def forward(self, x, t, y=None):
        self.heard.append(y)
        return torch.zeros_like(x)


@pytest.mark.parametrize(
    "build", [lambda network: Diffusion(network, Schedule(), shape=(1, 3, 5)), lambda network: Flow(network, shape=(1, 3, 5))]
)
def test_who_asks_for_no_class_gets_any_and_who_asks_for_none_gets_none(build):
    network = Told(7)
    build(network).sample(1_000, Noise(0), steps=1)
    (y, *others) = network.heard
    assert all(other is y for other in others)  # the same at every step
    assert y.bincount(minlength=7).min() > 90  # 143 of each, on average
    network.heard.clear()
    build(network).sample(3, Noise(0), y=torch.tensor([-1, -1, 6]), steps=1)
    assert network.heard[0].tolist() == [-1, -1, 6]
    silent = Told(0)
    build(silent).sample(3, Noise(0), steps=1)
    assert silent.heard[0] is None
