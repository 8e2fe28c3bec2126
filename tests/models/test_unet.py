from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layers import same_layers
from torch import nn

from genai_lib import Noise
from genai_lib.models.unet import Block, TimeEmbedding, UNet

CONDITIONS = pytest.mark.parametrize("condition", [{}, {"classes": 10}, {"features": 5}], ids=["none", "class", "vector"])


def build(seed=0, **changes):
    """A network whose silent layers speak."""
    torch.manual_seed(seed)
    network = UNet(**{"width": 8, **changes}).eval()
    for p in network.parameters():
        if not p.any():  # zero, and none of torch's own first weights is
            torch.nn.init.normal_(p, std=0.1)
    return network


def conditions(network, n, seed=0):
    if network.classes:
        return Noise(seed).integers(network.classes, n)
    return Noise(seed).normal(n, network.features) if network.features else None


@CONDITIONS
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 29, 31), (3, 7, 13), (2, 1, 1), (1, 4, 5), (1, 30, 27)])
def test_any_size_comes_back_as_it_was(condition, shape):
    network, x, t = build(channels=shape[0], **condition), Noise(1).normal(7, *shape), Noise(2).uniform(7)
    out = network(x, t, conditions(network, 7))
    assert (out.shape, out.dtype) == (x.shape, torch.float32)
    assert out.isfinite().all()
    assert out.std() > 0.01


@pytest.mark.parametrize("width, depth", [(8, 1), (16, 2), (5, 1), (11, 3)])
def test_width_and_depth_can_be_chosen(width, depth):
    network = build(width=width, depth=depth)
    assert network(torch.zeros(3, 1, 28, 28), torch.zeros(3)).shape == (3, 1, 28, 28)
    assert network.down.weight.shape[:2] == (2 * width, width)
    assert network.enter[1].weight.shape[:2] == (width, 4)
    assert len(network.deep) == depth


def test_the_network_layer_by_layer():
    network = UNet()
    assert same_layers(network.time, TimeEmbedding(64), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64))
    assert network.time[0].frequencies.shape == (32,)
    assert same_layers(network.enter, nn.PixelUnshuffle(2), nn.Conv2d(4, 32, 3, padding=1))
    assert repr(network.down) == repr(nn.Conv2d(32, 64, 3, stride=2, padding=1))
    assert same_layers(network.up, nn.Conv2d(64, 32, 1), nn.Upsample(scale_factor=2))
    assert same_layers(network.leave, nn.GroupNorm(8, 32), nn.SiLU(), nn.Conv2d(32, 4, 3, padding=1), nn.PixelShuffle(2))
    assert repr(network.keep) == repr(nn.Linear(64, 1))
    assert [repr(block) for block in (network.fall, network.rise)] == [repr(Block(32, 64))] * 2
    assert same_layers(network.deep, Block(64, 64))
    assert (network.condition, network.classes, network.features) == (None, 0, 0)
    assert repr(UNet(classes=10).condition) == repr(nn.Embedding(11, 64))  # one more: no class
    assert repr(UNet(features=5).condition) == repr(nn.Linear(5, 64))


@pytest.mark.parametrize("channels, groups", [(32, 8), (8, 8), (12, 4), (6, 2), (7, 1)])
def test_a_block_layer_by_layer(channels, groups):
    block, keeps = Block(channels, 5), nn.Conv2d(channels, channels, 3, padding=1)
    assert repr(block.steer) == repr(nn.Linear(5, 2 * channels))
    assert same_layers(block.before, nn.GroupNorm(groups, channels), nn.SiLU(), keeps)  # eight groups, if they divide
    assert repr(block.norm) == repr(nn.GroupNorm(groups, channels))
    assert same_layers(block.after, nn.SiLU(), keeps)


def test_the_network_of_the_digits_is_small():
    assert sum(p.numel() for p in UNet(classes=10).parameters()) < 170_000


