"""A two-dimensional toy, the ring: a distribution one can see whole.

It is a mixture of Gaussians, so its density is known exactly: what a model learned can be held against the truth.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genai_lib.noise import Noise


def ring_centres(modes: int = 8, radius: float = 2.0) -> Tensor:
    """The centres of the ring's Gaussians, (modes, 2), evenly spread on a circle."""
    angle = torch.arange(modes) * (2 * math.pi / modes)
    return radius * torch.stack((angle.cos(), angle.sin()), dim=1)


def ring(n: int, noise: Noise, *, modes: int = 8, radius: float = 2.0, sigma: float = 0.1) -> Tensor:
    """Draw (n, 2) points from a ring of equal Gaussians with standard deviation sigma."""
    centres = ring_centres(modes, radius).to(noise.device)
    return centres[noise.integers(modes, n)] + sigma * noise.normal(n, 2)


def ring_log_density(x: Tensor, *, modes: int = 8, radius: float = 2.0, sigma: float = 0.1) -> Tensor:
    """Log-density of the ring at each row of x (n, 2): (n,) nats, exact."""
    centres = ring_centres(modes, radius).to(x)
    squared = (x[:, None, :] - centres).square().sum(dim=2) / sigma**2  # (n, modes)
    return torch.logsumexp(-0.5 * squared, dim=1) - math.log(modes * 2 * math.pi * sigma**2)
