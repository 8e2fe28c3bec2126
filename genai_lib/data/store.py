"""The packed sets: where they lie, what their hashes are, how they become tensors.

``manifest.json`` lists each file with its SHA-256, what it holds (pictures where nothing is said) and the number of
examples (of a text: characters) in each split; `tools/pack_data.py` writes both.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent
OPENED_WITH = {"pictures": "load", "text": "load_text", "poems": "load_poems", "levels": "load_levels"}


class DataError(RuntimeError):
    """A data file is missing or damaged, or a name is unknown. The message says what to do."""


class Split(NamedTuple):
    """One part of a set. `x`: the examples, one a row. `y`: their labels."""

    x: Tensor
    y: Tensor


def names(folder: Path | str = FOLDER) -> list[str]:
    """Names of the sets: the packed ones, and in the package's own folder those that are made when asked for."""
    return sorted({*_manifest(Path(folder)), *(["digits8"] if Path(folder) == FOLDER else [])})


def load(name: str, split: str = "train", *, device: torch.device | str = "cpu", folder: Path | str = FOLDER) -> Split:
    """Load one split of a set of pictures.

    Parameters
    ----------
    name : str
        A name from `names()`, e.g. ``"mnist"``.
    split : str
        ``"train"`` or ``"test"``: 60,000 and 10,000 digits of ``"mnist"``; 1,500 and 297 of scikit-learn's ``"digits8"``,
        in their order; of ``"emoji"`` (labelled with one of 8 groups) nine and one of ten *concepts*, so that a man, a
        woman and a person who cook stay together.
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
        For an unknown name, a set that holds something else, a wrong split, a missing file, a damaged file.
    """
    if name == "digits8" and Path(folder) == FOLDER:
        return _digits8(split, torch.device(device))
    arrays = read(name, split, "pictures", folder)
    x = torch.from_numpy(arrays["x"]).to(device)
    y = torch.from_numpy(arrays["y"]).to(device, torch.int64)
    return Split(x.to(torch.float32).div_(255), y)


def read(name: str, split: str, kind: str, folder: Path | str) -> dict[str, np.ndarray]:
    """Read the arrays of one split, after all checks: ``{"x": …, "y": …}`` where the file has ``train_x``, ``train_y``."""
    folder = Path(folder)
    manifest = _manifest(folder)
    if name not in manifest:
        raise DataError(f"there is no set named {name!r}. The sets are: {', '.join(names(folder))}.")
    entry = manifest[name]
    held = entry.get("kind", "pictures")
    if held != kind:
        raise DataError(f"{name} holds {held}, not {kind}: open it with {OPENED_WITH[held]}().")
    _check(name, split, entry["splits"])
    packed = checked(folder / entry["file"], entry["sha256"], remedy=_remedy(folder))
    with np.load(io.BytesIO(packed)) as arrays:
        return {key.removeprefix(f"{split}_"): arrays[key] for key in arrays.files if key.startswith(f"{split}_")}


def read_text(name: str, split: str, kind: str, folder: Path | str, *, part: str = "text") -> str:
    """Read a part of one split that is stored as the bytes of a UTF-8 text."""
    return read(name, split, kind, folder)[part].tobytes().decode()


def checked(path: Path, sha256: str, *, remedy: str, error: type[Exception] = DataError) -> bytes:
    """Read a file with this SHA-256; raises `error`, which ends with the remedy, if it is missing or damaged."""
    if not path.is_file():
        raise error(f"{path} is missing. {remedy}")
    packed = path.read_bytes()
    found = hashlib.sha256(packed).hexdigest()
    if found != sha256:
        raise error(f"{path.name} is damaged (SHA-256 {found[:8]}… instead of {sha256[:8]}…). {remedy}")
    return packed


def _check(name: str, split: str, splits: Iterable[str]) -> None:
    if split not in splits:
        raise DataError(f"{name} has no split named {split!r}. Its splits are: {', '.join(splits)}.")


def _digits8(split: str, device: torch.device) -> Split:
    _check("digits8", split, ("train", "test"))
    from sklearn.datasets import load_digits  # a second of import time that only this set needs

    x, y = map(torch.from_numpy, load_digits(return_X_y=True))  # (1797, 64) grey values 0 … 16
    rows = slice(1_500) if split == "train" else slice(1_500, None)
    return Split((x[rows].view(-1, 1, 8, 8) / 16).to(device, torch.float32), y[rows].to(device, torch.int64))


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise DataError(f"{path} is missing. {_remedy(folder)}")
    manifest: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return manifest


def _remedy(folder: Path) -> str:
    if folder == FOLDER:
        return "Reinstall genai_lib, or rebuild it with `make data`."
    return f"Pack the set again into {folder} (tools/pack_data.py shows how), or correct `folder`."
