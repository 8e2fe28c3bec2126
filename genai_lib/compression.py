"""Smaller and faster, at a price in quality: quantisation, pruning, a cache (system S19; erratum X33).

Article C says that compression improves quality. It trades quality for size or time, and `row` shows the rate.

- *int8*, through torchao: a linear layer's weights become 8-bit numbers, one scale a row. Run as they are ("weights"), or
  multiplied as whole numbers with activations that are quantised as they come ("dynamic"; Dettmers et al. 2022).
  Convolutions and embeddings stay as they were. Without a compiler both are *slower* than float32: they save memory.
- *int4*: two weights in a byte, one scale for each `GROUP` of them (groups as in Frantar et al. 2023, without their
  correction of the errors). Only a way to store: unpacked to run.
- *pruning*: the smallest weights become zero (Han et al. 2015, who then train on). Zeros do not run faster in dense
  arithmetic, and only a file that is zipped is smaller for them.
- *cache*: a GPT that keeps its keys and values writes the same text sooner.
"""

from __future__ import annotations

import copy
import importlib
import logging
import statistics
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from genai_lib import pretrained, recipes
from genai_lib.models.gpt import GPT, LanguageModel
from genai_lib.noise import Noise

GROUP = 32  # weights that share a scale: 4.5 bits a weight
Stored = dict[str, Tensor]  # what goes into a file


class CompressionError(RuntimeError):
    """A model cannot be compressed in this way, or torchao is missing. The message says what to do."""


# ---------------------------------------------------------------- four bits


