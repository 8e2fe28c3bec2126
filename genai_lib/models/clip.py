"""Two towers, one for pictures and one for words, whose vectors meet where they belong together (Radford et al. 2021).

The text tower reads a text as a bag of hashed pieces: words, their stretches of three letters, Chinese characters and pairs
of neighbours. There is no list of words to fall out of: a word never seen shares pieces with words that were.

B pictures, N texts, L pieces of the longest text, F numbers a vector.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genai_lib.models.diffusion import Diffusion
from genai_lib.noise import Noise

BUCKETS = 8192


def pieces(text: str) -> list[str]:
    """Cut a text: `Red heart` is ‹red›, ‹re, red, ed›, ‹heart›, ‹he, hea, …; `红心` is 红, 心, 红心. Capitals do not count.

    Source: Bojanowski et al. 2017, §3.2, for the pieces of words.
    """
    cut: list[str] = []
    for run in re.findall(r"[\u4e00-\u9fff]+|[^\W_\u4e00-\u9fff]+", text.casefold()):
        if "\u4e00" <= run[0] <= "\u9fff":
            cut += [*run, *(run[i : i + 2] for i in range(len(run) - 1))]
        else:
            word = f"‹{run}›"
            cut += [word, *(word[i : i + 3] for i in range(len(word) - 2) if len(word) > 3)]
    return cut


def encode_text(texts: Sequence[str], *, buckets: int = BUCKETS) -> Tensor:
    """Number the pieces of each text from 1 to buckets − 1, by their CRC-32: (N, L) int64, filled up with 0.

    Two pieces may share a number: with 8,192 of them a text of 20 pieces rarely suffers.

    Raises
    ------
    ValueError
        If there is no text, or one without a letter or a digit.
    """
    rows = [[1 + zlib.crc32(piece.encode()) % (buckets - 1) for piece in pieces(text)] for text in texts]
    if not rows or not all(rows):
        empty = "there is none" if not rows else f"{texts[rows.index([])]!r} has none"
        raise ValueError(f"a text needs a letter, a digit or a Chinese character, and {empty}: describe what to see")
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


class TextTower(nn.Module):
    """A vector for each piece, their mean, and two layers: numbers of pieces (N, L) from `encode_text` → (N, features)."""

    def __init__(self, features: int, *, width: int = 64, buckets: int = BUCKETS) -> None:
        super().__init__()
        self.buckets = buckets
        self.pieces = nn.EmbeddingBag(buckets, width, mode="mean", padding_idx=0)
        nn.init.normal_(self.pieces.weight, std=0.1)  # short, so that steps of one size turn them fast
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Dropout(0.3), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, features)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layers(self.pieces(tokens))


class CLIP(nn.Module):
    """A picture tower for 32 × 32 colour pictures, a text tower, and a temperature that is learned.

    Parameters
    ----------
    features : int
        F.
    width : int
        Channels of the picture tower's first layer.
    """

    def __init__(self, *, features: int = 64, width: int = 32) -> None:
        super().__init__()
        w = width

        def layer(i: int, o: int) -> list[nn.Module]:
            return [nn.Conv2d(i, o, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]

        self.body = nn.Sequential(*layer(3, w), *layer(w, 2 * w), *layer(2 * w, 4 * w), nn.Flatten())  # (B, 4w · 4 · 4)
        self.picture = nn.Sequential(nn.Dropout(0.3), nn.Linear(64 * w, features))
        self.text = TextTower(features)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def features(self, x: Tensor) -> Tensor:
        """What KID compares, (B, F): the directions, √F long, so that its kernel is (cosine + 1)³."""
        directions = self.pictures(x)
        return directions * math.sqrt(directions.shape[1])

    def pictures(self, x: Tensor) -> Tensor:
        """Directions of pictures (B, 3, 32, 32) in [0, 1]: (B, F), each of length 1."""
        return F.normalize(self.picture(self.body(x)), dim=1)

    def texts(self, tokens: Tensor) -> Tensor:
        """Directions of texts (N, L) from `encode_text`: (N, F), each of length 1."""
        return F.normalize(self.text(tokens), dim=1)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Cosine of each text with each picture, over the temperature, which stays above 1/100: (N, B)."""
        return self.texts(tokens) @ self.pictures(x).T * self.log_scale.exp().clamp(max=100.0)


class TextToPicture(nn.Module):
    """A text tower that tells a diffusion model what to draw; both learn from the denoising loss alone.

    Parameters
    ----------
    diffusion : Diffusion
        Its network takes vectors of F `features`; zeros stand for no text.
    text : TextTower
    """

    def __init__(self, diffusion: Diffusion, text: TextTower) -> None:
        super().__init__()
        self.diffusion, self.text = diffusion, text

    def tell(self, tokens: Tensor) -> Tensor:
        """What the network is told of texts (N, L): their directions, √F long, so that each number is about 1: (N, F)."""
        directions = F.normalize(self.text(tokens), dim=1)
        return directions * math.sqrt(directions.shape[1])

    @torch.no_grad()
    def sample(
        self, n: int, noise: Noise, *, prompt: str | Sequence[str] | None = None, guidance: float = 3.0, steps: int = 25
    ) -> Tensor:
        """Draw n pictures (n, C, H, W) in [0, 1] of one prompt, or of n prompts; of anything, if there is none."""
        if prompt is None:
            return self.diffusion.sample(n, noise, steps=steps)
        prompts = [prompt] * n if isinstance(prompt, str) else prompt
        if len(prompts) != n:
            raise ValueError(f"{n} pictures need one prompt or {n} of them, got {len(prompts)}")
        y = self.tell(encode_text(prompts, buckets=self.text.buckets).to(noise.device))  # (n, F)
        return self.diffusion.sample(n, noise, y=y, guidance=guidance, steps=steps)
