"""Pictures a second through one training step of the DCGAN: the library's recipe, in bfloat16 and in fp32.

    python benchmarks/gan_throughput.py

A step trains both players on one batch of 128 real digits. The first steps are not counted.
"""

from __future__ import annotations

import time
from itertools import pairwise

from genai_lib import pretrained, recipes, setup
from genai_lib.callbacks import Every
from genai_lib.training import Trainer


def pictures_a_second(precision: str, *, steps: int = 150) -> float:
    """Median over windows of 25 steps, the first left out."""
    stamps: list[float] = []

    def stamp(trainer: Trainer) -> float:
        stamps.append(time.perf_counter())
        return stamps[-1]

    batch = recipes.get("dcgan").minute.batch_size
    recipes.run("dcgan", "minute", precision=precision, epochs=steps * batch / 60_000, callbacks=[Every(25, stamp)])
    rates = sorted(25 * batch / (b - a) for a, b in pairwise(stamps))
    return rates[len(rates) // 2]


def main() -> None:
    setup(seed=0)
    print(pretrained.machine())
    for precision in ("bf16", "fp32", "bf16", "fp32"):
        print(f"dcgan, {precision}: {pictures_a_second(precision):,.0f} pictures/s", flush=True)


if __name__ == "__main__":
    main()
