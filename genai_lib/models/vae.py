"""Variational autoencoder (Kingma & Welling 2014; Rezende, Mohamed & Wierstra 2014).

A picture is made in two steps: draw z ~ N(0, I), then draw x ~ p(x|z), whose parameters the decoder computes from z.
The encoder is only needed to train it: q(z|x) guesses which z could have made x.

B batch, Z latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genai_lib.models.gan import GAN
from genai_lib.noise import Noise


def reparameterise(mu: Tensor, logvar: Tensor, noise: Noise) -> Tensor:
    """Draw z ~ N(mu, e^logvar) as mu + σ·ε with ε ~ N(0, I), so that gradients reach mu and logvar; all are (B, Z).

    Source: Kingma & Welling 2014, §2.4.
    """
    return mu + (0.5 * logvar).exp() * noise.normal(*mu.shape)


class VAE(nn.Module):
    """Encoder q(z|x) = N(mu, e^logvar), prior p(z) = N(0, I), decoder p(x|z).

    Parameters
    ----------
    encoder : nn.Module or function
        (B, C, H, W) → (B, 2Z): mu and logvar side by side.
    decoder : nn.Module or function
        (B, Z) → (B, C, H, W): logits of the pixels for a Bernoulli decoder.
    latent : int
        Z.
    """

    def __init__(self, encoder: Callable[[Tensor], Tensor], decoder: Callable[[Tensor], Tensor], latent: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.latent = encoder, decoder, latent

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x): two (B, Z) tensors, float32 at least, also where layers run in bfloat16."""
        both = self.encoder(x)  # (B, 2Z)
        mu, logvar = both.to(torch.promote_types(both.dtype, torch.float32)).chunk(2, dim=1)
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        """Logits of the pixels given z: (B, C, H, W)."""
        return self.decoder(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The decoder's mean at the encoder's mean: (B, C, H, W) in [0, 1]."""
        return self.decode(self.encode(x)[0]).sigmoid()

    @torch.no_grad()
    def sample(self, n: int, noise: Noise) -> Tensor:
        """Decode n draws of z ~ N(0, I): the decoder's mean pixels, (n, C, H, W) in [0, 1]."""
        return self.decode(noise.normal(n, self.latent)).sigmoid()


class GaussianVAE(VAE):
    """A VAE for colours: p(x|z) = N(sigmoid of the decoder's output, σ² I) with one σ for all pixels, learned too.

    At the best σ, the root mean square of what the decoder misses, the reconstruction term is C·H·W·log σ and a constant.
    A small σ makes errors dear and a large one makes the KL dear, so σ sets their exchange rate, which β would set by hand.

    Attributes
    ----------
    log_sigma : scalar
        log σ, in pixel units; it begins at σ = 0.3, about what the mean picture misses.

    Source: Rybkin, Daniilidis & Levine 2021, §3.
    """

    def __init__(self, encoder: Callable[[Tensor], Tensor], decoder: Callable[[Tensor], Tensor], latent: int) -> None:
        super().__init__(encoder, decoder, latent)
        self.log_sigma = nn.Parameter(torch.tensor(0.3).log())


class ConditionalVAE(nn.Module):
    """A VAE that is told the class: q(z|x, y) and p(x|z, y), prior p(z) = N(0, I) (Sohn, Lee & Yan 2015).

    Parameters
    ----------
    encoder : nn.Module
        (B, C·H·W + classes) → (B, 2Z).
    decoder : nn.Module
        (B, Z + classes) → (B, C, H, W), logits of the pixels.
    latent, classes : int
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent: int, classes: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.latent, self.classes = encoder, decoder, latent, classes

    def given(self, y: Tensor) -> VAE:
        """The VAE that remains when the classes y (B,) are fixed: every bound of a VAE holds for it."""
        told = F.one_hot(y, self.classes).float()  # (B, classes)

        def decode(z: Tensor) -> Tensor:  # z (B·m, Z) when each picture has m draws
            return self.decoder(torch.cat([z, told.repeat_interleave(len(z) // len(told), dim=0)], dim=1))

        return VAE(lambda x: self.encoder(torch.cat([x.flatten(1), told], dim=1)), decode, self.latent)

    @torch.no_grad()
    def sample(self, n: int, noise: Noise, *, y: Tensor | None = None) -> Tensor:
        """Draw n pictures of the classes y (n,), or of any if none are given: mean pixels, (n, C, H, W) in [0, 1]."""
        return self.given(noise.integers(self.classes, n) if y is None else y).sample(n, noise)


def mlp_vae(*, latent: int = 20, width: int = 400) -> VAE:
    """The fully connected VAE 784 → width → latent → width → 784, the size of the usual introductory example."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 2 * latent))
    decoder = nn.Sequential(
        nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, 784), nn.Unflatten(1, (1, 28, 28))
    )
    return VAE(encoder, decoder, latent)


