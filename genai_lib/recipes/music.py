"""The recipe of the chorale writer: a GPT that writes four voices on a grid of eighths, a step at a time.

The voices of a step stand in a row: soprano, alto, tenor, bass. Each token says what its voice does there: begin a note,
hold it, or be silent. Between two chorales stands a step of `EDGE`. Liang et al. 2017 found that a network which reads
voices in a row writes chorales that are hard to tell from Bach's.

B rows, T steps of four tokens.
"""

from __future__ import annotations

from functools import cache, partial

import torch
from torch import Tensor, nn

from genai_lib import metrics
from genai_lib.data.music import HOLD, REST, load_chorales
from genai_lib.data.tokens import windows
from genai_lib.models.gpt import GPT, GPTConfig, LanguageModel
from genai_lib.noise import Noise
from genai_lib.recipes.core import Effort, Judge, Quality, Recipe, token_player

STEPS = 2  # to a quarter note
CONTEXT = 256  # tokens: eight bars of four quarter notes
LOW, HIGH = 30, 88  # of Bach's pitches, 36 … 81, every transposition lies between
EDGE = HIGH - LOW + 2  # the token between chorales; before it those of `HOLD` and `REST`, and before them the pitches


def encode(voices: Tensor) -> Tensor:
    """Voices (…, 4), as `load_chorales` gives them, as tokens 0 … EDGE − 1."""
    return torch.where(voices < HOLD, voices - LOW, voices - HOLD + HIGH - LOW)


def decode(tokens: Tensor) -> Tensor:
    """The voices that tokens (…, 4) tell; between chorales they are silent."""
    return torch.where(tokens < HIGH - LOW, tokens + LOW, tokens - (HIGH - LOW) + HOLD).clamp(max=REST)


def transpose(tokens: Tensor, noise: Noise) -> Tensor:
    """Move each row (B, …) by 5 semitones down to 6 up, so that it may stand in each of the twelve keys."""
    moved = tokens + noise.integers(12, len(tokens), *[1] * (tokens.ndim - 1)) - 5
    return torch.where(tokens < HIGH - LOW, moved, tokens)


@cache
def row(split: str) -> Tensor:
    """All chorales of a split in a row, an edge before each: (4 T,)."""
    edge = torch.full((1, 4), EDGE)
    return torch.cat([step for _, voices in load_chorales(split, steps=STEPS) for step in (edge, encode(voices))]).flatten()


def pieces(device: torch.device) -> tuple[Tensor, ...]:
    """The training chorales in pieces of `CONTEXT` tokens and the next, which begin half a bar apart: (N, CONTEXT + 1)."""
    return (windows(row("train").to(device), CONTEXT + 1)[::16],)


@torch.no_grad()
def draw(model: LanguageModel, n: int, steps: int, noise: Noise, *, temperature: float = 0.9) -> Tensor:
    """Write n times so many steps, from the beginning of a chorale on: voices (n, steps, 4).

    Half of the context is read anew for each half written, so that what is read begins with a soprano.
    """
    tokens, half = torch.full((n, 4), EDGE), CONTEXT // 2
    while (left := 4 * (steps + 1) - tokens.shape[1]) > 0:
        read = tokens[:, -half:]
        written = model.sample(read, min(left, CONTEXT - read.shape[1]), noise, temperature=temperature)
        tokens = torch.cat([tokens[:, : -read.shape[1]], written], dim=1)
    return decode(tokens[:, 4:].view(n, steps, 4))


def parallels(voices: Tensor) -> float:
    """Share of parallel fifths and octaves: where two or more voices move, some two of them do it as one.

    Those two lie a fifth, an octave or a unison apart, or octaves more, and move equally far the same way. Every textbook
    of harmony forbids it. Of Bach's test chorales it is the figure "parallels, Bach" on the card.

    Parameters
    ----------
    voices : (T, 4)
        As `load_chorales` gives them. Where never two move, the share is 0.
    """
    places = torch.arange(len(voices))[:, None].where(voices != HOLD, 0).cummax(dim=0).values  # where each note began
    sounding = voices.gather(0, places).double()
    sounding[sounding >= HOLD] = torch.nan  # silent
    moves, (a, b) = sounding.diff(dim=0), torch.triu_indices(4, 4, 1)
    apart = (sounding[1:, a] - sounding[1:, b]) % 12  # (T − 1, 6)
    forbidden = ((apart == 0) | (apart == 7)) & (moves[:, a] == moves[:, b]) & (moves[:, a] != 0)
    several = (moves.abs() > 0).sum(dim=1) > 1
    return (forbidden.any(dim=1).sum() / several.sum().clamp(min=1)).item()


def _quality(model: nn.Module, judge: Judge | None) -> Quality:
    """Nats per token of the test chorales, from at most `CONTEXT` before it; parallels in 20 drawn pieces, and in Bach's."""
    assert isinstance(model, LanguageModel)
    test = row("test")
    drawn = nn.functional.pad(draw(model, 20, CONTEXT // 4, Noise(0)), (0, 0, 0, 1), value=REST)  # silence after each
    return {
        "nats per token": metrics.text_nll(model, test, context=CONTEXT) / (len(test) - 1),
        "parallels": parallels(drawn.flatten(0, 1)), "parallels, Bach": parallels(decode(test.view(-1, 4))),
    }  # fmt: skip


def compose(model: nn.Module, quarters: int, noise: Noise) -> Tensor:
    """The beginning of a chorale that does not exist, so many quarter notes long: (STEPS · quarters, 4)."""
    assert isinstance(model, LanguageModel)
    return draw(model, 1, STEPS * quarters, noise)[0]


RECIPES = [
    Recipe(
        "chorales", "GPT that writes four-voice chorales",
        lambda: GPT(GPTConfig(size=EDGE + 1, context=CONTEXT, layers=3, width=96)),
        minute=Effort(epochs=0.25, batch_size=8, lr=8e-3, beta2=0.99),
        shipped=Effort(epochs=2, batch_size=8, lr=8e-3, beta2=0.99),
        data=pieces, quality=_quality, players=partial(token_player, prepare=transpose), music=compose,
    ),
]  # fmt: skip
