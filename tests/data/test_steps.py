from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genai_lib import Noise
from genai_lib.data.steps import binarise, disturb, shift


@pytest.mark.parametrize("seed", range(20))
def test_a_pixel_is_one_as_often_as_its_grey_value_says(seed):
    grey = torch.linspace(0, 1, 11)
    drawn = binarise(grey.repeat(10_007, 1), Noise(seed))
    assert drawn.dtype == torch.float32
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    error = 6 * (grey * (1 - grey) / 10_007).sqrt()  # six standard errors: 0 for black and for white pixels
    assert ((drawn.mean(dim=0) - grey).abs() <= error + 1e-7).all()


@given(n=st.integers(1, 7), seed=st.integers(0, 100),
       dtype=st.sampled_from([torch.bool, torch.bfloat16, torch.float32, torch.float64]))  # fmt: skip
def test_binary_pixels_stay_as_they_are_in_their_own_type(n, seed, dtype):
    x = (Noise(seed).uniform(n, 1, 5, 3) < 0.5).to(dtype)
    same = binarise(x, Noise(1))
    assert same.dtype == dtype
    assert torch.equal(same, x)


def test_black_stays_black_and_white_white_at_the_ends_of_the_uniform():
    class Ends:
        def uniform(self, *shape):  # the smallest and the largest number a uniform draw can give
            return torch.tensor([0.0, 0.0, 1 - 2**-24, 1 - 2**-24]).expand(*shape)

    assert binarise(torch.tensor([[0.0, 1.0, 0.0, 1.0]]), Ends()).tolist() == [[0, 1, 0, 1]]


def test_binarising_repeats_with_its_seed():
    x = Noise(0).uniform(101, 1, 5, 3)
    assert torch.equal(binarise(x, Noise(2)), binarise(x, Noise(2)))
    assert not torch.equal(binarise(x, Noise(2)), binarise(x, Noise(3)))


def moves(x, moved, pixels):
    """Which moves (down, right) turn a picture x into the other? x must hold no zeros."""
    H, W = x.shape[2:]
    found = []
    for down in range(-pixels, pixels + 1):
        for right in range(-pixels, pixels + 1):
            expected = torch.zeros_like(x)
            expected[:, :, max(down, 0) : H + min(down, 0), max(right, 0) : W + min(right, 0)] = x[
                :, :, max(-down, 0) : H - max(down, 0), max(-right, 0) : W - max(right, 0)
            ]
            if torch.equal(expected, moved):
                found.append((down, right))
    return found


@given(seed=st.integers(0, 1_000), pixels=st.integers(0, 3), batch=st.integers(1, 5), channels=st.integers(1, 3),
       dtype=st.sampled_from([torch.bfloat16, torch.float32, torch.float64]))  # fmt: skip
def test_a_shift_moves_pictures_and_lets_black_in(seed, pixels, batch, channels, dtype):
    x = (0.1 + Noise(7).uniform(batch, channels, 11, 7)).to(dtype)
    moved = shift(x, Noise(seed), pixels=pixels)
    assert (moved.shape, moved.dtype) == (x.shape, dtype)
    for before, after in zip(x.split(1), moved.split(1), strict=True):
        assert len(moves(before, after, pixels)) == 1


def test_every_move_is_made_equally_often():
    x = 0.1 + Noise(7).uniform(1, 1, 11, 7)
    made = [moves(x, shift(x, Noise(0, step)), 2)[0] for step in range(1_009)]
    counts = [made.count((down, right)) for down in range(-2, 3) for right in range(-2, 3)]
    assert sum(counts) == 1_009
    assert min(counts) > 10  # 40 are expected of each of the 25; 10 lie five standard deviations below
    assert max(counts) < 75


# ---------------------------------------------------------------- moved, mirrored, tinted


def expected(x, down, right, mirrored):
    """A picture moved by so much, its edge repeated, then mirrored: each pixel by hand."""
    H, W = x.shape[2:]
    moved = torch.empty_like(x)
    for i in range(H):
        for j in range(W):
            k = W - 1 - j if mirrored else j
            moved[:, :, i, k] = x[:, :, min(max(i - down, 0), H - 1), min(max(j - right, 0), W - 1)]
    return moved


