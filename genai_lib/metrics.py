"""Metrics: how good are the samples, and how tight the bounds.

Feature-based scores (FID, KID) compare two sets of pictures through the features of a network that knows digits. Here
that network is the course's own small classifier, so the values cannot be compared with published ones: read them
against the floor (real against real) and against the baselines beside them.

N pictures, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from genai_lib.models.vae import VAE
from genai_lib.noise import Noise
from genai_lib.objectives import elbo, iwae_bound

# ---------------------------------------------------------------- features


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], x: Tensor, *, batch_size: int = 500) -> Tensor:
    """Apply a function to rows of x, a batch at a time, without gradients, and join the results."""
    return torch.cat([function(x[i : i + batch_size]) for i in range(0, len(x), batch_size)])


class Statistics(NamedTuple):
    """Mean (F,) and covariance (F, F) of features, float64: all that FID looks at."""

    mean: Tensor
    covariance: Tensor


def statistics(features: Tensor) -> Statistics:
    """Mean and unbiased covariance of features (N, F), in float64.

    Raises
    ------
    ValueError
        If there are not more pictures than features: the covariance would be singular and the distance meaningless.
    """
    N, F = features.shape
    if N <= F:
        raise ValueError(f"{N} pictures are too few for {F} features: FID needs many more pictures than features")
    features = features.double()
    return Statistics(features.mean(dim=0), torch.cov(features.T).view(F, F))


# ---------------------------------------------------------------- distances between sets of pictures


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Fréchet distance between two Gaussians: ‖μa − μb‖² + tr(Σa + Σb − 2 (Σa Σb)^½).

    The trace of the root is the sum of the roots of the eigenvalues of Σa^½ Σb Σa^½, which is symmetric: no complex
    numbers arise.

    Source: Dowson & Landau 1982; Heusel et al. 2017, eq. 6.
    """
    values, vectors = torch.linalg.eigh(a.covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T  # Σa^½
    cross = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * cross
    return max(distance.item(), 0.0)


def fid(a: Tensor, b: Tensor) -> float:
    """Fréchet distance between the features (N, F) of two sets of pictures.

    0 when mean and covariance agree; biased upwards for small N.

    Source: Heusel et al. 2017.
    """
    return frechet_distance(statistics(a), statistics(b))


def kid(a: Tensor, b: Tensor) -> float:
    """Kernel distance: the unbiased squared MMD of two sets of features (N, F), kernel (x·y / F + 1)³.

    Unlike FID it has no bias for small N, so it may come out slightly below 0 when the sets agree.

    Source: Bińkowski et al. 2018, eq. 3 and §3.1.
    """
    if len(a) < 2 or len(b) < 2:
        raise ValueError(f"KID needs at least two pictures on each side, got {len(a)} and {len(b)}")
    a, b = a.double(), b.double()
    m, n, F = len(a), len(b), a.shape[1]

    def total(x: Tensor, y: Tensor) -> Tensor:  # Σ k(x_i, y_j), some rows at a time: the whole table would fill the memory
        return torch.stack([((rows @ y.T).div_(F).add_(1) ** 3).sum() for rows in x.split(250)]).sum()

    def diagonal(x: Tensor) -> Tensor:  # Σ k(x_i, x_i)
        return (x.square().sum(dim=1) / F + 1).pow(3).sum()

    within_a = (total(a, a) - diagonal(a)) / (m * (m - 1))
    within_b = (total(b, b) - diagonal(b)) / (n * (n - 1))
    return (within_a + within_b - 2 * total(a, b) / (m * n)).item()


# ---------------------------------------------------------------- bounds, accuracy


@torch.no_grad()
def mean_elbo(model: VAE, x: Tensor, *, seed: int = 0, batch_size: int = 1000) -> float:
    """Mean ELBO over all pictures x, one draw of z each: nats per example."""
    batches = range(0, len(x), batch_size)
    total = sum(elbo(model, x[i : i + batch_size], Noise(seed, i, device=x.device)).elbo.sum().item() for i in batches)
    return total / len(x)


@torch.no_grad()
def mean_iwae_bound(model: VAE, x: Tensor, *, k: int, seed: int = 0, batch_size: int = 100) -> float:
    """Mean importance-weighted bound over all pictures x with k draws of z each: nats per example."""
    batches = range(0, len(x), batch_size)
    total = sum(
        iwae_bound(model, x[i : i + batch_size], Noise(seed, i, device=x.device), k=k).sum().item() for i in batches
    )
    return total / len(x)


def bernoulli_entropy(x: Tensor) -> float:
    """Smallest cross-entropy any model can reach on grey pixels x (N, …): their own entropy, nats per example."""
    return (torch.special.entr(x) + torch.special.entr(1 - x)).flatten(1).sum(dim=1).double().mean().item()


def accuracy(classifier: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of pictures x whose most likely class is y."""
    return (in_batches(classifier, x).argmax(dim=1) == y).double().mean().item()


def psnr(x: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio −10 log₁₀(mean squared error) of pixels in [0, 1]: (B,) decibels.

    It needs a reference: right for a reconstruction, undefined for a sample.
    """
    return -10 * (x - reference).square().flatten(1).mean(dim=1).log10()


# ---------------------------------------------------------------- how sure?


class Interval(NamedTuple):
    """An estimate and the ends of its 95 % interval."""

    estimate: float
    low: float
    high: float


def bootstrap(values: Tensor | list[float], *, seed: int = 0, draws: int = 10_000) -> Interval:
    """Mean of values (N,) with the 2.5 % and 97.5 % quantiles of the means of resampled values (Efron 1979).

    Give one value per *independent* unit: per seed when runs are compared, per picture when one model is judged.
    """
    x = torch.as_tensor(values, dtype=torch.float64)
    if len(x) < 2:
        raise ValueError(f"an interval needs at least two values, got {len(x)}")
    picks = Noise(seed).integers(len(x), draws, len(x))
    low, high = np.quantile(x[picks].mean(dim=1).numpy(), [0.025, 0.975])
    return Interval(x.mean().item(), float(low), float(high))
