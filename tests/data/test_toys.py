from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from genai_lib import Noise
from genai_lib.data import toys

N = 10_007  # draws; a moment may miss by six standard errors (p < 1e-8)


def near(values, expected):
    error = 6 * values.std() / math.sqrt(len(values))
    return abs(values.mean() - expected) < error


# ---------------------------------------------------------------- the ring's density


@pytest.mark.parametrize("modes, radius, sigma", [(8, 2.0, 0.1), (5, 1.0, 0.3), (1, 2.0, 0.2), (13, 1.5, 0.15)])
def test_the_rings_density_integrates_to_one(modes, radius, sigma):
    side = torch.linspace(-4, 4, 401, dtype=torch.float64)  # step 0.02 ≤ sigma / 5: the sum is exact to 1e-9
    grid = torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=2).view(-1, 2)
    mass = toys.ring_log_density(grid, modes=modes, radius=radius, sigma=sigma).exp().sum() * 0.02**2
    assert mass.item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_the_rings_density_agrees_with_torch_distributions(seed):
    modes, sigma = 7, 0.1 + 0.02 * seed
    x = 2 * Noise(seed).normal(101, 2).double()
    parts = Independent(Normal(toys.ring_centres(modes, 1.7).double(), torch.tensor(sigma, dtype=torch.float64)), 1)
    theirs = MixtureSameFamily(Categorical(logits=torch.zeros(modes, dtype=torch.float64)), parts).log_prob(x)
    torch.testing.assert_close(toys.ring_log_density(x, modes=modes, radius=1.7, sigma=sigma), theirs)


def test_the_centres_lie_evenly_on_the_circle():
    for modes in (1, 2, 7, 8):
        centres = toys.ring_centres(modes, 1.5).double()
        torch.testing.assert_close(centres.norm(dim=1), torch.full((modes,), 1.5).double())
        angles = torch.atan2(centres[:, 1], centres[:, 0]) % (2 * math.pi)
        torch.testing.assert_close(angles, torch.arange(modes).double() * 2 * math.pi / modes, atol=1e-5, rtol=0)


# ---------------------------------------------------------------- samples have the moments of the definition


@pytest.mark.parametrize("seed", range(20))
def test_the_rings_samples_fit_its_density(seed):
    x = toys.ring(N, Noise(seed)).double()
    assert near(x[:, 0], 0)
    assert near(x[:, 1], 0)
    assert near(x.square().sum(dim=1), 2.0**2 + 2 * 0.1**2)
    centres = toys.ring_centres().double()
    distance, mode = torch.cdist(x, centres).min(dim=1)
    assert stats.chisquare(mode.bincount(minlength=8).numpy()).pvalue > 1e-6
    assert stats.kstest(distance.numpy() / 0.1, "rayleigh").pvalue > 1e-6
    # E log p over the samples is minus the entropy: log 8 for the mode, 1 + log(2π σ²) for the Gaussian.
    assert near(toys.ring_log_density(x), -(math.log(8) + 1 + math.log(2 * math.pi * 0.1**2)))


@pytest.mark.parametrize("seed", range(5))
def test_the_blur_is_gaussian_with_the_stated_deviation(seed):
    blur = (toys.ring(N, Noise(seed)) - toys.ring(N, Noise(seed), sigma=0.0)) / 0.1  # the same noise, with and without
    assert stats.kstest(blur.flatten().numpy(), "norm").pvalue > 1e-6


@given(n=st.integers(1, 101), seed=st.integers(0, 100))
def test_the_ring_is_drawn_from_the_noise_on_its_device(n, seed):
    x = toys.ring(n, Noise(seed))
    assert (x.shape, x.dtype) == ((n, 2), torch.float32)
    assert x.abs().max() < 3.2
    assert torch.equal(x, toys.ring(n, Noise(seed)))
    assert not torch.equal(x, toys.ring(n, Noise(seed + 1)))
    assert toys.ring(n, Noise(0, device="meta")).device.type == "meta"