def disturbances(x, y, pixels):
    places = range(-pixels, pixels + 1)
    return [
        (down, right, mirrored)
        for down in places for right in places for mirrored in (False, True)
        if torch.allclose(expected(x, down, right, mirrored), y, atol=1e-6)
    ]  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_a_disturbed_picture_is_moved_and_mirrored(seed, channels):
    x = Noise(7).uniform(5, channels, 7, 5)
    moved = disturb(x, Noise(seed), pixels=2, colour=0.0)
    assert moved.shape == x.shape
    for before, after in zip(x.split(1), moved.split(1), strict=True):
        assert len(disturbances(before, after, 2)) == 1


def test_every_disturbance_is_made_equally_often():
    x = Noise(7).uniform(1, 1, 7, 5)
    made = disturb(x.expand(1_009, 1, 7, 5), Noise(0), pixels=1, colour=0.0)
    ways = torch.cat([expected(x, down, right, m) for down in (-1, 0, 1) for right in (-1, 0, 1) for m in (False, True)])
    counts = torch.isclose(made, ways[:, None, 0, None]).flatten(2).all(dim=2).sum(dim=1).tolist()  # (18,)
    assert sum(counts) == 1_009
    assert min(counts) > 20  # 56 are expected of each of the 18; 20 lie five standard deviations below
    assert max(counts) < 93


@pytest.mark.parametrize("seed", range(5))
def test_white_stays_white_and_colours_change_each_by_its_own_factor(seed):
    x = torch.full((101, 3, 5, 7), 0.5)
    x[:, :, :, 3] = 1.0
    y = disturb(x, Noise(seed), pixels=0, colour=0.2)
    assert (y[:, :, :, 3] == 1).all()
    factor = (1 - y[:, :, 0, 0]) / 0.5  # (101, 3)
    torch.testing.assert_close((1 - y[:, :, 2, 6]) / 0.5, factor)
    assert factor.min() >= 0.8
    assert factor.max() <= 1.2
    assert factor.mean().item() == pytest.approx(1, abs=0.035)  # the mean of 303 draws, within five standard errors
    assert factor.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.15)
    assert len(factor.unique()) > 290


def test_without_move_colour_or_mirror_nothing_changes():
    x = Noise(7).uniform(31, 3, 7, 5)
    y = disturb(x, Noise(0), pixels=0, colour=0.0)
    same = torch.tensor([torch.allclose(a, b) for a, b in zip(x, y, strict=True)])
    mirrored = torch.tensor([torch.allclose(a.flip(2), b) for a, b in zip(x, y, strict=True)])
    assert (same ^ mirrored).all()
    assert 5 < same.sum() < 26


def test_letters_are_not_mirrored():
    x = Noise(7).uniform(31, 3, 7, 5)
    torch.testing.assert_close(disturb(x, Noise(0), pixels=0, colour=0.0, mirror=False), x)


def test_levels_of_grey_stay_levels_when_colours_do_not_change():
    x = (Noise(7).integers(256, 31, 3, 7, 5) / 255).float()
    y = disturb(x, Noise(0), colour=0.0)
    torch.testing.assert_close(255 * y, (255 * y).round(), atol=1e-4, rtol=0)
    assert set(y[y > 0.9999].tolist()) <= {1.0}
    assert set(y[y < 0.0001].tolist()) <= {0.0}  # the outermost levels exactly: a likelihood treats them apart


def test_gradients_pass_through_a_disturbance():
    x = Noise(7).uniform(5, 3, 7, 5).requires_grad_()
    y = disturb(x, Noise(0), pixels=1)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert slope.isfinite().all()
    assert (slope.flatten(1).sum(dim=1) > 0.8 * 3 * 35 - 1e-3).all()  # a pixel at the edge may be used more than once
    assert torch.autograd.gradcheck(lambda v: disturb(v, Noise(0)).double(), x.double().detach().requires_grad_())


def test_a_disturbance_runs_on_the_meta_device():
    x = torch.empty(7, 3, 11, 5, device="meta")
    assert disturb(x, Noise(0, device="meta")).shape == x.shape


def test_a_disturbance_repeats_with_its_seed():
    x = Noise(7).uniform(5, 3, 7, 5)
    assert torch.equal(disturb(x, Noise(1)), disturb(x, Noise(1)))
    assert not torch.equal(disturb(x, Noise(1)), disturb(x, Noise(2)))
