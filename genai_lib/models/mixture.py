"""Gaussian mixture, fitted by expectation-maximisation (Dempster, Laird & Rubin 1977; Bishop 2006, §9.2).

p(x) = Σ_k π_k N(x; μ_k, Σ_k): pick a component, then draw from its Gaussian. It is a generative model with two lines
of sampling, an exact likelihood and no neural network: what a network must beat.

N examples, D dimensions, K components.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from genai_lib.models.pca import PCA
from genai_lib.noise import Noise


class GaussianMixture(nn.Module):
    """A mixture of K Gaussians with full covariances.

    Parameters
    ----------
    components, dimensions : int
        K and D.

    Attributes
    ----------
    weights : (K,)
        π, summing to 1.
    means : (K, D)
    factors : (K, D, D)
        Lower Cholesky factors L of the covariances: Σ = L Lᵀ.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, components: int, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, dimensions))
        self.register_buffer("factors", torch.eye(dimensions).repeat(components, 1, 1))

    def log_joint(self, x: Tensor) -> Tensor:
        """log π_k + log N(x; μ_k, Σ_k) for each example and component: (N, K) nats."""
        K, D = self.means.shape
        columns = []
        for k in range(K):  # one component at a time: (D, N) of memory, not (K, D, N)
            whitened = torch.linalg.solve_triangular(self.factors[k], (x - self.means[k]).T, upper=False)  # (D, N)
            log_det = self.factors[k].diagonal().log().sum()
            columns.append(-0.5 * whitened.square().sum(dim=0) - log_det)
        return torch.stack(columns, dim=1) - 0.5 * D * math.log(2 * math.pi) + self.weights.log()

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density of each row of x (N, D): (N,) nats, exact."""
        return self.log_joint(x).logsumexp(dim=1)

    def sample(self, n: int, noise: Noise) -> Tensor:
        """Draw n points: (n, D)."""
        u = noise.uniform(n)
        k = torch.searchsorted(self.weights.cumsum(0), u).clamp(max=len(self.weights) - 1)  # (n,)
        eps = noise.normal(n, self.means.shape[1])  # (n, D)
        return self.means[k] + torch.einsum("nij,nj->ni", self.factors[k], eps)

    def fit(self, x: Tensor, noise: Noise, *, steps: int = 50, tolerance: float = 1e-3, ridge: float = 1e-4) -> list[float]:
        """Run expectation-maximisation on x (N, D).

        Parameters
        ----------
        x : (N, D)
            The examples.
        noise : Noise
            Draws the examples that become the first means.
        steps : int
            Iterations at the most.
        tolerance : float
            Stop when the mean log-likelihood rises by less (nats per example).
        ridge : float
            Added to each variance, as a share of the mean variance of the data, so that no component shrinks to a
            point.

        Returns
        -------
        list of float
            Mean log-likelihood before each step, nats per example. It rises at every step, but for the ridge's small
            effect.

        Raises
        ------
        ValueError
            Fewer examples than components, or x of another width.
        """
        K, D = self.means.shape
        if x.ndim != 2 or x.shape[1] != D or len(x) < K:
            raise ValueError(f"x must have shape (N ≥ {K}, {D}), got {tuple(x.shape)}")
        spread = x.var(dim=0).mean()
        floor = ridge * spread * torch.eye(D, device=x.device)
        self.means.copy_(x[noise.permutation(len(x))[:K]])
        self.factors.copy_(torch.linalg.cholesky(torch.cov(x.T).view(D, D) + floor).expand(K, D, D))
        history: list[float] = []
        for _ in range(steps):
            joint = self.log_joint(x)  # E step: who answers for which example?
            history.append(joint.logsumexp(dim=1).mean().item())
            if len(history) > 1 and history[-1] - history[-2] < tolerance:
                break
            share = joint.softmax(dim=1)  # (N, K) responsibilities
            count = share.sum(dim=0) + 1e-6  # (K,)
            self.weights.copy_(count / count.sum())  # M step: each component's weighted mean and covariance
            self.means.copy_(share.T @ x / count[:, None])
            for k in range(K):
                centred = x - self.means[k]
                covariance = (share[:, k, None] * centred).T @ centred / count[k]  # (D, D)
                self.factors[k].copy_(torch.linalg.cholesky(covariance + floor))
        return history


class PictureMixture(nn.Module):
    """A Gaussian mixture of pictures: project on the leading principal components, fit there, sample there, project back.

    Parameters
    ----------
    components : int
        Gaussians, K.
    dimensions : int
        Principal components, D.
    """

    def __init__(self, *, components: int = 100, dimensions: int = 50) -> None:
        super().__init__()
        self.pca = PCA(dimensions)
        self.mixture = GaussianMixture(components, dimensions)

    def fit(self, x: Tensor, noise: Noise, *, steps: int = 50) -> list[float]:
        """Fit to pictures x (N, 1, 28, 28); returns the log-likelihood of the codes before each step, nats per example."""
        codes = self.pca.fit(x).encode(x)
        return self.mixture.fit(codes, noise, steps=steps)

    @torch.no_grad()
    def sample(self, n: int, noise: Noise) -> Tensor:
        """Draw n pictures: (n, 1, 28, 28) in [0, 1]."""
        return self.pca.decode(self.mixture.sample(n, noise)).clamp(0, 1)
