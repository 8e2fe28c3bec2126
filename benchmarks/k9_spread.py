"""How much does quality vary from run to run (claims K9 and K10)? Twenty seeds, four learning rates, three families.

A GAN, a Wasserstein GAN with gradient penalty, and a VAE, all with the same generator or decoder, and with the same network
on the other side (the Wasserstein critic without batch normalisation). Each family gets the same four learning rates and the
same number of steps; a step is one of the generator's or the VAE's, and the Wasserstein critic takes three. At the end the
averaged network draws 10,000 digits. Of each run are kept

    fid                against the 10,000 test digits, on the features of the shipped classifier
    precision, recall  of 2,000 of them against 2,000 test digits, on the same features
    shares             of each digit among the pictures, as the classifier sees them
    seconds            of processor time, for the training

    python benchmarks/k9_spread.py --out genai_lib/data/k9_spread.json

Rows are written as they come; a file that has some is completed. `--workers 2` trains two at a time, a thread each.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache, partial
from typing import Any

import torch
from tqdm import tqdm

import genai_lib
from genai_lib import metrics, pretrained, sweep
from genai_lib.callbacks import EMA
from genai_lib.data import Batches, load
from genai_lib.models.gan import dcgan
from genai_lib.models.vae import matched_vae
from genai_lib.noise import Noise
from genai_lib.objectives import elbo
from genai_lib.recipes.core import Effort, digits
from genai_lib.recipes.gan import game
from genai_lib.training import Player, Trainer

SEEDS = range(20)
RATES = 1e-3, 3e-3, 1e-2, 3e-2
WIDTH, BATCH, STEPS, DECAY, DRAWN = 16, 64, 400, 0.99, 10_000


def vae_player(model: Any, effort: Effort, steps: int) -> list[Player]:
    """The VAE's one player."""
    adam = torch.optim.Adam(model.parameters(), lr=effort.lr, betas=(0.9, effort.beta2), fused=True)
    return [Player("vae", model, lambda batch, noise: {"loss": elbo(model, batch[0], noise).loss()}, adam)]


FAMILIES = {
    "GAN": (partial(dcgan, width=WIDTH), game()),
    "WGAN-GP": (partial(dcgan, width=WIDTH, normalised=False), game("wasserstein", penalty=10.0, turns=3)),
    "VAE": (lambda: matched_vae(dcgan(width=WIDTH)), vae_player),
}


def train(family: str, rate: float, seed: int, *, precision: str = "fp32") -> Any:
    """Train once; returns the averaged generator or VAE."""
    torch.manual_seed(seed)
    build, players_of = FAMILIES[family]
    model: Any = build()
    average = EMA(model if family == "VAE" else model.generator, decay=DECAY)
    batches = Batches(*digits(torch.device("cpu")), batch_size=BATCH, seed=seed)
    players = players_of(model, Effort(epochs=1, lr=rate), STEPS)
    Trainer(players, batches, seed=seed, precision=precision, callbacks=[average]).run(STEPS)
    return average.module.eval()


@cache
def judge_and_real() -> tuple[Any, torch.Tensor]:
    """The shipped classifier, and its features of the test digits, (10000, 64): once a process."""
    judge: Any = pretrained.load("classifier")
    return judge, metrics.in_batches(judge.features, load("mnist", "test").x)


def one_run(family: str, rate: float, seed: int) -> dict[str, Any]:
    """Train once and judge what comes out."""
    start = time.process_time()
    product = train(family, rate, seed, precision="bf16")
    seconds = time.process_time() - start
    (judge, real), noise = judge_and_real(), Noise(seed, 1)
    drawn = torch.cat([product.sample(500, noise) for _ in range(DRAWN // 500)])  # (10000, 1, 28, 28)
    made = metrics.in_batches(judge.features, drawn)
    seen = metrics.in_batches(judge, drawn).argmax(dim=1)
    likeness = metrics.precision_recall(real[:2000], made[:2000])
    return {
        "family": family, "rate": rate, "seed": seed, "fid": round(metrics.fid(made, real), 3),
        "precision": round(likeness.precision, 4), "recall": round(likeness.recall, 4),
        "shares": [round(n / DRAWN, 4) for n in seen.bincount(minlength=10).tolist()], "seconds": round(seconds, 1),
    }  # fmt: skip


def main() -> None:
    """Run all that is missing and write one file."""
    options = sweep.options(
        "Twenty seeds for claims K9 and K10.",
        own={"--workers": {"type": int, "default": 1, "help": "runs at a time, a thread each (default: 1)"}},
    )
    report = sweep.reopen(options.out, lambda: {
        "claim": "K9, K10",
        **sweep.head("k9_spread", options.note),
        "settings": {
            "width": WIDTH, "batch size": BATCH, "steps": STEPS, "decay": DECAY, "digits drawn": DRAWN, "precision": "bf16",
        },
        "rows": [],
    })  # fmt: skip
    done = {(row["family"], row["rate"], row["seed"]) for row in report["rows"]}
    jobs = [(family, rate, seed) for seed in SEEDS for rate in RATES for family in FAMILIES]
    order = {job: place for place, job in enumerate(jobs)}
    os.environ["TQDM_DISABLE"] = "1"  # the workers': one bar is enough
    with ProcessPoolExecutor(options.workers, initializer=partial(genai_lib.setup, seed=0, threads=1)) as pool:
        runs = [pool.submit(one_run, *job) for job in jobs if job not in done]
        for run in tqdm(as_completed(runs), total=len(runs), unit="run", disable=False):
            report["rows"].append(run.result())
            report["rows"].sort(key=lambda row: order[row["family"], row["rate"], row["seed"]])
            sweep.save(report, options.out)


if __name__ == "__main__":
    main()
