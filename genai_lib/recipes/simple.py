"""Recipes of the models without a game or a bound: the classifier that judges, the mixture, the autoencoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genai_lib import metrics
from genai_lib.data.steps import binarise, shift
from genai_lib.models.autoencoder import Autoencoder, mlp_autoencoder
from genai_lib.models.classifier import Classifier
from genai_lib.models.mixture import BernoulliMixture, PictureMixture
from genai_lib.noise import Noise
from genai_lib.objectives import bernoulli_nll
from genai_lib.recipes.core import (
    Effort,
    Judge,
    Quality,
    Recipe,
    digits,
    likelihood_quality,
    one_player,
    sample_quality,
    test_digits,
)  # fmt: skip

TRAINING_SEED = 2015  # of the binarised training digits


def _autoencoder_loss(model: Autoencoder, batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
    x = batch[0]
    return {"loss": bernoulli_nll(model.decode(model.encode(x)), x).mean()}


def _classifier_loss(model: Classifier, batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
    x, y = batch
    logits = model(shift(x, noise))
    return {"loss": F.cross_entropy(logits, y), "accuracy": (logits.argmax(dim=1) == y).float().mean()}


def _autoencoder_quality(model: Autoencoder, judge: Judge | None) -> Quality:
    x = test_digits().x
    error = (metrics.in_batches(model.reconstruct, x) - x).square().mean().item()
    return {"squared error": error}


def _classifier_quality(model: Classifier, judge: Judge | None) -> Quality:
    return {"accuracy": metrics.accuracy(model, *test_digits())}


def _fit_mixture(model: PictureMixture | BernoulliMixture, x: Tensor, noise: Noise, rounds: int) -> list[float]:
    return model.fit(x, noise, steps=rounds)


def _binarised_digits(device: torch.device) -> tuple[Tensor, ...]:
    """The training digits, each pixel drawn once as 0 or 1, and their labels."""
    x, y = digits(device)
    return binarise(x, Noise(TRAINING_SEED, device=device)), y


RECIPES = [
    Recipe(
        "classifier", "Digit classifier, the judge of the course", Classifier,
        minute=Effort(epochs=1, batch_size=128, lr=4e-3),
        shipped=Effort(epochs=8, batch_size=128, lr=4e-3, precision="bf16"),
        quality=_classifier_quality, players=one_player(_classifier_loss, name="classifier"),
    ),
    Recipe(
        "mixture", "100 Gaussians on 50 principal components, the baseline without a network", PictureMixture,
        minute=Effort(epochs=20), shipped=Effort(epochs=50), quality=sample_quality, fit=_fit_mixture,
    ),
    Recipe(
        "mixture-binary", "100 stencils of black and white pixels (Bernoulli mixture)", lambda: BernoulliMixture(100),
        minute=Effort(epochs=15), shipped=Effort(epochs=100),
        data=_binarised_digits, quality=likelihood_quality, fit=_fit_mixture,
    ),
    Recipe(
        "autoencoder", "Fully connected autoencoder, 20 numbers a digit", mlp_autoencoder,
        minute=Effort(epochs=3, lr=5e-3), shipped=Effort(epochs=20, lr=5e-3),
        quality=_autoencoder_quality, players=one_player(_autoencoder_loss, name="autoencoder"),
    ),
]  # fmt: skip
