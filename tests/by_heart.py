"""Small overfitting: what a language model that learns at all must manage."""

from __future__ import annotations

import torch

from genai_lib.objectives import next_token_nll


def learn_by_heart(model, tokens, *, lr):
    """A hundred steps of Adam on the same few lines; returns their −log p (B,) afterwards."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(100):
        optimizer.zero_grad()
        next_token_nll(model, tokens).mean().backward()
        optimizer.step()
    return next_token_nll(model, tokens)