def test_an_untrained_network_predicts_nothing_and_its_blocks_pass_on_what_they_get():
    x = Noise(0).normal(7, 1, 28, 28)
    assert (UNet(classes=10)(x, Noise(1).uniform(7), torch.arange(7)) == 0).all()
    x = Noise(0).normal(7, 6, 5, 3)
    assert torch.equal(Block(6, 4)(x, Noise(1).normal(7, 4)), x)


def test_the_time_embedding_by_hand():
    t = torch.tensor([0.0, 0.003, 0.5, 1.0])
    embedded = TimeEmbedding(6)(t)
    for row, time in zip(embedded, t.tolist(), strict=True):
        angles = [1000 * time / 10_000 ** (k / 3) for k in range(3)]
        by_hand = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert row.tolist() == pytest.approx(by_hand, abs=1e-4)


def test_neighbouring_steps_look_different_and_all_steps_do():
    embedded = TimeEmbedding(32)(torch.arange(1001) / 1000)
    distance = torch.cdist(embedded, embedded) + 10 * torch.eye(1001)
    assert distance.min() > 0.3


def test_the_embedding_scales_and_shifts_between_the_convolutions():
    torch.manual_seed(0)
    block, x, e = Block(6, 4), Noise(0).normal(7, 6, 5, 3), Noise(1).normal(7, 4)
    torch.nn.init.normal_(block.after[1].weight)
    scale, shift = block.steer(e)[:, :6, None, None], block.steer(e)[:, 6:, None, None]
    h = block.norm(block.before(x))
    torch.testing.assert_close(block(x, e), x + block.after((1 + scale) * h + shift))


@CONDITIONS
def test_time_and_condition_matter(condition):
    network, x, t = build(**condition), Noise(1).normal(7, 1, 28, 28), torch.full((7,), 0.5)
    y = conditions(network, 7)
    out = network(x, t, y)
    assert (network(x, t + 0.1, y) - out).flatten(1).norm(dim=1).min() > 1e-3
    if y is not None:
        other = (y + 1) % network.classes if network.classes else y + 1
        for changed in (other, None):
            assert (network(x, t, changed) - out).flatten(1).norm(dim=1).min() > 1e-3


def test_time_and_condition_are_added_and_row_0_of_the_table_says_no_class():
    t, y = Noise(2).uniform(7), Noise(0).integers(10, 7)
    told, by_vector = build(classes=10), build(features=5)
    torch.testing.assert_close(told.embed(t, y), nn.functional.silu(told.time(t) + told.condition.weight[y + 1]))
    torch.testing.assert_close(told.embed(t, None), nn.functional.silu(told.time(t) + told.condition.weight[0]))
    vector = Noise(1).normal(7, 5)
    torch.testing.assert_close(by_vector.embed(t, vector), nn.functional.silu(by_vector.time(t) + by_vector.condition(vector)))


@pytest.mark.parametrize("condition, none", [({"classes": 10}, torch.full((7,), -1)), ({"features": 5}, torch.zeros(7, 5))])
def test_no_condition_can_be_said_for_all_or_for_one(condition, none):
    network, x, t = build(**condition), Noise(1).normal(7, 1, 28, 28), Noise(2).uniform(7)
    free = network(x, t)
    torch.testing.assert_close(network(x, t, none), free)
    mixed = conditions(network, 7)
    mixed[3] = none[3]
    out = network(x, t, mixed)
    torch.testing.assert_close(out[3], free[3])
    assert (out[2] - free[2]).abs().max() > 1e-3


def test_a_share_of_the_picture_itself_is_passed_on():
    """With the last convolution silent only the share is left: one number a picture, of time and condition."""
    network, x = build(classes=10), Noise(1).normal(7, 1, 13, 11)
    for p in network.leave[2].parameters():
        torch.nn.init.zeros_(p)
    share = network(x, Noise(2).uniform(7), torch.arange(7)) / x
    torch.testing.assert_close(share, share[:, :, :1, :1].expand_as(x), rtol=1e-4, atol=1e-4)
    assert share[:, 0, 0, 0].std() > 1e-3


