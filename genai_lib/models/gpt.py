"""GPT: a Transformer that reads from left to right (Vaswani et al. 2017; laid out as GPT-2, Radford et al. 2019, §2.3).

p(x) = Π p(x_t | x_1 … x_{t−1}). No position looks ahead, so one pass answers for every t at once: training is parallel.
Drawing is not, token follows token; a cache of keys and values keeps what the earlier ones have computed.

B batch, T tokens, S tokens in all (those in the cache and T more), V vocabulary, D width, H heads, K = D / H.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genai_lib.data.tokens import Patches
from genai_lib.models.mixture import pick
from genai_lib.noise import Noise


class Cache(NamedTuple):
    """Keys and values of the S positions read so far; places for a whole context are laid out once, so that none moves.

    Going on from a cache writes into its `pairs`: of two texts that begin alike, each needs a cache of its own.

    Parameters
    ----------
    pairs : (layers, 2, B, H, context, K)
        Keys, then values. Those after the S-th are not yet filled.
    read : int
        S.
    """

    pairs: Tensor
    read: int


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Sizes: V (`size`), the longest T (`context`), number of blocks (`layers`), H (`heads`), D (`width`)."""

    size: int
    context: int = 64
    layers: int = 4
    heads: int = 4
    width: int = 128

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} must be 1 or more, got {getattr(self, field.name)}")
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got width={self.width}, heads={self.heads}")


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √K) v, where a query sees no later key (Vaswani et al. 2017, eq. 1).

    The last T of S positions ask, q (B, H, T, K); all S answer, k and v (B, H, S, K). Returns (B, H, T, K): for each
    query a mean of the values, weighted by how well their keys fit. The model itself calls torch's
    `scaled_dot_product_attention`, which gives the same numbers and never writes the (T, S) table down.
    """
    T, S = q.shape[-2], k.shape[-2]
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, S)
    later = torch.ones(T, S, dtype=torch.bool, device=q.device).triu(S - T + 1)  # key s > query's own position
    return scores.masked_fill(later, -math.inf).softmax(dim=-1) @ v  # (B, H, T, K)


class CausalSelfAttention(nn.Module):
    """Each position asks itself and those before it, H questions at a time."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, pairs: Tensor | None, start: int) -> Tensor:
        """Read T positions from `start` on, of which `pairs` (2, B, H, context, K) knows those before, and now these too."""
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4).unbind()  # (B, H, T, K)
        if pairs is not None:
            pairs[0, :, :, start : start + T], pairs[1, :, :, start : start + T] = k, v
            k, v = pairs[:, :, :, : start + T]  # (B, H, S, K)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=start == 0)  # (B, H, T, K); else T is 1 and may see all
        return self.out(y.transpose(1, 2).reshape(B, T, D))


class Block(nn.Module):
    """Positions talk (attention), then each thinks for itself (MLP); both only add to x, and both get it normalised."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        D = config.width
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(D), CausalSelfAttention(config), nn.LayerNorm(D)
        self.mlp = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(approximate="tanh"), nn.Linear(4 * D, D))

    def forward(self, x: Tensor, pairs: Tensor | None, start: int) -> Tensor:
        x = x + self.attention(self.norm1(x), pairs, start)  # (B, T, D)
        return x + self.mlp(self.norm2(x))


# ---------------------------------------------------------------- drawing from any language model


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k largest logits (…, V), and those equal to the k-th; the others become −∞ (Fan, Lewis & Dauphin 2018)."""
    return logits.masked_fill(logits < logits.topk(min(k, logits.shape[-1])).values[..., -1:], -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest most likely tokens whose probabilities sum to p or more (Holtzman et al. 2020, §3.1)."""
    ascending = logits.sort(dim=-1).values
    mass = ascending.softmax(dim=-1).cumsum(dim=-1)  # of a token and all that are less likely
    dropped = (mass <= 1 - p).sum(dim=-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    return logits.masked_fill(logits < ascending.gather(-1, dropped), -math.inf)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Keep the tokens that are at least p times as likely as the likeliest (Nguyen et al. 2025)."""
    return logits.masked_fill(logits < logits.amax(dim=-1, keepdim=True) + math.log(p), -math.inf)


def probabilities(
    logits: Tensor, *, temperature: float = 1.0,
    top_k: int | None = None, top_p: float | None = None, min_p: float | None = None,
) -> Tensor:  # fmt: skip
    """softmax(logits / temperature) of (…, V) in float64, after top_k, then top_p, then min_p; temperature 0 is greedy."""
    if temperature < 0 or (top_k is not None and top_k < 1):
        raise ValueError(f"temperature must be 0 or more and top_k 1 or more, got {temperature} and {top_k}")
    if any(p is not None and not 0 < p <= 1 for p in (top_p, min_p)):
        raise ValueError(f"top_p and min_p must lie above 0 and not above 1, got {top_p} and {min_p}")
    if temperature == 0:
        return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).double()
    logits = logits.double() / temperature
    logits = logits if top_k is None else keep_top_k(logits, top_k)
    logits = logits if top_p is None else keep_top_p(logits, top_p)
    return (logits if min_p is None else keep_min_p(logits, min_p)).softmax(dim=-1)


