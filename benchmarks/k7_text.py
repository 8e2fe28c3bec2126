"""Is a VAE the family for text (claim K7)? Ten paired seeds, and a code that the decoder does not read.

Three models read the same plays of Shakespeare, given the same processor seconds: a GRU that predicts the next character; the
same GRU that is also told a code z of the whole passage, with an encoder that writes it, trained as a VAE (Bowman et al.
2016); and a GPT. The seconds of a step are taken first (`--clock`), the sides in turns; they fix how many steps each side gets
(`STEPS`). Adam for the two recurrent ones, Muon for the GPT, as in its recipe; all learning rates climb and sink alike. The
GRU's and the GPT's are those that claim K11's tuning found; the VAE tries the same grid's middle rates on the same extra seed
(`--tune`). The weight of the VAE's KL term climbs from 0 to 1 over the first half of the run, as the paper advises. Kept of
each run, on the test plays, each character told at most 128 before it:

    bits         per character; the VAE's are an upper bound: importance-weighted, 20 codes a passage
    bits, ELBO   the looser bound with one code; and kl, its second term, in nats a passage of 128 characters
    bits, z mute the VAE's bits when z is drawn from N(0, I) and says nothing of the passage: what is left of its GRU alone

    python benchmarks/k7_text.py --out genai_lib/data/k7_text.json

Rows are written as they come; a file that has some is completed. `--tune` and `--clock` print and write nothing.
"""

from __future__ import annotations

import json
import math
import time
from typing import Any

import torch
from torch import Tensor, nn

import genai_lib
from genai_lib import sweep
from genai_lib.data import Batches
from genai_lib.data.texts import load_text
from genai_lib.models.gpt import GPT, GPTConfig
from genai_lib.models.recurrent import GRU
from genai_lib.models.vae import VAE
from genai_lib.noise import Noise
from genai_lib.objectives import elbo, iwae_bound, next_token_nll
from genai_lib.optimisers import adam, muon
from genai_lib.recipes.core import Effort, one_cycle
from genai_lib.recipes.text import CONTEXT, characters, plays
from genai_lib.speed import seconds_in_turns
from genai_lib.training import Player, Trainer

SEEDS, TUNING_SEED = range(10), 100
GRID = 5e-3, 1e-2, 2e-2
RATES = {"GRU": 1e-2, "VAE": 2e-2, "GPT": 2e-2}  # the fewest bits on the tuning seed
STEPS = {"GRU": 186, "VAE": 97, "GPT": 70}  # as many as fill 10 processor seconds of the machine that ran them
WIDTH, LATENT, BATCH, DRAWS = 192, 16, 8, 20


class TextVAE(VAE):
    """A GRU that is told a code z of the passage, and a GRU that reads the passage to write it (Bowman et al. 2016, §3).

    "Decoding" z leaves it as it is: what p(x|z) says depends on the characters before, so it is `nll` that reads them.
    """

    def __init__(self, size: int, *, width: int = WIDTH, latent: int = LATENT) -> None:
        super().__init__(self.read, lambda z: z, latent)
        self.eye, self.reader = nn.Embedding(size, width), nn.GRU(width, width, batch_first=True)
        self.code = nn.Linear(width, 2 * latent)
        self.tell = nn.Linear(latent, width)  # z is added to each character the writer sees
        self.writer = GRU(size, width=width)

    def read(self, x: Tensor) -> Tensor:
        """Passages (B, T + 1) → mu and logvar side by side, (B, 2Z)."""
        return self.code(self.reader(self.eye(x))[1][0])

    def nll(self, z: Tensor, x: Tensor) -> Tensor:
        """−log p(x|z) of passages (B, T + 1), their first character given: (B,) nats."""
        told = self.tell(z)[:, None]  # (B, 1, D)
        return next_token_nll(lambda seen: self.writer.out(self.writer.cells(self.writer.embedding(seen) + told)[0]), x)


def build(name: str) -> Any:
    """Fresh weights."""
    size = characters().size
    if name == "GPT":
        return GPT(GPTConfig(size=size, context=CONTEXT))
    return TextVAE(size) if name == "VAE" else GRU(size, width=WIDTH)


