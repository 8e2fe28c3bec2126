"""Does a GAN need more computation than a VAE (claim K5)? Ten paired seeds, with a matched decoder.

The GAN's generator and the VAE's decoder are the same network, and the VAE's encoder is the GAN's discriminator with another
last layer. Both train with Adam at a constant rate, on batches of 128, with averaged weights; each side has its learning rate
from the same grid, chosen on a seed of its own (`--tune`). Every 30 steps the averaged network draws 2,000 digits, whose FID
against the 10,000 test digits is written down. Costs are counted (floating-point operations of a step) and timed: the two
sides take turns in blocks, in seconds of one processor's time, so that whatever else the machine does falls on both.

    python benchmarks/k5_cost.py --out genai_lib/data/k5_cost.json

Rows are written as they come; a file that has some is completed. `--tune` prints the grid and writes nothing.
"""

from __future__ import annotations

import json
import statistics
import time
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import genai_lib
from genai_lib import metrics, pretrained, sweep
from genai_lib.callbacks import EMA, Every
from genai_lib.data import Batches, load
from genai_lib.models.gan import GAN, dcgan
from genai_lib.models.vae import matched_vae
from genai_lib.noise import Noise
from genai_lib.objectives import elbo
from genai_lib.recipes.core import Effort, digits
from genai_lib.recipes.gan import game
from genai_lib.training import Player, Trainer

SEEDS = range(10)
TUNING_SEED = 100
GRID = (1e-3, 2e-3, 4e-3, 8e-3)
RATES = {"GAN": 8e-3, "VAE": 4e-3}  # of the grid, the soonest at FID 20 on the tuning seed
WIDTH, LATENT, BATCH, DECAY = 16, 64, 128, 0.95
STEPS, EVERY, DRAWN = 300, 30, 2_000
BLOCKS, BLOCK = 10, 10


def build(name: str) -> nn.Module:
    """The pair of players, or the VAE made of two networks like theirs."""
    pair = dcgan(width=WIDTH, latent=LATENT)
    return pair if name == "GAN" else matched_vae(pair)


def players_of(model: nn.Module, rate: float) -> list[Player]:
    """Who moves: two in the GAN, one in the VAE."""
    if isinstance(model, GAN):
        return game()(model, Effort(epochs=1, lr=rate), 1)
    adam = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    return [Player("vae", model, lambda batch, noise: {"loss": elbo(model, batch[0], noise).loss()}, adam)]


def trainer_of(name: str, seed: int, rate: float, **options: Any) -> tuple[nn.Module, Trainer]:
    """A fresh model and the loop that trains it; the same seed gives both sides the same batches."""
    torch.manual_seed(seed)
    model = build(name)
    batches = Batches(*digits(torch.device("cpu")), batch_size=BATCH, seed=seed)
    return model, Trainer(players_of(model, rate), batches, seed=seed, **options)


def one_run(name: str, seed: int, rate: float, features: Any, real: metrics.Statistics) -> dict[str, Any]:
    """Train for `STEPS` steps; returns the FID at every look."""
    model, trainer = trainer_of(name, seed, rate)
    average = EMA(model.generator if isinstance(model, GAN) else model, decay=DECAY)

    def look(trainer: Trainer) -> float:
        product, noise = average.module.eval(), Noise(seed, 1)
        drawn = torch.cat([product.sample(500, noise) for _ in range(DRAWN // 500)])
        return metrics.frechet_distance(metrics.statistics(metrics.in_batches(features, drawn)), real)

    watch = Every(EVERY, look)
    trainer.callbacks = [average, watch]
    start = time.process_time()
    trainer.run(STEPS)
    return {"fid": [round(value, 3) for _, value in watch.record], "seconds": round(time.process_time() - start, 1)}


def operations(name: str) -> int:
    """Floating-point operations of one training step: matrix products and convolutions, forward and backward."""
    _, trainer = trainer_of(name, 0, 1e-3)
    with FlopCounterMode(display=False) as counter:
        trainer.run(1)
    return counter.get_total_flops()


def seconds_a_step(precision: str) -> dict[str, list[float]]:
    """Median processor seconds of a step in each block, on one thread; the sides alternate."""
    sides = {name: trainer_of(name, 0, 1e-3, precision=precision, log_every=10**6)[1] for name in RATES}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for block in range(BLOCKS + 1):
        for name, trainer in sides.items():
            ticks: list[float] = []
            trainer.callbacks = [Every(1, lambda trainer, ticks=ticks: ticks.append(time.process_time()))]
            trainer.run(trainer.step + BLOCK)
            if block:  # the first warms up
                found[name].append(round(statistics.median(b - a for a, b in pairwise(ticks)), 5))
    return found


def main() -> None:
    """Tune, or run all seeds and write one file."""
    options = sweep.options("Ten paired seeds for claim K5.", tune="try every learning rate on the tuning seed, write nothing")
    genai_lib.setup(seed=0, threads=1)
    features = pretrained.load("classifier").features
    run = partial(one_run, features=features, real=metrics.statistics(metrics.in_batches(features, load("mnist", "test").x)))
    if options.tune:
        for rate in GRID:
            for name in RATES:
                print(name, rate, json.dumps(run(name, TUNING_SEED, rate)), flush=True)
        return
    report = sweep.reopen(options.out, lambda: {
        "claim": "K5",
        **sweep.head("k5_cost", options.note),
        "settings": {"width": WIDTH, "batch size": BATCH, "learning rates": RATES, "decay": DECAY, "steps": STEPS,
                     "steps between looks": EVERY, "digits drawn": DRAWN, "grid": GRID, "tuning seed": TUNING_SEED},
        "operations a step": {name: operations(name) for name in RATES},
        "processor seconds a step": {precision: seconds_a_step(precision) for precision in ("fp32", "bf16")},
        "rows": [],
    })  # fmt: skip
    for seed in sweep.missing(SEEDS, report):
        row = {"seed": seed, **{name: run(name, seed, rate) for name, rate in RATES.items()}}
        sweep.keep(row, report, options.out)


if __name__ == "__main__":
    main()
