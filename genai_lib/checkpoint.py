"""A run's state in one file that is whole or absent.

Tensors go into a safetensors file, everything else (numbers, words, the shape of the tree) as JSON into its header:
nothing is ever unpickled. The file is written beside its final place, flushed to the disk and renamed, so a kill
leaves the old file or the new one, never half of one. A SHA-256 over all of it is checked before anything is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

SUFFIX = ".safetensors"


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged or of another run. The message says which file, and what to do."""


def save(state: Any, path: Path | str) -> Path:
    """Write a tree of dicts, lists, tuples, tensors, numbers, strings and None to one file; returns its path.

    When this returns, the file is on the disk, whole.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_take_apart(state, tensors))
    return write_whole(lambda part: save_file(tensors, part, metadata={"tree": tree, "sha256": _digest(tree, tensors)}), path)


def write_whole(write: Callable[[Path], object], path: Path | str) -> Path:
    """Let `write` make a file beside its place, flush it to the disk and rename it; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + f".{os.getpid()}.part")
    try:
        write(part)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    if os.name == "posix":  # the rename itself must reach the disk too
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    return path


def load(path: Path | str) -> Any:
    """Read back what `save` wrote; tensors come back on the CPU.

    Raises
    ------
    CheckpointError
        The file is missing, truncated, altered, or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}. Start the run anew, or correct the path.")
    remedy = "Delete it and resume from an older one, or start the run anew."
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}). {remedy}") from error
    if "tree" not in metadata:
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of this library. {remedy}")
    if _digest(metadata["tree"], tensors) != metadata.get("sha256"):
        raise CheckpointError(f"{path} is damaged (its SHA-256 does not fit its content). {remedy}")
    return _put_together(json.loads(metadata["tree"]), tensors)


class Folder:
    """The checkpoints of one run in a folder: ``step_00000500.safetensors`` and so on.

    The newest two are kept, so that there is a sound one if the newest is damaged.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def files(self) -> list[Path]:
        """All checkpoints, oldest first."""
        return sorted(self.path.glob(f"step_*{SUFFIX}"))

    def write(self, state: Any, step: int) -> Path:
        """Save the state of one step, then delete what is older than the newest two."""
        file = save(state, self.path / f"step_{step:08d}{SUFFIX}")
        for old in self.files()[:-2]:
            old.unlink()
        return file

    def newest(self) -> Any | None:
        """Load the newest sound checkpoint, or None if there is none at all.

        A damaged one is passed over with a warning that names it.

        Raises
        ------
        CheckpointError
            If there are checkpoints and all are damaged: starting anew must be the reader's decision.
        """
        files = self.files()
        for file in reversed(files):
            try:
                return load(file)
            except CheckpointError as error:
                warnings.warn(f"passing over a checkpoint: {error}", stacklevel=2)
        if files:
            raise CheckpointError(f"every checkpoint in {self.path} is damaged. Delete the folder to start anew.")
        return None


def _take_apart(node: Any, tensors: dict[str, Tensor]) -> Any:
    """Replace each tensor in the tree by its number, and collect it. Tuples and non-string keys survive the JSON."""
    if isinstance(node, Tensor):
        name = f"{len(tensors):06d}"
        tensors[name] = node.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(node, dict):
        return {"dict": [[_take_apart(k, tensors), _take_apart(v, tensors)] for k, v in node.items()]}
    if isinstance(node, list | tuple):
        return {type(node).__name__: [_take_apart(v, tensors) for v in node]}
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(f"a checkpoint holds dicts, lists, tuples, tensors, numbers, strings and None, not {type(node).__name__}")


def _put_together(node: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, value),) = node.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {_put_together(k, tensors): _put_together(v, tensors) for k, v in value}
    items = [_put_together(v, tensors) for v in value]
    return tuple(items) if kind == "tuple" else items


def _digest(tree: str, tensors: dict[str, Tensor]) -> str:
    sha = hashlib.sha256(tree.encode())
    for name in sorted(tensors):
        t = tensors[name]
        sha.update(f"{name} {t.dtype} {tuple(t.shape)}".encode())
        sha.update(t.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
