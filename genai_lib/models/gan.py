"""Generative adversarial networks (Goodfellow et al. 2014; Radford, Metz & Chintala 2016 for the convolutional pair).

The generator turns noise z ~ N(0, I) into a picture; the discriminator gives a picture one number, the logit of "this
is real". Inside, pixels lie in [−1, 1], the range of tanh; `sample` returns them in [0, 1]. In a conditional pair both
players are also told the class y.

B batch, Z size of the noise, F features of the discriminator.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genai_lib.noise import Noise


class Generator(nn.Module):
    """Noise, and the class if there are `classes`, to picture.

    Parameters
    ----------
    layers : nn.Module
        (B, Z) → (B, C, H, W) in [−1, 1].
    latent : int
        Z.
    classes : int
        0: the generator is told nothing. Else each class has a vector of Z numbers that z is multiplied with.
    """

    def __init__(self, layers: nn.Module, latent: int, *, classes: int = 0) -> None:
        super().__init__()
        self.layers, self.latent, self.classes = layers, latent, classes
        self.embedding = nn.Embedding(classes, latent) if classes else None

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Make pictures (B, C, H, W) in [−1, 1] from noise (B, Z) and, if conditional, classes y (B,)."""
        return self.layers(z if self.embedding is None else z * self.embedding(y))

    @torch.no_grad()
    def sample(self, n: int, noise: Noise, *, y: Tensor | None = None) -> Tensor:
        """Draw n pictures: (n, C, H, W) in [0, 1]; of the classes y (n,), or of any classes, if the generator has some."""
        z = noise.normal(n, self.latent)
        if self.classes and y is None:
            y = noise.integers(self.classes, n)
        return (self(z, y) + 1) / 2


class Discriminator(nn.Module):
    """Picture, and the class if there are `classes`, to the logit of "real".

    A conditional one adds the projection of the picture's features on a vector of the class (Miyato & Koyama 2018, eq. 3).

    Parameters
    ----------
    features : nn.Module
        (B, C, H, W) → (B, F).
    width : int
        F.
    classes : int
        0: the discriminator is told nothing.
    bias : bool
        Of the last layer.
    """

    def __init__(self, features: nn.Module, width: int, *, classes: int = 0, bias: bool = True) -> None:
        super().__init__()
        self.features, self.head = features, nn.Linear(width, 1, bias=bias)
        self.embedding = nn.Embedding(classes, width) if classes else None
        if self.embedding is not None:
            nn.init.zeros_(self.embedding.weight)  # it begins as a discriminator that is told nothing

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits (B,) of pictures (B, C, H, W) in [−1, 1] with, if conditional, classes y (B,)."""
        h = self.features(x)  # (B, F)
        logits = self.head(h).squeeze(1)  # (B,)
        return logits if self.embedding is None else logits + (self.embedding(y) * h).sum(dim=1)


class GAN(nn.Module):
    """The two players of the game, side by side; neither is called by the other."""

    def __init__(self, generator: Generator, discriminator: Discriminator) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def sample(self, n: int, noise: Noise) -> Tensor:
        """Draw n pictures: (n, C, H, W) in [0, 1]."""
        return self.generator.sample(n, noise)


def mlp_gan(*, latent: int = 100) -> GAN:
    """The fully connected pair of article A, §5.2 (S6): no biases; the article does not give `latent`.

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
    features = nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 512, bias=False), nn.LeakyReLU(0.2),
        nn.Linear(512, 256, bias=False), nn.LeakyReLU(0.2),
    )  # fmt: skip
    gan = GAN(Generator(generator, latent), Discriminator(features, 256, bias=False))
    for layer in gan.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=0.2)
    return gan


def dcgan(
    *, latent: int = 64, width: int = 32, size: int = 28, channels: int = 1, classes: int = 0, normalised: bool = True
) -> GAN:
    """The convolutional pair: 28 × 28 grey pictures (S7) or 32 × 32 colour ones (S8), with a class or without.

    After Radford et al. 2016: strided convolutions in place of pooling, batch normalisation inside, ReLU in the
    generator and LeakyReLU in the discriminator, first weights from N(0, 0.02²). Kernels of 4 with stride 2 overlap
    evenly: no checkerboard.

    Parameters
    ----------
    latent, width : int
        Size of the noise; channels of the widest pictures.
    size, channels : int
        Side of a picture, a multiple of 4; 1 for grey or 3 for colour.
    classes : int
        Classes that both players are told; 0 for none.
    normalised : bool
        Batch normalisation in the discriminator. A critic with a gradient penalty must do without: the penalty is on each
        picture's slope, and the norm ties the pictures of a batch together (Gulrajani et al. 2017, §4).
    """
    if size % 4:
        raise ValueError(f"the side of a picture must be a multiple of 4, got {size}")
    w, side = width, size // 4
    generator = nn.Sequential(
        nn.Linear(latent, 4 * w * side**2, bias=False),
        nn.Unflatten(1, (4 * w, side, side)),
        nn.BatchNorm2d(4 * w), nn.ReLU(),
        nn.ConvTranspose2d(4 * w, 2 * w, 4, stride=2, padding=1, bias=False),  # (B, 2w, size/2, size/2)
        nn.BatchNorm2d(2 * w), nn.ReLU(),
        nn.ConvTranspose2d(2 * w, channels, 4, stride=2, padding=1), nn.Tanh(),  # (B, C, size, size)
    )  # fmt: skip
    features = nn.Sequential(
        nn.Conv2d(channels, w, 4, stride=2, padding=1), nn.LeakyReLU(0.2),  # (B, w, size/2, size/2)
        nn.Conv2d(w, 2 * w, 4, stride=2, padding=1, bias=not normalised),  # (B, 2w, size/4, size/4)
        nn.BatchNorm2d(2 * w) if normalised else nn.Identity(), nn.LeakyReLU(0.2),
        nn.Flatten(),
    )  # fmt: skip
    gan = GAN(Generator(generator, latent, classes=classes), Discriminator(features, 2 * w * side**2, classes=classes))
    for layer in gan.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
    return gan
