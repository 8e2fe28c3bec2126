"""When should the fully connected GAN stop? Five seeds, five passes over the digits, a look after every half pass.

    python benchmarks/gan_mlp_passes.py --out genai_lib/data/gan_mlp_passes.json

Each look draws 2,000 digits from the generator as it is (not its average), from the same noise each time, and writes down their
FID against the 10,000 test digits and their contrast: the mean distance of a pixel from mid-grey, 0 for all grey, 1 for black
and white.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn

import genai_lib
from genai_lib import metrics, pretrained, recipes, sweep
from genai_lib.callbacks import Every
from genai_lib.data import load
from genai_lib.noise import Noise
from genai_lib.training import Callback, Trainer

SEEDS = range(5)
PASSES = 5
HALF_PASS = 468  # steps
DRAWN = 2_000


def one_run(seed: int) -> dict[str, list[float]]:
    """Train for `PASSES` passes; returns the FID and the contrast after every half pass."""
    features = pretrained.load("classifier").features
    real = metrics.in_batches(features, load("mnist", "test").x)
    seen: dict[str, list[float]] = {"fid": [], "contrast": []}

    def watch(model: nn.Module) -> list[Callback]:
        def look(trainer: Trainer) -> None:
            noise = Noise(0, 71, device=trainer.device)
            drawn = torch.cat([model.generator.sample(500, noise).cpu() for _ in range(DRAWN // 500)])
            seen["fid"].append(round(metrics.fid(metrics.in_batches(features, drawn), real), 2))
            seen["contrast"].append(round((2 * drawn - 1).abs().mean().item(), 4))

        return [Every(HALF_PASS, look)]

    recipes.run("gan-mlp", "shipped", seed=seed, epochs=PASSES, callbacks=watch)
    return seen


def main() -> None:
    """Run all seeds and write one file."""
    parser = argparse.ArgumentParser(description="FID of the fully connected GAN, half pass by half pass.")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    options = parser.parse_args()
    genai_lib.setup(seed=0)
    start, rows = time.perf_counter(), []
    for seed in SEEDS:
        rows.append({"seed": seed, **one_run(seed)})
        print(json.dumps(rows[-1]), flush=True)
    report = {
        **sweep.head("gan_mlp_passes"),
        "seconds": round(time.perf_counter() - start),
        "settings": {"passes": PASSES, "steps between looks": HALF_PASS, "digits drawn": DRAWN},
        "rows": rows,
    }
    sweep.save(report, options.out)


if __name__ == "__main__":
    main()
