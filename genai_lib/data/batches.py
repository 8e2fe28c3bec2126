"""Batches: rows of tensors that already live on the device, picked by one index operation a batch.

The usual loader fetches examples one by one in Python, transforms each, and stacks them; on a small model that costs
more than the training itself. Here a batch is a function of (seed, number of the batch), so a resumed run continues
where it was.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from genai_lib.noise import Noise


class Batches:
    """Endless shuffled batches of one or more tensors with equally many rows.

    ``batches[i]`` is batch number i: each epoch is a fresh permutation of the rows, cut into whole batches; the rows
    left over at its end wait for another epoch.

    Parameters
    ----------
    *tensors : (N, …)
        What to cut, e.g. pictures and labels.
    batch_size : int
        Rows in a batch, over all processes together.
    seed : int
        Fixes every permutation.
    rank, world : int
        This process's number and the number of processes. Each gets its own slice of the joint batch.

    Raises
    ------
    ValueError
        Tensors of unequal length, a batch larger than the set, or one that does not divide among the processes.
    """

    def __init__(self, *tensors: Tensor, batch_size: int, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        if not tensors:
            raise ValueError("Batches needs at least one tensor")
        lengths = [len(t) for t in tensors]
        if len(set(lengths)) > 1:
            raise ValueError(f"all tensors must have equally many rows, got {lengths}")
        if not 0 < batch_size <= lengths[0]:
            raise ValueError(f"batch_size must lie between 1 and the {lengths[0]} rows there are, got {batch_size}")
        if batch_size % world:
            raise ValueError(f"batch_size must be a multiple of the number of processes, got {batch_size} and {world}")
        self.tensors, self.batch_size, self.seed = tensors, batch_size, seed
        self.rank, self.world = rank, world
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def share(self, rank: int, world: int) -> Self:
        """The same batches, of which process number `rank` of `world` gets its own slice."""
        return type(self)(*self.tensors, batch_size=self.batch_size, seed=self.seed, rank=rank, world=world)

    @property
    def per_epoch(self) -> int:
        """Whole batches in one pass over the rows."""
        return len(self.tensors[0]) // self.batch_size

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        if number < 0:
            raise IndexError(f"the number of a batch must be 0 or larger, got {number}")
        epoch, place = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            order = Noise(self.seed, epoch).permutation(len(self.tensors[0]))
            self._epoch, self._order = epoch, order.to(self.tensors[0].device)
        mine = self.batch_size // self.world
        start = place * self.batch_size + self.rank * mine
        rows = self._order[start : start + mine]
        return tuple(t.index_select(0, rows) for t in self.tensors)
