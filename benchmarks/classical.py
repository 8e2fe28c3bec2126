"""Seconds a round of expectation-maximisation: the library beside scikit-learn and hmmlearn, with equal results.

    python benchmarks/classical.py --out benchmarks/results/classical.json      four minutes

Gaussians: 100 of them, full covariances, on 50 principal components of the 60,000 digits. Hidden Markov model: 32 states on
498 pieces of Shakespeare, 129 characters each; hmmlearn has two ways to add up probabilities, "log", which it takes if nobody
asks, and "scaling", which is quicker. All sides of a row begin with the same parameters and run ten rounds, so that the
likelihood before the last one must be the same: it stands in the report. scikit-learn's fit ends with one more look at all
examples; the seconds of such a look are taken off. One after another on one machine; then again, from other parameters, as many
turns as there are --pairs.

Runs are written as they come; a file that has some is completed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genai_lib import Noise, recipes, sweep
from genai_lib.data import load
from genai_lib.models.hmm import HiddenMarkovModel
from genai_lib.models.mixture import GaussianMixture
from genai_lib.models.pca import PCA
from genai_lib.recipes.text import characters

ROUNDS, RIDGE, SMOOTHING = 10, 1e-4, 0.01
GAUSSIANS, STATES = 100, 32


def timed(function: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


@cache
def codes() -> Tensor:
    """The digits on 50 principal components: (60000, 50)."""
    x = load("mnist", "train").x
    return PCA(50).fit(x).encode(x)


@cache
def pieces() -> Tensor:
    """Every sixteenth piece of the plays: (498, 129)."""
    return recipes.get("hmm").data(torch.device("cpu"))[0][::16]


def mixture(turn: int, done: Mapping[str, Any]) -> dict[str, float]:
    ours = GaussianMixture(GAUSSIANS, 50)
    history, seconds = timed(lambda: ours.fit(codes(), Noise(turn), steps=ROUNDS, tolerance=-1.0, ridge=RIDGE))
    return {"seconds a round": seconds / ROUNDS, "nats": history[-1]}


def scikit_learn(turn: int, done: Mapping[str, Any]) -> dict[str, float]:
    """Its mixture, from the means and the covariance that ours begins with."""
    from sklearn.mixture import GaussianMixture as Theirs

    x = codes()
    floor = RIDGE * x.var(dim=0).mean().item()
    precision = np.linalg.inv(np.cov(x.numpy().T) + floor * np.eye(50)).astype(np.float32)
    theirs = Theirs(
        GAUSSIANS, tol=0.0, reg_covar=floor, max_iter=ROUNDS, weights_init=np.full(GAUSSIANS, 1 / GAUSSIANS, np.float32),
        means_init=x[Noise(turn).permutation(len(x))[:GAUSSIANS]].numpy(), precisions_init=np.stack([precision] * GAUSSIANS),
    )  # fmt: skip
    with warnings.catch_warnings(action="ignore"):  # it has not converged, as asked
        _, seconds = timed(lambda: theirs.fit(x.numpy()))
    _, look = timed(lambda: theirs.score(x.numpy()))
    return {"seconds a round": (seconds - look) / ROUNDS, "nats": float(theirs.lower_bound_)}


def markov(turn: int, done: Mapping[str, Any]) -> dict[str, float]:
    x, ours = pieces(), HiddenMarkovModel(STATES, characters().size)
    history, seconds = timed(lambda: ours.fit(x, Noise(turn), steps=ROUNDS, tolerance=-np.inf, smoothing=SMOOTHING))
    return {"seconds a round": seconds / ROUNDS, "nats": history[-1] / x.shape[1]}


def hmmlearn(implementation: str) -> sweep.Side:
    """Its model, from the tables that ours begins with; a prior's concentration minus 1 is our smoothing."""

    def run(turn: int, done: Mapping[str, Any]) -> dict[str, float]:
        from hmmlearn.hmm import CategoricalHMM

        x, start, noise = pieces(), HiddenMarkovModel(STATES, characters().size), Noise(turn)
        start.maximise(tuple(noise.uniform(*table.shape) for table in start.buffers()), smoothing=0.1)  # type: ignore[arg-type]
        theirs = CategoricalHMM(
            STATES, n_features=characters().size, n_iter=ROUNDS, tol=-np.inf, init_params="", implementation=implementation,
            startprob_prior=1 + SMOOTHING, transmat_prior=1 + SMOOTHING, emissionprob_prior=1 + SMOOTHING,
        )  # fmt: skip
        theirs.startprob_, theirs.transmat_, theirs.emissionprob_ = (table.numpy().copy() for table in start.buffers())
        _, seconds = timed(lambda: theirs.fit(x.reshape(-1, 1).numpy(), np.full(len(x), x.shape[1])))
        return {"seconds a round": seconds / ROUNDS, "nats": float(theirs.monitor_.history[-1]) / x.numel()}

    return run


SIDES: dict[str, sweep.Side] = {
    "100 Gaussians, library": mixture, "100 Gaussians, scikit-learn": scikit_learn, "hidden Markov model, library": markov,
    "hidden Markov model, hmmlearn": hmmlearn("log"), "hidden Markov model, hmmlearn with scaling": hmmlearn("scaling"),
}  # fmt: skip
RATIOS = {
    f"{side} / library": ("seconds a round", side, f"{side.split(', ')[0]}, library") for side in SIDES if "library" not in side
}


def main() -> None:
    sweep.compare("classical", __doc__.split("\n")[0], SIDES, RATIOS, told=lambda: {"rounds": ROUNDS})


if __name__ == "__main__":
    main()
