"""How a gradient becomes a step, where Adam alone is not the best choice: Muon for matrices, Adam for the rest.

M matrices of R rows and C columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring every singular value of matrices (M, R, C) near to 1, and keep the directions: about U Vᵀ for U S Vᵀ.

    Newton and Schulz's iteration needs products only: an odd polynomial of X = U S Vᵀ is applied to S alone, five times.
    It is of fifth degree and steep at 0, so that small values come up soon; the large ones it leaves between 0.7 and 1.2.

    Source: Jordan et al. 2024 (the coefficients are theirs).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]  # no singular value is above 1 now
    for _ in range(5):
        gram = x @ x.mT  # (M, R, R)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)  # a x + (b gram + c gram²) x
    return x if wide else x.mT


class Muon(Optimizer):
    """Momentum, made orthogonal: every direction of a matrix moves equally far, those with small gradients too.

    torch's own does the same in bfloat16, which processors without such instructions work out thirty times more slowly.

    Parameters
    ----------
    matrices : parameters (R, C)
    lr : float
        In the units of Adam's: steps are scaled to have the size that Adam's usually have.
    momentum : float
        Share of the sum of gradients kept at each step; Nesterov's form.

    Source: Jordan et al. 2024; the scale 0.2 √max(R, C): Liu et al. 2025, eq. 4.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})
        if any(p.ndim != 2 for group in self.param_groups for p in group["params"]):
            raise ValueError("Muon moves matrices only: give biases, norms and embeddings to another optimiser")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move all matrices once; those of one shape together."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = {}
            for p in group["params"]:
                shapes.setdefault(p.shape, []).append(p)
            for (R, C), matrices in shapes.items():
                ahead = torch.stack([self._ahead(p, group["momentum"]) for p in matrices])  # (M, R, C)
                moves = orthogonalise(ahead) * (-group["lr"] * 0.2 * max(R, C) ** 0.5)
                for p, move in zip(matrices, moves, strict=True):
                    p.add_(move)

    def _ahead(self, p: nn.Parameter, momentum: float) -> Tensor:
        """The sum of past gradients, and where the next one of the kind would take it (Nesterov)."""
        past = self.state[p].setdefault("past", torch.zeros_like(p))
        assert p.grad is not None
        past.lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(past, momentum)


class Together(Optimizer):
    """Several optimisers that move at once, each its own parameters; for schedules and checkpoints they are one."""

    def __init__(self, *parts: Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})  # the parts' own dicts, not copies

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Let each part take its step."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The parts' states, in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for part, saved in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(saved)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def adam(module: nn.Module, *, lr: float, beta1: float = 0.9, beta2: float = 0.999) -> torch.optim.Adam:
    """Adam in one pass over the weights (`fused`) on devices that can; the meta device has no numbers to pass over."""
    moved = list(module.parameters())
    return torch.optim.Adam(moved, lr=lr, betas=(beta1, beta2), fused=all(p.device.type in ("cpu", "cuda") for p in moved))


def muon(module: nn.Module, *, lr: float, beta2: float = 0.999) -> Together:
    """Muon for the matrices of a network, Adam for its embeddings, biases and norms; one learning rate for both."""
    embeddings = {m.weight for m in module.modules() if isinstance(m, nn.Embedding)}
    matrices = [p for p in module.parameters() if p.ndim == 2 and p not in embeddings]
    rest = [p for p in module.parameters() if p.ndim != 2 or p in embeddings]
    return Together(Muon(matrices, lr=lr), adam(nn.ParameterList(rest), lr=lr, beta2=beta2))
