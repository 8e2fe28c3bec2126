"""How much does a VAE say through its code, and what does it cost? Short runs for chapter 7.

Every run trains a fully connected VAE (784-400-20-400-784) for two passes over the 60,000 training digits, whose pixels are
tossed anew as 0 or 1 in each batch, and minimises distortion + beta · rate. Measured on the 10,000 binarised test digits:

    rate          mean KL(q(z|x) ‖ p(z)), nats
    distortion    mean −log p(x|z) with one draw of z ~ q(z|x), nats
    active        latent dimensions whose mean varies by more than 0.01 over the digits

Four kinds of run: "plain"; "peeking", whose decoder sees the pixels above and to the left of each pixel besides z (one masked
784 × 784 matrix); "warm-up", peeking, beta rising from 0 over the first half; "free bits", peeking, each dimension's KL is free
up to 0.25 nats.

    python benchmarks/rate_distortion.py --out genai_lib/data/rate_distortion.json

Rows are written as they come; a second call goes on where the first one stopped.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

import genai_lib
from genai_lib import Noise, objectives, recipes, sweep
from genai_lib.data import Batches, load
from genai_lib.data.steps import binarise
from genai_lib.models.vae import VAE, mlp_vae, reparameterise

SEEDS = range(5)
BETAS = {
    "plain": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0), "peeking": (0.3, 1.0, 2.0, 4.0), "warm-up": (4.0,), "free bits": (4.0,)
}
PASSES, BATCH, LEARNING_RATE = 2, 256, 4e-3
WARM_UP, FREE_BITS = 0.5, 0.25


class Peek(nn.Module):
    """What the earlier pixels say about each pixel: 784 logistic regressions, (B, 1, 28, 28) → logits of the same shape."""

    earlier: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(784, 784))
        self.register_buffer("earlier", torch.ones(784, 784).tril(-1))

    def forward(self, x: Tensor) -> Tensor:
        """Add up the earlier pixels, weighted."""
        return F.linear(x.flatten(1), self.weight * self.earlier).view_as(x)


def terms(model: VAE, peek: Peek | None, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
    """Distortion (B,) of binarised pictures x, the KL of each dimension (B, Z), and the encoder's means (B, Z)."""
    mu, logvar = model.encode(x)
    z = reparameterise(mu, logvar, noise)
    logits = model.decode(z) if peek is None else model.decode(z) + peek(x)
    return objectives.bernoulli_nll(logits, x), 0.5 * (mu.square() + logvar.exp() - 1 - logvar), mu


def train(kind: str, beta: float, seed: int) -> tuple[VAE, Peek | None]:
    """Train one VAE."""
    torch.manual_seed(seed)
    model, peek = mlp_vae(), None if kind == "plain" else Peek()
    batches = Batches(load("mnist", "train").x, batch_size=BATCH, seed=seed)
    steps = PASSES * batches.per_epoch
    parameters = [*model.parameters(), *([] if peek is None else peek.parameters())]
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    schedule = OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.3, final_div_factor=1e3)
    for step in range(steps):
        noise = Noise(seed, step)
        distortion, kl, _ = terms(model, peek, binarise(batches[step][0], noise), noise)
        each = kl.mean(dim=0)  # (Z,)
        rate = each.clamp(min=FREE_BITS).sum() if kind == "free bits" else each.sum()
        weight = beta * min(1.0, (step + 1) / (WARM_UP * steps)) if kind == "warm-up" else beta
        optimiser.zero_grad()
        (distortion.mean() + weight * rate).backward()
        optimiser.step()
        schedule.step()
    return model, peek


@torch.no_grad()
def measure(model: VAE, peek: Peek | None) -> dict[str, float]:
    """Rate, distortion and active dimensions on the binarised test digits."""
    distortion, kl, mu = terms(model, peek, recipes.binarised_test_digits(), Noise(0, 1))
    return {
        "rate": round(kl.sum(dim=1).mean().item(), 4),
        "distortion": round(distortion.mean().item(), 4),
        "active": int((mu.var(dim=0) > 0.01).sum()),
    }


def main() -> None:
    """Run all seeds and write one file."""
    options = sweep.options("Rate and distortion of small VAEs.")
    genai_lib.setup(seed=0)
    report = sweep.reopen(options.out, lambda: {
        **sweep.head("rate_distortion", options.note),
        "settings": {
            "passes": PASSES, "batch": BATCH, "learning rate": LEARNING_RATE, "warm-up": WARM_UP, "free bits": FREE_BITS
        },
        "rows": [],
    })  # fmt: skip
    done = {(row["kind"], row["beta"], row["seed"]) for row in report["rows"]}
    for seed in SEEDS:
        for kind, beta in ((kind, beta) for kind, betas in BETAS.items() for beta in betas):
            if (kind, beta, seed) in done:
                continue
            start = time.process_time()
            row = {"kind": kind, "beta": beta, "seed": seed} | measure(*train(kind, beta, seed))
            row["processor seconds"] = round(time.process_time() - start, 1)
            sweep.keep(row, report, options.out)


if __name__ == "__main__":
    main()
