"""How many steps does a picture need, and what does guidance cost? The shipped diffusion and flow, sampled in many ways.

Each row is one way to draw 500 digits, 50 of each class, from the same first noise: steps in DDIM, in DDPM (DDIM with
eta = 1), in Euler's and Heun's method for the flow, and weights of guidance. Of each row are kept

    calls             of the network for a picture
    kid, parts        against 2,000 test digits, on the features of the shipped classifier: of all, and of each fifth
    precision, recall against as many test digits, on the same features
    kinds             effective number of different pictures among those of a class (pixels), mean of the ten
    asked digit seen  share in which the classifier sees the digit that was asked for
    seconds           of processor time

    python benchmarks/diffusion_steps.py --out genai_lib/data/diffusion_steps.json

Rows are written as they come; a second call goes on where the first one stopped. About four minutes of one processor core.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

import genai_lib
from genai_lib import Noise, metrics, pretrained, sweep
from genai_lib.data import load

DIGITS, AT_ONCE, REAL = 500, 100, 2_000
WAYS = [
    *(("DDIM", steps, 1.0) for steps in (1, 2, 3, 5, 10, 20, 50, 100)),
    *(("Heun", steps, 1.0) for steps in (1, 2, 3, 5, 10, 25)),
    *(("DDIM", 10, guidance) for guidance in (1.5, 2.0, 3.0, 6.0)),
    *(("DDPM", steps, 1.0) for steps in (2, 5, 10, 20, 50)),
    *(("Euler", steps, 1.0) for steps in (1, 2, 3, 5, 10, 20)),
]


def draw(model: Any, way: str, steps: int, guidance: float, y: Tensor, noise: Noise) -> Tensor:
    """Digits of the classes y (N,), in one of the ways: (N, 1, 28, 28) in [0, 1]."""
    method = {"eta": float(way == "DDPM")} if way in ("DDIM", "DDPM") else {"heun": way == "Heun"}
    return model.sample(len(y), noise, y=y, guidance=guidance, steps=steps, **method)


def one_way(way: str, steps: int, guidance: float, judge: Any, real: Tensor) -> dict[str, Any]:
    """Draw and judge, beside the real digits' features (N, F)."""
    model = pretrained.load("diffusion" if way in ("DDIM", "DDPM") else "flow")
    start, y = time.process_time(), torch.arange(10).repeat(AT_ONCE // 10)
    drawn = torch.cat([draw(model, way, steps, guidance, y, Noise(0, part)) for part in range(DIGITS // AT_ONCE)])
    seconds = time.process_time() - start
    made, asked = metrics.in_batches(judge.features, drawn), y.repeat(DIGITS // AT_ONCE)
    likeness = metrics.precision_recall(real[:DIGITS], made)
    return {
        "way": way, "steps": steps, "calls": steps * (1 + (way == "Heun")) * (1 + (guidance != 1)), "guidance": guidance,
        "digits": DIGITS, "kid": round(metrics.kid(made, real), 5),
        "parts": [round(metrics.kid(part, real), 5) for part in made.chunk(5)],
        "precision": likeness.precision, "recall": likeness.recall,
        "kinds": round(sum(metrics.vendi_score(drawn[asked == c]) for c in range(10)) / 10, 3),
        "asked digit seen": metrics.accuracy(judge, drawn, asked), "seconds": round(seconds, 1),
    }  # fmt: skip


def main() -> None:
    """Go through all the ways and write one file."""
    options = sweep.options((__doc__ or "").split("\n")[0])
    genai_lib.setup(seed=0)
    report = sweep.reopen(options.out, lambda: {
        **sweep.head("diffusion_steps", options.note),
        "weights": {name: pretrained.card(name)["sha256"] for name in ("diffusion", "flow")},
        "rows": [],
    })  # fmt: skip
    judge: Any = pretrained.load("classifier")
    real = metrics.in_batches(judge.features, load("mnist", "test").x[:REAL])
    done = {(row["way"], row["steps"], row["guidance"]) for row in report["rows"]}
    for way in WAYS:
        if way in done:
            continue
        sweep.keep(one_way(*way, judge, real), report, options.out)


if __name__ == "__main__":
    main()
