"""What is minimised.

Pure functions. A likelihood term is in nats per example, *summed* over pixels and over latent dimensions, and keeps
the batch axis: the caller averages over examples, once, at the end. A GAN's losses are averaged over the batch, as
the game's value is.

B batch, Z latent dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from genai_lib.models.diffusion import Diffusion, Flow
from genai_lib.models.vae import VAE, reparameterise
from genai_lib.noise import Noise


def _precise(values: Tensor) -> Tensor:
    """At least float32: a network may run in bfloat16, but differences and logarithms need the digits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


# ---------------------------------------------------------------- likelihoods


def bernoulli_nll(logits: Tensor, x: Tensor) -> Tensor:
    """Cross-entropy −Σ [x log p + (1 − x) log(1 − p)] of pixels x in [0, 1] under p = sigmoid(logits).

    Parameters
    ----------
    logits, x : (B, C, H, W)
        For x exactly 0 or 1 this is −log p(x|z). For grey x it is a training loss, not a likelihood: its smallest
        possible value is the pixels' own entropy, about 45.5 nats for MNIST's test digits, not 0.

    Returns
    -------
    (B,) nats per example, summed over pixels.

    Source: Kingma & Welling 2014, appendix C.1.
    """
    return F.binary_cross_entropy_with_logits(_precise(logits), x, reduction="none").flatten(1).sum(dim=1)


def gaussian_nll(mean: Tensor, x: Tensor, *, sigma: float | Tensor = 1.0) -> Tensor:
    """−log N(x; mean, sigma² I): the squared error over 2 sigma², and a constant that training does not see.

    Parameters
    ----------
    mean, x : (B, C, H, W)
    sigma : float or scalar tensor
        Standard deviation of a pixel, in pixel units. A tensor can be learned: see `GaussianVAE`.

    Returns
    -------
    (B,) nats per example, summed over pixels (a log-*density*: it may be negative).

    Source: Kingma & Welling 2014, appendix C.2.
    """
    log_sigma = sigma.log() if isinstance(sigma, Tensor) else math.log(sigma)
    constant = 0.5 * math.log(2 * math.pi) + log_sigma
    return (0.5 * ((x - _precise(mean)) / sigma).square() + constant).flatten(1).sum(dim=1)


def discretised_logistic_nll(mean: Tensor, log_scale: Tensor, x: Tensor) -> Tensor:
    """−log P(x), where P(k / 255) is the mass of Logistic(mean, e^log_scale) within half a grey level of k / 255.

    The outermost levels get the tails, so the 256 masses sum to 1: a true likelihood of grey pixels. Between a and b it is
    σ(b) − σ(a) = σ(b) σ(−a) (1 − e^(a − b)), whose logarithm and gradients stay exact where the difference would round to 0.

    Parameters
    ----------
    mean, log_scale, x : (B, …)
        In pixel units; x is a multiple of 1 / 255 in [0, 1].

    Returns
    -------
    (B,) nats per example, summed over pixels.

    Source: Salimans et al. 2017, eq. 2, with one component.
    """
    inverse = (-_precise(log_scale)).exp()
    centred, half = x - _precise(mean), 0.5 / 255
    below = F.logsigmoid(inverse * (centred + half)).masked_fill(x == 1, 0.0)  # log P(level ≤ x)
    above = F.logsigmoid(-inverse * (centred - half)).masked_fill(x == 0, 0.0)  # log P(level ≥ x)
    overlap = (-torch.expm1(-2 * half * inverse)).log().masked_fill((x == 0) | (x == 1), 0.0)
    return -(below + above + overlap).flatten(1).sum(dim=1)


