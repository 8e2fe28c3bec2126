"""Does pre-training pay on a small set (claim K12)? Ten paired seeds, text and digits, the cost counted in two ways.

Text: a small GPT learns from Shakespeare's plays, then from a little of Macbeth, which is none of them (acts I to IV), and is
asked for act V. Digits: a VAE learns from the digits 0 to 4, then from a few of 5 to 9. Four runs of the same network:

    pre-trained   P updates on the large set
    fine-tuned    F updates more, on the small set, from the weights of the run above
    scratch       F updates on the small set from fresh weights: equal cost if pre-training is not counted
    scratch, long P + F updates on the small set: equal cost if it is counted

An update costs the same everywhere: the same network reads a batch of the same size. So equal updates are equal cost, on every
machine. All runs: Muon for matrices and Adam for the rest (text), Adam (digits), at a constant rate, averaged weights, early
stopping on pieces of the small domain that nobody trains on (they are as many for every share). For each of the four runs its
own rate, the best of three by those pieces (of the large set for the first) on a seed of its own (`--tune`); where the best
stood at an end of the three, the next beyond it was tried too, and was no better. Kept of each run:

    bits            per character of act V, each character told at most 64 before it
    fid, kid        of 5,000 (2,000) drawn digits against the 4,861 (first 2,000) test digits 5 to 9, on the course's classifier
    elbo            nats, of the same test digits
    old             bits of the test plays, or ELBO of the test digits 0 to 4: what fine-tuning forgets
    best, steps     the update whose averaged weights were kept, and the last one: who has not improved for six looks gives up

The claim is read at 10 % of the acts and at 1 % of the digits, ten seeds; the other shares have two and no verdict.

    python benchmarks/k12_transfer.py --out genai_lib/data/k12_transfer.json

Rows are written as they come; a file that has some is completed. `--tune` prints the grids, `--clock` the seconds of one row;
both write nothing.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import genai_lib
from genai_lib import metrics, optimisers, pretrained, sweep
from genai_lib.callbacks import EMA
from genai_lib.data import Batches, load
from genai_lib.data.texts import load_text
from genai_lib.data.tokens import windows
from genai_lib.models.gpt import GPT, GPTConfig
from genai_lib.models.vae import mlp_vae
from genai_lib.noise import Noise
from genai_lib.objectives import elbo, next_token_nll
from genai_lib.recipes.text import characters, plays
from genai_lib.training import Player, Trainer

SEEDS, CURVE_SEEDS, TUNING_SEED = range(10), range(2), 100
SHARES, CLAIM = (1, 3, 10, 30, 100), {"text": 10, "digits": 1}
UPDATES = {"text": (400, 80), "digits": (1000, 200)}  # P and F
BATCH, CONTEXT, LAYERS, WIDTH, LATENT = {"text": 8, "digits": 64}, 64, 2, 96, 20
DECAY, PATIENCE, KEPT = 0.95, 6, {"text": 62, "digits": 1000}
LOOKS = {"pre-trained": 5, "fine-tuned": 8, "scratch": 8, "scratch, long": 20}
GRID = {"text": (3e-3, 1e-2, 3e-2), "digits": (1e-3, 3e-3, 1e-2)}
RATES: dict[str, dict[str, float]] = {
    "text": {"pre-trained": 1e-2, "fine-tuned": 1e-2, "scratch": 1e-2, "scratch, long": 3e-3},
    "digits": {"pre-trained": 1e-2, "fine-tuned": 3e-3, "scratch": 1e-2, "scratch, long": 1e-3},
}


# ---------------------------------------------------------------- what is read


def pieces(text: str) -> Tensor:
    """A text in pieces of `CONTEXT` characters, each with the one that follows: (N, CONTEXT + 1)."""
    return windows(characters().encode(text), CONTEXT + 1)[::CONTEXT]


def large_and_small(domain: str) -> tuple[Tensor, Tensor]:
    """All rows of the large set, and all of the set from which the small ones are taken."""
    if domain == "text":
        return plays(torch.device("cpu"), context=CONTEXT)[0], pieces(load_text("macbeth", "train"))
    x, y = load("mnist", "train")
    return x[y < 5], x[y >= 5]


def divided(rows: Tensor, domain: str, seed: int, share: int = 100) -> tuple[Tensor, Tensor]:
    """What is trained on, and what is kept back: one order for each seed, and sets nested in one another."""
    order, kept = Noise(seed, 16).permutation(len(rows)), KEPT[domain]
    return rows[order[kept : kept + round((len(rows) - kept) * share / 100)]], rows[order[:kept]]


# ---------------------------------------------------------------- one run


def build(domain: str) -> Any:
    """Fresh weights."""
    if domain == "digits":
        return mlp_vae(latent=LATENT, width=200)
    return GPT(GPTConfig(size=characters().size, context=CONTEXT, layers=LAYERS, width=WIDTH))


def loss_on(domain: str, model: Any, rows: Tensor, noise: Noise) -> Tensor:
    """Nats per character, or per digit."""
    return next_token_nll(model, rows).mean() / CONTEXT if domain == "text" else elbo(model, rows, noise).loss()


def train(
    domain: str, run: str, data: Tensor, kept: Tensor, seed: int, *, start: Any = None, rate: float | None = None
) -> dict[str, Any]:
    """Train from fresh weights, or from those of `start`: the averaged model of the best look, that look, and the seconds."""
    torch.manual_seed(seed)
    model, begun = build(domain), time.process_time()
    if start is not None:
        model.load_state_dict(start.state_dict())
    long, short = UPDATES[domain]
    steps = {"pre-trained": long, "scratch, long": long + short}.get(run, short)
    rate = rate or RATES[domain][run]
    average = EMA(model, decay=DECAY)
    best: dict[str, Any] = {"loss": math.inf, "step": 0}
    adam = optimisers.muon(model, lr=rate, beta2=0.99) if domain == "text" else torch.optim.Adam(
        model.parameters(), lr=rate, betas=(0.9, 0.99), fused=True)  # fmt: skip
    player = Player("model", model, lambda batch, noise: {"loss": loss_on(domain, model, batch[0], noise)}, adam, clip=1.0)
    batches = Batches(data, batch_size=BATCH[domain], seed=seed)
    trainer, every = Trainer([player], batches, seed=seed, callbacks=[average]), steps // LOOKS[run]
    for until in range(every, steps + 1, every):
        trainer.run(until)
        with torch.no_grad():
            parts = [(part, loss_on(domain, average.module.eval(), part, Noise(seed, 3)).item()) for part in kept.split(500)]
        loss = sum(value * len(part) for part, value in parts) / len(kept)
        if loss < best["loss"]:
            weights = {key: value.clone() for key, value in average.module.state_dict().items()}
            best.update(loss=loss, step=until, weights=weights)
        if until - best["step"] >= PATIENCE * every:
            break
    average.module.load_state_dict(best["weights"])
    spent = {"best": best["step"], "steps": until, "seconds": time.process_time() - begun}
    return {"model": average.module.eval(), "loss": best["loss"], **spent}


class Judge:
    """What is told of a trained model; the real digits are read once."""

    def __init__(self, domain: str) -> None:
        self.domain = domain
        if domain == "text":
            self.new, self.old = (characters().encode(load_text(name, "test")) for name in ("macbeth", "shakespeare"))
        else:
            x, y = load("mnist", "test")
            self.new, self.old = x[y >= 5], x[y < 5]
            self.eyes = pretrained.load("classifier").features
            self.real = metrics.in_batches(self.eyes, self.new)

    def __call__(self, model: Any, seed: int) -> dict[str, float]:
        if self.domain == "text":
            new, old = (metrics.text_nll(model, t, context=CONTEXT) / (len(t) * math.log(2)) for t in (self.new, self.old))
            return {"bits": round(new, 4), "old": round(old, 4)}
        noise = Noise(seed, 1)
        drawn = metrics.in_batches(self.eyes, torch.cat([model.sample(500, noise) for _ in range(10)]))
        return {
            "fid": round(metrics.fid(drawn, self.real), 4),
            "kid": round(metrics.kid(drawn[:2000], self.real[:2000]), 4),
            "elbo": round(metrics.mean_elbo(model, self.new), 3),
            "old": round(metrics.mean_elbo(model, self.old), 3),
        }


def told(found: dict[str, Any], judge: Judge, seed: int) -> dict[str, float]:
    """What is kept of a run."""
    return {
        **judge(found["model"], seed),
        "best": found["best"],
        "steps": found["steps"],
        "seconds": round(found["seconds"], 1),
    }


def one_seed(domain: str, seed: int, judge: Judge) -> list[dict[str, Any]]:
    """Pre-train once; then the three other runs for each share that this seed has."""
    large, small = large_and_small(domain)
    first = train(domain, "pre-trained", *divided(large, domain, seed), seed)
    rows = [{"domain": domain, "run": "pre-trained", "share": 0, "seed": seed, **told(first, judge, seed)}]
    for share in SHARES if seed in CURVE_SEEDS else [CLAIM[domain]]:
        data, kept = divided(small, domain, seed, share)
        for run in ("fine-tuned", "scratch", "scratch, long"):
            found = train(domain, run, data, kept, seed, start=first["model"] if run == "fine-tuned" else None)
            of = {"domain": domain, "run": run, "share": share, "n": len(data), "seed": seed}
            rows.append({**of, **told(found, judge, seed)})
    return rows


def tune(say: Callable[[str], None]) -> None:
    """Every rate of the grid for each run, on the tuning seed; the loss on what is kept back."""
    for domain in UPDATES:
        large, small = large_and_small(domain)
        data, kept = divided(small, domain, TUNING_SEED, CLAIM[domain])
        first: dict[str, Any] = {"loss": math.inf}
        for run in LOOKS:
            for rate in GRID[domain]:
                where = divided(large, domain, TUNING_SEED) if run == "pre-trained" else (data, kept)
                start = first["model"] if run == "fine-tuned" else None
                found = train(domain, run, *where, TUNING_SEED, start=start, rate=rate)
                say(f"{domain} {run} {rate}: {found['loss']:.4f} at {found['best']}, {found['seconds']:.1f} s")
                if run == "pre-trained" and found["loss"] < first["loss"]:
                    first = found


def main() -> None:
    """Tune, time, or run all seeds and write one file."""
    options = sweep.options(
        "Ten paired seeds for claim K12.",
        tune="try every rate on the tuning seed, write nothing",
        clock="run the tuning seed at the claim's shares, write nothing",
    )
    genai_lib.setup(seed=0, threads=1)
    if options.tune:
        tune(lambda line: print(line, flush=True))
        return
    if options.clock:
        for domain in UPDATES:
            begun = time.process_time()
            for row in one_seed(domain, TUNING_SEED, Judge(domain)):
                print(json.dumps(row), flush=True)
            print(f"{domain}: {time.process_time() - begun:.1f} s")
        return
    report = sweep.reopen(options.out, lambda: {
        "claim": "K12",
        **sweep.head("k12_transfer", options.note),
        "settings": {"updates": UPDATES, "batch size": BATCH, "context": CONTEXT, "layers": LAYERS, "width": WIDTH,
                     "latent": LATENT, "decay": DECAY, "patience": PATIENCE, "looks": LOOKS, "kept back": KEPT,
                     "shares": SHARES, "claim": CLAIM,
                     "learning rates": RATES, "grid": GRID, "tuning seed": TUNING_SEED},
        "parameters": {domain: sum(p.numel() for p in build(domain).parameters()) for domain in UPDATES},
        "rows": [],
    })  # fmt: skip
    judges = {domain: Judge(domain) for domain in UPDATES}
    for seed in SEEDS:
        for domain in UPDATES:
            if (domain, seed) not in [(row["domain"], row["seed"]) for row in report["rows"]]:
                report["rows"] += one_seed(domain, seed, judges[domain])
                sweep.save(report, options.out)
                print(domain, seed, flush=True)


if __name__ == "__main__":
    main()
