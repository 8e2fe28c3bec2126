"""Recipes of the generative adversarial networks: one game, played in several ways."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from genai_lib.models.gan import GAN, dcgan, mlp_gan
from genai_lib.noise import Noise
from genai_lib.objectives import game_loss, gradient_penalty
from genai_lib.optimisers import adam
from genai_lib.recipes.core import Effort, Recipe, conditional_quality, sample_quality
from genai_lib.training import Player


def game(
    loss: str = "non-saturating", *, penalty: float = 0.0, turns: int = 1,
    augment: Callable[[Tensor, Noise], Tensor] = lambda x, noise: x,
) -> Callable[[GAN, Effort, int], list[Player]]:  # fmt: skip
    """The GAN's two players; `penalty` weights the gradient penalty, `turns` are the discriminator's in a step.

    All that the discriminator is shown, real or made, goes through `augment` first (Zhao et al. 2020, §3.2).
    """
    losses = game_loss(loss)

    def players(model: GAN, effort: Effort, steps: int) -> list[Player]:
        generator, discriminator = model.generator, model.discriminator

        def discriminator_loss(batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
            real, y = augment(2 * batch[0] - 1, noise), batch[1] if generator.classes else None
            with torch.no_grad():
                fake = augment(generator(noise.normal(len(real), generator.latent), y), noise)
            on_real, on_fake = discriminator(real, y), discriminator(fake, y)
            total = losses.discriminator(on_real, on_fake)
            if penalty:
                total = total + penalty * gradient_penalty(lambda x: discriminator(x, y), real, fake, noise)
            return {"loss": total, "D(x)": on_real.sigmoid().mean(), "D(G(z))": on_fake.sigmoid().mean()}

        def generator_loss(batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
            y = batch[1] if generator.classes else None
            made = augment(generator(noise.normal(len(batch[0]), generator.latent), y), noise)
            return {"loss": losses.generator(discriminator(made, y))}

        optimiser = partial(adam, lr=effort.lr, beta1=0.5, beta2=effort.beta2)
        return [
            Player("discriminator", discriminator, discriminator_loss, optimiser(discriminator), turns=turns),
            Player("generator", generator, generator_loss, optimiser(generator)),
        ]

    return players


RECIPES = [
    Recipe(
        "gan-mlp", "Fully connected GAN of article A", mlp_gan,
        minute=Effort(epochs=2, batch_size=64, lr=2e-4, ema=0.995),
        shipped=Effort(epochs=2, batch_size=64, lr=2e-4, ema=0.995),  # longer is worse: see chapter 04, section 4.7
        quality=sample_quality, players=game(), product=lambda gan: gan.generator,
    ),
    Recipe(
        "dcgan", "Deep convolutional GAN", dcgan,
        minute=Effort(epochs=0.85, batch_size=128, lr=5e-4, precision="bf16", ema=0.99),
        shipped=Effort(epochs=10, batch_size=128, lr=5e-4, precision="bf16", ema=0.999),
        quality=sample_quality, players=game(), product=lambda gan: gan.generator,
    ),
    Recipe(
        "dcgan-conditional", "Deep convolutional GAN that is told the digit", partial(dcgan, classes=10),
        minute=Effort(epochs=1, batch_size=128, lr=5e-4, precision="bf16", ema=0.99),
        shipped=Effort(epochs=10, batch_size=128, lr=5e-4, precision="bf16", ema=0.999),
        quality=conditional_quality, players=game(), product=lambda gan: gan.generator,
    ),
    Recipe(
        "wgan-gp", "Wasserstein GAN with gradient penalty", partial(dcgan, normalised=False, width=16),
        minute=Effort(epochs=0.8, batch_size=64, lr=5e-4, ema=0.99),
        shipped=Effort(epochs=9, batch_size=64, lr=5e-4, ema=0.995),
        quality=sample_quality, players=game("wasserstein", penalty=10.0, turns=3), product=lambda gan: gan.generator, turns=3,
    ),
]  # fmt: skip
