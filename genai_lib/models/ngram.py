"""n-grams: guess the next token from how often it followed the last n − 1 tokens (Shannon 1948, §3).

Long contexts say much and were seldom seen, short ones say little and surely. All are interpolated after Witten & Bell
(1991, method C; Chen & Goodman 1999, §2.5): a context h that was followed c(h) times, by t(h) *different* tokens, leaves
the share t(h) / (c(h) + t(h)) to the next shorter context h'. Unlike Jelinek & Mercer's (1980), one weight a length,
these shares differ with the context and need no held-out text. T tokens, V size of the vocabulary:

    p(w | h) = (c(hw) + t(h) · p(w | h')) / (c(h) + t(h)),       and below the empty context p(w) = 1 / V.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genai_lib.models.mixture import pick
from genai_lib.noise import Noise


class NGram(nn.Module):
    """Counts of all sequences of up to `order` tokens (n) in a text over `size` tokens (V). Before `fit` it is uniform.

    They form a tree: node 0 is the empty sequence, a child is one token longer, node −1 stands for all never seen. One
    sorted table holds it, so that a million nodes are found at once; its length depends on the text that was counted.
    """

    keys: Tensor  # parent · V + token of nodes 1, 2, …: ascending, because parents are numbered before their children
    count: Tensor  # c(hw) of each node
    total: Tensor  # c(h): the sum of its children's counts
    types: Tensor  # t(h): the number of its children

    def __init__(self, order: int, size: int) -> None:
        super().__init__()
        if order < 1 or size < 1:
            raise ValueError(f"order and size must be 1 or more, got order={order}, size={size}")
        self.order, self.size = order, size
        for name in ("keys", "count", "total", "types"):
            self.register_buffer(name, torch.zeros(2, dtype=torch.int64))

    def fit(self, tokens: Tensor) -> NGram:
        """Count the sequences in tokens (T,), T ≥ order; returns itself."""
        self._check(tokens)
        if tokens.ndim != 1 or len(tokens) < self.order:
            raise ValueError(f"tokens must have shape (T ≥ {self.order},), got {tuple(tokens.shape)}")
        node, nodes, levels = tokens.new_zeros(len(tokens) + 1), 1, []  # the node of the 0, then 1, 2, … tokens at each place
        for n in range(self.order):
            key, place, count = torch.unique(node[:-1] * self.size + tokens[n:], return_inverse=True, return_counts=True)
            levels.append((key, count))
            node, nodes = nodes + place, nodes + len(key)
        self.keys, self.count = (torch.cat(columns) for columns in zip(*levels, strict=True))
        self.count = nn.functional.pad(self.count, (1, 1))  # nobody asks for that of node 0, and −1 has none
        parent = self.keys // self.size
        self.total = torch.zeros_like(self.count).index_add_(0, parent, self.count[1:-1])
        self.types = torch.bincount(parent, minlength=nodes + 1)
        return self

    def log_prob(self, tokens: Tensor) -> Tensor:
        """log p of each token given those before it in its row (the first have short contexts): (…, T) nats, float64."""
        self._check(tokens)
        p = torch.full(tokens.shape, 1 / self.size, dtype=torch.float64, device=tokens.device)
        node = tokens.new_zeros(*tokens.shape[:-1], tokens.shape[-1] + 1)
        for n in range(self.order):
            p[..., n:], node = self._longer(p[..., n:], node[..., :-1], tokens[..., n:])
        return p.log()

    def sample(self, n: int, noise: Noise, *, length: int, prompt: Tensor | None = None) -> Tensor:
        """Draw n continuations of a prompt (T,), or of nothing, `length` tokens each: (n, T + length), prompt included."""
        given = [] if prompt is None else list(prompt)
        every, root = torch.arange(self.size, device=self.keys.device), self.keys.new_zeros(n, 1)  # (V,), (n, 1)
        tokens, contexts = [], [root]  # contexts: the nodes of the last 0, 1, … tokens, (n, 1) each
        for t in range(len(given) + length):
            p, longer = torch.full((n, self.size), 1 / self.size, dtype=torch.float64, device=every.device), []
            for context in contexts:
                p, nodes = self._longer(p, context, every)  # (n, V) each
                longer.append(nodes)
            tokens.append(given[t].expand(n) if t < len(given) else pick(p, noise.uniform(n)))
            contexts = [root, *(nodes.gather(1, tokens[-1][:, None]) for nodes in longer[: self.order - 1])]
        return torch.stack(tokens, dim=1)

    def _longer(self, p: Tensor, context: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """From p(token | h') to p(token | h), with one token more in the context; and the node of both together."""
        wanted = context * self.size + token
        place = torch.searchsorted(self.keys, wanted).clamp(max=len(self.keys) - 1)
        node = torch.where(self.keys[place] == wanted, place + 1, -1)
        c, t = self.total[context], self.types[context]
        return torch.where(c > 0, (self.count[node] + t * p) / (c + t), p), node

    def _check(self, tokens: Tensor) -> None:
        if tokens.numel() and not 0 <= tokens.min() <= tokens.max() < self.size:
            raise ValueError(f"tokens must lie between 0 and {self.size - 1}, got {tokens.min()} to {tokens.max()}")
