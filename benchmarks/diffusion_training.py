"""How good are digits drawn after a minute of training, by the library's diffusion and by the loop of the package diffusers?

    python benchmarks/diffusion_training.py --out benchmarks/results/diffusion_training.json      nine minutes

library                 the recipe diffusion, its minute version as it is
diffusers               the usual loop: a `UNet2DModel` told the class, noise from a `DDPMScheduler`, squared error of ε, AdamW
                        at 1e-3 with cosine decay, a DataLoader, gradients clipped at 1
diffusers, on patches   the same, but each 2 × 2 pixels make one place of four channels, as in the library's network. On pixels
                        a step takes several times as long as the library's, on patches about half as long again.

All networks have 160,000 weights, train in bfloat16 on batches of 64, and forget the class of every tenth digit, which guidance
needs. The others are stopped at the library's seconds. One after another on one machine; then again with other random numbers,
as many turns as there are --pairs. Each draws 500 digits, 50 of each class, in 25 DDIM steps: without guidance, which KID is
of (it has no bias for small sets), and with guidance 2; the library also with guidance 3. "asked digit seen" is the share in
which the classifier sees the digit that was asked for. The clock counts training only.

Runs are written as they come; a file that has some is completed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from genai_lib import Noise, metrics, pretrained, recipes, sweep
from genai_lib.data import load
from genai_lib.recipes.core import distance

CLASSES = torch.arange(10).repeat(50)
NONE = 10  # the class of a digit whose class is forgotten
STEPS = 25  # of drawing


def judged(draw: Callable[[Tensor, float], Tensor], guidances: tuple[float, ...]) -> dict[str, float]:
    """KID of digits drawn without guidance, and how often they are those that were asked for, with each guidance."""
    judge = pretrained.judge()
    assert judge is not None
    found: dict[str, float] = {}
    for guidance in (1.0, *guidances):
        drawn = torch.cat([draw(y, guidance) for y in CLASSES.split(100)])
        if guidance == 1:
            found["kid"] = distance(drawn, judge)["kid"]
        found[f"asked digit seen, guidance {guidance:g}"] = metrics.accuracy(judge, drawn, CLASSES)
    return found


def library(turn: int, done: Mapping[str, Any]) -> dict[str, float]:
    """The recipe's minute."""
    run, noise = recipes.run("diffusion", seed=turn), Noise(turn)
    return {
        "seconds": run.seconds, "steps": run.history["step"][-1], "weights": sum(p.numel() for p in run.product.parameters()),
        **judged(lambda y, guidance: run.product.sample(len(y), noise, y=y, guidance=guidance, steps=STEPS), (2.0, 3.0)),
    }  # fmt: skip


def usual(patch: int) -> sweep.Side:
    """The usual loop, on patches of so many pixels a side, for as long as the library took."""

    def run(turn: int, done: Mapping[str, Any]) -> dict[str, float]:
        from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
        from diffusers.optimization import get_cosine_schedule_with_warmup

        torch.manual_seed(turn)
        side, channels = 28 // patch, patch**2
        model = UNet2DModel(
            sample_size=side, in_channels=channels, out_channels=channels, layers_per_block=1, block_out_channels=(16, 32),
            down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, norm_num_groups=8, num_class_embeds=11,
            add_attention=False,
        )  # fmt: skip
        schedule = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
        x, y = load("mnist", "train")
        loader = DataLoader(TensorDataset(F.pixel_unshuffle(2 * x - 1, patch), y), batch_size=64, shuffle=True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

        def step(x0: Tensor, label: Tensor) -> None:
            eps, t = torch.randn_like(x0), torch.randint(0, 1000, (len(x0),))
            label = torch.where(torch.rand(len(x0)) < 0.1, NONE, label)
            with torch.autocast("cpu", torch.bfloat16):
                guess = model(schedule.add_noise(x0, eps, t), t, class_labels=label).sample
            loss = F.mse_loss(guess.float(), eps)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        batches, limit = (batch for _ in range(1000) for batch in loader), done["library"]["seconds"]
        start = time.perf_counter()
        for _ in range(20):  # to learn the pace; they count
            step(*next(batches))
        spent = time.perf_counter() - start
        steps = round(20 * limit / spent)
        decay = get_cosine_schedule_with_warmup(optimizer, 0, steps - 20)
        done_steps = 20
        while done_steps < steps and spent < limit:
            step(*next(batches))
            decay.step()
            done_steps, spent = done_steps + 1, time.perf_counter() - start

        sampler = DDIMScheduler.from_config(schedule.config)
        sampler.set_timesteps(STEPS)
        model.eval()

        @torch.no_grad()
        def draw(y: Tensor, guidance: float) -> Tensor:
            picture = torch.randn(len(y), channels, side, side)
            for t in sampler.timesteps:
                eps = model(picture, t, class_labels=y).sample
                if guidance != 1:
                    free = model(picture, t, class_labels=torch.full_like(y, NONE)).sample
                    eps = free + guidance * (eps - free)
                picture = sampler.step(eps, t, picture).prev_sample
            return ((F.pixel_shuffle(picture, patch) + 1) / 2).clamp(0, 1)

        weights = sum(p.numel() for p in model.parameters())
        return {"seconds": spent, "steps": done_steps, "weights": weights, **judged(draw, (2.0,))}

    return run


def main() -> None:
    sides = {"library": library, "diffusers": usual(1), "diffusers, on patches": usual(2)}
    ratios = {f"kid, {other} / library": ("kid", other, "library") for other in list(sides)[1:]}
    sweep.compare("diffusion_training", __doc__.split("\n")[0], sides, ratios)


if __name__ == "__main__":
    main()
