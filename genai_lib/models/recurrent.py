"""A recurrent language model: the baseline that attention replaced (gated recurrent unit, Cho et al. 2014).

All that was read is kept in one vector of fixed size, renewed token by token:

    r = σ(W_r e + U_r h),   z = σ(W_z e + U_z h),   n = tanh(W_n e + r ⊙ (U_n h)),   h ← (1 − z) ⊙ n + z ⊙ h

(with biases; this is torch's form, the paper applies U_n to r ⊙ h). So drawing costs the same at any length, and training
cannot run in parallel over time.

B batch, T tokens, V vocabulary, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from genai_lib.models.gpt import LanguageModel


class GRU(LanguageModel):
    """Embedding, gated recurrent units, logits: the interface of `GPT`, without a longest context.

    Parameters
    ----------
    size, width, layers : int
        V, D, and the number of recurrent layers one above the other; 1 or more each.
    """

    def __init__(self, size: int, *, width: int = 128, layers: int = 1) -> None:
        super().__init__()
        if min(size, width, layers) < 1:
            raise ValueError(f"size, width and layers must be 1 or more, got {size}, {width} and {layers}")
        self.embedding = nn.Embedding(size, width)
        self.cells = nn.GRU(width, width, layers, batch_first=True)
        self.out = nn.Linear(width, size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of the token after each of `tokens` (B, T)."""
        h, _ = self.cells(self.embedding(tokens))  # (B, T, D)
        return self.out(h)

    def step(self, tokens: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """As in `LanguageModel`; the state is h of every layer, (layers, B, D)."""
        unread = tokens if state is None else tokens[:, -1:]
        h, state = self.cells(self.embedding(unread), state)
        return self.out(h[:, -1]), state
