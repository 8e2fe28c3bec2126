from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from genai_lib import Noise
from genai_lib.models.vae import VAE, mlp_vae
from genai_lib.objectives import (
    GAME_LOSSES,
    bernoulli_nll,
    discretised_logistic_nll,
    elbo,
    game_loss,
    gaussian_kl,
    gaussian_log_prob,
    gaussian_nll,
    gradient_penalty,
    iwae_bound,
    value,
)

SEEDS = pytest.mark.parametrize("seed", range(20))

# ---------------------------------------------------------------- likelihoods


@SEEDS
def test_bernoulli_nll_agrees_with_torch_distributions(seed):
    noise = Noise(seed)
    logits, x = 3 * noise.normal(7, 3, 5, 2), noise.integers(2, 7, 3, 5, 2).float()
    theirs = -Bernoulli(logits=logits).log_prob(x).flatten(1).sum(dim=1)
    torch.testing.assert_close(bernoulli_nll(logits, x), theirs)


@SEEDS
def test_bernoulli_nll_of_grey_pixels_by_hand(seed):
    noise = Noise(seed)
    logits, x = 3 * noise.normal(7, 1, 5, 2).double(), noise.uniform(7, 1, 5, 2).double()
    p = 1 / (1 + (-logits).exp())
    by_hand = -(x * p.log() + (1 - x) * (1 - p).log()).sum(dim=(1, 2, 3))
    torch.testing.assert_close(bernoulli_nll(logits, x), by_hand)


def test_bernoulli_nll_is_smallest_at_the_pixels_own_value():
    x = Noise(0).uniform(7, 1, 5, 2)
    entropy = Bernoulli(x).entropy().flatten(1).sum(dim=1)
    torch.testing.assert_close(bernoulli_nll(x.logit(), x), entropy)
    assert (bernoulli_nll(x.logit() + 0.1, x) > entropy).all()


def test_bernoulli_nll_is_finite_where_the_sigmoid_rounds():
    nll = bernoulli_nll(torch.full((1, 1, 1, 2), 1e4), torch.tensor([[[[1.0, 0.0]]]]))
    assert nll.tolist() == [1e4]


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 3.0])
@SEEDS
def test_gaussian_nll_agrees_with_torch_distributions(seed, sigma):
    noise = Noise(seed)
    mean, x = noise.normal(7, 3, 5, 2), noise.normal(7, 3, 5, 2)
    theirs = -Normal(mean, sigma).log_prob(x).flatten(1).sum(dim=1)
    torch.testing.assert_close(gaussian_nll(mean, x, sigma=sigma), theirs)
    torch.testing.assert_close(gaussian_nll(mean, x, sigma=torch.tensor(sigma).to(mean)), theirs)
    assert torch.equal(gaussian_nll(mean, x), gaussian_nll(mean, x, sigma=1.0))  # unless told


@pytest.mark.parametrize("seed", range(5))
def test_the_best_sigma_is_the_root_of_the_mean_squared_error(seed):
    """Rybkin et al. 2021, eq. 5: there the slope of the likelihood in log sigma is zero."""
    g = torch.Generator().manual_seed(seed)
    mean, x = (torch.rand(7, 3, 5, 2, generator=g, dtype=torch.float64) for _ in range(2))
    log_sigma = (mean - x).square().mean().sqrt().log().requires_grad_()
    (slope,) = torch.autograd.grad(gaussian_nll(mean, x, sigma=log_sigma.exp()).sum(), log_sigma)
    assert abs(slope.item()) < 1e-9


def test_gaussian_log_prob_agrees_with_torch_distributions():
    noise = Noise(0)
    z, mu, logvar = noise.normal(7, 3, 5), noise.normal(7, 1, 5), noise.normal(7, 1, 5)
    torch.testing.assert_close(gaussian_log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(dim=-1))
    torch.testing.assert_close(gaussian_log_prob(z, mu, logvar), Normal(mu, (0.5 * logvar).exp()).log_prob(z).sum(dim=-1))


@SEEDS
def test_gaussian_kl_agrees_with_torch_distributions(seed):
    noise = Noise(seed)
    mu, logvar = noise.normal(7, 5), noise.normal(7, 5)
    theirs = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(gaussian_kl(mu, logvar), theirs)


