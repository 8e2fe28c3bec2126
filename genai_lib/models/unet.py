"""U-Net for denoising (Ronneberger, Fischer & Brox 2015; Ho, Jain & Abbeel 2020, appendix B), small enough for a CPU.

Down to a half and a quarter of the picture's side, where work costs a fourth and a sixteenth, and up again. On the way
up each size is handed what was known there on the way down. Time and condition steer every block.

B batch, w width, E size of the embedding of time and condition.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TimeEmbedding(nn.Module):
    """Sines and cosines of 1000 t at geometrically spaced frequencies: (B,) in [0, 1] → (B, E).

    Source: Vaswani et al. 2017, §3.5; Ho et al. 2020, appendix B.
    """

    frequencies: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        half = torch.arange(size // 2) / (size // 2)
        self.register_buffer("frequencies", 1000 * torch.exp(-math.log(10_000) * half), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angle = t.float()[:, None] * self.frequencies  # (B, E / 2)
        return torch.cat([angle.sin(), angle.cos()], dim=1)  # (B, E)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)


def _silent(layer: nn.Module) -> nn.Module:
    """The layer with all its weights 0: what it is added to is at first left as it is."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


class Block(nn.Module):
    """Two convolutions beside a shortcut; the embedding scales and shifts each channel between them.

    The second convolution starts at 0, so an untrained block passes its input on.

    Source: Dhariwal & Nichol 2021, §3 (adaptive group normalisation).
    """

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.steer = nn.Linear(embedding, 2 * channels)
        self.before = nn.Sequential(_norm(channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))
        self.norm = _norm(channels)
        self.after = nn.Sequential(nn.SiLU(), _silent(nn.Conv2d(channels, channels, 3, padding=1)))

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        scale, shift = self.steer(embedded)[:, :, None, None].chunk(2, dim=1)  # 2 × (B, C, 1, 1)
        return x + self.after(torch.addcmul(shift, self.norm(self.before(x)), 1 + scale))


class UNet(nn.Module):
    """Picture with noise, time, condition → what to predict (ε, or a velocity), a picture of the same shape.

    The network works on patches: each 2 × 2 pixels become one place (Shi et al. 2016), and one level down 4 × 4 do. Any
    height and width will do: a picture is padded to a multiple of 4 and cut again.

    Parameters
    ----------
    channels : int
        1 for grey, 3 for colour.
    width : int
        Channels at half size; twice as many at a quarter.
    depth : int
        Blocks at a quarter of the size.
    classes : int
        The condition is one of so many classes: y (B,) int64, −1 for none.
    features : int
        The condition is a vector, e.g. of a text: y (B, features), zeros for none.
    """

    def __init__(
        self, *, channels: int = 1, width: int = 32, depth: int = 1, classes: int = 0, features: int = 0
    ) -> None:
        super().__init__()
        if classes and features:
            raise ValueError(f"the condition is a class or a vector, not both: got classes={classes}, features={features}")
        w, E = width, 2 * width
        self.classes, self.features = classes, features
        self.time = nn.Sequential(TimeEmbedding(E), nn.Linear(E, E), nn.SiLU(), nn.Linear(E, E))
        self.condition = nn.Embedding(classes + 1, E) if classes else nn.Linear(features, E) if features else None
        self.enter = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, w, 3, padding=1))
        self.fall = Block(w, E)
        self.down = nn.Conv2d(w, 2 * w, 3, stride=2, padding=1)
        self.deep = nn.ModuleList([Block(2 * w, E) for _ in range(depth)])
        self.up = nn.Sequential(nn.Conv2d(2 * w, w, 1), nn.Upsample(scale_factor=2))
        self.rise = Block(w, E)
        self.keep = _silent(nn.Linear(E, 1))  # how much of x itself to predict: nearly all of it where x is nearly all noise
        last = _silent(nn.Conv2d(w, 4 * channels, 3, padding=1))
        self.leave = nn.Sequential(_norm(w), nn.SiLU(), last, nn.PixelShuffle(2))

    def embed(self, t: Tensor, y: Tensor | None) -> Tensor:
        """Time t (B,) in [0, 1] and condition y, None for no condition at all, as (B, E)."""
        embedded = self.time(t)
        if self.condition is None:
            if y is not None:
                raise ValueError("this network takes no condition: build it with classes=… or features=…")
            return F.silu(embedded)
        B = len(t)
        if y is None:
            y = t.new_full((B,), -1, dtype=torch.long) if self.classes else t.new_zeros(B, self.features)
        elif y.is_floating_point() != bool(self.features) or y.shape != ((B, self.features) if self.features else (B,)):
            wanted = f"float numbers ({B}, {self.features})" if self.features else f"whole numbers ({B},)"
            raise ValueError(f"the condition y must be {wanted}, got {y.dtype} {tuple(y.shape)}")
        return F.silu(embedded + self.condition(y + 1 if self.classes else y))  # row 0 of the table: no class

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        H, W = x.shape[2:]
        e = self.embed(t, y)
        half = self.fall(self.enter(F.pad(x, (0, -W % 4, 0, -H % 4))), e)  # (B, w, H/2, W/2)
        h = self.down(half)  # (B, 2w, H/4, W/4)
        for block in self.deep:
            h = block(h, e)
        h = self.rise(half + self.up(h), e)
        return self.leave(h)[..., :H, :W] + self.keep(e)[..., None, None] * x