def trainer_of(name: str, seed: int, rate: float, steps: int) -> tuple[Any, Trainer]:
    """A fresh model and the loop that trains it; losses in nats per character."""
    torch.manual_seed(seed)
    model, trainer = build(name), None

    def loss(batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
        if name != "VAE":
            return {"loss": next_token_nll(model, batch[0]).mean() / CONTEXT}
        beta = min(1.0, 2 * trainer.step / steps)  # type: ignore[attr-defined]
        return {"loss": elbo(model, batch[0], noise, nll=model.nll).loss(beta) / CONTEXT}

    effort = Effort(epochs=1, lr=rate, beta2=0.99, climb=0.1, sink="linear")
    moved = one_cycle(model, effort, steps, optimiser=muon if name == "GPT" else adam)
    batches = Batches(*plays(torch.device("cpu")), batch_size=BATCH, seed=seed)
    trainer = Trainer([Player(name, model, loss, *moved, clip=1.0)], batches, seed=seed)
    return model, trainer


@torch.no_grad()
def judged(name: str, model: Any, seed: int) -> dict[str, float]:
    """Bits per character of the test plays; they end with the last whole passage."""
    tokens = characters().encode(load_text("shakespeare", "test"))
    rows = tokens[: (len(tokens) - 1) // CONTEXT * CONTEXT + 1].unfold(0, CONTEXT + 1, CONTEXT)  # (N, 129), ends shared
    noise, per_bit, model = Noise(seed, 7), rows[:, 1:].numel() * math.log(2), model.eval()
    if name != "VAE":
        found = {"bits": sum(next_token_nll(model, part).sum().item() for part in rows.split(50)) / per_bit}
    else:
        parts = [elbo(model, part, noise, nll=model.nll) for part in rows.split(50)]
        tight = [iwae_bound(model, part, noise, k=DRAWS, nll=model.nll).sum().item() for part in rows.split(50)]
        mute = [model.nll(noise.normal(len(part), LATENT), part).sum().item() for part in rows.split(50)]
        found = {
            "bits": -sum(tight) / per_bit,
            "bits, ELBO": -sum(part.elbo.sum().item() for part in parts) / per_bit,
            "kl": sum(part.kl.sum().item() for part in parts) / len(rows),
            "bits, z mute": sum(mute) / per_bit,
        }
    return {key: round(value, 4) for key, value in found.items()}


def one_run(name: str, seed: int, rate: float) -> dict[str, float]:
    """Train one side with one seed, and judge it."""
    model, trainer = trainer_of(name, seed, rate, STEPS[name])
    start = time.process_time()
    trainer.run(STEPS[name])
    return {"seconds": round(time.process_time() - start, 1), **judged(name, model, seed)}


def clock() -> dict[str, float]:
    """Mean processor seconds of a step, the sides taking turns."""
    return seconds_in_turns({name: trainer_of(name, 0, 1e-3, 1_000)[1] for name in STEPS}, block=5)


def main() -> None:
    """Time, tune, or run all seeds and write one file."""
    options = sweep.options(
        "Ten paired seeds for claim K7.",
        tune="try the VAE's learning rates on the tuning seed, write nothing",
        clock="time a step of each side, write nothing",
    )
    genai_lib.setup(seed=0, threads=1)
    if options.clock:
        print(json.dumps(clock()))
        return
    if options.tune:
        for rate in GRID:
            print(rate, json.dumps(one_run("VAE", TUNING_SEED, rate)), flush=True)
        return
    report = sweep.reopen(options.out, lambda: {
        "claim": "K7",
        **sweep.head("k7_text", options.note),
        "settings": {"width": WIDTH, "latent": LATENT, "batch size": BATCH, "context": CONTEXT, "codes a passage": DRAWS,
                     "steps": STEPS, "learning rates": RATES, "grid": GRID, "tuning seed": TUNING_SEED},
        "parameters": {name: sum(p.numel() for p in build(name).parameters()) for name in STEPS},
        "rows": [],
    })  # fmt: skip
    for seed in sweep.missing(SEEDS, report):
        row = {"seed": seed, **{name: one_run(name, seed, rate) for name, rate in RATES.items()}}
        sweep.keep(row, report, options.out)


if __name__ == "__main__":
    main()
