"""A GPT that writes pictures: its likelihood is exact, and it draws what it finds likely."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from genai_lib.data.steps import binarise
from genai_lib.data.tokens import Patches
from genai_lib.models.gpt import PictureGPT
from genai_lib.noise import Noise


def small(seed=0, *, height=4, width=4, side=2):
    """An untrained model of a tiny grid, whose weights are large enough to make it hold strong opinions."""
    torch.manual_seed(seed)
    model = PictureGPT(Patches(height, width, side=side), layers=2, heads=2, width=8).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.4 * torch.randn_like(p))
    return model


def every_picture(height, width):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=height * width))).view(-1, 1, height, width)


# ---------------------------------------------------------------- an exact likelihood


@pytest.mark.parametrize("height, width, side", [(4, 4, 2), (2, 6, 2), (3, 4, 1), (3, 3, 3)])
def test_the_probabilities_of_all_pictures_sum_to_one(height, width, side):
    model = small(height=height, width=width, side=side)
    with torch.no_grad():
        p = model.log_prob(every_picture(height, width)).double().exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    assert p.max() > 20 * p.median() or side == 3  # it has opinions


@pytest.mark.parametrize("seed", range(5))
def test_the_log_probability_is_the_chain_rule_patch_by_patch(seed):
    model = small(seed, height=4, width=6)
    x = binarise(torch.full((7, 1, 4, 6), 0.4), Noise(seed))
    with torch.no_grad():
        found = model.log_prob(x)
        for picture, log_prob in zip(model.patches.encode(x), found, strict=True):
            total, known = 0.0, [0]  # a black patch stands before the first
            for token in picture.tolist():
                total += model(torch.tensor([known]))[0, -1].log_softmax(dim=0)[token].item()
                known.append(token)
            assert log_prob.item() == pytest.approx(total, abs=1e-4)
    assert found.shape == (7,)
    assert (found < 0).all()


def test_a_model_that_knows_nothing_has_log_2_a_pixel():
    model = PictureGPT(Patches(28, 28)).eval()
    with torch.no_grad():
        model.gpt.tokens.weight.zero_()  # all patches are alike then
        nats = model.log_prob(binarise(torch.full((7, 1, 28, 28), 0.2), Noise(0)))
    torch.testing.assert_close(nats, torch.full((7,), -784 * math.log(2)))


def test_no_patch_knows_itself_or_what_comes_later():
    model = small(height=4, width=6)
    x = torch.zeros(1, 1, 4, 6)
    with torch.no_grad():
        plain = model(model.read(x)[:, :-1])
        for place in range(6):
            tokens = model.patches.encode(x)
            tokens[0, place] = 5
            changed = model(model.read(model.patches.decode(tokens))[:, :-1])
            assert torch.equal(changed[:, : place + 1], plain[:, : place + 1])
            if place < 5:
                assert not torch.equal(changed[:, place + 1], plain[:, place + 1])


# ---------------------------------------------------------------- drawing


def test_samples_are_as_frequent_as_they_are_likely():
    """All 4,096 pictures of 3 × 4 pixels, one at a time: 20,000 draws against the exact probabilities, by χ²."""
    model = small(height=3, width=4, side=1)
    n = 20_000
    with torch.no_grad():
        expected = n * model.log_prob(every_picture(3, 4)).double().exp()
    number = (model.sample(n, Noise(0)).flatten(1) @ 2.0 ** torch.arange(11, -1, -1)).long()
    seen = number.bincount(minlength=4096).double()
    often = expected >= 5
    seen, expected = (torch.cat([v[often], v[~often].sum()[None]]) for v in (seen, expected))
    assert often.sum() > 100
    squares = ((seen - expected).square() / expected).sum().item()
    freedom = len(seen) - 1
    assert abs(squares - freedom) < 5 * math.sqrt(2 * freedom)


def test_drawing_repeats_with_its_noise_and_with_nothing_else():
    model = small(height=8, width=8)
    first = model.sample(7, Noise(0))
    torch.rand(7)
    assert (first.shape, first.dtype, first.requires_grad) == ((7, 1, 8, 8), torch.float32, False)
    assert torch.equal(first, model.sample(7, Noise(0)))
    assert not torch.equal(first, model.sample(7, Noise(1)))
    assert set(first.unique().tolist()) == {0.0, 1.0}


def test_the_temperature_reaches_the_model():
    model = small(height=8, width=8)
    cold = model.sample(3, Noise(0), temperature=0)
    assert torch.equal(cold, model.sample(3, Noise(1), temperature=0))
    assert torch.equal(cold[0], cold[1])


def test_its_sizes_are_those_that_are_asked_for_or_the_recipes():
    grid = Patches(4, 4)
    told, usual = PictureGPT(grid, layers=2, heads=3, width=6).gpt.config, PictureGPT(grid).gpt.config
    assert (told.layers, told.heads, told.width) == (2, 3, 6)
    assert (usual.layers, usual.heads, usual.width) == (3, 4, 96)


def test_no_more_than_a_hundred_are_drawn_at_a_time(monkeypatch):
    model, sizes = small(height=2, width=2, side=1), []
    draw = model.gpt.sample
    monkeypatch.setattr(model.gpt, "sample", lambda some, *rest: sizes.append(len(some)) or draw(some, *rest))
    assert model.sample(211, Noise(0)).shape == (211, 1, 2, 2)
    assert sizes == [100, 100, 11]


def test_the_cache_changes_no_draw():
    """The same noise, with every prefix read anew."""
    model, noise = small(height=8, width=8), Noise(3)
    tokens = torch.zeros(5, 1, dtype=torch.int64)
    with torch.no_grad():
        for _ in range(model.patches.length):
            p = model(tokens)[:, -1].double().softmax(dim=1)
            newest = (p.cumsum(dim=1) <= noise.uniform(5)[:, None]).sum(dim=1)
            tokens = torch.cat([tokens, newest[:, None]], dim=1)
    assert torch.equal(model.sample(5, Noise(3)), model.patches.decode(tokens[:, 1:]))
