"""Are a GAN's pictures more realistic than a VAE's, and is a GAN the family for pictures (claims K6, K7)? Ten paired seeds.

Three ways to learn to draw, given the same processor seconds: a GAN; the VAE made of the same two networks (its decoder is the
GAN's generator); and a diffusion model that is told no class. The seconds of a step are taken first (`--clock`), the sides in
turns; they fix how many steps each side gets (`STEPS`). All train on batches of 64 with Adam at a constant rate and average
their weights; each has its rate from the same grid, chosen on a seed of its own (`--tune`), in runs two fifths longer than
those kept here. Each run draws 10,000 pictures, the VAE's twice: once as the decoder's mean, and once with every pixel drawn
from the decoder. They are judged by

    fid                  against the 10,000 test digits, on the features of the shipped classifier
    fid, binarised       against test digits whose pixels were drawn black or white, which is what a drawn pixel can match
    fid, 50 principal components
    sharpness            mean squared Laplacian, over that of real digits: 1 as sharp, below 1 softer, above 1 rougher
    precision, recall, density, coverage    of 2,000 against 2,000 test digits, on the classifier's features

    python benchmarks/k6_realism.py --out genai_lib/data/k6_realism.json

Rows are written as they come; a file that has some is completed. `--tune` and `--clock` print and write nothing.
"""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import genai_lib
from genai_lib import metrics, pretrained, sweep
from genai_lib.callbacks import EMA
from genai_lib.data import Batches, load
from genai_lib.data.steps import binarise
from genai_lib.models.diffusion import Diffusion, Schedule
from genai_lib.models.gan import dcgan
from genai_lib.models.pca import PCA
from genai_lib.models.unet import UNet
from genai_lib.models.vae import matched_vae
from genai_lib.noise import Noise
from genai_lib.objectives import denoising_loss, elbo
from genai_lib.recipes import BINARISATION_SEED
from genai_lib.recipes.core import Effort, digits
from genai_lib.recipes.gan import game
from genai_lib.speed import seconds_in_turns
from genai_lib.training import Player, Trainer

SEEDS, TUNING_SEED = range(10), 100
GRID = 1e-3, 3e-3, 1e-2
RATES = {"GAN": 3e-3, "VAE": 3e-3, "diffusion": 3e-3}  # of the grid, the lowest FID on the tuning seed
STEPS = {"GAN": 400, "VAE": 690, "diffusion": 480}  # as many as fill 12.7 processor seconds of the machine that ran them
WIDTH, BATCH, DECAY, DRAWN, LOOKED_AT, STOPS = 16, 64, 0.99, 10_000, 2_000, 10


def player(name: str, model: Any, loss: Any, rate: float) -> list[Player]:
    """One player, with Adam at a constant rate."""
    adam = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    return [Player(name, model, lambda batch, noise: {"loss": loss(model, batch[0], noise)}, adam)]


def make(name: str, rate: float) -> tuple[Any, Any, list[Player]]:
    """A fresh model, the part of it that draws, and who moves."""
    if name == "diffusion":
        model: Any = Diffusion(UNet(width=WIDTH), Schedule(), predicts="v")
        return model, model, player(name, model, lambda m, x, noise: denoising_loss(m, x, noise).mean() / x[0].numel(), rate)
    model = dcgan(width=WIDTH)
    if name == "GAN":
        return model, model.generator, game()(model, Effort(epochs=1, lr=rate), 1)
    model = matched_vae(model)
    return model, model, player(name, model, lambda m, x, noise: elbo(m, x, noise).loss(), rate)


def train(name: str, rate: float, seed: int, steps: int) -> tuple[Any, float]:
    """Train once; the averaged network that draws, and the processor seconds."""
    torch.manual_seed(seed)
    _, product, players = make(name, rate)
    average, batches = EMA(product, decay=DECAY), Batches(*digits(torch.device("cpu")), batch_size=BATCH, seed=seed)
    trainer, start = Trainer(players, batches, seed=seed, precision="bf16", callbacks=[average]), time.process_time()
    trainer.run(steps)
    return average.module.eval(), time.process_time() - start


