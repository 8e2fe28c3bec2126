"""Recipes of the language models: Shakespeare's plays character by character, and Tang quatrains."""

from __future__ import annotations

from functools import cache, partial

import torch
from torch import Tensor

from genai_lib import metrics
from genai_lib.data.texts import load_poems, load_text
from genai_lib.data.tokens import Characters, windows
from genai_lib.models.gpt import GPT, GPTConfig, LanguageModel
from genai_lib.models.hmm import HiddenMarkovModel
from genai_lib.models.ngram import NGram
from genai_lib.models.recurrent import GRU
from genai_lib.noise import Noise
from genai_lib.objectives import next_token_nll
from genai_lib.optimisers import adam
from genai_lib.recipes.core import Effort, Judge, Quality, Recipe, token_player

CONTEXT = 128  # characters of a play that a model is shown at once
POEM = 25  # a line break, and four lines of five characters with one after each

# ---------------------------------------------------------------- what is read


@cache
def characters() -> Characters:
    """The tokens of the plays: every character of the training text."""
    return Characters(load_text("shakespeare", "train"))


def plays(device: torch.device, *, context: int = CONTEXT) -> tuple[Tensor, ...]:
    """The training text in pieces of `context` tokens, each with the one that follows: (N, context + 1)."""
    tokens = characters().encode(load_text("shakespeare", "train")).to(device)
    return (windows(tokens, context + 1)[::context],)


@cache
def poem_characters() -> Characters:
    """The tokens of the quatrains: every character of all of them, so that the held-out ones can be written too."""
    return Characters("".join(poem.text for split in ("train", "test") for poem in load_poems(split)))


def quatrains(device: torch.device, split: str = "train") -> tuple[Tensor, ...]:
    """The quatrains, one a row: (N, `POEM`)."""
    rows = [poem_characters().encode(f"\n{poem.text}\n") for poem in load_poems(split)]
    return (torch.stack(rows).to(device),)


# ---------------------------------------------------------------- how it is learned


def _fit_ngram(model: NGram, x: Tensor, noise: Noise, rounds: int) -> list[float]:
    """Count once, over the whole text; the pieces are put together again."""
    tokens = torch.cat([x[:, :-1].flatten(), x[-1, -1:]])
    return [model.fit(tokens).log_prob(tokens).mean().item()]


def _fit_hmm(model: HiddenMarkovModel, x: Tensor, noise: Noise, rounds: int) -> list[float]:
    """Baum and Welch on a quarter of the pieces: a table of 32 × 32 does not need more."""
    return model.fit(x[::4], noise, steps=rounds)


# ---------------------------------------------------------------- how good it is, and how it writes


def _network_quality(model: LanguageModel, judge: Judge | None) -> Quality:
    """Bits per character of the test plays, each character predicted from at most `CONTEXT` before it."""
    text = load_text("shakespeare", "test")
    nll = metrics.text_nll(model, characters().encode(text), context=CONTEXT)
    return {"bits per character": metrics.bits_per_character(nll, len(text))}


def _counted_quality(model: NGram | HiddenMarkovModel, judge: Judge | None) -> Quality:
    """Bits per character of the test plays, read from end to end."""
    text = load_text("shakespeare", "test")
    nll = -model.log_prob(characters().encode(text)[None]).sum().item()
    return {"bits per character": metrics.bits_per_character(nll, len(text))}


def _poem_quality(model: LanguageModel, judge: Judge | None) -> Quality:
    """Bits per character of the test quatrains; and the share of 200 drawn ones that have the form: four lines of five."""
    (test,) = quatrains(torch.device("cpu"), "test")
    with torch.no_grad():
        nll = torch.cat([next_token_nll(model, rows) for rows in test.split(100)]).sum().item()
    drawn = [write_poems(model, 1, Noise(0, i)) for i in range(200)]
    formed = [[len(line) for line in poem.split("\n")] == [5] * 4 for poem in drawn]
    return {"bits per character": metrics.bits_per_character(nll, test[:, 1:].numel()), "four lines of five": sum(formed) / 200}


def write(model: LanguageModel | NGram | HiddenMarkovModel, length: int, noise: Noise) -> str:
    """So many characters of a play that does not exist, after an empty line."""
    prompt = characters().encode("\n")
    if isinstance(model, LanguageModel):
        drawn = model.sample(prompt[None], length, noise, temperature=0.8)[0, 1:]
    elif isinstance(model, NGram):
        drawn = model.sample(1, noise, length=length, prompt=prompt)[0, 1:]
    else:
        drawn = model.sample(1, noise, length=length)[0]
    return characters().decode(drawn)


def write_poems(model: LanguageModel, n: int, noise: Noise) -> str:
    """So many quatrains, with an empty line between them."""
    prompt = poem_characters().encode("\n").expand(n, 1)
    drawn = model.sample(prompt, POEM - 1, noise, temperature=0.8)
    return "\n\n".join(poem_characters().decode(row).strip("\n") for row in drawn)


RECIPES = [
    Recipe(
        "ngram", "5-grams of characters", lambda: NGram(5, characters().size),
        minute=Effort(epochs=1), shipped=Effort(epochs=1),
        data=plays, quality=_counted_quality, fit=_fit_ngram, text=write, keep=False,
    ),
    Recipe(
        "hmm", "Hidden Markov model with 32 states", lambda: HiddenMarkovModel(32, characters().size),
        minute=Effort(epochs=20), shipped=Effort(epochs=100),
        data=plays, quality=_counted_quality, fit=_fit_hmm, text=write,
    ),
    Recipe(
        "gru", "Recurrent network (GRU) on the same characters", lambda: GRU(characters().size, width=192),
        minute=Effort(epochs=1, batch_size=32, lr=8e-3, beta2=0.99),
        shipped=Effort(epochs=6, batch_size=32, lr=8e-3, beta2=0.99),
        data=plays, quality=_network_quality, players=partial(token_player, optimiser=adam), text=write,
    ),
    Recipe(
        "gpt", "GPT on the characters of Shakespeare's plays", lambda: GPT(GPTConfig(size=characters().size, context=CONTEXT)),
        minute=Effort(epochs=0.38, batch_size=8, lr=1e-2, beta2=0.99, climb=0.1, sink="linear"),
        shipped=Effort(epochs=6, batch_size=16, lr=1e-2, beta2=0.99),
        data=plays, quality=_network_quality, players=token_player, text=write,
    ),
    Recipe(
        "gpt-poems", "GPT on Tang quatrains",
        lambda: GPT(GPTConfig(size=poem_characters().size, context=POEM, layers=2, width=64)),
        minute=Effort(epochs=6, batch_size=32, lr=1e-2, beta2=0.99),
        shipped=Effort(epochs=6, batch_size=32, lr=1e-2, beta2=0.99),
        data=quatrains, quality=_poem_quality, players=token_player, text=write_poems,
    ),
]  # fmt: skip
