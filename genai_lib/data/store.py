"""The packed sets: where they lie, what their hashes are, how they become tensors.

``manifest.json`` lists each file with its SHA-256 and the number of examples of each split; `tools/pack_data.py`
writes both.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent


class DataError(RuntimeError):
    """A data file is missing or damaged, or a name is unknown. The message says what to do."""


class Split(NamedTuple):
    """One part of a set. `x`: the examples, one a row. `y`: their labels."""

    x: Tensor
    y: Tensor


def names(folder: Path | str = FOLDER) -> list[str]:
    """Names of the packed sets."""
    return sorted(_manifest(Path(folder)))


def load(name: str, split: str = "train", *, device: torch.device | str = "cpu", folder: Path | str = FOLDER) -> Split:
    """Load one split of a packed set.

    Parameters
    ----------
    name : str
        A name from `names()`, e.g. ``"mnist"``.
    split : str
        ``"train"`` (60,000 digits of MNIST) or ``"test"`` (10,000).
    device : torch.device or str
        Where the tensors shall live. Batches cut from them are born there.
    folder : path
        A folder with packed sets and their ``manifest.json``: your own sets load through the same door.

    Returns
    -------
    Split
        `x` (N, C, H, W) float32 pixels in [0, 1]; `y` (N,) int64 labels.

    Raises
    ------
    DataError
        For an unknown name, a wrong split, a missing file, a damaged file.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    if name not in manifest:
        raise DataError(f"there is no set named {name!r}. The sets are: {', '.join(sorted(manifest))}.")
    entry = manifest[name]
    if split not in entry["splits"]:
        raise DataError(f"{name} has no split named {split!r}. Its splits are: {', '.join(entry['splits'])}.")
    packed = _read(folder / entry["file"], entry["sha256"])
    with np.load(io.BytesIO(packed)) as arrays:
        x = torch.from_numpy(arrays[f"{split}_x"]).to(device)
        y = torch.from_numpy(arrays[f"{split}_y"]).to(device, torch.int64)
    return Split(x.to(torch.float32).div_(255), y)


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise DataError(f"{path} is missing. {_remedy(folder)}")
    manifest: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return manifest


def _read(path: Path, sha256: str) -> bytes:
    if not path.is_file():
        raise DataError(f"{path} is missing. {_remedy(path.parent)}")
    packed = path.read_bytes()
    found = hashlib.sha256(packed).hexdigest()
    if found != sha256:
        raise DataError(
            f"{path.name} is damaged (SHA-256 {found[:8]}… instead of {sha256[:8]}…). {_remedy(path.parent)}"
        )
    return packed


def _remedy(folder: Path) -> str:
    if folder == FOLDER:
        return "Reinstall genai_lib, or rebuild it with `make data`."
    return f"Pack the set again into {folder} (tools/pack_data.py shows how), or correct `folder`."
