"""Two-dimensional toys: distributions one can see whole.

The ring is a mixture of Gaussians, so its density is known exactly: what a model learned can be held against the truth.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genai_lib.noise import Noise

NAMES = ("ring", "two moons", "spiral")


def sample(name: str, n: int, noise: Noise) -> Tensor:
    """Draw n points of a toy by name.

    Parameters
    ----------
    name : str
        ``"ring"``, ``"two moons"`` or ``"spiral"``.
    n : int
        How many.
    noise : Noise
        Where the random numbers come from.

    Returns
    -------
    (n, 2) float32, roughly within [−3, 3]².

    Raises
    ------
    ValueError
        For an unknown name.
    """
    if name == "ring":
        return ring(n, noise)
    if name == "two moons":
        return two_moons(n, noise)
    if name == "spiral":
        return spiral(n, noise)
    raise ValueError(f"there is no toy named {name!r}. The toys are: {', '.join(NAMES)}.")


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


def two_moons(n: int, noise: Noise, *, sigma: float = 0.1) -> Tensor:
    """Draw (n, 2) points from two interleaved half circles of radius 1.5, blurred by a Gaussian of deviation sigma."""
    upper = noise.integers(2, n).float() * 2 - 1  # +1: upper moon, −1: lower moon
    angle = math.pi * noise.uniform(n)
    x = 1.5 * angle.cos() - 0.75 * upper
    y = upper * (1.5 * angle.sin() - 0.375)
    return torch.stack((x, y), dim=1) + sigma * noise.normal(n, 2)


def spiral(n: int, noise: Noise, *, turns: float = 2.0, sigma: float = 0.05) -> Tensor:
    """Draw (n, 2) points along an Archimedean spiral that ends at radius 2.5, blurred by a Gaussian of deviation sigma."""
    t = noise.uniform(n).sqrt()  # the square root spreads the points evenly along the arm
    angle = 2 * math.pi * turns * t
    return 2.5 * t[:, None] * torch.stack((angle.cos(), angle.sin()), dim=1) + sigma * noise.normal(n, 2)
