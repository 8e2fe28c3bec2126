"""Principal component analysis: the best linear autoencoder, in closed form.

Projecting on the D directions of largest variance gives the smallest squared reconstruction error of all linear codes
with D numbers (Pearson 1901; Baldi & Hornik 1989 for the autoencoder view). It is the baseline for every code learned
here.

N examples, D numbers in a code, P pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PCA(nn.Module):
    """Mean and D = `dimensions` leading directions of a set of pictures, each of this `shape`; call `fit` first."""

    mean: Tensor
    directions: Tensor
    variances: Tensor

    def __init__(self, dimensions: int, *, shape: tuple[int, ...] = (1, 28, 28)) -> None:
        super().__init__()
        pixels = math.prod(shape)
        if not 0 < dimensions <= pixels:
            raise ValueError(f"dimensions must lie between 1 and {pixels}, got {dimensions}")
        self.shape = shape
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("directions", torch.eye(dimensions, pixels))  # (D, P), largest variance first
        self.register_buffer("variances", torch.ones(dimensions))  # (D,)

    def fit(self, x: Tensor) -> PCA:
        """Find the directions of the pictures x (N, …); returns itself."""
        flat = x.flatten(1)  # (N, P)
        mean = flat.mean(dim=0)
        covariance = (flat - mean).T @ (flat - mean) / (len(flat) - 1)  # (P, P)
        values, vectors = torch.linalg.eigh(covariance.double())  # ascending
        D = len(self.directions)
        self.mean.copy_(mean)
        self.directions.copy_(vectors[:, -D:].flip(1).T)
        self.variances.copy_(values[-D:].flip(0))
        return self

    def encode(self, x: Tensor) -> Tensor:
        """Project pictures (B, …) on the directions: (B, D)."""
        return (x.flatten(1) - self.mean) @ self.directions.T

    def decode(self, z: Tensor) -> Tensor:
        """Turn codes (B, D) back into pictures (B, …)."""
        return (self.mean + z @ self.directions).view(-1, *self.shape)
