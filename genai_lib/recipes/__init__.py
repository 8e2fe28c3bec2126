"""Named, reproducible runs: ``run("vae-mlp")`` trains one, ``RECIPES`` has them all; one file a family."""

from __future__ import annotations

from typing import Any

from genai_lib.recipes import denoising, emoji, gan, levels, music, pixels, simple, text, vae
from genai_lib.recipes.core import (
    BINARISATION_SEED,
    Effort,
    Judge,
    Quality,
    Recipe,
    Run,
    binarised_test_digits,
    run_recipe,
    sample_quality,
)  # fmt: skip

FAMILIES = simple, vae, gan, text, pixels, denoising, levels, emoji, music
RECIPES: dict[str, Recipe] = {recipe.name: recipe for family in FAMILIES for recipe in family.RECIPES}

__all__ = [
    "BINARISATION_SEED", "RECIPES", "Effort", "Judge", "Quality", "Recipe", "Run", "binarised_test_digits", "get", "run",
    "sample_quality",
]  # fmt: skip


def get(name: str) -> Recipe:
    """Look up a recipe by name."""
    if name not in RECIPES:
        raise ValueError(f"there is no recipe named {name!r}. The recipes are: {', '.join(RECIPES)}.")
    return RECIPES[name]


def run(name: str, version: str = "minute", **options: Any) -> Run:
    """Train the recipe of this name; the options are those of `run_recipe`: seed, folder, callbacks, epochs, lr, …"""
    return run_recipe(get(name), version, **options)
