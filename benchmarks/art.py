"""Three painters of emoji (chapter 14): their pictures, paths between them, sketches they finish, holes they fill.

All models are shipped ones, so a row's seed is that of the noise: the intervals say how sure we are of *these* models, not of
their families. KID is against the 1,485 training pictures, through the shipped eyes (`clip`).

    pictures   159 pictures of each painter: KID, effective number of different ones, copies by pixels and by features, seconds
    paths      100 draws, midpoints of pairs (straight, spherical), and draws as short as straight midpoints
    sketches   60 unseen emoji as 4 × 4 blocks of colour, noised up to a strength and finished by the diffusion model, without a
               text and with the name (guidance 3): KID, decibels towards the sketch and towards the emoji behind it
    fillings   the 159 unseen emoji with a hole, filled in eight ways: squared error in the hole, step across its border, KID

    python benchmarks/art.py --out genai_lib/data/art.json

Rows are written as they come; a file that has some is completed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import genai_lib
from genai_lib import metrics, pretrained, sweep
from genai_lib.data import emoji_names, load
from genai_lib.models.clip import encode_text
from genai_lib.models.diffusion import ddim, ddim_step, guided
from genai_lib.models.mixture import GaussianMixture
from genai_lib.noise import Noise
from genai_lib.recipes.emoji import whole_text

SEEDS = range(10)
STRENGTHS = 0.2, 0.4, 0.6, 0.8, 1.0
STEPS, PATH_STEPS = 25, 10  # of the diffusion model
HOLES = {"centre": (slice(8, 24), slice(8, 24)), "right half": (slice(0, 32), slice(16, 32))}
UNIT = 1e-4  # of the squared errors in the report, whole numbers in one string
Painter = Callable[[int, Noise], Tensor]


@cache
def shipped(name: str) -> Any:
    """A shipped model, loaded once."""
    return pretrained.load(name)


@cache
def train() -> Tensor:
    """The 1,485 training pictures."""
    return load("emoji").x


@cache
def unseen() -> Tensor:
    """The 159 test pictures."""
    return load("emoji", "test").x


def looks(x: Tensor) -> Tensor:
    """What the eyes compare: (N, F)."""
    return metrics.in_batches(shipped("clip").features, x)


@cache
def known() -> Tensor:
    """The training pictures as the eyes see them."""
    return looks(train())


# ---------------------------------------------------------------- pictures


@cache
def fog() -> tuple[GaussianMixture, Tensor, Tensor]:
    """The baseline of chapter 5: ten Gaussians on 30 principal components; the mixture, the directions, the average."""
    average = train().flatten(1).mean(dim=0)
    directions = torch.linalg.svd(train()[::3].flatten(1) - average, full_matrices=False).Vh[:30]
    mixture = GaussianMixture(10, 30)
    mixture.fit((train().flatten(1) - average) @ directions.T, Noise(0, 31), steps=30)
    return mixture, directions, average


def foggy(n: int, noise: Noise) -> Tensor:
    """Pictures of the mixture."""
    mixture, directions, average = fog()
    return (mixture.sample(n, noise) @ directions + average).view(-1, 3, 32, 32).clamp(0, 1)


PAINTERS: dict[str, Painter] = {
    "mixture": foggy,
    "GAN": lambda n, noise: shipped("emoji-gan").sample(n, noise),
    "VAE": lambda n, noise: shipped("emoji-vae").sample(n, noise),
    "diffusion": lambda n, noise: shipped("emoji-diffusion").sample(n, noise, steps=STEPS),
}


def one_sheet(painter: str, seed: int) -> dict[str, float]:
    """As many pictures as there are unseen ones, judged as those could be."""
    PAINTERS[painter](2, Noise(0, 99))  # loads what it needs
    start = time.process_time()
    made = PAINTERS[painter](len(unseen()), Noise(seed, 14))
    seconds = (time.process_time() - start) / len(made)
    seen = looks(made)
    return {
        "kid": metrics.kid(seen, known()),
        "diversity": metrics.vendi_score(seen),
        "copies": metrics.memorisation(made, train(), unseen()).copies,
        "copies, features": metrics.memorisation(seen, known(), looks(unseen())).copies,
        "seconds": seconds,
    }


# ---------------------------------------------------------------- paths


def spherical(a: Tensor, b: Tensor, t: float) -> Tensor:
    """(7.15)."""
    length_a, length_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    angle = ((a * b).sum(dim=1, keepdim=True) / (length_a * length_b)).acos()
    along = ((1 - t) * angle).sin() * a / length_a + (t * angle).sin() * b / length_b
    return along / angle.sin() * ((1 - t) * length_a + t * length_b)


@torch.no_grad()
def drawn_from(painter: str, z: Tensor) -> Tensor:
    """Pictures from given noise (N, d): what a path goes through."""
    if painter == "GAN":
        return (shipped("emoji-gan")(z) + 1) / 2
    if painter == "VAE":
        return shipped("emoji-vae").decode(z).sigmoid()
    model = shipped("emoji-diffusion").diffusion
    x = ddim(model.epsilon, model.schedule, z.view(-1, 3, 32, 32), Noise(0), steps=PATH_STEPS)
    return ((x + 1) / 2).clamp(0, 1)


DIMENSIONS = {"GAN": 64, "VAE": 48, "diffusion": 3 * 32 * 32}


def one_walk(painter: str, seed: int) -> dict[str, dict[str, float]]:
    """KID, effective number and contrast (mean deviation of a picture's pixels) of draws and of midpoints."""
    a, b = (Noise(seed, 15, i).normal(100, DIMENSIONS[painter]) for i in range(2))
    places = {"draws": a, "straight": (a + b) / 2, "spherical": spherical(a, b, 0.5), "short draws": a / 2**0.5}
    found = {}
    for name, z in places.items():
        made = drawn_from(painter, z)
        seen = looks(made)
        contrast = made.flatten(1).std(dim=1).mean().item()
        found[name] = {"kid": metrics.kid(seen, known()), "diversity": metrics.vendi_score(seen), "contrast": contrast}
    return found


# ---------------------------------------------------------------- sketches


def sketched(x: Tensor) -> Tensor:
    """Pictures as 4 × 4 blocks of colour."""
    return F.interpolate(F.avg_pool2d(x, 8), scale_factor=8)


@torch.no_grad()
def finished(x: Tensor, strength: float, noise: Noise, prompts: list[str] | None = None) -> Tensor:
    """Noise pictures (B, …) up to the step strength · T, and undo it: SDEdit (Meng et al. 2022)."""
    painter = shipped("emoji-diffusion")
    model, y = painter.diffusion, None
    if prompts is not None:
        y = painter.tell(encode_text(prompts, buckets=painter.text.buckets))
    predict = guided(model.epsilon, y, 1.0 if y is None else 3.0)
    first = round(strength * model.schedule.T)
    stops = torch.linspace(first, 0, round(strength * STEPS) + 1, dtype=torch.float64).round().long().tolist()
    x = model.schedule.q_sample(2 * x - 1, torch.full((len(x),), first), noise.normal(*x.shape))
    for now, then in itertools.pairwise(stops):
        t, s = (torch.full((len(x),), step) for step in (now, then))
        eps = predict(x, t / model.schedule.T)
        x = ddim_step(model.schedule, x, t, eps, torch.zeros_like(x), s=s)
    return ((x + 1) / 2).clamp(0, 1)


def judged_sketch(made: Tensor, emoji: Tensor, texts: Tensor) -> dict[str, float]:
    """KID, decibels towards the sketch and the emoji, and share of pictures whose own name is among the ten that fit best."""
    seen = looks(made)
    right = torch.eye(len(made)).bool()
    return {
        "kid": metrics.kid(seen, known()),
        "psnr, sketch": metrics.psnr(made, sketched(emoji)).mean().item(),
        "psnr, emoji": metrics.psnr(made, emoji).mean().item(),
        "name among ten": metrics.recall_at(F.normalize(seen, dim=1) @ texts.T, right, k=10),
    }


def one_hand(seed: int) -> dict[str, dict[str, float]]:
    """All strengths, without and with the name."""
    rows = slice(0, 120, 2)
    emoji, prompts = unseen()[rows], [whole_text(e) for e in emoji_names("test")[rows]]
    with torch.no_grad():
        texts = shipped("clip").texts(encode_text(prompts))
    found = {}
    for strength in STRENGTHS:
        for told in (None, prompts):
            made = finished(sketched(emoji), strength, Noise(seed, 16), told)
            found[f"{strength}{', told' if told else ''}"] = judged_sketch(made, emoji, texts)
    if seed == 0:
        found["sketch"] = judged_sketch(sketched(emoji) + 1e-6, emoji, texts)  # its own reference: a number, not infinity
        found["VAE"] = judged_sketch(shipped("emoji-vae").reconstruct(sketched(emoji)).detach(), emoji, texts)
    return found


# ---------------------------------------------------------------- fillings


@torch.no_grad()
def repainted(x: Tensor, hidden: Tensor, noise: Noise, *, rounds: int = 1) -> Tensor:
    """Fill the hidden part (1, 1, H, W) of pictures (B, …): RePaint (Lugmayr et al. 2022, algorithm 1) with DDIM's steps."""
    model = shipped("emoji-diffusion").diffusion
    q, known_part = model.schedule, 2 * x - 1
    stops = torch.linspace(q.T, 0, STEPS + 1, dtype=torch.float64).round().long().tolist()
    current = noise.normal(*x.shape)
    for now, then in itertools.pairwise(stops):
        t, s = (torch.full((len(x),), step) for step in (now, then))
        for again in range(rounds):
            eps = model.epsilon(current, t / q.T)
            below = ddim_step(q, current, t, eps, noise.normal(*x.shape), s=s, eta=1.0)
            below = torch.where(hidden, below, q.q_sample(known_part, s, noise.normal(*x.shape)))
            if again < rounds - 1:  # up again, with fresh noise
                left = (q.alpha_bar[now] / q.alpha_bar[then]).item()
                current = left**0.5 * below + (1 - left) ** 0.5 * noise.normal(*x.shape)
        current = below
    return torch.where(hidden, ((current + 1) / 2).clamp(0, 1), x)


@torch.no_grad()
def by_vae(x: Tensor, hidden: Tensor) -> Tensor:
    """Fill with the mean picture, then twenty times with what the VAE makes of the whole."""
    filled = torch.where(hidden, train().mean(dim=0), x)
    for _ in range(20):
        filled = torch.where(hidden, shipped("emoji-vae").reconstruct(filled), x)
    return filled


def smooth(x: Tensor, hidden: Tensor) -> Tensor:
    """Each hidden pixel the mean of its four neighbours: Laplace's equation, by 2,000 rounds of averaging."""
    filled = torch.where(hidden, x.mean(), x)
    for _ in range(2_000):
        wide = F.pad(filled, (1, 1, 1, 1), mode="replicate")
        around = (wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1] + wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:]) / 4
        filled = torch.where(hidden, around, x)
    return filled