def conditional_vae(*, latent: int = 10, width: int = 400, classes: int = 10) -> ConditionalVAE:
    """The fully connected VAE, told the digit."""
    encoder = nn.Sequential(nn.Linear(784 + classes, width), nn.ReLU(), nn.Linear(width, 2 * latent))
    decoder = nn.Sequential(
        nn.Linear(latent + classes, width), nn.ReLU(), nn.Linear(width, 784), nn.Unflatten(1, (1, 28, 28))
    )
    return ConditionalVAE(encoder, decoder, latent, classes)


def map_vae() -> VAE:
    """A VAE whose latent space is a plane, so that it can be drawn whole; its small decoder also runs in a browser."""
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 4)
    )
    decoder = nn.Sequential(
        nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 784), nn.Unflatten(1, (1, 28, 28))
    )
    return VAE(encoder, decoder, latent=2)


def matched_vae(pair: GAN) -> VAE:
    """A VAE made of the networks of a convolutional pair, to compare the two ideas at equal size.

    The generator without its tanh decodes (a sigmoid of the logits takes its place), the discriminator with another last
    layer encodes. The weights are the pair's own: take a fresh one.
    """
    layers, features, latent = pair.generator.layers, pair.discriminator.features, pair.generator.latent
    if pair.generator.classes or not (isinstance(layers, nn.Sequential) and isinstance(features, nn.Sequential)):
        raise ValueError("a VAE can be made of a pair whose networks are sequences of layers and that is told no class")
    last = nn.Linear(pair.discriminator.head.in_features, 2 * latent)
    nn.init.normal_(last.weight, std=0.02)
    return VAE(nn.Sequential(*features, last), layers[:-1], latent)


def conv_vae(*, latent: int = 32, width: int = 32, size: int = 28, channels: int = 1) -> VAE:
    """A convolutional VAE for pictures of 28 or 32 pixels a side: 28 → 14 → 7 → 4, or 32 → 16 → 8 → 4, and back."""
    if size not in (28, 32):
        raise ValueError(f"the side of a picture must be 28 or 32, got {size}")
    w, last = width, 3 if size == 28 else 4  # a kernel of 3 leads from 7 to 4, one of 4 from 8 to 4
    encoder = nn.Sequential(
        nn.Conv2d(channels, w, 4, stride=2, padding=1), nn.SiLU(),  # (B, w, size/2, size/2)
        nn.Conv2d(w, 2 * w, 4, stride=2, padding=1), nn.SiLU(),  # (B, 2w, size/4, size/4)
        nn.Conv2d(2 * w, 4 * w, last, stride=2, padding=1), nn.SiLU(),  # (B, 4w, 4, 4)
        nn.Flatten(),
        nn.Linear(4 * w * 16, 2 * latent),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(latent, 4 * w * 16), nn.SiLU(),
        nn.Unflatten(1, (4 * w, 4, 4)),
        nn.ConvTranspose2d(4 * w, 2 * w, last, stride=2, padding=1), nn.SiLU(),  # (B, 2w, size/4, size/4)
        nn.ConvTranspose2d(2 * w, w, 4, stride=2, padding=1), nn.SiLU(),  # (B, w, size/2, size/2)
        nn.ConvTranspose2d(w, w, 4, stride=2, padding=1), nn.SiLU(),  # (B, w, size, size)
        nn.Conv2d(w, channels, 3, padding=1),
    )  # fmt: skip
    return VAE(encoder, decoder, latent)