def test_gaussian_kl_is_zero_exactly_at_the_prior_and_positive_elsewhere():
    assert gaussian_kl(torch.zeros(3, 5), torch.zeros(3, 5)).tolist() == [0.0, 0.0, 0.0]
    assert (gaussian_kl(0.1 * Noise(0).normal(101, 5), 0.1 * Noise(1).normal(101, 5)) > 0).all()


def test_gaussian_kl_is_summed_over_latent_dimensions():
    mu, logvar = torch.full((1, 1), 1.0), torch.full((1, 1), 0.5)
    one = gaussian_kl(mu, logvar)
    for width in (2, 7, 31):
        torch.testing.assert_close(gaussian_kl(mu.expand(1, width), logvar.expand(1, width)), width * one)


DIGITS = {torch.bfloat16: 1e-5, torch.float32: 1e-5, torch.float64: 1e-12}  # bfloat16 comes in, but float32 computes


@given(batch=st.sampled_from([1, 2, 3, 7]), pixels=st.sampled_from([(1, 5, 3), (3, 2, 7), (11,)]), seed=st.integers(0, 100),
       dtype=st.sampled_from(list(DIGITS)))  # fmt: skip
def test_likelihoods_keep_the_batch_its_order_and_at_least_seven_digits(batch, pixels, seed, dtype):
    noise, fine = Noise(seed), torch.promote_types(dtype, torch.float32)
    out, x, order = noise.normal(batch, *pixels).to(dtype), noise.uniform(batch, *pixels).to(fine), noise.permutation(batch)
    for nll in (bernoulli_nll, gaussian_nll, lambda out, x: gaussian_kl(out.flatten(1), out.flatten(1).flip(1)),
                lambda out, x: discretised_logistic_nll(out, out.flip(-1), x)):  # fmt: skip
        found = nll(out, x)
        assert (found.shape, found.dtype) == ((batch,), fine)
        torch.testing.assert_close(nll(out[order], x[order]), found[order])
        torch.testing.assert_close(found.double(), nll(out.double(), x.double()), rtol=DIGITS[dtype], atol=DIGITS[dtype])


@pytest.mark.parametrize("name", GAME_LOSSES)
@given(n=st.sampled_from([1, 2, 5, 13]), seed=st.integers(0, 100), dtype=st.sampled_from(list(DIGITS)))
def test_the_games_losses_have_at_least_seven_digits(name, n, seed, dtype):
    game, (real, fake) = game_loss(name), Noise(seed).normal(2, n).mul(3).to(dtype)
    for loss, logits in ((game.discriminator, (real, fake)), (game.generator, (fake,))):
        found = loss(*logits)
        assert (found.shape, found.dtype) == ((), torch.promote_types(dtype, torch.float32))
        exact = loss(*(values.double() for values in logits))
        torch.testing.assert_close(found.double(), exact, rtol=DIGITS[dtype], atol=DIGITS[dtype])


# ---------------------------------------------------------------- the bounds, where the truth is known
#
# z ~ N(0, I), x|z ~ N(W z + b, σ² I). With orthogonal columns in W the posterior factorises:
# Σ = (I + WᵀW / σ²)⁻¹ is diagonal and μ(x) = Σ Wᵀ (x − b) / σ². And p(x) = N(b, W Wᵀ + σ² I).

P, Z, SIGMA = 7, 3, 0.7


class Given(nn.Module):
    """An encoder that knows the posterior: its mean plus `shift`, its variance times `scale`."""

    def __init__(self, W, b, shift, scale):
        super().__init__()
        self.W, self.b, self.shift = W, b, shift
        self.variance = 1 / (1 + W.square().sum(dim=0) / SIGMA**2)
        self.logvar = (scale * self.variance).log()

    def posterior(self, x):
        return (x - self.b) @ self.W * self.variance / SIGMA**2

    def forward(self, x):
        mu = self.posterior(x) + self.shift
        return torch.cat([mu, self.logvar.expand_as(mu)], dim=1)