def by_nearest(x: Tensor, hidden: Tensor) -> Tensor:
    """The hidden part of the training picture that comes closest in the part one sees."""
    _, closest = metrics.nearest(x.masked_fill(hidden, 0.0), train().masked_fill(hidden, 0.0))
    return torch.where(hidden, train()[closest], x)


FILLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean picture": lambda x, hidden: torch.where(hidden, train().mean(dim=0), x),
    "smooth": smooth,
    "mirror": lambda x, hidden: torch.where(hidden, x.flip(3), x),
    "nearest": by_nearest,
    "VAE": by_vae,
    "diffusion": lambda x, hidden: repainted(x, hidden, Noise(0, 17)),
    "diffusion, 5 rounds": lambda x, hidden: repainted(x, hidden, Noise(0, 17), rounds=5),
    "diffusion, mean of 8": lambda x, hidden: torch.stack([repainted(x, hidden, Noise(i, 17)) for i in range(8)]).mean(dim=0),
}


def steps_across(x: Tensor, hidden: Tensor) -> Tensor:
    """Mean absolute step between a hidden pixel and a known neighbour: (B,)."""
    total, pairs = torch.zeros(len(x)), 0
    for dim in (2, 3):
        border = hidden.narrow(dim, 1, 31) != hidden.narrow(dim, 0, 31)
        step = (x.narrow(dim, 1, 31) - x.narrow(dim, 0, 31)).abs() * border
        total, pairs = total + step.flatten(1).sum(dim=1), pairs + 3 * int(border.sum())
    return total / pairs


