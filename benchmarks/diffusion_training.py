"""How good are digits drawn after a minute of training, by the library's diffusion and by the loop of the package diffusers?

    python benchmarks/diffusion_training.py

The usual loop: a `UNet2DModel` with class labels and about as many weights, noise from a `DDPMScheduler`, squared error
of ε, AdamW at 1e-3 with cosine decay, a DataLoader of digits padded to 32 × 32. Both train for as long, one after the
other. Then each draws 2,000 digits, 200 of each class, in 25 DDIM steps without guidance; the library's once more with
guidance 2, which its training allows. KID has no bias for small sets; FID of 2,000 has some, the same for both.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from genai_lib import Noise, metrics, pretrained, recipes, setup
from genai_lib.data import load
from genai_lib.recipes.core import distance

CLASSES = torch.arange(10).repeat(200)


def usual(seconds: float, *, batch_size: int = 64) -> tuple[Tensor, dict[str, float]]:
    """2,000 digits, and what they cost."""
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
    from diffusers.optimization import get_cosine_schedule_with_warmup

    torch.manual_seed(0)
    model = UNet2DModel(
        sample_size=32, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(16, 32, 32), norm_num_groups=8,
        down_block_types=("DownBlock2D",) * 3, up_block_types=("UpBlock2D",) * 3, num_class_embeds=10, add_attention=False,
    )  # fmt: skip
    schedule = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    x, y = load("mnist", "train")
    loader = DataLoader(TensorDataset(F.pad(2 * x - 1, (2, 2, 2, 2), value=-1.0), y), batch_size=batch_size, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(x0: Tensor, label: Tensor) -> None:
        eps, t = torch.randn_like(x0), torch.randint(0, 1000, (len(x0),))
        loss = F.mse_loss(model(schedule.add_noise(x0, eps, t), t, class_labels=label).sample, eps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    batches = iter(loader)
    start = time.perf_counter()
    for _ in range(20):  # to learn the pace; they count
        step(*next(batches))
    steps = round(20 * seconds / (time.perf_counter() - start))
    decay = get_cosine_schedule_with_warmup(optimizer, 0, steps)
    done = 20
    while done < steps:
        for batch in batches:
            step(*batch)
            decay.step()
            done += 1
            if done == steps:
                break
        batches = iter(loader)
    spent = time.perf_counter() - start

    sampler, drawn = DDIMScheduler.from_config(schedule.config), []
    sampler.set_timesteps(25)
    model.eval()
    with torch.no_grad():
        for label in CLASSES.split(500):
            picture = torch.randn(len(label), 1, 32, 32)
            for t in sampler.timesteps:
                picture = sampler.step(model(picture, t, class_labels=label).sample, t, picture).prev_sample
            drawn.append(((picture[..., 2:-2, 2:-2] + 1) / 2).clamp(0, 1))
    weights = sum(p.numel() for p in model.parameters())
    return torch.cat(drawn), {"seconds": spent, "steps": steps, "weights": weights}


def library(seconds: float) -> tuple[dict[str, Tensor], dict[str, float]]:
    """2,000 digits without and with guidance, and what they cost."""
    steps_an_epoch = 60_000 // recipes.get("diffusion").minute.batch_size
    pace = min(recipes.run("diffusion", epochs=20 / steps_an_epoch).seconds / 20 for _ in range(2))
    run = recipes.run("diffusion", epochs=seconds / pace / steps_an_epoch)
    noise = Noise(0)
    drawn = {
        name: torch.cat([run.product.sample(len(y), noise, y=y, guidance=guidance, steps=25) for y in CLASSES.split(500)])
        for name, guidance in {"library": 1.0, "library, guidance 2": 2.0}.items()
    }
    weights = sum(p.numel() for p in run.product.parameters())
    return drawn, {"seconds": run.seconds, "steps": run.history["step"][-1], "weights": weights}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=45, help="of training, for each side")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    setup(seed=0)
    judge = pretrained.judge()
    assert judge is not None
    figures: dict[str, Any] = {"machine": pretrained.machine()}
    ours, cost = library(options.seconds)
    theirs, their_cost = usual(options.seconds)
    for name, drawn in {**ours, "diffusers": theirs}.items():
        figures[name] = (their_cost if name == "diffusers" else cost) | distance(drawn, judge)
        figures[name]["asked digit seen"] = metrics.accuracy(judge, drawn, CLASSES)
        print(f"{name}:", {k: round(v, 3) for k, v in figures[name].items()}, flush=True)
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
