"""How far a long computation has come: one bar, on the screen of one process."""

from __future__ import annotations

import os

from tqdm.auto import tqdm


def speaks() -> bool:
    """Whether this process speaks for its run: it is the only one, or the first of those that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def bar(total: int, unit: str, *, initial: int = 0, delay: float = 0.0) -> tqdm:
    """A progress bar; none if the environment has ``TQDM_DISABLE``, and none in a process that does not speak.

    Parameters
    ----------
    total : int
        How many units there are.
    unit : str
        What is counted, e.g. ``"step"``.
    initial : int
        How many are done already.
    delay : float
        Seconds before it is shown: what is done sooner shows none.
    """
    quiet = bool(os.environ.get("TQDM_DISABLE")) or not speaks()
    return tqdm(total=total, initial=initial, unit=unit, delay=delay, disable=quiet)
