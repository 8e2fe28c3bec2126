"""The latent map: drag a point over a plane of two latent dimensions and see the picture it decodes to.

The decoder is copied into the widget in half precision and runs in the browser (latent_map.js); `decode` is the same
arithmetic in NumPy, so a test can hold the two together.

Source of the figure: Kingma & Welling 2014, appendix A (the learned data manifold of a two-dimensional latent space).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets

from genai_lib.widgets.script import with_theme

if TYPE_CHECKING:
    from torch import Tensor, nn

MAX_PARAMETERS = 60_000  # the page carries them all, two bytes each
STEPS_PER_UNIT = 4096    # posterior means are stored as int16 in steps of 1/4096: within ±8, error below 0.0002
UNLABELLED = 255
POINT = np.dtype([("x", "<i2"), ("y", "<i2"), ("label", "u1")])  # five bytes a point
HINT = "genai_lib.models.vae.map_vae() builds a model that fits."


class LatentMap(anywidget.AnyWidget):
    """A plane of latent vectors z = (z₁, z₂), a point to drag over it, and the picture the decoder draws there.

    Make one with `LatentMap.from_model`. The attribute `z` is the point; with a live kernel it follows the reader's hand,
    and setting it moves the point.

    Parameters
    ----------
    layers : sequence of int
        Widths of the decoder, input first: (2, 64, 64, 784). ReLU between layers, a sigmoid at the end.
    weights : bytes
        Per layer the matrix (out, in) row by row, then the bias (out,), as little-endian float16.
    points : bytes
        Encoded pictures, five bytes each: z₁ and z₂ as int16 in steps of 1/4096, then the class (255: none).
    z : (z₁, z₂)
        Where the point starts.
    extent : float
        The plane shows −extent … extent in both directions.

    Raises
    ------
    ValueError
        If the layers, the weights and the points do not fit together.
    traitlets.TraitError
        If z is not two finite numbers on the map.
    """

    _esm = with_theme("latent_map")
    _css = Path(__file__).with_name("latent_map.css")

    layers = traitlets.List(traitlets.Int(), read_only=True).tag(sync=True)
    weights = traitlets.Bytes(read_only=True).tag(sync=True)
    points = traitlets.Bytes(read_only=True).tag(sync=True)
    extent = traitlets.Float(read_only=True).tag(sync=True)
    z = traitlets.List(traitlets.Float(), minlen=2, maxlen=2).tag(sync=True)

    def __init__(self, layers: Sequence[int], weights: bytes, *, points: bytes = b"", z: Sequence[float] = (0.0, 0.0),
                 extent: float = 3.0, **options: Any) -> None:
        _check_layers(layers)
        if len(weights) != 2 * _count(layers):
            raise ValueError(f"layers {list(layers)} need {_count(layers)} float16 weights, so {2 * _count(layers)} bytes; "
                             f"got {len(weights)} bytes.")
        if len(points) % POINT.itemsize:
            raise ValueError(f"points take {POINT.itemsize} bytes each, got {len(points)} bytes in all.")
        if not 0 < extent < 8:
            raise ValueError(f"extent must lie between 0 and 8 (points are stored within ±8), got {extent}.")
        for name, value in (("layers", list(layers)), ("weights", weights), ("points", points), ("extent", extent)):
            self.set_trait(name, value)
        super().__init__(z=[float(value) for value in z], **options)

    @classmethod
    def from_model(cls, vae: nn.Module, images: Tensor | None = None, labels: Tensor | None = None, *,
                   max_points: int = 1000, z: Sequence[float] = (0.0, 0.0), extent: float = 3.0) -> LatentMap:
        """Copy a trained model's decoder, and the posterior means of some pictures, into a widget.

        Parameters
        ----------
        vae : nn.Module
            Its `decoder` is made of Linear and ReLU layers, takes 2 latent dimensions and returns the logits of a square
            picture; at most 60,000 parameters. `encode(x) -> (mu, logvar)` is needed only with images.
        images : (N, 1, H, W), optional
            Pixels in [0, 1]. The first `max_points` are encoded and shown as points of the map.
        labels : (N,), optional
            Class of each picture, 0–9: a point is drawn as its digit.
        max_points : int
            At most this many points. A thousand take 5 kB.
        z, extent
            As in `LatentMap`. Points beyond the extent are kept in the data and not drawn.

        Raises
        ------
        TypeError
            If the model has no decoder, or no encoder though images are given.
        ValueError
            If the decoder is of another kind or size, if half precision changes what it draws by more than 2/255 in some
            pixel, if images and labels do not fit together, or if max_points is negative.
        """
        layers, weights = _copy_decoder(vae)
        widget = cls(layers, weights, points=_encode(vae, images, labels, max_points), z=z, extent=extent)
        widget._check_against(vae)
        return widget

    def decode(self, z: Any = None) -> np.ndarray:
        """What the browser draws at z: pixels in [0, 1], computed with the widget's own half-precision weights.

        Parameters
        ----------
        z : (2,) or (N, 2), optional
            Latent vectors. Default: where the point is now.

        Returns
        -------
        (H, W) or (N, H, W) float32.
        """
        h = np.asarray(self.z if z is None else z, dtype=np.float32)
        if h.ndim not in (1, 2) or h.shape[-1] != 2:
            raise ValueError(f"z must have shape (2,) or (N, 2), got {h.shape}.")
        values = np.frombuffer(self.weights, dtype="<f2").astype(np.float32)
        for i, (width_in, width_out) in enumerate(pairwise(self.layers)):
            matrix, bias, values = np.split(values, [width_in * width_out, (width_in + 1) * width_out])
            h = (np.maximum(h, 0) if i else h) @ matrix.reshape(width_out, width_in).T + bias  # (…, width_out)
        side = math.isqrt(self.layers[-1])
        return (0.5 + 0.5 * np.tanh(0.5 * h)).reshape(*h.shape[:-1], side, side)  # the sigmoid, without overflow

    @traitlets.validate("z")
    def _check_z(self, proposal: dict[str, Any]) -> list[float]:
        z: list[float] = proposal["value"]
        if not all(abs(value) <= self.extent for value in z):  # false for nan, too
            raise traitlets.TraitError(f"z must be two numbers on the map, each within ±{self.extent:g}; got {z}.")
        return z

    def _check_against(self, vae: nn.Module) -> None:
        import torch

        grid = np.linspace(-self.extent, self.extent, 9, dtype=np.float32)
        z = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
        decode: Callable[[Tensor], Tensor] = getattr(vae, "decode", getattr(vae, "decoder", vae))
        with torch.no_grad():
            theirs = decode(torch.from_numpy(z).to(next(vae.parameters()))).sigmoid().float().cpu().numpy()
        gap = float(np.abs(theirs.reshape(len(z), -1) - self.decode(z).reshape(len(z), -1)).max())
        if not gap <= 2 / 255:
            raise ValueError(f"the copied decoder differs from the model by up to {gap:.3g} in a pixel (allowed: 2/255). "
                             "Either its forward() does more than its layers in order, or it returns probabilities instead "
                             f"of logits, or its weights are too large for half precision. {HINT}")

    def __repr__(self) -> str:
        count = len(self.points) // POINT.itemsize
        return (f"LatentMap(decoder {'→'.join(map(str, self.layers))}, {count:,} points, "
                f"z = ({self.z[0]:.2f}, {self.z[1]:.2f}))")


def _count(layers: Sequence[int]) -> int:
    return sum((width_in + 1) * width_out for width_in, width_out in pairwise(layers))


def _check_layers(layers: Sequence[int]) -> None:
    if len(layers) < 2 or layers[0] != 2:
        raise ValueError("the map is a plane, so the decoder must take 2 latent dimensions; "
                         f"its layers are {list(layers)}. {HINT}")
    if math.isqrt(layers[-1]) ** 2 != layers[-1]:
        raise ValueError(f"the decoder must end in the pixels of a square picture, such as 784; got {layers[-1]}. {HINT}")
    if _count(layers) > MAX_PARAMETERS:
        raise ValueError(f"the decoder has {_count(layers):,} parameters; the page carries at most {MAX_PARAMETERS:,}. {HINT}")


def _copy_decoder(vae: nn.Module) -> tuple[list[int], bytes]:
    """Widths and float16 weights of a decoder Linear, ReLU, Linear, …, Linear (a final Unflatten is allowed)."""
    from torch import nn

    decoder = getattr(vae, "decoder", vae)
    if not isinstance(decoder, nn.Module):
        raise TypeError(f"LatentMap needs a model with a decoder of Linear and ReLU layers, got {type(vae).__name__}. {HINT}")
    steps = [module for module in decoder.modules() if not list(module.children())]
    if steps and isinstance(steps[-1], nn.Unflatten):
        steps.pop()
    for i, step in enumerate(steps):
        wanted = nn.ReLU if i % 2 else nn.Linear
        if not isinstance(step, wanted):
            raise ValueError(f"the browser runs Linear, ReLU, Linear, …, Linear; layer {i} of the decoder is "
                             f"{type(step).__name__} where {wanted.__name__} was expected. {HINT}")
    if len(steps) % 2 == 0:
        raise ValueError(f"the decoder must end in a Linear layer that returns logits; it has {len(steps)} layers. {HINT}")
    linear = [step for step in steps if isinstance(step, nn.Linear)]
    layers = [linear[0].in_features, *(step.out_features for step in linear)]
    _check_layers(layers)
    arrays: list[np.ndarray] = []
    for step in linear:
        bias = step.weight.new_zeros(step.out_features) if step.bias is None else step.bias
        arrays += [tensor.detach().float().cpu().numpy().ravel() for tensor in (step.weight, bias)]
    values = np.concatenate(arrays)
    if not np.abs(values).max() <= np.finfo(np.float16).max:  # false for nan, too
        raise ValueError(f"the decoder has weights up to {np.abs(values).max():.3g}; half precision ends at 65504. {HINT}")
    return layers, values.astype("<f2").tobytes()


def _encode(vae: nn.Module, images: Tensor | None, labels: Tensor | None, max_points: int) -> bytes:
    """Posterior means of the first `max_points` images, five bytes each."""
    import torch

    if images is None:
        if labels is not None:
            raise ValueError("labels without images: pass the pictures they belong to.")
        return b""
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"one label a picture, please: got {len(images)} images and {len(labels)} labels.")
    if labels is not None and not bool(((labels >= 0) & (labels <= 9)).all()):
        raise ValueError("labels must lie between 0 and 9: the map has ten colours.")
    if max_points < 0:
        raise ValueError(f"max_points must be 0 or more, got {max_points}.")
    encode: Callable[[Tensor], tuple[Tensor, Tensor]] | None = getattr(vae, "encode", None)
    if encode is None:
        raise TypeError(f"{type(vae).__name__} has no encode(x) -> (mu, logvar), so images cannot be placed on the map. "
                        "Leave images out, or pass the whole VAE.")
    with torch.no_grad():
        mu = encode(images[:max_points].to(next(vae.parameters())))[0].float().cpu().numpy()
    packed = np.zeros(len(mu), dtype=POINT)
    limit = np.iinfo(np.int16)
    packed["x"], packed["y"] = np.clip(np.rint(mu.T * STEPS_PER_UNIT), limit.min, limit.max)
    packed["label"] = UNLABELLED if labels is None else labels[:max_points].cpu().numpy()
    return packed.tobytes()