class LanguageModel(nn.Module, ABC):
    """A network that maps tokens (B, T) to logits (B, T, V) of the token after each, and can go on step by step."""

    @abstractmethod
    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits (B, V) of the token after all of `tokens` (B, T), of which `state` knows all but the last (None: none)."""

    @torch.no_grad()
    def sample(self, prompt: Tensor, n: int, noise: Noise, **choice: Any) -> Tensor:
        """Go on for n tokens after a prompt (B, T ≥ 1): (B, T + n), prompt included; `choice` as in `probabilities`."""
        if prompt.ndim != 2 or prompt.shape[1] < 1:
            raise ValueError(f"a prompt must have shape (B, T ≥ 1), got {tuple(prompt.shape)}")
        tokens, state = prompt, None
        for _ in range(n):
            logits, state = self.step(tokens, state)
            newest = pick(probabilities(logits, **choice), noise.uniform(len(tokens)))  # (B,)
            tokens = torch.cat([tokens, newest[:, None]], dim=1)
        return tokens


class GPT(LanguageModel):
    """Embeddings of token and place, blocks, and the embedding once more to ask which token fits (Press & Wolf 2017)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.size, config.width)
        self.places = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.width)
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)
            elif "norm" not in name:  # what adds to x adds less, the more there are of them: 2 a block
                adds = name.endswith(("out.weight", "mlp.2.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * config.layers) if adds else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of the token after each of `tokens` (B, T ≤ context)."""
        return F.linear(self._read(tokens, None, 0), self.tokens.weight)

    def step(self, tokens: Tensor, state: Cache | None) -> tuple[Tensor, Cache]:
        """As in `LanguageModel`; the state is the cache. Once the text exceeds the context, its last context / 2 are read anew.

        A key tells its token's place, so no cache outlives a window that slides by one token.
        """
        config, unread = self.config, 1
        if state is None or state.read == config.context:  # nothing is read, or the cache is full
            B, T, K = *tokens.shape, config.width // config.heads
            pairs = self.places.weight.new_empty(config.layers, 2, B, config.heads, config.context, K)
            state, unread = Cache(pairs, 0), T if config.context >= T else max(1, config.context // 2)
        x = self._read(tokens[:, -unread:], state.pairs, state.read)
        return F.linear(x[:, -1], self.tokens.weight), Cache(state.pairs, state.read + unread)  # (B, V)

    def _read(self, tokens: Tensor, pairs: Tensor | None, start: int) -> Tensor:
        """Read T tokens from place `start` on: (B, T, D)."""
        end = start + tokens.shape[1]
        if end > self.config.context:
            raise ValueError(f"{end} tokens are more than the context of {self.config.context}: cut them into windows")
        x = self.tokens(tokens) + self.places.weight[start:end]  # (B, T, D)
        for i, block in enumerate(self.blocks):
            x = block(x, None if pairs is None else pairs[i], start)
        return self.norm(x)


class PictureGPT(nn.Module):
    """A GPT that writes black-and-white pictures patch after patch, with an exact likelihood (cf. Chen et al. 2020).

    A black patch stands before each picture, so that its first patch is predicted too. Place 0 says that it is none of it.
    """

    def __init__(self, patches: Patches, *, layers: int = 3, heads: int = 4, width: int = 96) -> None:
        super().__init__()
        self.patches = patches
        self.gpt = GPT(GPTConfig(size=patches.size, context=patches.length, layers=layers, heads=heads, width=width))

    def read(self, x: Tensor) -> Tensor:
        """Pictures (B, 1, H, W) of pixels 0 or 1 as tokens, the black patch before them: (B, 1 + length)."""
        return F.pad(self.patches.encode(x), (1, 0))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of the patch after each of `tokens` (B, T)."""
        return self.gpt(tokens)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of pictures x (B, 1, H, W) of pixels 0 or 1: (B,) nats, exact."""
        tokens = self.read(x)
        logits = self(tokens[:, :-1])  # (B, length, V)
        return -F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").sum(dim=1)

    def sample(self, n: int, noise: Noise, **choice: Any) -> Tensor:
        """Draw n pictures, (n, 1, H, W) of pixels 0 or 1, at most 100 at a time; `choice` as in `probabilities`."""
        black = torch.zeros(n, 1, dtype=torch.int64, device=noise.device)
        drawn = [self.gpt.sample(some, self.patches.length, noise, **choice)[:, 1:] for some in black.split(100)]
        return self.patches.decode(torch.cat(drawn))
