from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from genai_lib import Noise
from genai_lib.data.pictures import png, save_png, tile


@given(n=st.integers(1, 13), channels=st.sampled_from([1, 3]), height=st.integers(1, 7), width=st.integers(1, 7),
       columns=st.integers(1, 15), gap=st.integers(0, 3))  # fmt: skip
def test_each_picture_stands_in_its_place_on_white(n, channels, height, width, columns, gap):
    x = Noise(n).uniform(n, channels, height, width)
    sheet = tile(x, columns=columns, gap=gap)
    rows = -(-n // columns)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    covered = np.zeros(sheet.shape, dtype=bool)
    for i in range(n):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        place = np.s_[top : top + height, left : left + width]
        expected = np.rint(255 * x[i].permute(1, 2, 0).numpy()).astype(np.uint8)
        assert np.array_equal(sheet[place], np.broadcast_to(expected, (height, width, 3)))
        covered[place] = True
    assert (sheet[~covered] == 255).all()


@pytest.mark.parametrize("n, columns", [(1, 1), (2, 2), (4, 2), (5, 3), (16, 4), (17, 5)])
def test_a_sheet_is_as_square_as_it_can_be(n, columns):
    assert tile(torch.zeros(n, 1, 1, 1), gap=0).shape == (-(-n // columns), columns, 3)


def test_what_leaves_the_range_is_clipped_and_gradients_do_not_matter():
    x = torch.tensor([-0.5, 0.0, 0.5, 1.0, 2.0], requires_grad=True).view(1, 1, 1, 5)
    assert tile(x)[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert tile(x.bfloat16())[0, :, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("shape", [(28, 28), (5, 28, 28), (5, 2, 28, 28), (0, 1, 28, 28)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=re.escape(f"pictures must have shape (N, 1 or 3, H, W) with N ≥ 1, got {shape}")):
        tile(torch.zeros(shape))


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_a_png_holds_the_sheet_pixel_by_pixel(tmp_path, scale):
    x = Noise(0).uniform(7, 3, 5, 3)
    path = save_png(x, tmp_path / "new" / "folder" / "sheet.png", columns=3, scale=scale)
    assert path == tmp_path / "new" / "folder" / "sheet.png"
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        found = np.asarray(picture)
    assert np.array_equal(found, tile(x, columns=3).repeat(scale, axis=0).repeat(scale, axis=1))


def test_a_png_is_written_where_a_string_says(tmp_path):
    assert save_png(torch.zeros(1, 1, 2, 2), str(tmp_path / "a.png")).is_file()


def test_a_png_in_memory_is_the_one_in_the_file(tmp_path):
    x = Noise(3).uniform(5, 3, 7, 11)
    assert png(x, columns=2, scale=3) == save_png(x, tmp_path / "a.png", columns=2, scale=3).read_bytes()
