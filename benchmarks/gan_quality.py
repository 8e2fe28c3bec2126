"""How good are a DCGAN and the fully connected GAN after the same wall time?

    python benchmarks/gan_quality.py [--epochs 1]

Trains the DCGAN for some epochs, then the fully connected pair for as long, on the same machine in the same run. FID and KID of
10,000 samples against the 10,000 test digits, beside the floor (10,000 training digits) and the shipped mixture of Gaussians.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from genai_lib import metrics, pretrained, recipes, setup
from genai_lib.data import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=float, default=1, help="of the DCGAN")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    setup(seed=0)
    judge = pretrained.judge()
    assert judge is not None
    real = metrics.in_batches(judge.features, load("mnist", "test").x)
    floor = metrics.in_batches(judge.features, load("mnist", "train").x[:10_000])
    figures: dict[str, Any] = {"machine": pretrained.machine()}

    def report(name: str, quality: dict[str, float]) -> None:
        figures[name] = quality
        print(f"{name}:", {key: round(value, 4) for key, value in quality.items()}, flush=True)

    report("floor, real against real", {"fid": metrics.fid(floor, real), "kid": metrics.kid(floor, real)})
    report("mixture of Gaussians", recipes.sample_quality(pretrained.load("mixture"), judge))
    convolutional = recipes.run("dcgan", "minute", epochs=options.epochs)
    pace = recipes.run("gan-mlp", "minute", epochs=0.2).seconds / 0.2  # seconds an epoch
    connected = recipes.run("gan-mlp", "minute", epochs=convolutional.seconds / pace)
    for name, run in {"dcgan": convolutional, "gan-mlp": connected}.items():
        report(name, {"seconds": run.seconds} | recipes.sample_quality(run.product, judge))
    print(f"the DCGAN's FID is {figures['gan-mlp']['fid'] / figures['dcgan']['fid']:.1f} times lower")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