def linear_vae(seed, *, shift=0.0, scale=1.0):
    """The model, log p(x), and KL(q(z|x) ‖ p(z|x)) for it: all exact, float64."""
    noise = Noise(seed)
    basis, _ = torch.linalg.qr(noise.normal(P, Z).double())
    W, b = basis * torch.tensor([2.0, 1.0, 0.5]).double(), noise.normal(P).double()
    decoder = nn.Linear(Z, P).double().requires_grad_(False)
    decoder.weight.copy_(W)
    decoder.bias.copy_(b)
    encoder = Given(W, b, shift, scale)
    evidence = MultivariateNormal(b, W @ W.T + SIGMA**2 * torch.eye(P).double())
    posterior = Normal(0.0, encoder.variance.sqrt())
    gap = kl_divergence(Normal(torch.as_tensor(shift), (0.5 * encoder.logvar).exp()), posterior).sum()
    return VAE(encoder, decoder, Z), evidence.log_prob, gap.item()


def nll(mean, x):
    return gaussian_nll(mean, x, sigma=SIGMA)


def repeated(values, draws):
    return values.expand(draws, *values.shape[1:])


@pytest.mark.parametrize("shift, scale", [(0.0, 1.0), (0.3, 1.0), (0.0, 2.0), (-0.2, 0.5)])
@SEEDS
def test_the_elbos_gap_is_the_kl_from_the_posterior(seed, shift, scale):
    model, evidence, gap = linear_vae(seed, shift=shift, scale=scale)
    x, draws = Noise(seed, 1).normal(1, P).double(), 20_011
    bound = elbo(model, repeated(x, draws), Noise(seed, 2), nll=nll)
    error = 6 * bound.elbo.std().item() / math.sqrt(draws)  # six standard errors
    assert abs(evidence(x).item() - bound.elbo.mean().item() - gap) < error
    assert error < 0.15  # the test is sharp: see the gaps below
    torch.testing.assert_close(bound.elbo, -bound.reconstruction - bound.kl, rtol=0, atol=0)
    if shift == 0 and scale == 1:
        assert gap == pytest.approx(0, abs=1e-9)
    else:
        assert gap > 0.2


def test_the_loss_weighs_the_kl_with_beta_and_averages_over_examples():
    model, x = mlp_vae(latent=5, width=11), Noise(0).uniform(7, 1, 28, 28)
    bound = elbo(model, x, Noise(1))
    mu, logvar = model.encode(x)
    torch.testing.assert_close(bound.kl, gaussian_kl(mu, logvar))
    z = mu + (0.5 * logvar).exp() * Noise(1).normal(7, 5)
    torch.testing.assert_close(bound.reconstruction, bernoulli_nll(model.decode(z), x))
    torch.testing.assert_close(bound.loss(), -bound.elbo.mean())
    torch.testing.assert_close(bound.loss(beta=4.0), (bound.reconstruction + 4 * bound.kl).mean())
    assert bound.loss(beta=0.0) == bound.reconstruction.mean()


@SEEDS
def test_with_the_true_posterior_every_importance_weight_is_the_evidence(seed):
    model, evidence, _ = linear_vae(seed)
    x = Noise(seed, 1).normal(11, P).double()
    for k in (1, 7):
        torch.testing.assert_close(iwae_bound(model, x, Noise(seed, 2), k=k, nll=nll), evidence(x))


@SEEDS
def test_the_importance_weighted_bound_rises_with_k_towards_the_evidence(seed):
    model, evidence, gap = linear_vae(seed, shift=0.2, scale=1.5)
    x, draws = Noise(seed, 1).normal(1, P).double(), 2_003
    bounds = [iwae_bound(model, repeated(x, draws), Noise(seed, 2, k), k=k, nll=nll) for k in (1, 3, 11, 101)]
    means, errors = [b.mean().item() for b in bounds], [b.std().item() / math.sqrt(draws) for b in bounds]
    truth = evidence(x).item()
    assert abs(truth - means[0] - gap) < 6 * errors[0]  # k = 1: an ELBO
    for i in range(3):
        assert means[i] < means[i + 1] + 3 * math.hypot(errors[i], errors[i + 1])
    assert means[3] > means[0] + 0.8 * gap
    assert abs(truth - means[3]) < 0.05 * gap + 6 * errors[3]


