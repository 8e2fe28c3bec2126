"""Can an autoencoder be used to generate (claim K8)? Ten paired seeds.

For each seed: an autoencoder and a VAE of the same layers, trained for equally many steps on the same batches, and five ways
to draw 10,000 digits, each judged by FID and KID against the 10,000 test digits:

    AE, z ~ N(0, I)        the autoencoder's decoder, fed with the VAE's prior
    AE, mixture            the same decoder, fed from 10 Gaussians fitted to the codes of 20,000 training digits
    PCA, mixture           the same mixture on 20 principal components, decoded linearly: the baseline without a network
    VAE, z ~ N(0, I)       the VAE as it is meant
    VAE, mixture           the VAE's decoder, fed from 10 Gaussians fitted to the encoder's means

    python benchmarks/k8_autoencoder.py --out genai_lib/data/k8_autoencoder.json

It keeps finished trainings in --folder and goes on from there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import genai_lib
from genai_lib import metrics, pretrained, recipes, sweep
from genai_lib.data import load
from genai_lib.models.mixture import GaussianMixture, PictureMixture
from genai_lib.models.pca import PCA
from genai_lib.noise import Noise

SEEDS = range(10)
EPOCHS = 5.0
LEARNING_RATE = 3e-3
CODES = 20_000
SAMPLES = 10_000
EVERY = 5  # KID on every fifth picture: its kernel matrix grows with the square


def mixture_of(codes: Tensor, seed: int) -> GaussianMixture:
    """Ten Gaussians fitted to codes (N, Z), in at most 30 rounds."""
    mixture = GaussianMixture(10, codes.shape[1])
    mixture.fit(codes, Noise(seed, 1), steps=30)
    return mixture


def train(name: str, seed: int, folder: Path) -> tuple[Any, float]:
    """Train one recipe, or take the finished run from the folder; returns the model and its seconds."""
    kept = folder / f"{name}_{seed}.pt"
    if kept.exists():
        saved = torch.load(kept, weights_only=True)
        model = recipes.get(name).build()
        model.load_state_dict(saved["weights"])
        return model.eval(), saved["seconds"]
    done = recipes.run(name, "shipped", seed=seed, epochs=EPOCHS, lr=LEARNING_RATE)
    torch.save({"weights": done.model.state_dict(), "seconds": done.seconds}, kept)
    return done.model, done.seconds


@torch.no_grad()
def samples_of(seed: int, folder: Path) -> tuple[dict[str, Tensor], float]:
    """Draw 10,000 digits in each of the five ways."""
    x = load("mnist", "train").x[:CODES]
    autoencoder, first = train("autoencoder", seed, folder)
    vae, second = train("vae-mlp", seed, folder)
    linear = PictureMixture(components=10, dimensions=20)
    linear.pca.fit(load("mnist", "train").x)
    prior = Noise(seed, 2).normal(SAMPLES, 20)
    codes = {"AE": autoencoder.encode(x), "VAE": vae.encode(x)[0], "PCA": linear.pca.encode(x)}
    draws = {name: mixture_of(code, seed).sample(SAMPLES, Noise(seed, 3)) for name, code in codes.items()}
    made = {
        "AE, N(0, I)": autoencoder.decode(prior).sigmoid(),
        "AE, mixture": autoencoder.decode(draws["AE"]).sigmoid(),
        "PCA, mixture": linear.pca.decode(draws["PCA"]).clamp(0, 1),
        "VAE, N(0, I)": vae.decode(prior).sigmoid(),
        "VAE, mixture": vae.decode(draws["VAE"]).sigmoid(),
    }
    return made, first + second


def main() -> None:
    """Run all seeds and write one file."""
    options = sweep.options(
        "Ten paired seeds for claim K8.",
        out="the JSON file to write",
        own={
            "--folder": {"type": Path, "default": Path("runs/k8"), "help": "keeps the finished trainings"},
            "--train-only": {"action": "store_true", "help": "train and keep, judge nothing"},
        },
    )
    options.folder.mkdir(parents=True, exist_ok=True)
    genai_lib.setup(seed=0)
    if options.train_only:
        for seed in SEEDS:
            for name in ("autoencoder", "vae-mlp"):
                print(name, seed, f"{train(name, seed, options.folder)[1]:.0f} s", flush=True)
        return
    judges = {
        "classifier": pretrained.load("classifier").features,
        "50 principal components": PCA(50).fit(load("mnist", "train").x).encode,
    }
    test = load("mnist", "test").x
    real = {name: metrics.in_batches(judge, test) for name, judge in judges.items()}
    rows = []
    for seed in SEEDS:
        made, seconds = samples_of(seed, options.folder)
        row: dict[str, Any] = {"seed": seed, "training seconds": round(seconds)}
        for way, pictures in made.items():
            features = {name: metrics.in_batches(judge, pictures) for name, judge in judges.items()}
            row[way] = {
                "fid": round(metrics.fid(features["classifier"], real["classifier"]), 4),
                "kid": round(metrics.kid(features["classifier"][::EVERY], real["classifier"][::EVERY]), 5),
                "fid, 50 principal components": round(
                    metrics.fid(features["50 principal components"], real["50 principal components"]), 4
                ),
            }
        rows.append(row)
        print(json.dumps(row), flush=True)
    report = {
        "claim": "K8",
        **sweep.head("k8_autoencoder", options.note),
        "settings": {
            "epochs": EPOCHS, "learning rate": LEARNING_RATE, "codes fitted": CODES,
            "samples": SAMPLES, "samples for KID": SAMPLES // EVERY,
        },
        "rows": rows,
    }
    sweep.save(report, options.out)


if __name__ == "__main__":
    main()
