"""How good are a DCGAN and the fully connected GAN after the same wall time?

    python benchmarks/gan_quality.py [--epochs 2]

Trains the DCGAN for some epochs, then the fully connected pair for as long, on the same machine in the same run. FID and KID of
10,000 samples against the 10,000 test digits, beside the floor (10,000 training digits) and the shipped mixture of Gaussians.
"""

from __future__ import annotations

import argparse

from genai_lib import metrics, pretrained, recipes, setup
from genai_lib.data import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=float, default=2, help="of the DCGAN")
    options = parser.parse_args()
    setup(seed=0)
    judge = pretrained.judge()
    assert judge is not None
    real = metrics.in_batches(judge.features, load("mnist", "test").x)
    floor = metrics.in_batches(judge.features, load("mnist", "train").x[:10_000])
    print(f"floor, real against real:  FID {metrics.fid(floor, real):.3f}  KID {metrics.kid(floor, real):.4f}", flush=True)
    mixture = recipes.sample_quality(pretrained.load("mixture"), judge)
    print(f"mixture of Gaussians:      FID {mixture['fid']:.3f}  KID {mixture['kid']:.4f}", flush=True)

    convolutional = recipes.run("dcgan", "minute", epochs=options.epochs)
    pace = recipes.run("gan-mlp", "minute", epochs=0.2).seconds / 0.2  # seconds an epoch
    connected = recipes.run("gan-mlp", "minute", epochs=convolutional.seconds / pace)
    fids = {}
    for name, run in {"DCGAN": convolutional, "fully connected GAN": connected}.items():
        quality = recipes.sample_quality(run.product, judge)
        fids[name] = quality["fid"]
        print(f"{name}, {run.seconds:.0f} s:  FID {quality['fid']:.3f}  KID {quality['kid']:.4f}", flush=True)
    print(f"the DCGAN's FID is {fids['fully connected GAN'] / fids['DCGAN']:.1f} times lower")


if __name__ == "__main__":
    main()
