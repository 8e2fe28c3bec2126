"""How good are the digits of a DCGAN after a minute, made by the library and by the usual loop?

    python benchmarks/gan_quality.py --out benchmarks/results/gan_quality.json      five minutes

Both sides train the same two networks, batches of 128, one after another on the same machine; then again with other random
numbers, as many turns as there are --pairs. The clock counts training only.

library         the recipe dcgan, its minute version as it is: bfloat16, Adam at 5e-4, and the average of the weights is kept
plain loader    as in the usual script (Radford et al. 2016): a DataLoader of a TensorDataset, Adam at 2e-4 with β1 = 0.5,
                cross-entropy on real and on made pictures, single precision. It is stopped at the library's seconds.

FID and KID of 10,000 samples against the 10,000 test digits. Beside them what needs no second run: the floor (10,000 training
digits), the shipped mixture of Gaussians, and the shipped fully connected GAN, which has trained for the seconds on its card.

Runs are written as they come; a file that has some is completed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import repeat
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from genai_lib import pretrained, recipes, sweep
from genai_lib.data import load
from genai_lib.models.gan import dcgan
from genai_lib.recipes.core import distance


def judged(generator: nn.Module) -> dict[str, float]:
    """FID and KID of 10,000 samples."""
    judge = pretrained.judge()
    assert judge is not None
    return recipes.sample_quality(generator, judge)


def library(turn: int, done: Mapping[str, Any]) -> dict[str, float]:
    """The recipe's minute."""
    run = recipes.run("dcgan", seed=turn)
    return {"seconds": run.seconds, "steps": run.history["step"][-1], **judged(run.product)}


def usual(turn: int, done: Mapping[str, Any]) -> dict[str, float]:
    """The usual loop for as long."""
    torch.manual_seed(turn)
    pair = dcgan()
    generator, discriminator = pair.generator, pair.discriminator
    loader = DataLoader(TensorDataset(load("mnist", "train").x), batch_size=128, shuffle=True, drop_last=True)
    loss = nn.BCEWithLogitsLoss()
    critic, maker = (torch.optim.Adam(p.parameters(), lr=2e-4, betas=(0.5, 0.999)) for p in (discriminator, generator))
    real, fake, steps = torch.ones(128), torch.zeros(128), 0
    start = time.perf_counter()
    for (x,) in (batch for every in repeat(loader) for batch in every):
        made = generator(torch.randn(128, generator.latent))
        critic.zero_grad()
        (loss(discriminator(2 * x - 1), real) + loss(discriminator(made.detach()), fake)).backward()
        critic.step()
        maker.zero_grad()
        loss(discriminator(made), real).backward()
        maker.step()
        steps += 1
        if (seconds := time.perf_counter() - start) >= done["library"]["seconds"]:
            break
    return {"seconds": seconds, "steps": steps, **judged(generator.eval())}


def baselines() -> dict[str, dict[str, float]]:
    """What needs no second run."""
    judge = pretrained.judge()
    assert judge is not None
    mlp = {"seconds": pretrained.card("gan-mlp")["seconds"]}
    return {
        "floor, real against real": distance(load("mnist", "train").x[:10_000], judge),
        "mixture of Gaussians": judged(pretrained.load("mixture")),
        "fully connected GAN": mlp | judged(pretrained.load("gan-mlp")),
    }


def main() -> None:
    sides = {"library": library, "plain loader": usual}
    ratios = {"fid, plain loader / library": ("fid", "plain loader", "library")}
    sweep.compare("gan_quality", __doc__.split("\n")[0], sides, ratios, told=lambda: {"baselines": baselines()})


if __name__ == "__main__":
    main()