def test_what_was_known_at_half_the_size_is_handed_across():
    """With nothing coming up from below, and no share of x passed on, the picture still reaches the output."""
    network, t = build(), torch.full((7,), 0.5)
    for p in [*network.up.parameters(), *network.keep.parameters()]:
        torch.nn.init.zeros_(p)
    out, other = (network(Noise(key).normal(7, 1, 13, 11), t) for key in (1, 2))
    assert (out - other).flatten(1).norm(dim=1).min() > 1e-2


def test_the_patches_touch():
    """A change of one pixel reaches far more than its own patch: through the lower level most of a digit."""
    network, x = build(), Noise(1).normal(1, 1, 28, 28)
    other = x.clone()
    other[0, 0, 13, 14] += 1
    changed = (network(x, torch.ones(1)) - network(other, torch.ones(1)))[0, 0].abs() > 1e-7
    assert changed.float().mean() > 0.5


@CONDITIONS
@given(n=st.sampled_from([1, 2, 3, 5]), seed=st.integers(0, 20))
def test_the_order_of_the_batch_does_not_matter(condition, n, seed):
    network, x, order = build(**condition), Noise(seed).normal(n, 1, 13, 11), Noise(seed, 1).permutation(n)
    t, y = Noise(seed, 2).uniform(n), conditions(network, n, seed)
    out = network(x[order], t[order], None if y is None else y[order])
    torch.testing.assert_close(out, network(x, t, y)[order], atol=1e-5, rtol=1e-4)


@CONDITIONS
def test_a_gradient_reaches_every_parameter(condition):
    network, x = build(**condition), Noise(1).normal(7, 1, 13, 11)
    network(x, Noise(2).uniform(7), conditions(network, 7)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@CONDITIONS
def test_it_runs_on_the_meta_device(condition):
    with torch.device("meta"):
        network = UNet(**condition)
        y = conditions_on_meta(network)
        out = network(torch.empty(7, 1, 28, 28), torch.empty(7), y)
    assert (out.shape, out.device.type) == ((7, 1, 28, 28), "meta")


def conditions_on_meta(network):
    if network.classes:
        return torch.empty(7, dtype=torch.long)
    return torch.empty(7, network.features) if network.features else None


@CONDITIONS
def test_bf16_stays_close_to_fp32(condition):
    network, x, t = build(**condition), Noise(1).normal(7, 1, 28, 28), Noise(2).uniform(7)
    y = conditions(network, 7)
    exact = network(x, t, y)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(x, t, y)
    assert (rough.float() - exact).std() < 0.03 * exact.std()


def test_tables_are_recomputed_not_saved():
    assert not any("frequencies" in key for key in UNet().state_dict())


@pytest.mark.parametrize("condition, y, wanted, got", [
    ({"classes": 10}, torch.zeros(7), "whole numbers (7,)", "torch.float32 (7,)"),
    ({"classes": 10}, torch.zeros(6, dtype=torch.long), "whole numbers (7,)", "torch.int64 (6,)"),
    ({"classes": 10}, torch.zeros(7, 1, dtype=torch.long), "whole numbers (7,)", "torch.int64 (7, 1)"),
    ({"features": 5}, torch.zeros(7, 4), "float numbers (7, 5)", "torch.float32 (7, 4)"),
    ({"features": 5}, torch.zeros(7, 5, dtype=torch.long), "float numbers (7, 5)", "torch.int64 (7, 5)"),
])  # fmt: skip
def test_a_condition_of_another_kind_is_refused(condition, y, wanted, got):
    with pytest.raises(ValueError) as error:
        UNet(**condition)(torch.zeros(7, 1, 28, 28), torch.zeros(7), y)
    assert str(error.value) == f"the condition y must be {wanted}, got {got}"


def test_a_condition_for_a_network_that_takes_none_is_refused():
    with pytest.raises(ValueError) as error:
        UNet()(torch.zeros(7, 1, 28, 28), torch.zeros(7), torch.zeros(7))
    assert str(error.value) == "this network takes no condition: build it with classes=… or features=…"


def test_two_kinds_of_condition_are_refused():
    with pytest.raises(ValueError) as error:
        UNet(classes=10, features=5)
    assert str(error.value) == "the condition is a class or a vector, not both: got classes=10, features=5"
