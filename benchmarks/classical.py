"""Seconds a round of expectation-maximisation, and the likelihood reached: the library beside scikit-learn and hmmlearn.

    python benchmarks/classical.py

Gaussians: 100 of them, full covariances, on 50 principal components of the 60,000 digits, 10 rounds from the same kind of
start (examples drawn at random). Hidden Markov model: 32 states on 4,000 pieces of Shakespeare, 129 characters each, 10
rounds from random tables. The starts differ, so likelihoods agree only roughly; the tests compare single rounds from one
start digit by digit.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genai_lib import Noise, pretrained, recipes, setup
from genai_lib.data import load
from genai_lib.models.hmm import HiddenMarkovModel
from genai_lib.models.mixture import GaussianMixture
from genai_lib.models.pca import PCA
from genai_lib.recipes.text import characters

ROUNDS = 10


def timed(function: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def mixtures() -> dict[str, dict[str, float]]:
    from sklearn.mixture import GaussianMixture as Theirs

    x = load("mnist", "train").x
    codes = PCA(50).fit(x).encode(x)
    ours = GaussianMixture(100, 50)
    history, seconds = timed(lambda: ours.fit(codes, Noise(0), steps=ROUNDS, tolerance=-1.0))
    theirs = Theirs(100, init_params="random_from_data", max_iter=ROUNDS, tol=0.0, random_state=0)
    with warnings.catch_warnings(action="ignore"):  # it has not converged, as asked
        _, their_seconds = timed(lambda: theirs.fit(codes.numpy()))
    return {
        "library": {"seconds a round": seconds / ROUNDS, "nats an example": history[-1]},
        "scikit-learn": {"seconds a round": their_seconds / ROUNDS, "nats an example": float(theirs.lower_bound_)},
    }


def markov() -> dict[str, dict[str, float]]:
    from hmmlearn.hmm import CategoricalHMM

    x = recipes.get("hmm").data(torch.device("cpu"))[0][:4_000]
    ours = HiddenMarkovModel(32, characters().size)
    history, seconds = timed(lambda: ours.fit(x, Noise(0), steps=ROUNDS, tolerance=-1.0))
    theirs = CategoricalHMM(32, n_features=characters().size, n_iter=ROUNDS, tol=-1.0, random_state=0)
    _, their_seconds = timed(lambda: theirs.fit(x.reshape(-1, 1).numpy(), np.full(len(x), x.shape[1])))
    return {
        "library": {"seconds a round": seconds / ROUNDS, "nats a character": history[-1] / x.shape[1]},
        "hmmlearn": {
            "seconds a round": their_seconds / ROUNDS, "nats a character": float(theirs.monitor_.history[-1]) / x.numel(),
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    setup(seed=0)
    figures: dict[str, Any] = {"machine": pretrained.machine()}
    for name, measure in {"100 Gaussians": mixtures, "hidden Markov model": markov}.items():
        figures[name] = measure()
        print(name, figures[name], flush=True)
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
