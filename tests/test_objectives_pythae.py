"""The VAE's objective beside the package pythae's: equal where the definitions are, and by how much they differ elsewhere.

- Bernoulli: the same number, summed over pixels and latent dimensions, averaged over pictures.
- Gaussian: pythae leaves out the constant D/2 · log(2π) of its unit variance; ours is a density and keeps it.
- Likelihood: pythae's `get_nll` is our importance-weighted bound, with other draws.
"""

from __future__ import annotations

import math

import pytest
import torch
from pythae.models import VAE as TheirVAE
from pythae.models import VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder

from genai_lib import Noise, metrics
from genai_lib.models.vae import mlp_vae
from genai_lib.objectives import elbo, gaussian_nll


class Encoder(BaseEncoder):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        mu, logvar = self.model.encode(x)
        return ModelOutput(embedding=mu, log_covariance=logvar)


class Decoder(BaseDecoder):
    def __init__(self, model, kind):
        super().__init__()
        self.model, self.kind = model, kind

    def forward(self, z):
        y = self.model.decode(z)
        return ModelOutput(reconstruction=y.sigmoid() if self.kind == "bce" else y)


def pair(seed, kind, latent=5):
    """One network, as our VAE and as theirs; theirs draws the ε that our noise draws."""
    torch.manual_seed(seed)
    ours = mlp_vae(latent=latent, width=13)
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=latent, reconstruction_loss=kind)
    theirs = TheirVAE(config, encoder=Encoder(ours), decoder=Decoder(ours, kind))
    eps = Noise(seed, 1).normal(7, latent)
    theirs._sample_gauss = lambda mu, std: (mu + eps * std, eps)
    return ours, theirs, Noise(seed).uniform(7, 1, 28, 28), Noise(seed, 1)


def gradients(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["bce", "mse"])
def test_loss_and_gradients_agree(kind, seed):
    ours, theirs, x, noise = pair(seed, kind)
    bound = elbo(ours, x, noise) if kind == "bce" else elbo(ours, x, noise, nll=gaussian_nll)
    other = theirs({"data": x})
    constant = 0.0 if kind == "bce" else 784 / 2 * math.log(2 * math.pi)
    torch.testing.assert_close(bound.reconstruction.mean() - constant, other.recon_loss, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(bound.kl.mean(), other.reg_loss)
    bound.loss().backward()
    mine = gradients(ours)
    ours.zero_grad()
    other.loss.backward()
    torch.testing.assert_close(mine, gradients(ours), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_their_likelihood_is_our_importance_weighted_bound(seed):
    """Few latent dimensions and many draws: both are then within a tenth of a nat of log p(x)."""
    ours, theirs, x, _ = pair(seed, "bce", latent=2)
    del theirs._sample_gauss  # draw anew each time
    x = (x > 0.5).float()
    with torch.no_grad():
        nats = theirs.get_nll(x, n_samples=1000, batch_size=1000)
    assert metrics.mean_iwae_bound(ours, x, k=1000) == pytest.approx(nats, abs=0.1)
