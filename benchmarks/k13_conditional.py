"""Can a GAN be told what to draw, and does it cost quality (claim K13)? Ten paired seeds.

For each seed, two DCGANs that differ in one thing: both players of the second are told the digit. They play equally many
steps, on the same batches in the same order, from the same seed, at the same learning rates. Each then gets the same 10,000
orders, the labels of the first 10,000 training digits; the unconditional one cannot read them. Its pictures are judged by

    asked digit seen     share of the pictures in which the shipped classifier sees the digit that was ordered
    asked, neighbour     the same by another judge: the label of the nearest of 20,000 training digits (50 principal components)
    fid, kid             against the 10,000 test digits, on the classifier's features
    fid, 50 principal components
    shares               share of each digit among the pictures, as the classifier sees them

The learning rate is the one of the *unconditional* DCGAN's recipe, and the smaller batch was tried on that one alone, with a
seed that is not used here.

    python benchmarks/k13_conditional.py --out genai_lib/data/k13_conditional.json

It keeps finished rows in --folder and goes on from there.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import genai_lib
from genai_lib import metrics, pretrained, recipes, sweep
from genai_lib.data import load
from genai_lib.models.pca import PCA
from genai_lib.noise import Noise

SEEDS = range(10)
SIDES = {"without": "dcgan", "with": "dcgan-conditional"}
EFFORT = {"epochs": 0.35, "batch_size": 64, "lr": 5e-4, "precision": "bf16", "ema": 0.98}
SAMPLES = 10_000
EVERY = 5  # KID on every fifth picture: its kernel matrix grows with the square


class Jury:
    """Who looks at the pictures, and what they compare them with."""

    def __init__(self) -> None:
        train, test = load("mnist", "train"), load("mnist", "test")
        self.classifier = pretrained.load("classifier")
        self.pca = PCA(50).fit(train.x)
        self.asked = train.y[:SAMPLES]
        self.known, self.names = self.pca.encode(train.x[:20_000]), train.y[:20_000]
        self.real = {
            "classifier": metrics.in_batches(self.classifier.features, test.x),
            "50 principal components": self.pca.encode(test.x),
        }

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> dict[str, Any]:
        """The figures of 10,000 pictures, the i-th made to the i-th order."""
        features = metrics.in_batches(self.classifier.features, pictures)
        codes = self.pca.encode(pictures)
        seen = self.classifier.head(features.relu()).argmax(dim=1)
        nearest = self.names[metrics.nearest(codes, self.known)[1]]
        real = self.real
        return {
            "asked digit seen": round((seen == self.asked).double().mean().item(), 4),
            "asked, neighbour": round((nearest == self.asked).double().mean().item(), 4),
            "fid": round(metrics.fid(features, real["classifier"]), 4),
            "kid": round(metrics.kid(features[::EVERY], real["classifier"][::EVERY]), 5),
            "fid, 50 principal components": round(metrics.fid(codes, real["50 principal components"]), 4),
            "shares": [round(v, 4) for v in (seen.bincount(minlength=10) / SAMPLES).tolist()],
        }


@torch.no_grad()
def drawn(generator: Any, asked: Tensor, seed: int) -> Tensor:
    """One picture for each order, 500 at a time."""
    noise = Noise(seed, 13)
    orders = asked.split(500) if generator.classes else [None] * (len(asked) // 500)
    return torch.cat([generator.sample(500, noise, y=y) for y in orders])


def one_run(side: str, seed: int, jury: Jury) -> dict[str, Any]:
    """Train one side with one seed, and judge it."""
    start = time.process_time()
    run = recipes.run(SIDES[side], "minute", seed=seed, **EFFORT)
    seconds = time.process_time() - start
    return {"training, CPU seconds": round(seconds, 1), **jury(drawn(run.product.cpu(), jury.asked, seed))}


def main() -> None:
    """Run all seeds and write one file."""
    options = sweep.options(
        "Ten paired seeds for claim K13.",
        out="the JSON file to write",
        own={"--folder": {"type": Path, "default": Path("runs/k13"), "help": "keeps the finished rows"}},
    )
    options.folder.mkdir(parents=True, exist_ok=True)
    genai_lib.setup(seed=0)
    before, jury, rows = time.process_time(), Jury(), []
    total = time.process_time() - before
    for seed in SEEDS:
        kept = options.folder / f"{seed}.json"
        if not kept.exists():
            before = time.process_time()
            row: dict[str, Any] = {"seed": seed, **{side: one_run(side, seed, jury) for side in SIDES}}
            row["CPU seconds"] = round(time.process_time() - before, 1)
            kept.write_text(json.dumps(row), encoding="utf-8")
        rows.append(json.loads(kept.read_text(encoding="utf-8")))
        total += rows[-1]["CPU seconds"]
        print(json.dumps(rows[-1]), flush=True)
    report = {
        "claim": "K13",
        **sweep.head("k13_conditional", options.note),
        "CPU seconds": round(total),
        "settings": {**EFFORT, "samples": SAMPLES, "samples for KID": SAMPLES // EVERY},
        "rows": rows,
    }
    sweep.save(report, options.out)


if __name__ == "__main__":
    main()