def hole(name: str) -> Tensor:
    """Which pixels are hidden: (1, 1, 32, 32)."""
    hidden = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    hidden[:, :, *HOLES[name]] = True
    return hidden


def one_filling(place: str, way: str) -> dict[str, Any]:
    """Squared error in the hole of each of the 159 pictures, mean step across its border, made and true, and KID."""
    x, hidden = unseen(), hole(place)
    filled = FILLINGS[way](x, hidden)
    error = ((filled - x).square() * hidden).flatten(1).sum(dim=1) / (3 * hidden.sum())
    steps = {"step": steps_across(filled, hidden), "true step": steps_across(x, hidden)}
    found = {**{name: step.mean().item() for name, step in steps.items()}, "kid": metrics.kid(looks(filled), known())}
    return {**found, "error": " ".join(str(round(value / UNIT)) for value in error.tolist())}


def rounded(found: Any) -> Any:
    """Four digits behind the point, all the way down; seconds have seven."""
    if isinstance(found, dict):
        return {key: round(value, 7) if key == "seconds" else rounded(value) for key, value in found.items()}
    return round(found, 4) if isinstance(found, float) else found


PARTS: dict[str, tuple[list[tuple[Any, ...]], Callable[..., dict[str, Any]]]] = {
    "sketches": ([(seed,) for seed in SEEDS], one_hand),
    "pictures": ([(painter, seed) for painter in PAINTERS for seed in SEEDS], one_sheet),
    "paths": ([(painter, seed) for painter in DIMENSIONS for seed in SEEDS], one_walk),
    "fillings": ([(place, way) for place in HOLES for way in FILLINGS if (place, way) != ("centre", "mirror")], one_filling),
}


def main() -> None:
    """Run all parts and write one file."""
    options = sweep.options("Three painters of emoji, asked for five things.")
    genai_lib.setup(seed=0, threads=1)
    report = sweep.reopen(options.out, lambda: {
        **sweep.head("art", options.note),
        "settings": {"steps": STEPS, "steps on a path": PATH_STEPS, "strengths": STRENGTHS, "holes": list(HOLES),
                     "unit of error": UNIT},
        "CPU seconds": 0.0,
        **{part: [] for part in PARTS},
    })  # fmt: skip
    for part, (keys, measure) in PARTS.items():
        for key in keys:
            if list(key) not in [row["key"] for row in report[part]]:
                start = time.process_time()
                row = {"key": list(key), **rounded(measure(*key))}
                report["CPU seconds"] = round(report["CPU seconds"] + time.process_time() - start, 1)
                sweep.keep(row, report, options.out, place=part)


if __name__ == "__main__":
    main()
