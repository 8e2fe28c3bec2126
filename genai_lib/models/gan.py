"""Generative adversarial networks (Goodfellow et al. 2014; Radford, Metz & Chintala 2016 for the convolutional pair).

The generator turns noise z ~ N(0, I) into a picture; the discriminator gives a picture one number, the logit of "this
is real". Inside, pixels lie in [−1, 1], the range of tanh; `sample` returns them in [0, 1].

B batch, Z size of the noise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genai_lib.noise import Noise


class Generator(nn.Module):
    """Noise to picture.

    Parameters
    ----------
    layers : nn.Module
        (B, Z) → (B, C, H, W) in [−1, 1].
    latent : int
        Z.
    """

    def __init__(self, layers: nn.Module, latent: int) -> None:
        super().__init__()
        self.layers, self.latent = layers, latent

    def forward(self, z: Tensor) -> Tensor:
        """Make pictures (B, C, H, W) in [−1, 1] from noise (B, Z)."""
        return self.layers(z)

    @torch.no_grad()
    def sample(self, n: int, noise: Noise) -> Tensor:
        """Draw n pictures: (n, C, H, W) in [0, 1]."""
        return (self(noise.normal(n, self.latent)) + 1) / 2


class GAN(nn.Module):
    """The two players of the game, side by side; neither is called by the other.

    Parameters
    ----------
    generator : Generator
    discriminator : nn.Module
        (B, C, H, W) in [−1, 1] → (B,) logits.
    """

    def __init__(self, generator: Generator, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def sample(self, n: int, noise: Noise) -> Tensor:
        """Draw n pictures: (n, C, H, W) in [0, 1]."""
        return self.generator.sample(n, noise)


def mlp_gan(*, latent: int = 100) -> GAN:
    """The fully connected pair of article A, §5.2 (S6): z → 256 → 512 → 784 and 784 → 512 → 256 → 1, no biases.

    The discriminator ends in a logit instead of a sigmoid: the losses are computed from logits, which do not round to
    0 or 1. First weights after He et al. 2015, for the slope of LeakyReLU: the article names none, and with torch's own,
    which are three times smaller, the pair needs about twenty times as many steps.
    """
    generator = nn.Sequential(
        nn.Linear(latent, 256, bias=False), nn.LeakyReLU(0.2),
        nn.Linear(256, 512, bias=False), nn.LeakyReLU(0.2),
        nn.Linear(512, 784, bias=False), nn.Tanh(),
        nn.Unflatten(1, (1, 28, 28)),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 512, bias=False), nn.LeakyReLU(0.2),
        nn.Linear(512, 256, bias=False), nn.LeakyReLU(0.2),
        nn.Linear(256, 1, bias=False),
        nn.Flatten(0),
    )  # fmt: skip
    gan = GAN(Generator(generator, latent), discriminator)
    for layer in gan.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=0.2)
    return gan


def dcgan(*, latent: int = 64, width: int = 32) -> GAN:
    """The convolutional pair for 28 × 28 grey pictures (S7): 7 → 14 → 28 pixels and back.

    After Radford et al. 2016: strided convolutions in place of pooling, batch normalisation inside, ReLU in the
    generator and LeakyReLU in the discriminator, first weights from N(0, 0.02²). Kernels of 4 with stride 2 overlap
    evenly: no checkerboard.
    """
    w = width
    generator = nn.Sequential(
        nn.Linear(latent, 4 * w * 49, bias=False),
        nn.Unflatten(1, (4 * w, 7, 7)),
        nn.BatchNorm2d(4 * w), nn.ReLU(),
        nn.ConvTranspose2d(4 * w, 2 * w, 4, stride=2, padding=1, bias=False),  # (B, 2w, 14, 14)
        nn.BatchNorm2d(2 * w), nn.ReLU(),
        nn.ConvTranspose2d(2 * w, 1, 4, stride=2, padding=1), nn.Tanh(),  # (B, 1, 28, 28)
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Conv2d(1, w, 4, stride=2, padding=1), nn.LeakyReLU(0.2),  # (B, w, 14, 14)
        nn.Conv2d(w, 2 * w, 4, stride=2, padding=1, bias=False),  # (B, 2w, 7, 7)
        nn.BatchNorm2d(2 * w), nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(2 * w * 49, 1),
        nn.Flatten(0),
    )  # fmt: skip
    gan = GAN(Generator(generator, latent), discriminator)
    for layer in gan.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
    return gan
