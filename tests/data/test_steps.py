from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genai_lib import Noise
from genai_lib.data.steps import binarise, shift


@pytest.mark.parametrize("seed", range(20))
def test_a_pixel_is_one_as_often_as_its_grey_value_says(seed):
    grey = torch.linspace(0, 1, 11)
    drawn = binarise(grey.repeat(10_007, 1), Noise(seed))
    assert drawn.dtype == torch.float32
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    error = 6 * (grey * (1 - grey) / 10_007).sqrt()  # six standard errors: 0 for black and for white pixels
    assert ((drawn.mean(dim=0) - grey).abs() <= error + 1e-7).all()


def test_binary_pixels_stay_as_they_are():
    x = (Noise(0).uniform(7, 1, 5, 3) < 0.5).float()
    assert torch.equal(binarise(x, Noise(1)), x)


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


@given(seed=st.integers(0, 1_000), pixels=st.integers(0, 3), batch=st.integers(1, 5), channels=st.integers(1, 3))
def test_a_shift_moves_pictures_and_lets_black_in(seed, pixels, batch, channels):
    x = 0.1 + Noise(7).uniform(batch, channels, 11, 7)
    moved = shift(x, Noise(seed), pixels=pixels)
    assert moved.shape == x.shape
    for before, after in zip(x.split(1), moved.split(1), strict=True):
        assert len(moves(before, after, pixels)) == 1


def test_every_move_is_made_equally_often():
    x = 0.1 + Noise(7).uniform(1, 1, 11, 7)
    made = [moves(x, shift(x, Noise(0, step)), 2)[0] for step in range(1_009)]
    counts = [made.count((down, right)) for down in range(-2, 3) for right in range(-2, 3)]
    assert sum(counts) == 1_009
    assert min(counts) > 10  # 40 are expected of each of the 25; 10 lie five standard deviations below
    assert max(counts) < 75
