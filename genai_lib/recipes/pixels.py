"""The recipe of the pixel writer: a GPT that writes digits patch by patch, in black and white.

784 pixels make 196 tokens, each a patch of 2 × 2 pixels, of 16 kinds. Whatever comes out, its probability is a product of
196 numbers that the model names: the log-likelihood of a digit is exact. Van den Oord, Kalchbrenner & Kavukcuoglu 2016
wrote pictures so, pixel by pixel, with a recurrent network; Chen et al. 2020 with a GPT.
"""

from __future__ import annotations

from genai_lib.data.steps import binarise
from genai_lib.data.tokens import Patches
from genai_lib.models.gpt import PictureGPT
from genai_lib.recipes.core import Effort, Recipe, likelihood_quality, token_player
from genai_lib.training import Player


def _players(model: PictureGPT, effort: Effort, steps: int) -> list[Player]:
    """Each batch is binarised anew: a digit that comes back has other pixels, and is harder to learn by heart."""
    return token_player(model, effort, steps, prepare=lambda x, noise: model.read(binarise(x, noise)))


RECIPES = [
    Recipe(
        "gpt-pixels", "GPT that writes black-and-white digits, four pixels at a time", lambda: PictureGPT(Patches(28, 28)),
        minute=Effort(epochs=0.07, batch_size=16, lr=8e-3, beta2=0.99),
        shipped=Effort(epochs=0.6, batch_size=16, lr=8e-3, beta2=0.99),
        quality=likelihood_quality, players=_players,
    ),
]  # fmt: skip
