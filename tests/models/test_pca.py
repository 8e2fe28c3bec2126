from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA as Theirs

from genai_lib import Noise
from genai_lib.models.pca import PCA

SHAPE = (1, 5, 7)  # 35 pixels


def data(seed, n=101):
    """Correlated pictures, float64."""
    noise = Noise(seed)
    return (noise.normal(n, 35).double() @ noise.normal(35, 35).double() + noise.normal(1, 35)).view(n, *SHAPE)


def fitted(x, dimensions):
    return PCA(dimensions, shape=tuple(x.shape[1:])).double().fit(x)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("dimensions", [1, 11, 35])
def test_it_agrees_with_scikit_learn(seed, dimensions):
    x = data(seed)
    ours, theirs = fitted(x, dimensions), Theirs(dimensions, svd_solver="full").fit(x.flatten(1).numpy())
    np.testing.assert_allclose(ours.mean.numpy(), theirs.mean_, atol=1e-9)
    np.testing.assert_allclose(ours.variances.numpy(), theirs.explained_variance_, rtol=1e-8)
    signs = np.sign((ours.directions.numpy() * theirs.components_).sum(axis=1, keepdims=True))  # ± is a matter of taste
    np.testing.assert_allclose(signs * ours.directions.numpy(), theirs.components_, atol=1e-7)
    codes = theirs.transform(x.flatten(1).numpy())
    np.testing.assert_allclose(ours.encode(x).numpy() * signs.T, codes, atol=1e-7)
    rebuilt = theirs.inverse_transform(codes).reshape(x.shape)
    np.testing.assert_allclose(ours.decode(ours.encode(x)).numpy(), rebuilt, atol=1e-7)


@pytest.mark.parametrize("seed", range(20))
def test_no_random_projection_rebuilds_better(seed):
    x, D = data(seed), 7
    model = fitted(x, D)
    error = (model.decode(model.encode(x)) - x).square().sum()
    centred = x.flatten(1) - x.flatten(1).mean(dim=0)
    for trial in range(20):
        basis, _ = torch.linalg.qr(Noise(seed, trial).normal(35, D).double())  # (P, D) orthonormal
        assert (centred @ basis @ basis.T - centred).square().sum() > error
    near, _ = torch.linalg.qr(model.directions.T + 0.01 * Noise(seed).normal(35, D))  # a hair beside the best one
    assert (centred @ near @ near.T - centred).square().sum() > error


@pytest.mark.parametrize("seed", range(20))
def test_the_error_is_the_variance_left_out(seed):
    x = data(seed)
    everything, some = fitted(x, 35), fitted(x, 11)
    error = (some.decode(some.encode(x)) - x).square().sum() / (len(x) - 1)
    torch.testing.assert_close(error, everything.variances[11:].sum())


@given(dimensions=st.integers(1, 35), seed=st.integers(0, 100), n=st.sampled_from([1, 2, 7, 13]),
       dtype=st.sampled_from([torch.float32, torch.float64]))  # fmt: skip
def test_a_code_survives_the_way_there_and_back(dimensions, seed, n, dtype):
    model = PCA(dimensions, shape=SHAPE).to(dtype).fit(data(3).to(dtype))
    z, atol = Noise(seed).normal(n, dimensions).to(dtype), 1e-4 if dtype == torch.float32 else 1e-12
    assert {values.dtype for values in (*model.buffers(), model.decode(z), model.encode(data(3).to(dtype)))} == {dtype}
    assert model.decode(z).shape == (n, *SHAPE)
    torch.testing.assert_close(model.encode(model.decode(z)), z, atol=atol, rtol=0)
    torch.testing.assert_close(model.directions @ model.directions.T, torch.eye(dimensions, dtype=dtype), atol=atol, rtol=0)


def test_it_needs_no_numbers_to_know_its_shapes():
    x = data(0).float().to("meta")
    model = PCA(7, shape=SHAPE).to("meta").fit(x)
    assert {values.device.type for values in (*model.buffers(), model.encode(x))} == {"meta"}
    assert (model.encode(x).shape, model.decode(model.encode(x)).shape) == ((101, 7), (101, *SHAPE))


def test_with_all_dimensions_nothing_is_lost():
    x = data(0)
    model = fitted(x, 35)
    torch.testing.assert_close(model.decode(model.encode(x)), x)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_pictures_does_not_matter(seed):
    x, order = data(seed), Noise(seed).permutation(101)
    torch.testing.assert_close(fitted(x, 7).encode(x)[order].abs(), fitted(x[order], 7).encode(x[order]).abs())


def test_it_works_in_single_precision_and_travels_as_a_state():
    x = data(0).float()
    model = PCA(7, shape=SHAPE).fit(x)
    assert model.encode(x).dtype == torch.float32
    torch.testing.assert_close(model.encode(x).abs(), fitted(data(0), 7).encode(data(0)).abs().float(), atol=1e-2, rtol=1e-3)
    twin = PCA(7, shape=SHAPE)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.encode(x), model.encode(x))


@pytest.mark.parametrize("dimensions", [0, 36, -1])
def test_impossible_dimensions_are_refused(dimensions):
    with pytest.raises(ValueError) as error:
        PCA(dimensions, shape=SHAPE)
    assert str(error.value) == f"dimensions must lie between 1 and 35, got {dimensions}"
