from __future__ import annotations

import math
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import same_layers
from torch import nn

from genai_lib import Noise
from genai_lib.models.clip import BUCKETS, CLIP, TextToPicture, TextTower, encode_text, pieces
from genai_lib.models.diffusion import Diffusion, Schedule
from genai_lib.models.unet import UNet

# ---------------------------------------------------------------- texts


def test_the_pieces_of_a_text():
    assert pieces("Red") == ["‹red›", "‹re", "red", "ed›"]
    assert pieces("红心形") == ["红", "心", "形", "红心", "心形"]
    assert pieces("一二") == ["一", "二", "一二"]  # the first character of the block
    assert pieces("\u9fff") == ["\u9fff"]  # the last
    assert pieces("a b2, 猫!") == ["‹a›", "‹b2›", "‹b2", "b2›", "猫"]
    assert pieces("cd光盘") == [*pieces("cd"), *pieces("光盘")]
    assert pieces("?! – _ ") == pieces("") == []


@given(st.text(max_size=20), st.text(max_size=20))
@settings(deadline=None, derandomize=True, max_examples=50)
def test_any_two_texts_side_by_side_have_the_pieces_of_both(a, b):
    assert pieces(f"{a} {b}") == pieces(a) + pieces(b)
    assert bool(pieces(a)) == any(c.isalnum() for c in a.casefold())
    assert pieces(a.casefold()) == pieces(a)


def test_a_text_as_numbers():
    tokens = encode_text(["Red heart", "红", "cat"])
    assert tokens.dtype == torch.int64
    assert tokens.shape == (3, len(pieces("red heart")))
    for row, text in zip(tokens, ("red heart", "红", "cat"), strict=True):
        expected = [1 + zlib.crc32(piece.encode()) % (BUCKETS - 1) for piece in pieces(text)]
        assert row.tolist() == expected + [0] * (tokens.shape[1] - len(expected))


def test_the_numbers_are_the_same_everywhere():
    """Python's own hash would change from run to run, and shipped weights would mean nothing."""
    assert encode_text(["猫"]).tolist() == [[296]]  # CRC-32 of its three bytes in UTF-8: 2245964304
    assert encode_text(["a"], buckets=101).tolist() == [[1 + zlib.crc32("‹a›".encode()) % 100]]


def test_all_buckets_but_the_first_are_used_and_no_more():
    words = [f"word{i}" for i in range(2_000)]
    tokens = encode_text(words, buckets=53)
    assert sorted(tokens.unique().tolist()) == list(range(53))  # 0 fills up
    assert encode_text(["one"], buckets=53).min() >= 1


@pytest.mark.parametrize("text", ["", "!?", "  ", "—"])
def test_a_text_that_says_nothing_is_refused(text):
    with pytest.raises(ValueError) as error:
        encode_text(["cat", text])
    assert str(error.value) == (
        f"a text needs a letter, a digit or a Chinese character, and {text!r} has none: describe what to see"
    )


def test_no_text_at_all_is_refused():
    with pytest.raises(ValueError, match=r"a text needs a letter, .* and there is none: describe what to see"):
        encode_text([])


# ---------------------------------------------------------------- the text tower


def tower(features=5, **options):
    torch.manual_seed(0)
    return TextTower(features, **options).eval()


def test_a_text_is_the_mean_of_its_pieces():
    text = tower(width=7, buckets=53)
    tokens = encode_text(["red heart", "cat"], buckets=53)
    rows = [text.pieces.weight[row[row > 0]].mean(dim=0) for row in tokens]
    torch.testing.assert_close(text(tokens), text.layers(torch.stack(rows)))


def test_what_stands_beside_a_text_does_not_change_it():
    text = tower()
    alone, beside = text(encode_text(["cat"])), text(encode_text(["cat", "a much longer text 红心"]))
    torch.testing.assert_close(beside[:1], alone)


def test_the_order_of_words_is_not_seen_and_shared_pieces_are():
    text = tower()
    a, b, c, d = text(encode_text(["green cat", "cat green", "green cats", "黑板"]))
    torch.testing.assert_close(a, b)
    assert (a - c).norm() < (a - d).norm()


def test_filling_has_no_vector_and_no_gradient():
    text = tower().train()
    text(encode_text(["cat", "the cat"])).sum().backward()
    grad = text.pieces.weight.grad
    assert grad[0].abs().sum() == 0
    used = set(encode_text(["the cat"]).flatten().tolist())
    assert set(grad.abs().sum(dim=1).nonzero().flatten().tolist()) == used


# ---------------------------------------------------------------- two towers


def clip(**options):
    torch.manual_seed(0)
    return CLIP(**options).eval()


TEXTS = ["red heart", "猫", "a black square"]


def test_similarity_is_the_cosine_over_the_temperature():
    model, x = clip(), Noise(0).uniform(5, 3, 32, 32)
    similarity = model(x, encode_text(TEXTS))
    assert similarity.shape == (3, 5)
    a, b = model.text(encode_text(TEXTS)), model.features(x)
    cosine = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=2)
    torch.testing.assert_close(similarity, cosine / 0.07, atol=1e-4, rtol=1e-4)
    for directions in (model.pictures(x), model.texts(encode_text(TEXTS))):
        torch.testing.assert_close(directions.norm(dim=1), torch.ones(len(directions)))