@SEEDS
def test_one_draw_gives_the_elbo_with_a_sampled_kl(seed):
    torch.manual_seed(seed)
    model, x = mlp_vae(latent=5, width=11), Noise(seed, 1).uniform(7, 1, 28, 28)
    mu, logvar = model.encode(x)
    z = mu + (0.5 * logvar).exp() * Noise(seed, 2).normal(7, 1, 5)[:, 0]
    q = Normal(mu, (0.5 * logvar).exp())
    by_hand = -bernoulli_nll(model.decode(z), x) + Normal(0.0, 1.0).log_prob(z).sum(dim=1) - q.log_prob(z).sum(dim=1)
    torch.testing.assert_close(iwae_bound(model, x, Noise(seed, 2), k=1), by_hand)


@pytest.mark.parametrize("chunk", [1, 3, 7, 10, 50])
def test_the_chunk_changes_nothing(chunk):
    model, x = mlp_vae(latent=5, width=11), Noise(0).uniform(3, 1, 28, 28)
    whole = iwae_bound(model, x, Noise(1), k=10, chunk=10)
    torch.testing.assert_close(iwae_bound(model, x, Noise(1), k=10, chunk=chunk), whole)


@pytest.mark.parametrize("k", [0, -5])
def test_no_draws_are_refused(k):
    with pytest.raises(ValueError) as error:
        iwae_bound(mlp_vae(), torch.zeros(1, 1, 28, 28), Noise(0), k=k)
    assert str(error.value) == f"k must be 1 or more, got {k}"


@pytest.mark.parametrize("bound", [lambda m, x, n: elbo(m, x, n).loss(), lambda m, x, n: -iwae_bound(m, x, n, k=3).mean()])
def test_the_bounds_run_on_the_meta_device(bound):
    with torch.device("meta"):
        model = mlp_vae()
    loss = bound(model, torch.empty(7, 1, 28, 28, device="meta"), Noise(0, device="meta"))
    loss.backward()
    assert loss.device.type == "meta"
    assert all(p.grad is not None for p in model.parameters())


# ---------------------------------------------------------------- the game


def sigmoid(logits):
    return 1 / (1 + (-logits).exp())


@SEEDS
def test_the_losses_by_closed_form(seed):
    real, fake = 2 * Noise(seed, 0).normal(11).double(), 2 * Noise(seed, 1).normal(7).double()
    d_real, d_fake = sigmoid(real), sigmoid(fake)
    v = d_real.log().mean() + (1 - d_fake).log().mean()
    torch.testing.assert_close(value(real, fake), v)
    expected = {
        "minimax": (-v, (1 - d_fake).log().mean()),
        "non-saturating": (-v, -d_fake.log().mean()),
        "least-squares": (0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean(), 0.5 * (fake - 1).square().mean()),
        "wasserstein": (fake.mean() - real.mean(), -fake.mean()),
    }
    assert list(GAME_LOSSES) == list(expected)
    for name, (discriminator, generator) in expected.items():
        torch.testing.assert_close(game_loss(name).discriminator(real, fake), discriminator)
        torch.testing.assert_close(game_loss(name).generator(fake), generator)


@SEEDS
@pytest.mark.parametrize("name, gradient", [
    ("minimax", lambda logit: -sigmoid(logit)),               # fades where D is sure that the picture is false
    ("non-saturating", lambda logit: -(1 - sigmoid(logit))),  # is strongest there
    ("least-squares", lambda logit: logit - 1),
    ("wasserstein", lambda logit: -torch.ones_like(logit)),
])  # fmt: skip
def test_the_generators_gradient_by_hand(seed, name, gradient):
    logits = (5 * Noise(seed).normal(7).double()).requires_grad_()
    game_loss(name).generator(logits).backward()
    torch.testing.assert_close(logits.grad, gradient(logits.detach()) / 7)


@pytest.mark.parametrize("name", GAME_LOSSES)
def test_a_player_who_is_sure_gets_finite_losses_and_gradients(name):
    for size in (1e2, 1e4):
        real = torch.tensor([size, -size, 0.0], requires_grad=True)
        fake = torch.tensor([-size, size, 0.0], requires_grad=True)
        losses = game_loss(name).discriminator(real, fake), game_loss(name).generator(fake)
        sum(losses).backward()
        for number in (*losses, *real.grad, *fake.grad):
            assert number.isfinite()


