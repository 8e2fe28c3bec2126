"""Autoencoder (Hinton & Salakhutdinov 2006): squeeze a picture through a few numbers, and rebuild it.

It learns a code, not a distribution: nothing in it says which codes are likely, so nothing in it can draw a new
picture. To draw one, a distribution must be fitted to the codes afterwards (Ghosh et al. 2020).
"""

from __future__ import annotations

from torch import Tensor, nn


class Autoencoder(nn.Module):
    """A deterministic code: `encoder` (B, C, H, W) → (B, Z), `decoder` (B, Z) → (B, C, H, W), the logits of the pixels."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Tensor) -> Tensor:
        """Code of each picture: (B, Z)."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Logits of the pixels: (B, C, H, W)."""
        return self.decoder(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Rebuild pictures: (B, C, H, W) in [0, 1]."""
        return self.decode(self.encode(x)).sigmoid()


def mlp_autoencoder(*, latent: int = 20, width: int = 400) -> Autoencoder:
    """The fully connected autoencoder 784 → width → latent → width → 784, `vae.mlp_vae` without the noise."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, latent))
    decoder = nn.Sequential(
        nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, 784), nn.Unflatten(1, (1, 28, 28))
    )
    return Autoencoder(encoder, decoder)
