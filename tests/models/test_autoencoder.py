from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genai_lib import Noise
from genai_lib.models.autoencoder import mlp_autoencoder
from genai_lib.models.vae import mlp_vae


def build(**sizes):
    torch.manual_seed(0)
    return mlp_autoencoder(**sizes).eval()


@pytest.mark.parametrize("latent, width", [(20, 400), (3, 11)])
@pytest.mark.parametrize("batch", [1, 7])
def test_shapes_types_and_ranges(latent, width, batch):
    model, x = build(latent=latent, width=width), Noise(0).uniform(batch, 1, 28, 28)
    assert model.encode(x).shape == (batch, latent)
    rebuilt = model.reconstruct(x)
    assert (rebuilt.shape, rebuilt.dtype) == (x.shape, torch.float32)
    assert ((rebuilt >= 0) & (rebuilt <= 1)).all()
    torch.testing.assert_close(rebuilt, model.decode(model.encode(x)).sigmoid())


def test_it_is_the_vae_without_the_noise():
    ours, theirs = mlp_autoencoder(), mlp_vae()
    shapes = {name: tuple(p.shape) for name, p in theirs.state_dict().items()}
    shapes |= {"encoder.3.weight": (20, 400), "encoder.3.bias": (20,)}  # a code, not a mean and a log-variance
    assert {name: tuple(p.shape) for name, p in ours.state_dict().items()} == shapes


@given(n=st.sampled_from([1, 2, 3, 5, 7, 11]), seed=st.integers(0, 50))
def test_the_order_of_the_batch_does_not_matter(n, seed):
    model, x, order = build(), Noise(seed).uniform(n, 1, 28, 28), Noise(seed, 1).permutation(n)
    torch.testing.assert_close(model.reconstruct(x[order]), model.reconstruct(x)[order], atol=1e-5, rtol=1e-4)


def test_it_cannot_draw_samples():
    assert not hasattr(build(), "sample")


def test_a_gradient_reaches_every_parameter():
    model = build()
    model.reconstruct(Noise(0).uniform(7, 1, 28, 28)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_bf16_stays_close_to_fp32():
    model, x = build(), Noise(0).uniform(7, 1, 28, 28)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.reconstruct(x)
    torch.testing.assert_close(rough.float(), model.reconstruct(x), atol=0.01, rtol=0)  # bf16 keeps 8 bits
