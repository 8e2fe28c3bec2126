"""Where random numbers come from: one seed for a run, one key for each place that draws.

A generator that is shared by everything makes each number depend on everything drawn before it: an extra sample picture
changes the training that follows. Here each draw has a key instead (for training: the step, the player and the turn),
and the numbers depend on the seed and the key alone. A run that is killed and resumed at step 731 draws what it would
have drawn.
"""

from __future__ import annotations

import hashlib
import os
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Noise:
    """Random numbers that depend on a seed and a key, and on nothing else.

    Parameters
    ----------
    seed : int
        The run's seed, 0 or larger.
    *key : int
        What the numbers are for, e.g. ``(step, turn)``. Another key gives independent numbers.
    device : torch.device or str
        Where the numbers are needed. They are drawn there, so a GPU's numbers differ from a CPU's.
    rank, world : int
        In a run of several processes each draws the numbers of the *joint* batch and keeps its own rows, so that two
        processes see what one process would have seen. Alone: 0 and 1.

    Notes
    -----
    Successive calls on one object continue its stream, like any generator. SHA-256 mixes seed and key.
    """

    def __init__(self, seed: int, *key: int, device: torch.device | str = "cpu", rank: int = 0, world: int = 1) -> None:
        if seed < 0 or any(k < 0 for k in key):
            raise ValueError(f"seed and key must be 0 or larger, got seed={seed}, key={key}")
        self.device = torch.device(device)
        self.rank, self.world = rank, world
        mixed = hashlib.sha256(repr((seed, *key)).encode()).digest()  # (3, 5) and (3, 5, 0) differ, and so do all others
        # A meta tensor has a shape and no numbers: any generator will do, and only a CPU one exists for it.
        self.generator = torch.Generator("cpu" if self.device.type == "meta" else self.device)
        self.generator.manual_seed(int.from_bytes(mixed[:8], "little") >> 1)

    def normal(self, rows: int, *shape: int) -> Tensor:
        """Draw from N(0, 1): a (rows, …) float32 tensor."""
        return self._rows(torch.randn(rows * self.world, *shape, **self._place()), rows)

    def uniform(self, rows: int, *shape: int) -> Tensor:
        """Draw from the uniform distribution on [0, 1): a (rows, …) float32 tensor."""
        return self._rows(torch.rand(rows * self.world, *shape, **self._place()), rows)

    def integers(self, high: int, rows: int, *shape: int) -> Tensor:
        """Draw whole numbers from 0 to high − 1: a (rows, …) int64 tensor."""
        return self._rows(torch.randint(high, (rows * self.world, *shape), **self._place()), rows)

    def permutation(self, length: int) -> Tensor:
        """Shuffle 0 … length − 1: a (length,) int64 tensor, the same on every process."""
        return torch.randperm(length, **self._place())

    def _place(self) -> dict[str, Any]:
        return {"generator": self.generator, "device": self.device}

    def _rows(self, joint: Tensor, rows: int) -> Tensor:
        return joint if self.world == 1 else joint[self.rank * rows : (self.rank + 1) * rows]


def setup(*, seed: int = 0, threads: int | None = None) -> torch.device:
    """Seed everything and choose the device: the one switch of the library that is global.

    Python's, numpy's and torch's generators get the seed (networks draw their first weights from torch's). On a GPU,
    cuDNN is asked for repeatable algorithms.

    Parameters
    ----------
    seed : int
        The seed, 0 or larger.
    threads : int, optional
        Processor threads torch may use. Default: two, as on the machine this course is tuned for, or as many as the
        environment variable ``OMP_NUM_THREADS`` says.

    Returns
    -------
    torch.device
        A CUDA GPU if there is one, else the CPU. (Apple's MPS is not chosen by itself: its numbers are not checked
        here.)
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if threads is None and "OMP_NUM_THREADS" not in os.environ:
        threads = min(2, os.cpu_count() or 1)
    if threads is not None:
        torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        return torch.device("cuda")
    return torch.device("cpu")