def roughness(x: Tensor) -> float:
    """Mean squared Laplacian of pictures (N, 1, H, W): each pixel against the mean of its four neighbours."""
    kernel = torch.tensor([[0.0, -0.25, 0.0], [-0.25, 1.0, -0.25], [0.0, -0.25, 0.0]]).view(1, 1, 3, 3)
    return F.conv2d(x, kernel).square().mean().item()


class Judge:
    """Real digits, in all forms in which pictures are compared with them."""

    def __init__(self) -> None:
        test = load("mnist", "test").x
        self.features = partial(metrics.in_batches, pretrained.load("classifier").features)
        self.pca = PCA(50).fit(load("mnist", "train").x)
        self.real = self.features(test)
        whole = {"fid": self.real, "fid, binarised": self.features(binarise(test, Noise(BINARISATION_SEED)))}
        self.statistics = {name: metrics.statistics(f) for name, f in whole.items()}
        self.codes, self.roughness = metrics.statistics(self.pca.encode(test)), roughness(test)

    def __call__(self, pictures: Tensor) -> dict[str, float]:
        """The figures of 10,000 pictures."""
        made = self.features(pictures)
        own, codes = metrics.statistics(made), metrics.statistics(self.pca.encode(pictures))
        found = {name: metrics.frechet_distance(own, real) for name, real in self.statistics.items()}
        found["fid, 50 principal components"] = metrics.frechet_distance(codes, self.codes)
        found["sharpness"] = roughness(pictures) / self.roughness
        pair = self.real[:LOOKED_AT], made[:LOOKED_AT]
        found |= metrics.precision_recall(*pair)._asdict() | metrics.density_coverage(*pair)._asdict()
        return {name: round(value, 4) for name, value in found.items()}


def one_run(name: str, seed: int, judge: Judge, rate: float) -> dict[str, Any]:
    """Train one side with one seed, draw, and judge; a VAE's pictures are judged in both forms."""
    product, seconds = train(name, rate, seed, STEPS[name])
    noise, few = Noise(seed, 1), {"steps": STOPS} if name == "diffusion" else {}
    start = time.process_time()
    pictures = torch.cat([product.sample(500, noise, **few) for _ in range(DRAWN // 500)])  # (10000, 1, 28, 28)
    drawing = time.process_time() - start
    took = {"seconds": round(seconds, 1), "seconds a thousand pictures": round(1000 * drawing / DRAWN, 3)}
    if name != "VAE":
        return took | judge(pictures)
    return took | {"mean": judge(pictures), "sample": judge(binarise(pictures, Noise(seed, 2)))}


def clock() -> dict[str, float]:
    """Mean processor seconds of a step, the sides taking turns."""
    sides = {}
    for name in STEPS:
        torch.manual_seed(0)
        sides[name] = Trainer(make(name, 1e-3)[2], Batches(*digits(torch.device("cpu")), batch_size=BATCH), precision="bf16")
    return seconds_in_turns(sides, block=8)


def main() -> None:
    """Time, tune, or run all seeds and write one file."""
    options = sweep.options(
        "Ten paired seeds for claims K6 and K7.",
        tune="try every learning rate on the tuning seed, write nothing",
        clock="time a step of each side, write nothing",
    )
    genai_lib.setup(seed=0, threads=1)
    if options.clock:
        print(json.dumps(clock()))
        return
    judge = Judge()
    if options.tune:
        for rate in GRID:
            for name in STEPS:
                print(name, rate, json.dumps(one_run(name, TUNING_SEED, judge, rate)), flush=True)
        return
    report = sweep.reopen(options.out, lambda: {
        "claim": "K6, K7",
        **sweep.head("k6_realism", options.note),
        "settings": {"width": WIDTH, "batch size": BATCH, "steps": STEPS, "learning rates": RATES, "grid": GRID,
                     "tuning seed": TUNING_SEED, "decay": DECAY, "precision": "bf16", "digits drawn": DRAWN,
                     "digits for precision and recall": LOOKED_AT, "stops of the diffusion's DDIM": STOPS},
        "rows": [],
    })  # fmt: skip
    for seed in sweep.missing(SEEDS, report):
        row = {"seed": seed, **{name: one_run(name, seed, judge, rate) for name, rate in RATES.items()}}
        sweep.keep(row, report, options.out)


if __name__ == "__main__":
    main()
