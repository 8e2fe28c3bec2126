"""Recipes of diffusion and flow matching: digits out of noise, told which digit."""

from __future__ import annotations

import torch
from torch import Tensor

from genai_lib import metrics
from genai_lib.models.diffusion import Diffusion, Flow, Schedule
from genai_lib.models.unet import UNet
from genai_lib.noise import Noise
from genai_lib.objectives import denoising_loss
from genai_lib.recipes.core import Effort, Judge, Quality, Recipe, distance, one_player


def _loss(model: Diffusion | Flow, batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
    x, y = batch
    return {"loss": denoising_loss(model, x, noise, y=y).mean() / x[0].numel()}  # 1 a pixel for a network that says 0


def _quality(model: Diffusion | Flow, judge: Judge | None) -> Quality:
    """FID and KID of 10,000 digits, 1,000 of each, drawn in 10 steps without guidance; control in 25 with guidance 2."""
    if judge is None:
        return {}
    y, noise = torch.arange(10).repeat(10), Noise(0)  # 100 at a time: a third faster on a CPU than 500
    drawn = torch.cat([model.sample(100, noise, y=y, steps=10) for _ in range(100)])
    asked = torch.cat([model.sample(100, noise, y=y, guidance=2.0, steps=25) for _ in range(5)])
    return distance(drawn, judge) | {"asked digit seen": metrics.accuracy(judge, asked, y.repeat(5))}


RECIPES = [
    Recipe(
        "diffusion", "Diffusion model that is told the digit",
        lambda: Diffusion(UNet(classes=10), Schedule(), predicts="v"),
        minute=Effort(epochs=1, batch_size=64, lr=2e-3, precision="bf16", beta2=0.99),
        shipped=Effort(epochs=12, batch_size=64, lr=2e-3, precision="bf16", beta2=0.99),
        quality=_quality, players=one_player(_loss, clip=1.0),
    ),
    Recipe(
        "flow", "Flow matching with the same network", lambda: Flow(UNet(classes=10)),
        minute=Effort(epochs=1, batch_size=64, lr=2e-3, precision="bf16", beta2=0.99),
        shipped=Effort(epochs=6, batch_size=64, lr=2e-3, precision="bf16", beta2=0.99),
        quality=_quality, players=one_player(_loss, clip=1.0),
    ),
]  # fmt: skip