@pytest.mark.parametrize("name", GAME_LOSSES)
def test_the_players_want_opposite_things(name):
    """A step down the generator's loss makes the discriminator's worse."""
    fake = Noise(0).uniform(11).requires_grad_()  # in [0, 1): beyond its target 1, least squares turns back
    game_loss(name).generator(fake).backward()
    moved = fake.detach() - 0.1 * fake.grad
    real = Noise(1).normal(11)
    assert game_loss(name).discriminator(real, moved) > game_loss(name).discriminator(real, fake.detach())


def quantiles(mean, sigma, n=20_001):
    """Points that stand for a normal distribution: a mean over them is an integral over it."""
    return Normal(mean, sigma).icdf((torch.arange(n).double() + 0.5) / n)


@pytest.mark.parametrize("p, q", [((0.0, 1.0), (0.0, 1.0)), ((-1.0, 1.0), (1.0, 1.0)), ((0.0, 0.5), (0.3, 2.0)),
                                  ((-1.5, 0.5), (1.5, 0.7))])  # fmt: skip
def test_the_best_discriminators_value_is_twice_the_jsd_minus_log_four(p, q):
    p, q = (Normal(*(torch.tensor(v, dtype=torch.float64) for v in each)) for each in (p, q))

    def logit(x):  # D* = p / (p + q), so its logit is log p − log q
        return p.log_prob(x) - q.log_prob(x)

    at_p, at_q = quantiles(p.mean, p.stddev), quantiles(q.mean, q.stddev)
    best = value(logit(at_p), logit(at_q)).item()
    x = torch.linspace(-12, 12, 48_001, dtype=torch.float64)  # the Jensen-Shannon divergence by the trapezoid rule
    mixed = torch.logaddexp(p.log_prob(x), q.log_prob(x)) - math.log(2)
    jsd = sum(0.5 * torch.trapezoid(r.log_prob(x).exp() * (r.log_prob(x) - mixed), x).item() for r in (p, q))
    assert best == pytest.approx(2 * jsd - math.log(4), abs=1e-4)
    for change in (lambda x: 0.1, lambda x: 0.2 * x.sin(), lambda x: -0.1 * x):  # any other discriminator is worse
        other = value(logit(at_p) + change(at_p), logit(at_q) + change(at_q)).item()
        assert other < best


@pytest.mark.parametrize("seed", range(5))
def test_a_trained_discriminator_finds_the_ratio(seed):
    p, q = Normal(-1.0, 0.6), Normal(0.5, 1.2)
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    for step in range(400):
        noise = Noise(seed, step)
        real, fake = (r.loc + r.scale * noise.normal(512, 1) for r in (p, q))
        optimizer.zero_grad()
        game_loss("minimax").discriminator(net(real)[:, 0], net(fake)[:, 0]).backward()
        optimizer.step()
        schedule.step()
    x = torch.linspace(-2.5, 3, 201)
    truth = sigmoid(p.log_prob(x) - q.log_prob(x))
    weight = p.log_prob(x).exp() + q.log_prob(x).exp()
    gap = (sigmoid(net(x[:, None])[:, 0]) - truth).abs()
    assert (weight * gap).sum() / weight.sum() < 0.03


@pytest.mark.parametrize("name", ["hinge", "", "Minimax"])
def test_an_unknown_loss_is_refused(name):
    with pytest.raises(ValueError) as error:
        game_loss(name)
    assert str(error.value) == (
        f"there is no GAN loss named {name!r}. The losses are: minimax, non-saturating, least-squares, wasserstein."
    )


# ---------------------------------------------------------------- the gradient penalty

SHAPES = pytest.mark.parametrize("shape", [(2,), (1, 28, 28), (3, 5, 7)])


class Linear(nn.Module):
    """A critic of constant slope; it remembers what it was asked."""

    def __init__(self, slope, shape):
        super().__init__()
        direction = Noise(9).normal(math.prod(shape))
        self.weight = nn.Parameter(slope * direction / direction.norm())
        self.asked = []

    def forward(self, x):
        self.asked.append(x.detach())
        return x.flatten(1) @ self.weight


