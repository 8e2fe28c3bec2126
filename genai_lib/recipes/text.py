"""The recipe of the GPT: characters of Shakespeare's plays, one after the other."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from genai_lib import metrics
from genai_lib.data.texts import load_text
from genai_lib.data.tokens import Characters, windows
from genai_lib.models.gpt import GPT, GPTConfig, LanguageModel
from genai_lib.noise import Noise
from genai_lib.objectives import next_token_nll
from genai_lib.recipes.core import Effort, Judge, Quality, Recipe, one_cycle
from genai_lib.training import Player

CONTEXT = 64


@cache
def characters() -> Characters:
    """The tokens of the plays: every character of the training text."""
    return Characters(load_text("shakespeare", "train"))


def plays(device: torch.device) -> tuple[Tensor, ...]:
    """The training text in pieces of `CONTEXT` tokens, each with the one that follows: (N, CONTEXT + 1)."""
    tokens = characters().encode(load_text("shakespeare", "train")).to(device)
    return (windows(tokens, CONTEXT + 1)[::CONTEXT],)


def _players(model: nn.Module, effort: Effort, steps: int) -> list[Player]:
    assert isinstance(model, LanguageModel)

    def loss(batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
        return {"loss": next_token_nll(model, batch[0]).mean() / CONTEXT}  # nats per character

    return [Player("model", model, loss, *one_cycle(model, effort, steps), clip=1.0)]


def _quality(model: nn.Module, judge: Judge | None) -> Quality:
    """Bits per character of the test plays, each character predicted from at most `CONTEXT` before it."""
    text = load_text("shakespeare", "test")
    nll = metrics.text_nll(model, characters().encode(text), context=CONTEXT)
    return {"bits per character": metrics.bits_per_character(nll, len(text))}


def write(model: nn.Module, length: int, noise: Noise) -> str:
    """So many characters of a play that does not exist, after an empty line."""
    assert isinstance(model, LanguageModel)
    prompt = characters().encode("\n")[None]  # (1, 1)
    return characters().decode(model.sample(prompt, length, noise, temperature=0.8)[0, 1:])


RECIPES = [
    Recipe(
        "gpt", "GPT on the characters of Shakespeare's plays", lambda: GPT(GPTConfig(size=characters().size)),
        minute=Effort(epochs=0.5, batch_size=16, lr=4e-3, beta2=0.99),
        shipped=Effort(epochs=1.5, batch_size=16, lr=4e-3, beta2=0.99),
        data=plays, quality=_quality, players=_players, text=write,
    ),
]  # fmt: skip
