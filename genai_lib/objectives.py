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
from torch import Tensor, nn

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


def gaussian_nll(mean: Tensor, x: Tensor, *, sigma: float = 1.0) -> Tensor:
    """−log N(x; mean, sigma² I): the squared error over 2 sigma², and a constant that training does not see.

    Parameters
    ----------
    mean, x : (B, C, H, W)
    sigma : float
        Standard deviation of a pixel, in pixel units.

    Returns
    -------
    (B,) nats per example, summed over pixels (a log-*density*: it may be negative).

    Source: Kingma & Welling 2014, appendix C.2.
    """
    constant = 0.5 * math.log(2 * math.pi) + math.log(sigma)
    return (0.5 * ((x - _precise(mean)) / sigma).square() + constant).flatten(1).sum(dim=1)


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
    """Evidence lower bound with one draw of z an example and the KL in closed form.

    Parameters
    ----------
    model : VAE
    x : (B, C, H, W)
        Pixels in [0, 1].
    noise : Noise
        Draws ε.
    nll : function (decoder's output, x) → (B,)
        −log p(x|z): `bernoulli_nll`, or `gaussian_nll` for a Gaussian decoder.

    Returns
    -------
    ELBO
        (B,) nats each.

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


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, noise: Noise) -> Tensor:
    """E (‖∇ critic(x̂)‖₂ − 1)² at points x̂ = α·real + (1 − α)·fake, with α *uniform* on [0, 1], one an example.

    Parameters
    ----------
    critic : nn.Module
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
