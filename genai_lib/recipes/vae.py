"""Recipes of the variational autoencoders."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from genai_lib import metrics
from genai_lib.models.vae import VAE, ConditionalVAE, conditional_vae, conv_vae, map_vae, mlp_vae
from genai_lib.noise import Noise
from genai_lib.objectives import elbo
from genai_lib.recipes.core import (
    Effort,
    Judge,
    Quality,
    Recipe,
    binarised_test_digits,
    conditional_quality,
    one_player,
    sample_quality,
    test_digits,
)  # fmt: skip


def _vae_loss(model: VAE | ConditionalVAE, batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
    bound = elbo(model if isinstance(model, VAE) else model.given(batch[1]), batch[0], noise)
    return {"loss": bound.loss(), "reconstruction": bound.reconstruction.mean(), "kl": bound.kl.mean()}


def _vae_quality(model: VAE, judge: Judge | None) -> Quality:
    x = test_digits().x
    return {"elbo": metrics.mean_elbo(model, x)} | sample_quality(model, judge)


def _conv_vae_quality(model: VAE, judge: Judge | None) -> Quality:
    binary = binarised_test_digits()
    fifth = binary[::5]  # 500 decoded draws a digit: a fifth of the digits takes minutes, all of them half an hour
    return _vae_quality(model, judge) | {
        "elbo, binarised": metrics.mean_elbo(model, binary),
        "elbo, binarised, every fifth digit": metrics.mean_elbo(model, fifth),
        "iwae k=500, binarised, every fifth digit": metrics.mean_iwae_bound(model, fifth, k=500),
        "iwae k=500, binarised, 30 of them": metrics.mean_iwae_bound(model, fifth[:30], k=500),  # soon measured again
    }


RECIPES = [
    Recipe(
        "vae-mlp", "Fully connected VAE 784-400-20", mlp_vae,
        minute=Effort(epochs=5, batch_size=128, lr=6e-3, beta2=0.99), shipped=Effort(epochs=50, lr=4e-3),
        quality=_vae_quality, players=one_player(_vae_loss, name="vae"),
    ),
    Recipe(
        "vae-map", "VAE whose latent space is a plane", map_vae,
        minute=Effort(epochs=8, lr=2e-3), shipped=Effort(epochs=50, lr=2e-3),
        quality=_vae_quality, players=one_player(_vae_loss, name="vae"),
    ),
    Recipe(
        "vae-conv", "Convolutional VAE", conv_vae,
        minute=Effort(epochs=1, batch_size=128, lr=2e-3, precision="bf16"),
        shipped=Effort(
            epochs=20, batch_size=128, lr=2e-3, precision="bf16",
            then=Effort(epochs=4, batch_size=256, lr=3e-4, precision="bf16"),
        ),
        quality=_conv_vae_quality, players=one_player(_vae_loss, name="vae"),
    ),
    Recipe(
        "vae-conditional", "Fully connected VAE that is told the digit", partial(conditional_vae, width=200),
        minute=Effort(epochs=4, batch_size=128, lr=6e-3, beta2=0.99),
        shipped=Effort(epochs=50, batch_size=256, lr=4e-3),
        quality=conditional_quality, players=one_player(_vae_loss, name="vae"),
    ),
]  # fmt: skip