# ---------------------------------------------------------------- bounds of the VAE


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, e^logvar) ‖ N(0, I)), exactly.

    Parameters
    ----------
    mu, logvar : (B, Z)
        Mean and log-variance of q(z|x).

    Returns
    -------
    (B,) nats per example, *summed* over the Z latent dimensions. Averaging over them would weaken the prior Z times.

    Source: Kingma & Welling 2014, appendix B.
    """
    mu, logvar = _precise(mu), _precise(logvar)
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(dim=1)


class ELBO(NamedTuple):
    """The bound and its two parts, (B,) nats each: elbo = −reconstruction − kl."""

    elbo: Tensor
    reconstruction: Tensor
    kl: Tensor

    def loss(self, beta: float = 1.0) -> Tensor:
        """Mean over the batch of reconstruction + beta · kl (Higgins et al. 2017); beta = 1 is the negative ELBO."""
        return (self.reconstruction + beta * self.kl).mean()


def elbo(model: VAE, x: Tensor, noise: Noise, *, nll: Callable[[Tensor, Tensor], Tensor] = bernoulli_nll) -> ELBO:
    """Evidence lower bound, (B,) nats, with one draw of z an example and the KL in closed form.

    Parameters
    ----------
    model : VAE
    x : (B, C, H, W)
        Pixels in [0, 1].
    noise : Noise
        Draws ε.
    nll : function (decoder's output, x) → (B,)
        −log p(x|z): `bernoulli_nll`, or `gaussian_nll` for a Gaussian decoder.

    Source: Kingma & Welling 2014, eq. 10.
    """
    mu, logvar = model.encode(x)
    reconstruction = nll(model.decode(reparameterise(mu, logvar, noise)), x)
    kl = gaussian_kl(mu, logvar)
    return ELBO(-reconstruction - kl, reconstruction, kl)


def gaussian_log_prob(z: Tensor, mu: Tensor | float = 0.0, logvar: Tensor | float = 0.0) -> Tensor:
    """log N(z; mu, e^logvar), summed over the last axis: nats."""
    mu, logvar = torch.as_tensor(mu).to(z), torch.as_tensor(logvar).to(z)
    return -0.5 * ((z - mu).square() / logvar.exp() + logvar + math.log(2 * math.pi)).sum(dim=-1)


def iwae_bound(
    model: VAE,
    x: Tensor,
    noise: Noise,
    *,
    k: int,
    chunk: int = 50,
    nll: Callable[[Tensor, Tensor], Tensor] = bernoulli_nll,
) -> Tensor:
    """Importance-weighted bound log (1/k) Σ p(x|z_i) p(z_i) / q(z_i|x), with k draws z_i ~ q(z|x).

    For k = 1 it is an ELBO with a sampled KL; it rises with k, in expectation, towards log p(x).

    Parameters
    ----------
    model : VAE
    x : (B, C, H, W)
        For a likelihood, pixels exactly 0 or 1.
    noise : Noise
    k : int
        Draws an example, 1 or more.
    chunk : int
        Draws decoded at once: bounds the memory, changes nothing else.
    nll : function
        As in `elbo`.

    Returns
    -------
    (B,) nats per example.

    Source: Burda, Grosse & Salakhutdinov 2016, eq. 8.
    """
    if k < 1:
        raise ValueError(f"k must be 1 or more, got {k}")
    mu, logvar = model.encode(x)
    B, Z = mu.shape
    draws = mu[:, None] + (0.5 * logvar)[:, None].exp() * noise.normal(B, k, Z)  # (B, k, Z)
    log_weights = []
    for z in draws.split(chunk, dim=1):  # (B, m, Z)
        m = z.shape[1]
        decoded = model.decode(z.flatten(0, 1))  # (B·m, C, H, W)
        log_px = -nll(decoded, x.repeat_interleave(m, dim=0)).view(B, m)
        log_weights.append(log_px + gaussian_log_prob(z) - gaussian_log_prob(z, mu[:, None], logvar[:, None]))
    return torch.cat(log_weights, dim=1).logsumexp(dim=1) - math.log(k)


# ---------------------------------------------------------------- next tokens


def next_token_nll(model: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """−Σ_t log p(x_t+1 | x_1 … x_t): every token but the first is predicted from those before it.

    Parameters
    ----------
    model : function (B, T) → (B, T, V)
        Logits of the token *after* each of those given.
    tokens : (B, T + 1) int64
        The shift by one happens here and nowhere else: the model is given the first T, and owes the last T.

    Returns
    -------
    (B,) nats per example, *summed* over the T predicted tokens. Over T it is nats per token; a model that knows
    nothing has log V of them.

    Source: Bengio et al. 2003, §1–2 (the chain rule, maximum likelihood).
    """
    logits, targets = model(tokens[:, :-1]), tokens[:, 1:]  # (B, T, V), (B, T)
    return F.cross_entropy(_precise(logits).transpose(1, 2), targets, reduction="none").sum(dim=1)


# ---------------------------------------------------------------- the game of the GAN


@dataclass(frozen=True)
class GameLoss:
    """A pair of losses, both minimised, both computed from logits.

    `discriminator(real_logits, fake_logits)` and `generator(fake_logits)` take (B,) tensors and return a scalar.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def value(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """V(D, G) = E log D(x) + E log(1 − D(G(z))), in nats, for D = sigmoid(logit). D raises it, G lowers it.

    Source: Goodfellow et al. 2014, eq. 1.
    """
    return F.logsigmoid(_precise(real_logits)).mean() + _caught(fake_logits)


def _caught(fake_logits: Tensor) -> Tensor:
    return F.logsigmoid(-_precise(fake_logits)).mean()  # E log(1 − D(G(z)))


def _fooled(fake_logits: Tensor) -> Tensor:
    return -F.logsigmoid(_precise(fake_logits)).mean()  # −E log D(G(z))


GAME_LOSSES: dict[str, GameLoss] = {
    # Goodfellow et al. 2014, eq. 1: D ascends V, G descends it. Its gradient fades when D is sure.
    "minimax": GameLoss(lambda real, fake: -value(real, fake), _caught),
    # The same paper, §3: G ascends log D(G(z)) instead. Same fixed point, strong gradient when D is sure.
    "non-saturating": GameLoss(lambda real, fake: -value(real, fake), _fooled),
    # Mao et al. 2017, eq. 9: targets 1 for real and 0 for fake; G wants 1.
    "least-squares": GameLoss(
        lambda real, fake: 0.5 * ((_precise(real) - 1).square().mean() + _precise(fake).square().mean()),
        lambda fake: 0.5 * (_precise(fake) - 1).square().mean(),
    ),
    # Arjovsky, Chintala & Bottou 2017, eq. 2: a critic, not a classifier. Needs `gradient_penalty`.
    "wasserstein": GameLoss(
        lambda real, fake: _precise(fake).mean() - _precise(real).mean(), lambda fake: -_precise(fake).mean()
    ),
}


def game_loss(name: str) -> GameLoss:
    """Look up a pair of losses: "minimax", "non-saturating", "least-squares" or "wasserstein"."""
    if name not in GAME_LOSSES:
        raise ValueError(f"there is no GAN loss named {name!r}. The losses are: {', '.join(GAME_LOSSES)}.")
    return GAME_LOSSES[name]


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, noise: Noise) -> Tensor:
    """E (‖∇ critic(x̂)‖₂ − 1)² at points x̂ = α·real + (1 − α)·fake, with α *uniform* on [0, 1], one an example.

    Parameters
    ----------
    critic : nn.Module or function
        (B, …) → (B,).
    real, fake : (B, …)
    noise : Noise
        Draws α.

    Returns
    -------
    scalar; 0 for a critic of slope 1 everywhere. The paper weights it by 10.

    Source: Gulrajani et al. 2017, eq. 3 and algorithm 1 (α from a normal distribution, often seen in code, leaves the
    segment).
    """
    alpha = noise.uniform(len(real)).view(-1, *[1] * (real.ndim - 1)).to(real)  # (B, 1, …)
    between = (alpha * real.detach() + (1 - alpha) * fake.detach()).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


# ---------------------------------------------------------------- denoising


def denoising_loss(
    model: Diffusion | Flow, x: Tensor, noise: Noise, *, y: Tensor | None = None, drop: float = 0.1
) -> Tensor:
    """Squared error of what the network predicts from noisy pictures: ε or v for a `Diffusion`, ε − x_0 for a `Flow`.

    Parameters
    ----------
    model : Diffusion or Flow
    x : (B, C, H, W)
        Pixels in [0, 1].
    noise : Noise
        Draws a time and ε an example, and whose condition is dropped.
    y : (B,) classes or (B, F) vectors, optional
    drop : float
        Share of examples whose condition is replaced by none (−1 or zeros): guidance needs the network without it too.

    Returns
    -------
    (B,) squared errors, summed over pixels: about C·H·W for a `Diffusion` that predicts ε = 0. Not a likelihood.

    Source: Ho et al. 2020, eq. 14; Lipman et al. 2023, eq. 23; Ho & Salimans 2022, algorithm 1.
    """
    x_t, t, target = model.corrupt(2 * x - 1, noise)
    if y is not None:
        lost = (noise.uniform(len(y)) < drop).view(-1, *[1] * (y.ndim - 1))  # (B,) or (B, 1)
        y = y.masked_fill(lost, 0.0 if y.is_floating_point() else -1)
    return (_precise(model.network(x_t, t, y)) - target).square().flatten(1).sum(dim=1)


def discretised_gaussian_nll(mean: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """−log of the probability that N(mean, sigma²) gives to each pixel's bin, 2 / 255 wide: (B,) nats, summed over pixels.

    `mean` and `x` (B, …) in [−1, 1]; x has 256 levels, and the two outer bins reach to infinity (Ho et al. 2020, eq. 13).
    """
    far, mean = 1e4, _precise(mean)
    low = torch.where(x < -1 + 1 / 255, -far, (x - 1 / 255 - mean) / sigma)
    high = torch.where(x > 1 - 1 / 255, far, (x + 1 / 255 - mean) / sigma)
    right = low + high > 0  # mirror such bins: left of 0, where Φ is small, no digits are lost
    low, high = torch.where(right, -high, low), torch.where(right, -low, high)
    log_high = torch.special.log_ndtr(high)
    return -(log_high + torch.log1p(-(torch.special.log_ndtr(low) - log_high).exp())).flatten(1).sum(dim=1)


def diffusion_bound(model: Diffusion, x: Tensor, noise: Noise, *, y: Tensor | None = None, t: Tensor | None = None) -> Tensor:
    """Lower bound on log P(x) of pixels x = k / 255 (B, C, H, W): −(L_T + Σ_t L_{t−1} + L_0), (B,) nats per example.

    The sum is estimated from one random step t in 2 … T an example, without bias but with much noise: average over many.
    Give the steps t (B,) instead to choose the terms; the mean over t = 2 … T is the whole bound.

    Source: Ho et al. 2020, eq. 5 and 8, with σ_t² = β̃_t (β_1 for the pixels) and x̂_0 clipped as in sampling.
    """
    x0, q, steps = 2 * x - 1, model.schedule, model.schedule.T - 1
    t = 2 + noise.integers(steps, len(x)) if t is None else t
    first, last = torch.ones_like(t), torch.full_like(t, q.T)

    def denoised(t: Tensor) -> tuple[Tensor, Tensor]:
        x_t = q.q_sample(x0, t, noise.normal(*x.shape))
        return x_t, q.predict_x0(x_t, t, _precise(model.epsilon(x_t, t / q.T, y))).clamp(-1, 1)

    x_t, guess = denoised(t)
    (truth, variance), (mean, _) = q.posterior(x0, x_t, t), q.posterior(guess, x_t, t)
    between = ((truth - mean).square() / (2 * variance)).flatten(1).sum(dim=1)
    decoder = discretised_gaussian_nll(denoised(first)[1], x0, q.beta_t[1].sqrt().to(x))
    signal, sigma = q.scales(last, x)
    prior = gaussian_kl((signal * x0).flatten(1), (2 * sigma.log()).expand_as(x).flatten(1))
    return -(prior + steps * between + decoder)


# ---------------------------------------------------------------- what belongs together


def contrastive_loss(similarity: Tensor, *, known: Tensor | None = None) -> Tensor:
    """Cross-entropy of picking each text's own picture among all, and each picture's own text, averaged over both ways.

    Parameters
    ----------
    similarity : (B, B)
        Logits of text i and picture i′; what belongs together stands on the diagonal.
    known : (B, B) bool, optional
        Where a text suits a picture that is not its own: such a pair is left out, it is no wrong answer.

    Returns
    -------
    (B,) nats per pair; log B for a model that knows nothing. The others of the batch are the wrong answers, so the
    number depends on B.

    Source: Radford et al. 2021, figure 3; van den Oord, Li & Vinyals 2018, eq. 4.
    """
    similarity = _precise(similarity)
    if known is not None:
        own = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
        similarity = similarity.masked_fill(known & ~own, -math.inf)
    right = similarity.diagonal()
    return (similarity.logsumexp(dim=1) + similarity.logsumexp(dim=0)) / 2 - right
