"""Weights that travel with the package, each with a card: which run made them, and what was measured.

``NAME.safetensors`` holds the weights, networks' in float16 and tables of probabilities in float32, ``NAME.json`` the
card. Figures on a card were measured on the weights you load.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from genai_lib import recipes

FOLDER = Path(__file__).parent
STORED = {torch.float32: torch.float16, torch.float64: torch.float32}  # half of the digits, half of the space

# How far a figure may lie from its card on another processor, where rounding moves a sample's pixels a little and averages
# less: a share of the card's figure, or a number, whichever is more. "elbo" also stands for "elbo, binarised" and so on.
HELD = {
    "accuracy": (0, 5e-4), "squared error": (0.005, 0), "elbo": (0, 0.3), "iwae k=500": (0, 0.3), "log-likelihood": (0, 0.01),
    "fid": (0.1, 0.02), "kid": (0.1, 0.002), "diversity": (0.03, 0), "copies": (0, 0.02), "psnr": (0, 0.02),
    "asked digit seen": (0, 0.005), "asked colour seen": (0, 0.05), "clip score": (0, 0.01),
    "recall@1": (0, 0.02), "recall@10": (0, 0.02), "bits per character": (0, 0.005), "four lines of five": (0, 0.03),
    "well-formed": (0, 0), "solvable": (0, 0.02), "new": (0, 0.02), "pushes": (0, 1), "nats per cell": (0, 0.002),
    "nats per token": (0, 0.002), "parallels": (0, 0.02), "parallels, Bach": (0, 1e-6),
}  # fmt: skip


class WeightsError(RuntimeError):
    """Weights are missing or damaged. The message says what to do."""


def names(folder: Path | str = FOLDER) -> list[str]:
    """Recipes whose weights are in the folder."""
    return sorted(p.stem for p in Path(folder).glob("*.json"))


def card(name: str, *, folder: Path | str = FOLDER) -> dict[str, Any]:
    """The card: recipe, version, effort, seed, steps, seconds, machine, torch, figures, SHA-256."""
    path = Path(folder) / f"{name}.json"
    if not path.is_file():
        have = ", ".join(names(folder)) or "none"
        raise WeightsError(f"there are no weights named {name!r} in {folder}. There are: {have}.")
    try:
        written: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise WeightsError(f"{path} is damaged: it is no card ({error}). Reinstall genai_lib, or train it again.") from error
    missing = {"recipe", "seed", "sha256", "figures"} - set(written)
    if missing:
        raise WeightsError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}. Reinstall genai_lib, or train it again.")
    return written


def load(name: str, *, device: torch.device | str = "cpu", folder: Path | str = FOLDER) -> Any:
    """Load a recipe's product with its weights, in evaluation mode and with gradients off.

    Parameters
    ----------
    name : str
        One of `names()`, e.g. ``"vae-conv"``.
    device : torch.device or str
    folder : path
        Where weights and card lie; your own runs load through the same door.

    Returns
    -------
    nn.Module
        For a GAN the generator, else the model.

    Raises
    ------
    WeightsError
        For an unknown name, missing or damaged weights.
    """
    path = Path(folder) / f"{name}.safetensors"
    about = card(name, folder=folder)
    expected = about["sha256"]
    if expected is None:  # nothing was kept, since fitting takes no longer than reading
        return recipes.run(name, about["version"], seed=about["seed"]).product.to(device)
    remedy = f"Reinstall genai_lib, or train it again with `python -m genai_lib train {name} --version shipped`."
    if not path.is_file():
        raise WeightsError(f"{path} is missing. {remedy}")
    found = sha256(path)
    if found != expected:
        raise WeightsError(f"{path.name} is damaged (SHA-256 {found[:8]}… instead of {expected[:8]}…). {remedy}")
    recipe = recipes.get(name)
    module = recipe.product(recipe.build())
    module.load_state_dict(load_file(path))
    return module.to(device).eval().requires_grad_(False)


def save(run: recipes.Run, *, version: str, seed: int, folder: Path | str = FOLDER) -> dict[str, Any]:
    """Write a run's product in half its digits, load it back, measure it, and write its card; returns the card."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = run.recipe.name
    path = folder / f"{name}.safetensors"
    state = run.product.state_dict()
    if run.recipe.keep:
        save_file({k: t.to(STORED.get(t.dtype, t.dtype)).cpu().contiguous() for k, t in state.items()}, path)
    history = run.history
    written: dict[str, Any] = {
        "recipe": name,
        "title": run.recipe.title,
        "version": version,
        "effort": asdict(run.effort),
        "command": f"python -m genai_lib train {name} --version {version} --seed {seed}",
        "seed": seed,
        "steps": int(history["step"][-1]),
        "seconds": round(run.seconds, 1),
        "machine": machine(),
        "torch": torch.__version__.split("+")[0],
        "date": date.today().isoformat(),
        "parameters": sum(p.numel() for p in state.values()),
        "sha256": sha256(path) if run.recipe.keep else None,
        "figures": {},
    }
    _write_card(written, folder)
    return measure_again(name, folder=folder)


def measure_again(name: str, *, folder: Path | str = FOLDER) -> dict[str, Any]:
    """Measure the weights in a folder and write the figures on their card; returns the card."""
    written = card(name, folder=folder)
    written["figures"] = measure(name, load(name, folder=folder))
    _write_card(written, Path(folder))
    return written


def _write_card(written: dict[str, Any], folder: Path) -> None:
    (folder / f"{written['recipe']}.json").write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n")


def measure(name: str, product: nn.Module) -> recipes.Quality:
    """The recipe's figures for a product, on the test set, with the shipped weights of the recipe's judge."""
    recipe = recipes.get(name)
    return {key: round(value, 6) for key, value in recipe.quality(product, judge(recipe.judge)).items()}


def off(figures: recipes.Quality, card: recipes.Quality) -> list[str]:
    """Which figures are not those on the card, by the rule of `HELD` (others: one per cent), each in words."""
    found = []
    for name, expected in card.items():
        share, number = HELD.get(name) or HELD.get(name.partition(",")[0], (0.01, 0))
        value, most = figures.get(name, math.nan), max(share * abs(expected), number)
        if not abs(value - expected) <= most:
            found.append(f"{name} is {value:.4f}, and should be {expected:.4f} ± {most:.2g} as on the card")
    return found


def judge(name: str = "classifier") -> Any | None:
    """Who judges pictures: the shipped digit classifier, or of emoji ``"clip"``. None before it has been trained."""
    return load(name) if name in names() else None


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def machine() -> str:
    """The machine in words: processor family, threads, GPU if any."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpu = torch.cpu.get_capabilities().get("cpu_name", platform.machine())
    return f"{cpu}, {torch.get_num_threads()} threads"
