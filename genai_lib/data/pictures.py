"""Pictures as arrays: tile many into one, write it to a file."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor


def tile(x: Tensor, *, columns: int | None = None, gap: int = 2) -> np.ndarray:
    """Lay pictures out in rows, with white gaps between them.

    Parameters
    ----------
    x : (N, C, H, W)
        Pixels in [0, 1]; C is 1 (grey) or 3 (colour).
    columns : int, optional
        Pictures in a row. Default: as square as possible.
    gap : int
        Pixels between two pictures.

    Returns
    -------
    (rows·(H + gap) − gap, columns·(W + gap) − gap, 3) uint8.

    Raises
    ------
    ValueError
        If x has another shape.
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3) or len(x) == 0:
        raise ValueError(f"pictures must have shape (N, 1 or 3, H, W) with N ≥ 1, got {tuple(x.shape)}")
    N, _, H, W = x.shape
    columns = columns or math.ceil(math.sqrt(N))
    rows = math.ceil(N / columns)
    pixels = (x.detach().float().clamp(0, 1) * 255).round().byte().cpu().permute(0, 2, 3, 1).numpy()  # (N, H, W, C)
    sheet = np.full((rows * (H + gap) - gap, columns * (W + gap) - gap, 3), 255, dtype=np.uint8)
    for i, picture in enumerate(pixels):
        top, left = (i // columns) * (H + gap), (i % columns) * (W + gap)
        sheet[top : top + H, left : left + W] = picture
    return sheet


def _sheet(x: Tensor, columns: int | None, scale: int) -> Image.Image:
    sheet = Image.fromarray(tile(x, columns=columns))
    return sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.NEAREST)


def png(x: Tensor, *, columns: int | None = None, scale: int = 2) -> bytes:
    """Pictures (N, C, H, W) in [0, 1] as one PNG sheet, each pixel scale × scale large: the bytes of the file."""
    file = io.BytesIO()
    _sheet(x, columns, scale).save(file, "PNG")
    return file.getvalue()


def save_png(x: Tensor, path: Path | str, *, columns: int | None = None, scale: int = 2) -> Path:
    """Write pictures (N, C, H, W) in [0, 1] as one PNG sheet, each pixel scale × scale large; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sheet(x, columns, scale).save(path)
    return path
