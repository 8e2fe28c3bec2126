"""Small steps between a set and a model: what is done to pictures before they are learned or judged."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genai_lib.noise import Noise


def binarise(x: Tensor, noise: Noise) -> Tensor:
    """Turn grey pixels into 0 or 1, each one being 1 with probability equal to its grey value.

    Done once with a stated seed this is "statically binarised" data, on which a Bernoulli decoder has a true likelihood
    (Salakhutdinov & Murray 2008).

    Parameters
    ----------
    x : (N, …)
        Pixels in [0, 1].
    noise : Noise

    Returns
    -------
    (N, …) of x's type, each value 0 or 1.
    """
    return (noise.uniform(*x.shape) < x).to(x.dtype)


def shift(x: Tensor, noise: Noise, *, pixels: int = 2) -> Tensor:
    """Move each picture by a random number of pixels, at most `pixels` each way; what comes in at the edge is black.

    Parameters
    ----------
    x : (B, C, H, W)
    noise : Noise
    pixels : int

    Returns
    -------
    (B, C, H, W)
    """
    B, _, H, W = x.shape
    corner = noise.integers(2 * pixels + 1, B, 2).to(x.device)  # row and column of the window in the padded picture
    rows = corner[:, :1] + torch.arange(H, device=x.device)  # (B, H)
    columns = corner[:, 1:] + torch.arange(W, device=x.device)  # (B, W)
    padded = F.pad(x, (pixels, pixels, pixels, pixels))
    return _window(padded, rows, columns)


def _window(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """From each picture x (B, C, …) its own rows (B, H) and columns (B, W): (B, C, H, W)."""
    picture = torch.arange(len(x), device=x.device)[:, None, None]
    return x[picture, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def disturb(x: Tensor, noise: Noise, *, pixels: int = 2, colour: float = 0.2, mirror: bool = True) -> Tensor:
    """Move each picture as `shift` does, repeating its edge, mirror half of them, and change their colours a little.

    Each step can be differentiated, so that it can stand between generator and discriminator: a discriminator that only
    ever sees disturbed pictures, real or made, has more to learn by heart.

    Parameters
    ----------
    x : (B, C, H, W)
        Pixels in [0, 1]; the result may leave that range.
    noise : Noise
    pixels : int
        Largest move each way.
    colour : float
        Each colour's distance from white is multiplied by a number within so much of 1: white stays white.
    mirror : bool
        False for pictures in which left and right matter, such as letters.

    Returns
    -------
    (B, C, H, W)

    Source: Zhao et al. 2020, §3.2.
    """
    B, C, H, W = x.shape
    corner = noise.integers(2 * pixels + 1, B, 2) - pixels
    mirrored = noise.uniform(B, 1) < 0.5 * mirror
    rows = (corner[:, :1] + torch.arange(H, device=x.device)).clamp(0, H - 1)  # (B, H)
    columns = (corner[:, 1:] + torch.arange(W, device=x.device)).clamp(0, W - 1)  # (B, W)
    columns = torch.where(mirrored, W - 1 - columns, columns)
    return 1 - (1 - _window(x, rows, columns)) * (1 + colour * (2 * noise.uniform(B, C, 1, 1) - 1))
