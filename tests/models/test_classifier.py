from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genai_lib import Noise
from genai_lib.models.classifier import Classifier


def build(seed=0, **sizes):
    torch.manual_seed(seed)
    return Classifier(**sizes).eval()


@pytest.mark.parametrize("width", [3, 16])
@pytest.mark.parametrize("batch", [1, 7])
def test_shapes_and_types(width, batch):
    model, x = build(width=width), Noise(0).uniform(batch, 1, 28, 28)
    features = model.features(x)
    assert (features.shape, features.dtype) == ((batch, Classifier.FEATURES), torch.float32)
    assert model(x).shape == (batch, 10)
    torch.testing.assert_close(model(x), model.head(features.relu()))


def test_four_blocks_halve_the_picture_twice_and_only_the_norms_shift():
    model, x = build(), Noise(0).uniform(3, 1, 28, 28)
    sizes = []
    for start in range(0, 12, 3):
        convolution, norm, rectifier = model.body[start : start + 3]
        assert convolution.bias is None  # the norm takes the mean away again
        assert isinstance(norm, torch.nn.BatchNorm2d)
        assert isinstance(rectifier, torch.nn.ReLU)
        x = rectifier(norm(convolution(x)))
        sizes.append(tuple(x.shape[1:]))
    assert sizes == [(16, 28, 28), (32, 14, 14), (32, 14, 14), (64, 7, 7)]
    *_, to_features, standardise = model.body
    assert to_features.bias is None
    assert standardise.weight is standardise.bias is None  # so that the features' variance stays 1


@given(n=st.sampled_from([1, 2, 3, 5, 7, 11]), seed=st.integers(0, 50))
def test_the_order_of_the_batch_does_not_matter(n, seed):
    model, x, order = build(), Noise(seed).uniform(n, 1, 28, 28), Noise(seed, 1).permutation(n)
    torch.testing.assert_close(model(x[order]), model(x)[order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.features(x[order]), model.features(x)[order], atol=1e-5, rtol=1e-4)


def test_it_judges_alike_each_time_but_drops_features_while_it_learns():
    model, x = build(), Noise(0).uniform(7, 1, 28, 28)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_features_have_mean_zero_and_variance_one_over_what_was_learned_from():
    model, x = build().train(), Noise(0).uniform(211, 1, 28, 28)
    features = model.features(x)
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(64), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.var(dim=0, correction=0), torch.ones(64), atol=0.05, rtol=0)


def test_a_gradient_reaches_every_parameter():
    model = build().train()
    torch.nn.functional.cross_entropy(model(Noise(0).uniform(7, 1, 28, 28)), torch.arange(7)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_bf16_stays_close_to_fp32():
    model, x = build(), Noise(0).uniform(7, 1, 28, 28)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(x)
    torch.testing.assert_close(rough.float(), model(x), atol=0.02, rtol=0.02)  # bf16 keeps 8 bits: 0.4 % a number