def test_the_temperature_stays_above_a_hundredth():
    model, x = clip(), Noise(0).uniform(5, 3, 32, 32)
    cosine = model.texts(encode_text(TEXTS)) @ model.pictures(x).T
    model.log_scale.data.fill_(math.log(1e5))
    torch.testing.assert_close(model(x, encode_text(TEXTS)), 100 * cosine)


def test_a_judged_picture_does_not_depend_on_the_batch():
    model, x = clip(features=7, width=3), Noise(0).uniform(5, 3, 32, 32)
    assert model.features(x).shape == (5, 7)
    torch.testing.assert_close(model.features(x).norm(dim=1), torch.full((5,), math.sqrt(7)))
    torch.testing.assert_close(model.features(x)[2:3], model.features(x[2:3]))
    torch.testing.assert_close(model.features(x.flip(0)), model.features(x).flip(0))


def test_the_towers_layer_by_layer():
    def halve(before, after):
        return [nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    model = clip()
    assert same_layers(model.body, *halve(3, 32), *halve(32, 64), *halve(64, 128), nn.Flatten())
    assert same_layers(model.picture, nn.Dropout(0.3), nn.Linear(2048, 64))
    assert same_layers(
        model.text.layers, nn.LayerNorm(64), nn.Dropout(0.3), nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 64)
    )
    assert model.text.pieces.weight.shape == (BUCKETS, 64)
    assert model.text.pieces.weight.std().item() == pytest.approx(0.1, rel=0.01)
    assert model.log_scale.exp().item() == pytest.approx(1 / 0.07)
    assert [tuple(p.shape) for p in tower(7, width=5).layers.parameters()] == [(5,), (5,), (10, 5), (10,), (7, 10), (7,)]


def test_the_towers_are_small():
    assert sum(p.numel() for p in CLIP().parameters()) <= 900_000


def test_both_towers_run_on_the_meta_device_and_learn():
    with torch.device("meta"):
        model = CLIP()
    similarity = model(torch.empty(7, 3, 32, 32, device="meta"), torch.zeros(5, 11, dtype=torch.int64, device="meta"))
    similarity.sum().backward()
    assert (similarity.shape, similarity.device.type) == ((5, 7), "meta")
    assert all(p.grad is not None for p in model.parameters())


# ---------------------------------------------------------------- from text to picture


class Told(torch.nn.Module):
    """A network that draws what it is told: the vector's first three numbers are the velocity of red, green and blue."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, t, y=None):
        self.seen.append(y)
        return torch.zeros_like(x) if y is None else -y[:, :3, None, None].expand_as(x)


def painter(network=None):
    torch.manual_seed(0)
    network = network or UNet(channels=3, width=8, features=5)
    return TextToPicture(Diffusion(network, Schedule(T=11), predicts="v", shape=(3, 8, 8)), tower(buckets=97)).eval()


def test_pictures_are_drawn_in_range_and_again_with_the_same_noise():
    model = painter()
    drawn = model.sample(3, Noise(0), prompt="red heart", steps=3)
    assert (drawn.shape, drawn.dtype) == ((3, 3, 8, 8), torch.float32)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert torch.equal(drawn, model.sample(3, Noise(0), prompt=["red heart"] * 3, steps=3))
    assert not torch.equal(drawn, model.sample(3, Noise(1), prompt="red heart", steps=3))
    assert not drawn.requires_grad


def test_each_picture_has_its_own_prompt():
    model = painter(Told())
    drawn = model.sample(3, Noise(0), prompt=TEXTS, steps=3)
    expected = model.tell(encode_text(TEXTS, buckets=97))
    torch.testing.assert_close(expected.norm(dim=1), torch.full((3,), math.sqrt(5)))
    cosine = torch.nn.functional.cosine_similarity(expected, model.text(encode_text(TEXTS, buckets=97)))
    torch.testing.assert_close(cosine, torch.ones(3))
    assert torch.equal(model.diffusion.network.seen[0], expected)
    assert torch.equal(drawn, model.diffusion.sample(3, Noise(0), y=expected, guidance=3.0, steps=3))


def test_guidance_goes_beyond_the_prompt():
    model = painter(Told())
    y = model.tell(encode_text(["cat"], buckets=97))
    plain, far = (model.sample(1, Noise(0), prompt="cat", steps=1, guidance=g) for g in (1.0, 3.0))
    assert ((far - plain).mean(dim=(2, 3)) * y[:, :3] >= 0).all()  # v points from picture to noise, so −y makes more of y
    assert not torch.equal(far, plain)


def test_by_default_guidance_is_3_and_there_are_25_steps(monkeypatch):
    asked = []
    monkeypatch.setattr(Diffusion, "sample", lambda self, n, noise, **options: asked.append(options))
    model = painter(Told())
    model.sample(1, Noise(0), prompt="cat")
    model.sample(1, Noise(0))
    assert (asked[0]["guidance"], asked[0]["steps"]) == (3.0, 25)
    assert asked[1] == {"steps": 25}


def test_without_a_prompt_anything_is_drawn():
    model = painter(Told())
    drawn = model.sample(2, Noise(0), steps=3)
    assert model.diffusion.network.seen == [None] * 3
    assert torch.equal(drawn, model.diffusion.sample(2, Noise(0), steps=3))


def test_prompts_and_pictures_must_be_equally_many():
    with pytest.raises(ValueError, match="3 pictures need one prompt or 3 of them, got 2"):
        painter().sample(3, Noise(0), prompt=["cat", "dog"])
