"""Hidden Markov model with discrete outputs, fitted by Baum and Welch's algorithm (Baum et al. 1970; Rabiner 1989, §III).

A state that nobody sees walks by chance, s_1 ~ π and s_{t+1} ~ A[s_t], and at each step shows a symbol, x_t ~ E[s_t]. It is
the oldest model with a memory: what was seen matters only through a guess of where the walk is now.

B sequences, T steps, S states, V symbols. Shorter sequences are padded at their end with −1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genai_lib.models.mixture import climb, pick
from genai_lib.noise import Noise

Counts = tuple[Tensor, Tensor, Tensor]  # expected starts (S,), moves (S, S) and showings (S, V)


def _product(log_rows: Tensor, matrix: Tensor) -> Tensor:
    """log(e^rows @ matrix), (B, S) → (B, S), each row's largest term kept aside so that long sequences do not underflow.

    In float64 a term is lost only where it lies 700 nats below the largest.
    """
    largest = log_rows.amax(dim=1, keepdim=True).clamp(min=torch.finfo(log_rows.dtype).min)
    return ((log_rows - largest).exp() @ matrix).log() + largest


class HiddenMarkovModel(nn.Module):
    """A hidden Markov model of sequences of whole numbers from 0 to V − 1.

    Parameters
    ----------
    states, symbols : int
        S and V.

    Attributes
    ----------
    start, transitions, emissions : (S,), (S, S), (S, V)
        π, A and E, float64. Each row sums to 1: row i of A holds what follows state i, row i of E what state i shows.
    """

    start: Tensor
    transitions: Tensor
    emissions: Tensor

    def __init__(self, states: int, symbols: int) -> None:
        super().__init__()
        for name, shape in {"start": (states,), "transitions": (states, states), "emissions": (states, symbols)}.items():
            self.register_buffer(name, torch.full(shape, 1 / shape[-1], dtype=torch.float64))

    def _shown(self, x: Tensor) -> Tensor:  # log E[s, x_t], and 0 at padding, which says nothing: (B, T, S)
        return self.emissions.log().T[x.clamp(min=0)].masked_fill((x < 0)[..., None], 0.0)

    def _forward(self, shown: Tensor) -> Tensor:  # log p(x_1 … x_t, s_t): (B, T, S)
        messages = [self.start.log() + shown[:, 0]]
        for t in range(1, shown.shape[1]):
            messages.append(_product(messages[-1], self.transitions) + shown[:, t])
        return torch.stack(messages, dim=1)

    def _backward(self, shown: Tensor) -> Tensor:  # log p(x_{t+1} … x_T | s_t): (B, T, S)
        messages = [torch.zeros_like(shown[:, 0])]
        for t in range(shown.shape[1] - 1, 0, -1):
            messages.append(_product(messages[-1] + shown[:, t], self.transitions.T))
        return torch.stack(messages[::-1], dim=1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of sequences x (B, T), all paths of states summed: (B,) nats, exact."""
        return self._forward(self._shown(x))[:, -1].logsumexp(dim=1)

    def posterior(self, x: Tensor) -> Tensor:
        """Probability of each state at each step, given the whole sequence: (B, T, S). At padding: a forecast."""
        shown = self._shown(x)
        return (self._forward(shown) + self._backward(shown)).softmax(dim=2)

    def viterbi(self, x: Tensor) -> Tensor:
        """Most probable path of states for each sequence x (B, T): (B, T) whole numbers, −1 at padding."""
        shown, moves = self._shown(x), self.transitions.log()
        score = self.start.log() + shown[:, 0]  # (B, S): of the best path that ends in s
        stay, origins = torch.arange(len(moves), device=x.device), []
        for t in range(1, x.shape[1]):
            best, origin = (score[:, :, None] + moves).max(dim=1)  # (B, S, S) → (B, S)
            seen = x[:, t, None] >= 0
            score = torch.where(seen, best + shown[:, t], score)
            origins.append(torch.where(seen, origin, stay))
        path = [score.argmax(dim=1)]
        for origin in reversed(origins):
            path.append(origin.gather(1, path[-1][:, None])[:, 0])
        return torch.stack(path[::-1], dim=1).masked_fill(x < 0, -1)

    def sample(self, n: int, noise: Noise, *, length: int) -> Tensor:
        """Draw n sequences: (n, length) whole numbers."""
        state, symbols = pick(self.start, noise.uniform(n)), []
        for _ in range(length):
            symbols.append(pick(self.emissions[state], noise.uniform(n)))
            state = pick(self.transitions[state], noise.uniform(n))
        return torch.stack(symbols, dim=1)

    def expect(self, x: Tensor) -> tuple[Tensor, Counts]:
        """E step: log-probabilities of x (B,), nats, and the expected numbers of starts, moves and showings."""
        shown, seen = self._shown(x), (x >= 0)[..., None]
        forward, backward = self._forward(shown), self._backward(shown)
        state = (forward + backward).softmax(dim=2) * seen  # (B, T, S)
        pairs = (forward[:, :-1].flatten(0, 1), (shown + backward)[:, 1:].flatten(0, 1))  # (B·(T − 1), S): from, to
        before, after = ((side - side.amax(dim=1, keepdim=True)).exp() for side in pairs)
        evidence = (before @ self.transitions * after).sum(dim=1, keepdim=True)
        moves = self.transitions * (before.T @ (after / evidence * seen[:, 1:].flatten(0, 1)))  # (S, S)
        shows = torch.zeros_like(self.emissions).T.index_add(0, x.clamp(min=0).flatten(), state.flatten(0, 1)).T
        return forward[:, -1].logsumexp(dim=1), (state[:, 0].sum(dim=0), moves, shows)

    def maximise(self, counts: Counts, *, smoothing: float = 0.0) -> None:
        """M step: each row of each table becomes its share of the expected counts, with `smoothing` added to every count."""
        for table, count in zip((self.start, self.transitions, self.emissions), counts, strict=True):
            table.copy_((count + smoothing) / (count + smoothing).sum(dim=-1, keepdim=True))

    def fit(
        self, x: Tensor, noise: Noise, *, starts: int = 1, steps: int = 50, tolerance: float = 1e-3, smoothing: float = 0.01
    ) -> list[float]:
        """Run expectation-maximisation on sequences x (B, T) from random starts, each on its own hill; keep the likeliest.

        `steps` and `tolerance` (nats per sequence) as in `climb`, `smoothing` as in `maximise`: what was never seen stays
        possible. Returns the mean log-likelihood before each step of the start that was kept, nats per sequence.

        Raises
        ------
        ValueError
            Symbols that are not whole numbers from 0 to V − 1, or −1 elsewhere than at the end.
        """
        S, V = self.emissions.shape
        gap = x.ndim == 2 and ((x[:, 0] < 0).any() or ((x[:, :-1] < 0) & (x[:, 1:] >= 0)).any())
        if x.ndim != 2 or x.dtype != torch.int64 or x.max() >= V or x.min() < -1 or gap:
            raise ValueError(f"x must be (B, T) int64 from 0 to {V - 1}, with −1 only as padding at the end of a row; got "
                             f"{tuple(x.shape)} {x.dtype} from {x.min()} to {x.max()}")  # fmt: skip
        runs = []
        for _ in range(starts):
            self.maximise((noise.uniform(S), noise.uniform(S, S), noise.uniform(S, V)), smoothing=0.1)
            history = climb(lambda: self.expect(x), lambda counts: self.maximise(counts, smoothing=smoothing),
                            steps=steps, tolerance=tolerance)  # fmt: skip
            runs.append((history, [table.clone() for table in self.buffers()]))
        history, kept = max(runs, key=lambda run: run[0][-1])
        for table, value in zip(self.buffers(), kept, strict=True):
            table.copy_(value)
        return history