@SHAPES
@pytest.mark.parametrize("slope", [1.0, 0.0, 0.3, 2.5, 11.0])
def test_the_penalty_of_a_linear_critic_is_its_slope_minus_one_squared(slope, shape):
    critic = Linear(slope, shape)
    penalty = gradient_penalty(critic, Noise(0).normal(7, *shape), Noise(1).normal(7, *shape), Noise(2))
    assert penalty.shape == ()
    assert penalty.item() == pytest.approx((slope - 1) ** 2, abs=1e-5 * (1 + slope**2))
    penalty.backward()
    assert critic.weight.grad.isfinite().all()
    if slope > 0:  # d(|w| − 1)² / dw = 2 (|w| − 1) w / |w|
        expected = 2 * (slope - 1) * critic.weight.detach() / slope
        torch.testing.assert_close(critic.weight.grad, expected, atol=1e-4, rtol=1e-4)


@SHAPES
@SEEDS
def test_the_points_lie_uniformly_on_the_segments(seed, shape):
    real, fake = Noise(seed, 0).normal(1_009, *shape), Noise(seed, 1).normal(1_009, *shape)
    critic = Linear(1.0, shape)
    gradient_penalty(critic, real, fake, Noise(seed, 2))
    (between,) = critic.asked
    assert between.shape == real.shape
    along, length = (between - fake).flatten(1), (real - fake).flatten(1)
    alpha = (along * length).sum(dim=1) / length.square().sum(dim=1)
    torch.testing.assert_close(along, alpha[:, None] * length, atol=1e-4, rtol=1e-4)  # one α an example, not one a pixel
    assert alpha.min() > -1e-4
    assert alpha.max() < 1 + 1e-4
    assert stats.kstest(alpha.numpy(), "uniform").pvalue > 1e-6


@SHAPES
def test_the_penalty_reaches_the_critic_and_leaves_the_samples_alone(shape):
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 11), nn.Tanh(), nn.Linear(11, 1), nn.Flatten(0))
    real, fake = Noise(0).normal(7, *shape).requires_grad_(), Noise(1).normal(7, *shape).requires_grad_()
    gradient_penalty(critic, real, fake, Noise(2)).backward()
    weights = [p for name, p in critic.named_parameters() if "weight" in name]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in weights)
    assert real.grad is None
    assert fake.grad is None


def test_the_penaltys_gradient_agrees_with_finite_differences():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0)).double()
    real, fake = Noise(0).normal(7, 2).double(), Noise(1).normal(7, 2).double()

    def penalty(weight):
        return gradient_penalty(lambda x: torch.func.functional_call(critic, {"0.weight": weight}, (x,)), real, fake, Noise(2))

    assert torch.autograd.gradcheck(penalty, (critic[0].weight,))


def test_the_penalty_runs_on_the_meta_device():
    with torch.device("meta"):
        critic = nn.Sequential(nn.Flatten(), nn.Linear(784, 1), nn.Flatten(0))
    pictures = torch.empty(7, 1, 28, 28, device="meta")
    gradient_penalty(critic, pictures, pictures, Noise(0, device="meta")).backward()
    assert critic[1].weight.grad.device.type == "meta"


def test_a_critic_that_measures_distance_pays_nothing():
    """f(x) = ‖x‖ has slope 1 everywhere but at 0: a critic that is not linear, and perfect."""
    penalty = gradient_penalty(lambda x: x.norm(dim=1), 5 + Noise(0).uniform(7, 3), 5 + Noise(1).uniform(7, 3), Noise(2))
    assert penalty.item() == pytest.approx(0, abs=1e-10)


def test_bf16_losses_stay_close_to_fp32():
    real, fake = Noise(0).normal(101), Noise(1).normal(101)
    for name, loss in GAME_LOSSES.items():
        rough = loss.discriminator(real.bfloat16(), fake.bfloat16()), loss.generator(fake.bfloat16())
        exact = loss.discriminator(real, fake), loss.generator(fake)
        for ours, truth in zip(rough, exact, strict=True):
            assert ours.item() == pytest.approx(truth.item(), abs=0.02), name
