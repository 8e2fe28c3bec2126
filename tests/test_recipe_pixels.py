from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from genai_lib import Noise, data, metrics, pretrained, recipes
from genai_lib.__main__ import main
from genai_lib.data.pictures import save_png
from genai_lib.data.steps import binarise
from genai_lib.data.tokens import Patches
from genai_lib.recipes import core, pixels

RECIPE = pixels.RECIPES[0]


@functools.cache
def digits(split):
    return data.load("mnist", split)


# ---------------------------------------------------------------- pictures as tokens


def test_patches_by_hand():
    patches = Patches(4, 6)
    assert (patches.size, patches.length) == (16, 6)
    x = torch.tensor([[1, 0, 0, 1, 0, 0],
                      [0, 0, 1, 1, 0, 0],
                      [0, 0, 1, 1, 0, 0],
                      [0, 1, 1, 1, 1, 0]]).view(1, 1, 4, 6).float()  # fmt: skip
    tokens = patches.encode(x)
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == [[1, 2 + 4 + 8, 0, 8, 15, 4]]
    assert torch.equal(patches.decode(tokens), x)


@given(rows=st.integers(1, 3), columns=st.integers(1, 3), side=st.integers(1, 4), seed=st.integers(0, 99))
def test_pictures_come_back_from_their_patches(rows, columns, side, seed):
    patches = Patches(rows * side, columns * side, side=side)
    x = binarise(torch.full((5, 1, rows * side, columns * side), 0.5), Noise(seed))
    tokens = patches.encode(x)
    assert tokens.shape == (5, patches.length) == (5, rows * columns)
    assert 0 <= tokens.min() <= tokens.max() < patches.size
    again = patches.decode(tokens)
    assert (again.dtype, again.shape) == (torch.float32, x.shape)
    assert torch.equal(again, x)


def test_tokens_come_back_from_their_pictures():
    patches = Patches(6, 4)
    tokens = Noise(0).integers(patches.size, 100, patches.length)
    assert torch.equal(patches.encode(patches.decode(tokens)), tokens)


def test_digits_come_back():
    x = binarise(digits("test").x[:50], Noise(0))
    patches = Patches(28, 28)
    assert (patches.size, patches.length) == (16, 196)
    assert torch.equal(patches.decode(patches.encode(x)), x)


def test_pixels_may_be_bits():
    x = torch.eye(4, dtype=torch.bool)[None, None]
    assert Patches(4, 4).encode(x).tolist() == [[9, 0, 0, 9]]


@pytest.mark.parametrize("height, width, side", [(5, 4, 2), (4, 5, 2), (4, 4, 0), (10, 10, 5)])
def test_patches_that_do_not_fit_are_refused(height, width, side):
    with pytest.raises(ValueError) as error:
        Patches(height, width, side=side)
    assert str(error.value) == (
        f"side must be 1 to 4 and divide height and width, got side={side} and {height} × {width} pixels"
    )


@pytest.mark.parametrize("shape", [(3, 1, 6, 4), (3, 4, 6), (3, 2, 4, 6)])
def test_pictures_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError) as error:
        Patches(4, 6).encode(torch.zeros(shape))
    assert str(error.value) == f"x must be (B, 1, 4, 6) pixels of 0 or 1 (try `binarise`), got {shape}"


@pytest.mark.parametrize("value", [0.5, 2.0, -1.0, math.nan])
def test_grey_pictures_are_refused(value):
    x = torch.zeros(3, 1, 4, 6)
    x[1, 0, 2, 3] = value
    with pytest.raises(ValueError, match=r"pixels of 0 or 1 \(try `binarise`\), got \(3, 1, 4, 6\)"):
        Patches(4, 6).encode(x)


@pytest.mark.parametrize("tokens", [torch.zeros(3, 5), torch.zeros(3, 7), torch.full((3, 6), 16), torch.full((3, 6), -1)])
def test_tokens_that_are_no_pictures_are_refused(tokens):
    with pytest.raises(ValueError) as error:
        Patches(4, 6).decode(tokens.long())
    assert str(error.value) == f"tokens must be (B, 6) from 0 to 15, got {tuple(tokens.shape)}"


# ---------------------------------------------------------------- the recipe


def test_each_batch_is_binarised_anew(monkeypatch):
    model, seen = RECIPE.build(), []
    monkeypatch.setattr(core, "next_token_nll", lambda model, tokens: seen.append(tokens) or torch.zeros(len(tokens)))
    (player,) = RECIPE.players(model, core.Effort(epochs=1), 10)
    x = digits("train").x[:7]
    for seed in (0, 0, 1):
        player.loss((x, torch.arange(7)), Noise(seed))
    assert torch.equal(seen[0], model.read(binarise(x, Noise(0))))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert (seen[0][:, 0] == 0).all()


def test_the_loss_is_nats_per_patch():
    torch.manual_seed(0)
    model = RECIPE.build()
    (player,) = RECIPE.players(model, core.Effort(epochs=1), 10)
    x = digits("train").x[:7]
    loss = player.loss((x, torch.arange(7)), Noise(5))["loss"].item()
    with torch.no_grad():
        assert loss == pytest.approx(-model.log_prob(binarise(x, Noise(5))).mean().item() / 196, rel=1e-5)


def test_the_weights_stay_small():
    assert sum(p.numel() for p in RECIPE.build().parameters()) <= 370_000


def test_the_quality_is_the_log_likelihood_of_the_binarised_digits(monkeypatch):
    class Stencil(nn.Module):
        """One stencil: every pixel by itself."""

        lit = digits("train").x.mean(dim=0).clamp(0.001, 0.999)

        def log_prob(self, x):
            return -nn.functional.binary_cross_entropy(self.lit.expand_as(x), x, reduction="none").flatten(1).sum(dim=1)

    found = RECIPE.quality(Stencil(), None)
    expected = Stencil().log_prob(recipes.binarised_test_digits()).double().mean().item()
    assert found == {"log-likelihood, binarised": pytest.approx(expected, abs=1e-4)}


# ---------------------------------------------------------------- the shipped weights


def test_the_shipped_weights_beat_the_stencils_on_the_same_digits():
    x = recipes.binarised_test_digits()[::50]
    with torch.no_grad():
        ours, stencils = (pretrained.load(name).log_prob(x).double() for name in ("gpt-pixels", "mixture-binary"))
    assert (ours - stencils).mean() > 30
    assert (ours > stencils).double().mean() > 0.95
    card = pretrained.card("gpt-pixels")["figures"]["log-likelihood, binarised"]
    assert ours.mean().item() == pytest.approx(card, abs=6)  # digits differ by about 25 nats, the mean of 200 by 1.8


def test_the_shipped_weights_draw_better_than_the_stencils():
    """By KID against test digits that are black and white too."""
    look = pretrained.judge().features
    real = look(recipes.binarised_test_digits()[::10])
    drawn = [pretrained.load(name).sample(100, Noise(0)) for name in ("gpt-pixels", "mixture-binary")]
    ours, stencils = (metrics.kid(look(x), real) for x in drawn)
    assert ours < stencils / 5


def test_the_command_line_draws_a_sheet(tmp_path, capsys):
    out = tmp_path / "digits.png"
    assert main(["sample", "gpt-pixels", "-n", "6", "--seed", "5", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    expected = save_png(pretrained.load("gpt-pixels").sample(6, Noise(5)), tmp_path / "expected.png")
    assert out.read_bytes() == expected.read_bytes()
