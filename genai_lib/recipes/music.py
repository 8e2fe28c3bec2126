"""The recipe of the chorale writer: a GPT that writes four voices on a grid of eighths, a step at a time.

The voices of a step stand in a row: soprano, alto, tenor, bass. Each token says what its voice does there: begin a note,
hold it, or be silent. Between two chorales stands a step of `EDGE`. Liang et al. 2017 found that a network which reads
voices in a row writes chorales that are hard to tell from Bach's.

B rows, T steps of four tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from genai_lib import metrics
from genai_lib.data.music import HOLD, REST, load_chorales
from genai_lib.data.tokens import windows
from genai_lib.models.gpt import GPT, GPTConfig, LanguageModel, probabilities
from genai_lib.models.mixture import pick
from genai_lib.models.ngram import NGram
from genai_lib.noise import Noise
from genai_lib.recipes.core import Effort, Judge, Quality, Recipe, token_player

STEPS = 2  # to a quarter note
CONTEXT = 256  # tokens: eight bars of four quarter notes
LOW, HIGH = 30, 88  # of Bach's pitches, 36 … 81, every transposition lies between
EDGE = HIGH - LOW + 2  # the token between chorales; before it those of `HOLD` and `REST`, and before them the pitches
SINGERS = torch.tensor([[60, 79], [55, 74], [48, 67], [40, 60]])  # what a choir's four voices can sing with ease


def encode(voices: Tensor) -> Tensor:
    """Voices (…, 4), as `load_chorales` gives them, as tokens 0 … EDGE − 1. Raises ValueError for pitches without a token."""
    pitches = voices[voices < HOLD]
    if len(pitches) and not LOW <= pitches.min() <= pitches.max() < HIGH:
        raise ValueError(f"pitches must lie from {LOW} to {HIGH - 1}, got {pitches.min()} to {pitches.max()}: transpose them")
    return torch.where(voices < HOLD, voices - LOW, voices - HOLD + HIGH - LOW)


def decode(tokens: Tensor) -> Tensor:
    """The voices that tokens (…, 4) tell; between chorales they are silent."""
    return torch.where(tokens < HIGH - LOW, tokens + LOW, tokens - (HIGH - LOW) + HOLD).clamp(max=REST)


def transpose(tokens: Tensor, noise: Noise) -> Tensor:
    """Move each row (B, …) by 5 semitones down to 6 up, so that it may stand in each of the twelve keys."""
    moved = tokens + noise.integers(12, len(tokens), *[1] * (tokens.ndim - 1)) - 5
    return torch.where(tokens < HIGH - LOW, moved, tokens)


class VoiceCounts(LanguageModel):
    """n-grams of tokens that know whose they are, counted in all twelve keys: counting, made as strong as the GPT's data.

    It answers as a GPT does, so `draw` can write with it. Its alphabet is EDGE + 1 tokens for each of the four voices.
    """

    def __init__(self, order: int, tokens: Tensor) -> None:
        """Count sequences of up to `order` tokens in a row (4 T,), as `row` gives it."""
        super().__init__()
        keys = [torch.where(tokens < HIGH - LOW, tokens + key, tokens) for key in range(-5, 7)]
        self.counts = NGram(order, 4 * (EDGE + 1)).fit(self._marked(torch.cat(keys)))

    def log_prob(self, tokens: Tensor) -> Tensor:
        """log p of each token given those before it in its row, which begins with a soprano: (…, T) nats."""
        return self.counts.log_prob(self._marked(tokens))

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """As in `LanguageModel`; `tokens` (B, T) begin with a soprano, and the state is empty."""
        every = torch.arange(EDGE + 1) + (EDGE + 1) * (tokens.shape[1] % 4)
        known = self._marked(tokens)[:, None, max(0, tokens.shape[1] + 1 - self.counts.order) :]  # (B, 1, at most order − 1)
        asked = every[None, :, None].expand(len(tokens), -1, 1)
        return self.counts.log_prob(torch.cat([known.expand(-1, len(every), -1), asked], dim=2))[..., -1], None

    @staticmethod
    def _marked(tokens: Tensor) -> Tensor:
        return tokens + (EDGE + 1) * (torch.arange(tokens.shape[-1]) % 4)


@cache
def row(split: str) -> Tensor:
    """All chorales of a split in a row, an edge before each: (4 T,)."""
    edge = torch.full((1, 4), EDGE)
    return torch.cat([step for _, voices in load_chorales(split, steps=STEPS) for step in (edge, encode(voices))]).flatten()


def pieces(device: torch.device) -> tuple[Tensor, ...]:
    """The training chorales in pieces of `CONTEXT` tokens and the next, which begin half a bar apart: (N, CONTEXT + 1)."""
    return (windows(row("train").to(device), CONTEXT + 1)[::16],)


@torch.no_grad()
def draw(
    model: LanguageModel, n: int, steps: int, noise: Noise, *, temperature: float = 0.9, given: Tensor | None = None,
    rule: float = 1.0, **choice: Any,
) -> Tensor:  # fmt: skip
    """Write n times so many steps, from the beginning of a chorale on: voices (n, steps, 4).

    Half of the context is read anew when it is full, so that what is read begins with a soprano.

    Parameters
    ----------
    given : (n, steps, 4), optional
        What voices must do there, −1 where the model writes. It sees of it what it has passed, and nothing that is to come.
    rule : float
        The weight of each token that would be `forbidden` is multiplied by it, before the temperature acts: 1 as trained,
        0 never.
    temperature, **choice
        As in `probabilities`.
    """
    if not 0 <= rule <= 1:
        raise ValueError(f"rule must lie from 0, never, to 1, as trained; got {rule}")
    if given is not None and given.shape != (n, steps, 4):
        raise ValueError(f"given must have shape {(n, steps, 4)}, got {tuple(given.shape)}")
    asked = None if given is None else encode(given.where(given >= 0, HOLD)).where(given >= 0, -1)
    tokens, now = torch.full((n, 4), EDGE), torch.full((n, 4), torch.nan, dtype=torch.float64)
    state, start = None, 0
    for place in range(4, 4 * (steps + 1)):
        step, voice = divmod(place - 4, 4)
        if voice == 0:
            before = now.clone()
        if place - start == CONTEXT:
            state, start = None, place - CONTEXT // 2
        logits, state = model.step(tokens[:, start:], state)
        if rule < 1:
            logits = logits + torch.where(forbidden(before, now[:, :voice]), math.log(rule) if rule else -math.inf, 0.0)
        newest = pick(probabilities(logits, temperature=temperature, **choice), noise.uniform(n))
        if asked is not None:
            newest = newest.where(asked[:, step, voice] < 0, asked[:, step, voice])
        tokens = torch.cat([tokens, newest[:, None]], dim=1)
        heard = torch.where(newest < HIGH - LOW, newest.double() + LOW, torch.nan)
        now[:, voice] = torch.where(newest == HIGH - LOW, now[:, voice], heard)  # that of `HOLD`
    return decode(tokens[:, 4:].view(n, steps, 4))


def sounding(voices: Tensor) -> Tensor:
    """The pitch that each voice sounds at each step of voices (T, 4): float64, NaN where it is silent."""
    places = torch.arange(len(voices))[:, None].where(voices != HOLD, 0).cummax(dim=0).values  # where each note began
    pitches = voices.gather(0, places).double()
    return pitches.masked_fill(pitches >= HOLD, torch.nan)


def forbidden(before: Tensor, now: Tensor) -> Tensor:
    """Tokens of the next voice that would go in parallel fifths, octaves or unisons with one of those that have moved.

    Parameters
    ----------
    before : (…, 4)
        What sounded a step ago, as in `sounding`.
    now : (…, V)
        What the first V voices, 0 to 3, sound now.

    Returns
    -------
    (…, EDGE + 1) bool
    """
    pitch, voice = torch.arange(LOW, HIGH), now.shape[-1]
    found = _as_one(before[..., :voice, None], now[..., None], before[..., voice, None, None], pitch)  # (…, V, P)
    return nn.functional.pad(found.any(dim=-2), (0, EDGE + 1 - len(pitch)))


def _as_one(before: Tensor, now: Tensor, before_below: Tensor, now_below: Tensor) -> Tensor:
    """Where a voice and one below it move equally far, to a fifth, an octave or a unison, or octaves more, between them."""
    moves, apart = now - before, (now - now_below) % 12
    return ((apart == 0) | (apart == 7)) & (moves == now_below - before_below) & (moves != 0)


def faults(voices: Tensor) -> dict[str, float]:
    """Five faults of voice leading, as shares: what a teacher of harmony would mark in voices (T, 4).

    "parallels" as below; "crossing": steps at which a voice lies below a deeper one; "spacing": steps with more than an
    octave between soprano and alto or alto and tenor; "range": notes outside `SINGERS`, in the key that suits them best;
    "leaps": moves by a seventh or by more than an octave.
    """
    pitches, begun = sounding(voices), voices < HOLD
    a, b = torch.triu_indices(4, 4, 1)
    moves = pitches.diff(dim=0)[begun[1:]].abs()
    moves = moves[~moves.isnan()]
    keys = pitches + torch.arange(-6, 6)[:, None, None]  # (12, T, 4)
    outside = (((keys < SINGERS[:, 0]) | (keys > SINGERS[:, 1])) & begun).sum(dim=(1, 2)).min()
    counted = {
        "crossing": (pitches[:, a] < pitches[:, b]).any(dim=1).double(),
        "spacing": (pitches[:, :2] - pitches[:, 1:3] > 12).any(dim=1).double(),
        "range": outside.double()[None] / begun.sum().clamp(min=1),
        "leaps": ((moves == 10) | (moves == 11) | (moves > 12)).double(),
    }
    return {"parallels": parallels(voices)} | {name: (x.sum() / max(len(x), 1)).item() for name, x in counted.items()}


def parallels(voices: Tensor) -> float:
    """Share of parallel fifths and octaves: where two or more voices move, some two of them do it as one.

    Those two lie a fifth, an octave or a unison apart, or octaves more, and move equally far the same way. Every textbook
    of harmony forbids it. Of Bach's test chorales it is the figure "parallels, Bach" on the card.

    Parameters
    ----------
    voices : (T, 4)
        As `load_chorales` gives them. Where never two move, the share is 0.
    """
    pitches, (a, b) = sounding(voices), torch.triu_indices(4, 4, 1)
    found = _as_one(pitches[:-1, a], pitches[1:, a], pitches[:-1, b], pitches[1:, b])  # (T − 1, 6)
    several = (pitches.diff(dim=0).abs() > 0).sum(dim=1) > 1
    return (found.any(dim=1).sum() / several.sum().clamp(min=1)).item()


def longest_runs(pieces: Sequence[Tensor], known: Sequence[Tensor]) -> Tensor:
    """How many steps in a row of each piece (T, 4) stand just so in one of the known ones, in whatever key: (N,) at most T − 1.

    A step is what sounds and what begins, seen from the soprano a step before: the first step of a piece has none.
    """
    steps, owners = [], []
    for number, voices in enumerate([*pieces, *known]):
        pitches = sounding(voices)
        told = torch.cat([pitches[1:] - pitches[:-1, :1], (voices[1:] < HOLD).double()], dim=1).nan_to_num(nan=-99.0)
        steps += [told, torch.full((1, 8), 1000.0 + number, dtype=told.dtype)]  # an end like no other
        owners.append(torch.full((len(voices),), number))
    alike, owner = torch.unique(torch.cat(steps), dim=0, return_inverse=True)[1], torch.cat(owners)  # (all steps,) each
    run, length, longest = alike, 0, torch.zeros(len(pieces), dtype=torch.int64)
    while True:  # run: one number for each sequence of length + 1 steps, the same for the same
        heard = torch.isin(run, run[owner[: len(run)] >= len(pieces)])
        found = owner[: len(run)][heard & (owner[: len(run)] < len(pieces))]
        if not len(found):
            return longest
        length += 1
        longest[found] = length
        run = torch.unique(run[:-1] * len(alike) + alike[length:], return_inverse=True)[1]


def _quality(model: LanguageModel, judge: Judge | None) -> Quality:
    """Nats per token of the test chorales, from at most `CONTEXT` before it; parallels in 20 drawn pieces, and in Bach's."""
    test = row("test")
    drawn = nn.functional.pad(draw(model, 20, CONTEXT // 4, Noise(0)), (0, 0, 0, 1), value=REST)  # silence after each
    return {
        "nats per token": metrics.text_nll(model, test, context=CONTEXT) / (len(test) - 1),
        "parallels": parallels(drawn.flatten(0, 1)), "parallels, Bach": parallels(decode(test.view(-1, 4))),
    }  # fmt: skip


def compose(model: LanguageModel, quarters: int, noise: Noise) -> Tensor:
    """The beginning of a chorale that does not exist, so many quarter notes long: (STEPS · quarters, 4)."""
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