def pack(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Round each weight to one of 15 levels, −7 … 7 times the scale of its group of `GROUP` in reading order.

    The last group may be shorter. The error is at most half a scale, and a scale is a seventh of the group's largest weight,
    rounded to float16.

    Parameters
    ----------
    weights : (…) float32

    Returns
    -------
    codes : (⌈N / 2⌉,) uint8
        Two of N weights in a byte, the first in the lower half.
    scales : (⌈N / GROUP⌉,) float16

    Raises
    ------
    CompressionError
        A weight is not finite, or too large for the scale to fit into float16.
    """
    flat = weights.flatten().float()  # (N,)
    rows = nn.functional.pad(flat, (0, -len(flat) % GROUP)).view(-1, GROUP)  # (⌈N / GROUP⌉, GROUP)
    scales = (rows.abs().amax(dim=1, keepdim=True) / 7).half()
    if not scales.isfinite().all():
        raise CompressionError("weights must be finite and below 458,000 to be packed: train the model again")
    levels = (rows / scales.float().clamp(min=1e-30)).round().clamp(-7, 7).flatten()[: len(flat) + len(flat) % 2]
    low, high = (levels + 8).byte().view(-1, 2).unbind(dim=1)  # (⌈N / 2⌉,) each, values 1 … 15
    return low | high << 4, scales.flatten()


def unpack(codes: Tensor, scales: Tensor, shape: torch.Size) -> Tensor:
    """The weights that `pack` rounded to: float32 of their `shape`."""
    levels = torch.stack([codes & 15, codes >> 4], dim=1).flatten()[: shape.numel()].float() - 8  # (N,)
    return (levels * scales.float().repeat_interleave(GROUP)[: len(levels)]).view(shape)


# ---------------------------------------------------------------- variants of a model


def prune_smallest(model: nn.Module, share: float) -> nn.Module:
    """A copy whose smallest weights, this share of all in matrices and convolutions together, are zero for good."""
    if not 0 <= share < 1:
        raise CompressionError(f"the share to prune must lie in [0, 1), got {share}")
    model = copy.deepcopy(model)
    places = [(m, "weight") for m in model.modules() if getattr(getattr(m, "weight", None), "ndim", 0) > 1]
    prune.global_unstructured(places, pruning_method=prune.L1Unstructured, amount=share)
    for module, name in places:
        prune.remove(module, name)
    return model


def _int8(config: str, model: nn.Module) -> tuple[nn.Module, Stored]:
    if not any(isinstance(m, nn.Linear) for m in model.modules()):
        raise CompressionError(f"a {type(model).__name__} has no linear layer for torchao to quantise")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # torchao's import tells which of its GPU libraries do not fit
    try:
        quantization = importlib.import_module("torchao.quantization")
    except ModuleNotFoundError:
        raise CompressionError("torchao is not installed: pip install 'genai_lib[compress]'") from None
    finally:
        logging.disable(before)
    model = copy.deepcopy(model)
    quantization.quantize_(model, getattr(quantization, config)(set_inductor_config=False))
    return _as_it_is(model)


def _as_it_is(model: nn.Module) -> tuple[nn.Module, Stored]:
    return model, model.state_dict()


def _int4(model: nn.Module) -> tuple[nn.Module, Stored]:
    model, stored = copy.deepcopy(model), {}
    for name, t in model.state_dict().items():
        if t.is_floating_point() and t.ndim > 1:
            stored[f"{name}.codes"], stored[f"{name}.scales"] = packed = pack(t)
            t.copy_(unpack(*packed, t.shape))
        else:
            stored[name] = _half(t)
            t.copy_(stored[name])
    return model, stored


def _half(t: Tensor) -> Tensor:
    return t.half() if t.is_floating_point() else t


VARIANTS: dict[str, Callable[[nn.Module], tuple[nn.Module, Stored]]] = {  # what runs, and what is stored
    "float32": _as_it_is,
    "float16": lambda model: (model, {name: _half(t) for name, t in model.state_dict().items()}),  # as recipes' weights are
    "int8 weights": partial(_int8, "Int8WeightOnlyConfig"),
    "int8 dynamic": partial(_int8, "Int8DynamicActivationInt8WeightConfig"),
    "int4": _int4,
    "half pruned": lambda model: _as_it_is(prune_smallest(model, 0.5)),
}


# ---------------------------------------------------------------- what it costs


def stored_bytes(stored: Stored) -> bytes:
    """The numbers of a model as they lie in a file, one tensor after the other; of torchao's tensors all parts."""
    parts: list[bytes] = []
    todo: list[Any] = list(stored.values())
    while todo:
        t = todo.pop(0)
        if is_traceable_wrapper_subclass(t):
            todo = [getattr(t, name) for name in t.__tensor_flatten__()[0]] + todo
        else:
            parts.append(t.contiguous().numpy().tobytes())
    return b"".join(parts)


def row(name: str, variant: str, *, folder: Path | str = pretrained.FOLDER, repeats: int = 5) -> dict[str, float]:
    """One row of the table: what a recipe's product costs, and is worth, in one of the `VARIANTS`.

    Returns
    -------
    dict
        ``"bytes"`` as stored, ``"bytes zipped"``, ``"ms a sample"`` (a picture of 64 drawn together, or a character; the
        median of `repeats`), and the recipe's figures.

    Raises
    ------
    CompressionError
        For an unknown variant, or a product that draws nothing or cannot be compressed in this way.
    WeightsError
        For missing or damaged weights.
    """
    if variant not in VARIANTS:
        raise CompressionError(f"there is no variant named {variant!r}. The variants are: {', '.join(VARIANTS)}.")
    product, write = pretrained.load(name, folder=folder), recipes.get(name).text
    if not hasattr(product, "sample") or not list(product.parameters()):
        raise CompressionError(f"{name} is no network that draws samples: there is nothing to compress, or to time")
    model: Any
    model, stored = VARIANTS[variant](product)
    raw = stored_bytes(stored)
    seconds = _median(lambda: write(model, 64, Noise(0)) if write else model.sample(64, Noise(0)), repeats)
    costs = {"bytes": len(raw), "bytes zipped": len(zlib.compress(raw)), "ms a sample": 1000 * seconds / 64}
    return costs | pretrained.measure(name, model)


class Forgetful(LanguageModel):
    """A GPT without its cache: at every step it reads the whole text again."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def step(self, tokens: Tensor, state: None) -> tuple[Tensor, None]:
        return self.model.step(tokens, None)[0], None


def cache_row(model: GPT, *, repeats: int = 5) -> dict[str, float]:
    """What a cache costs, gains and changes, over one text as long as the context.

    Returns
    -------
    dict
        ``"with cache"`` and ``"without cache"``, median milliseconds a token; ``"bytes"`` that the cache holds beside the
        weights; ``"same tokens"``, the share of the text's tokens that both ways agree on.
    """
    n, start = model.config.context, torch.zeros(1, 1, dtype=torch.int64)
    ways: dict[str, LanguageModel] = {"with cache": model, "without cache": Forgetful(model)}
    row = {key: 1000 / n * _median(partial(way.sample, start, n, Noise(0)), repeats) for key, way in ways.items()}
    kept, again = (way.sample(start, n, Noise(0))[:, 1:] for way in ways.values())
    same = (kept == again).double().mean().item()
    return row | {"bytes": model.step(start, None)[1].pairs.nbytes, "same tokens": same}


def _median(run: Callable[[], object], repeats: int) -> float:
    """Median seconds, after one run that is not counted."""
    seconds = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])
