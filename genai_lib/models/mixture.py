"""Mixtures, fitted by expectation-maximisation (Dempster, Laird & Rubin 1977; Bishop 2006, §9.2–9.3).

p(x) = Σ_k π_k p_k(x): pick a component, then draw from it. Each is a generative model with two lines of sampling, an
exact likelihood and no neural network: what a network must beat. Gaussians suit points, Bernoullis black-and-white pixels.

N examples, D dimensions, P pixels, K components.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from genai_lib import progress
from genai_lib.models.pca import PCA
from genai_lib.noise import Noise


def climb(
    expect: Callable[[], tuple[Tensor, Any]], maximise: Callable[[Any], None], *, steps: int, tolerance: float
) -> list[float]:
    """Expectation-maximisation: E and M steps in turn, at most `steps`, until one gains less than `tolerance` nats an example.

    `expect()`, the E step, returns the log-likelihoods (N,) in nats and the expectations of what is hidden, with which the
    evidence lower bound touches them. `maximise(expectations)`, the M step, sets the parameters to that bound's maximum, so
    that the likelihood cannot fall. Returns the mean log-likelihood before each step, nats per example; a progress bar shows
    it if the climb takes longer than a second.

    Source: Dempster, Laird & Rubin 1977, theorem 1.
    """
    history: list[float] = []
    with progress.bar(steps, "round", delay=1.0) as bar:
        for _ in range(steps):
            log_prob, expectations = expect()
            history.append(log_prob.mean().item())
            bar.set_postfix({"log-likelihood": f"{history[-1]:.6g}"}, refresh=False)
            bar.update()
            if len(history) > 1 and history[-1] - history[-2] < tolerance:
                bar.total = bar.n  # it has arrived
                break
            maximise(expectations)
    return history


def pick(probabilities: Tensor, u: Tensor) -> Tensor:
    """Turn uniform numbers u (n,) into choices (n,) with the given probabilities, (K,) or (n, K)."""
    passed = probabilities.cumsum(dim=-1) <= u[:, None]  # (n, K)
    return passed.sum(dim=1).clamp(max=probabilities.shape[-1] - 1)


def _responsibilities(joint: Tensor) -> tuple[Tensor, Tensor]:  # who answers for which example?
    return joint.logsumexp(dim=1), joint.softmax(dim=1)  # (N,), (N, K)


def _inverse(L: Tensor) -> Tensor:  # of a lower triangular matrix (D, D)
    return torch.linalg.solve_triangular(L, torch.eye(len(L), dtype=L.dtype, device=L.device), upper=False)


class GaussianMixture(nn.Module):
    """A mixture of K Gaussians.

    Parameters
    ----------
    components, dimensions : int
        K and D.
    diagonal : bool
        Leave out the covariances between dimensions: D numbers a component instead of D (D + 1) / 2.

    Attributes
    ----------
    weights : (K,)
        π, summing to 1.
    means : (K, D)
    factors : (K, D, D), or (K, D) if diagonal
        Lower Cholesky factors L of the covariances: Σ = L Lᵀ. If diagonal, the standard deviations.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, components: int, dimensions: int, *, diagonal: bool = False) -> None:
        super().__init__()
        self.diagonal = diagonal
        factor = torch.ones(dimensions) if diagonal else torch.eye(dimensions)
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, dimensions))
        self.register_buffer("factors", torch.stack([factor] * components))

    def log_joint(self, x: Tensor) -> Tensor:
        """log π_k + log N(x; μ_k, Σ_k) for each example and component: (N, K) nats."""
        K, D = self.means.shape
        columns = []
        for k in range(K):  # one component at a time: (N, D) of memory, not (K, N, D)
            L, centred = self.factors[k], x - self.means[k]  # (D, D) or (D,), (N, D)
            whitened = centred / L if self.diagonal else centred @ _inverse(L).T  # a product is faster than N solutions
            log_det = (L if self.diagonal else L.diagonal()).log().sum()
            columns.append(-0.5 * whitened.square().sum(dim=1) - log_det)
        return torch.stack(columns, dim=1) - 0.5 * D * math.log(2 * math.pi) + self.weights.log()

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density of each row of x (N, D): (N,) nats, exact."""
        return self.log_joint(x).logsumexp(dim=1)

    def sample(self, n: int, noise: Noise) -> Tensor:
        """Draw n points: (n, D)."""
        k = pick(self.weights, noise.uniform(n))  # (n,)
        eps = noise.normal(n, self.means.shape[1]).to(self.means.dtype)  # (n, D)
        L = self.factors[k]
        return self.means[k] + (L * eps if self.diagonal else torch.einsum("nij,nj->ni", L, eps))

    def fit(self, x: Tensor, noise: Noise, *, steps: int = 50, tolerance: float = 1e-3, ridge: float = 1e-4) -> list[float]:
        """Run expectation-maximisation on x (N, D), from examples drawn by the noise as first means; returns as `climb`.

        Parameters
        ----------
        ridge : float
            Added to each variance, as a share of the mean variance of the data, so that no component shrinks to a
            point. But for its small effect the likelihood rises at every step.

        Raises
        ------
        ValueError
            Fewer examples than components, or x of another width.
        """
        K, D = self.means.shape
        if x.ndim != 2 or x.shape[1] != D or len(x) < K:
            raise ValueError(f"x must have shape (N ≥ {K}, {D}), got {tuple(x.shape)}")
        floor = ridge * x.var(dim=0).mean()
        self.weights.fill_(1 / K)
        self.means.copy_(x[noise.permutation(len(x))[:K]])
        self.factors.copy_(self._factor(x.var(dim=0) if self.diagonal else torch.cov(x.T).view(D, D), floor))

        def maximise(share: Tensor) -> None:  # each component's weighted mean and covariance
            count = share.sum(dim=0) + 1e-6  # (K,)
            self.weights.copy_(count / count.sum())
            self.means.copy_(share.T @ x / count[:, None])
            for k in range(K):
                centred = x - self.means[k]
                shared = share[:, k, None] * centred  # (N, D)
                covariance = (shared * centred).sum(dim=0) if self.diagonal else shared.T @ centred
                self.factors[k].copy_(self._factor(covariance / count[k], floor))

        return climb(lambda: _responsibilities(self.log_joint(x)), maximise, steps=steps, tolerance=tolerance)

    def _factor(self, covariance: Tensor, floor: Tensor) -> Tensor:
        if self.diagonal:
            return (covariance + floor).sqrt()
        return torch.linalg.cholesky(covariance + floor * torch.eye(len(covariance), device=covariance.device))


class BernoulliMixture(nn.Module):
    """A mixture of K stencils for pictures of a given shape: component k lights pixel p with probability μ_kp.

    Attributes: `weights` π (K,), summing to 1, and `means` μ (K, P), never 0 or 1; float64, or 1 − μ would lose its digits.
    Source: Bishop 2006, §9.3.3.
    """

    weights: Tensor
    means: Tensor

    def __init__(self, components: int, *, shape: tuple[int, ...] = (1, 28, 28)) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("weights", torch.full((components,), 1 / components, dtype=torch.float64))
        self.register_buffer("means", torch.full((components, math.prod(shape)), 0.5, dtype=torch.float64))

    def log_joint(self, x: Tensor) -> Tensor:
        """log π_k + Σ_p [x_p log μ_kp + (1 − x_p) log(1 − μ_kp)], one matrix product: (B, K) nats."""
        dark = (-self.means).log1p()  # (K, P)
        return x.flatten(1).to(dark) @ (self.means.log() - dark).T + dark.sum(dim=1) + self.weights.log()

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of pictures x (B, …) of pixels 0 or 1: (B,) nats, exact."""
        return self.log_joint(x).logsumexp(dim=1)

    def sample(self, n: int, noise: Noise) -> Tensor:
        """Draw n pictures of pixels 0 or 1: (n, …)."""
        k = pick(self.weights, noise.uniform(n))  # (n,)
        return (noise.uniform(n, self.means.shape[1]) < self.means[k]).float().view(n, *self.shape)

    def fit(self, x: Tensor, noise: Noise, *, steps: int = 50, tolerance: float = 1e-2, smoothing: float = 0.1) -> list[float]:
        """Run expectation-maximisation on pictures x (N, …) of pixels 0 or 1; returns as `climb`.

        Parameters
        ----------
        smoothing : float
            Imagined examples of either colour in each pixel of each component (a Beta prior): what was never lit may be lit
            tomorrow. The sum of log-likelihood and log-prior rises at every step.

        Raises
        ------
        ValueError
            Pixels other than 0 and 1, pictures of another shape, or fewer pictures than components.
        """
        K = len(self.weights)
        if x.shape[1:] != self.shape or len(x) < K or not ((x == 0) | (x == 1)).all():
            raise ValueError(f"x must be (N ≥ {K}, {self.shape}) pixels of 0 or 1 (try `binarise`), got {tuple(x.shape)}")
        flat, edge = x.flatten(1).to(self.means), torch.finfo(self.means.dtype).eps  # (N, P)

        def maximise(share: Tensor) -> None:
            count = share.sum(dim=0) + edge  # (K,)
            self.weights.copy_((count + smoothing) / (count + smoothing).sum())
            lit = (share.T @ flat + smoothing) / (count + 2 * smoothing)[:, None]  # (K, P)
            self.means.copy_(lit.clamp(edge, 1 - edge))

        self.weights.fill_(1 / K)
        self.means.copy_(0.1 + 0.4 * (flat.mean(dim=0) + flat[noise.permutation(len(x))[:K]]))
        return climb(lambda: _responsibilities(self.log_joint(flat)), maximise, steps=steps, tolerance=tolerance)


class PictureMixture(nn.Module):
    """A mixture of K Gaussians for pictures: project on D principal components, fit there, sample there, project back."""

    def __init__(self, *, components: int = 100, dimensions: int = 50) -> None:
        super().__init__()
        self.pca = PCA(dimensions)
        self.mixture = GaussianMixture(components, dimensions)

    def fit(self, x: Tensor, noise: Noise, *, steps: int = 50) -> list[float]:
        """Fit to pictures x (N, 1, 28, 28); returns the log-likelihood of the codes before each step, nats per example."""
        return self.mixture.fit(self.pca.fit(x).encode(x), noise, steps=steps)

    @torch.no_grad()
    def sample(self, n: int, noise: Noise) -> Tensor:
        """Draw n pictures: (n, 1, 28, 28) in [0, 1]."""
        return self.pca.decode(self.mixture.sample(n, noise)).clamp(0, 1)
