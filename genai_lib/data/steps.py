"""Small steps between a set and a model: what is done to pictures before they are learned or judged."""

from __future__ import annotations

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
    (N, …) float32, each value 0 or 1.
    """
    return (noise.uniform(*x.shape) < x).to(x.dtype)


def shift(x: Tensor, noise: Noise, *, pixels: int = 2) -> Tensor:
    """Move the whole batch by a random number of pixels, at most `pixels` each way; what comes in at the edge is black.

    Parameters
    ----------
    x : (B, C, H, W)
    noise : Noise
    pixels : int

    Returns
    -------
    (B, C, H, W)
    """
    H, W = x.shape[2:]
    down, right = noise.integers(2 * pixels + 1, 2).tolist()
    return F.pad(x, (pixels, pixels, pixels, pixels))[:, :, down : down + H, right : right + W]
