from __future__ import annotations

import itertools
import math

import pytest
import torch
from by_heart import learn_by_heart
from hypothesis import given
from hypothesis import strategies as st
from layers import same_layers
from torch import nn

from genai_lib import Noise
from genai_lib.models.recurrent import GRU
from genai_lib.objectives import next_token_nll


def build(size=7, seed=0, **sizes):
    torch.manual_seed(seed)
    return GRU(size, **{"width": 13, "layers": 2} | sizes).eval()


@pytest.mark.parametrize("seed", range(5))
def test_one_layer_is_the_equations(seed):
    model, tokens = build(layers=1, seed=seed).double(), Noise(seed).integers(7, 3, 11)
    W, U = model.cells.weight_ih_l0.chunk(3), model.cells.weight_hh_l0.chunk(3)
    b, c = model.cells.bias_ih_l0.chunk(3), model.cells.bias_hh_l0.chunk(3)
    h, logits = torch.zeros(3, 13).double(), []
    for e in model.embedding.weight[tokens].unbind(dim=1):
        r = torch.sigmoid(e @ W[0].T + b[0] + h @ U[0].T + c[0])
        z = torch.sigmoid(e @ W[1].T + b[1] + h @ U[1].T + c[1])
        n = torch.tanh(e @ W[2].T + b[2] + r * (h @ U[2].T + c[2]))
        h = (1 - z) * n + z * h
        logits.append(h @ model.out.weight.T + model.out.bias)
    torch.testing.assert_close(model(tokens), torch.stack(logits, dim=1))


def test_by_default_one_layer_of_128():
    assert same_layers(GRU(7), nn.Embedding(7, 128), nn.GRU(128, 128, 1, batch_first=True), nn.Linear(128, 7))


@pytest.mark.parametrize("size, width, layers", [(7, 13, 2), (3, 5, 1), (65, 31, 3)])
def test_shapes_and_first_loss(size, width, layers):
    model, tokens = build(size, width=width, layers=layers), Noise(0).integers(size, 5, 11)
    assert (model(tokens).shape, model(tokens).dtype) == ((5, 11, size), torch.float32)
    assert model(tokens[:, :1]).shape == (5, 1, size)
    nats = next_token_nll(model, tokens).mean() / 10
    assert nats.item() == pytest.approx(math.log(size), rel=0.15)  # it knows nothing yet


@pytest.mark.parametrize("t", [0, 5, 10])
def test_nothing_is_known_ahead(t):
    model, tokens = build(), Noise(0).integers(7, 5, 11)
    other = tokens.clone()
    other[:, t] = (other[:, t] + 1) % 7
    same = (model(tokens) == model(other)).all(dim=2)
    assert same[:, :t].all()
    assert not same[:, t:].any()


@given(first=st.integers(1, 10), layers=st.integers(1, 3), seed=st.integers(0, 20))
def test_the_carried_state_is_the_whole_past(first, layers, seed):
    model, tokens = build(layers=layers, seed=seed), Noise(seed).integers(7, 3, 11)
    whole, state = model(tokens), None
    for t in range(first, 12):
        logits, state = model.step(tokens[:, :t], state)
        torch.testing.assert_close(logits, whole[:, t - 1], atol=1e-6, rtol=1e-5)
        assert state.shape == (layers, 3, 13)


def test_the_probabilities_of_all_continuations_sum_to_one():
    model = build(3).double()
    for first in range(3):
        sequences = torch.tensor([(first, *rest) for rest in itertools.product(range(3), repeat=5)])
        assert (-next_token_nll(model, sequences)).exp().sum().item() == pytest.approx(1, abs=1e-12)


@given(n=st.sampled_from([1, 2, 3, 5]), seed=st.integers(0, 20))
def test_the_order_of_the_batch_does_not_matter(n, seed):
    model, tokens, order = build(), Noise(seed).integers(7, n, 11), Noise(seed, 1).permutation(n)
    torch.testing.assert_close(model(tokens[order]), model(tokens)[order], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(model(tokens[:1]), model(tokens)[:1], atol=1e-6, rtol=1e-5)


def test_samples_follow_the_logits():
    model, prompt = build(5, seed=1), torch.tensor([[1, 4, 2]])
    p = model(prompt)[0, -1].softmax(dim=0)
    drawn = model.sample(prompt.expand(10_007, 3), 1, Noise(0))
    assert (drawn[:, :3] == prompt).all()
    share = torch.bincount(drawn[:, 3], minlength=5) / 10_007
    assert ((share - p).abs() < 6 * (p * (1 - p) / 10_007).sqrt()).all()  # six standard errors


def test_the_same_key_draws_the_same_text():
    model, prompt = build(), Noise(0).integers(7, 5, 3)
    first, again, other = (model.sample(prompt, 13, Noise(key)) for key in (4, 4, 5))
    assert first.shape == (5, 16)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(model.sample(prompt, 13, Noise(4), temperature=0), model.sample(prompt, 13, Noise(5), temperature=0))


def test_a_gradient_reaches_every_parameter():
    model = build()
    next_token_nll(model, Noise(0).integers(7, 5, 11)).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("seed", range(3))
def test_a_few_lines_are_learned_by_heart(seed):
    model, tokens = build(seed=seed, width=31, layers=1), Noise(seed).integers(7, 5, 11)
    assert learn_by_heart(model, tokens, lr=0.02).max() / 10 < 0.3 < math.log(7) / 5


def test_the_step_runs_on_the_meta_device():
    with torch.device("meta"):
        model = GRU(7, width=13)
    loss = next_token_nll(model, torch.empty(5, 11, dtype=torch.int64, device="meta")).mean()
    loss.backward()
    assert (loss.shape, loss.device.type, model.out.weight.grad.device.type) == ((), "meta", "meta")


def test_bf16_stays_close_to_fp32():
    model, tokens = build(65, width=31), Noise(0).integers(65, 5, 11)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(tokens)
    torch.testing.assert_close(rough.float(), model(tokens), atol=0.02, rtol=0)  # bf16 keeps 8 bits: 0.4 % a number


@pytest.mark.parametrize("sizes, told", [((0, 5, 1), "0, 5 and 1"), ((3, 0, 1), "3, 0 and 1"), ((3, 5, 0), "3, 5 and 0")])
def test_sizes_must_be_positive(sizes, told):
    with pytest.raises(ValueError, match=f"size, width and layers must be 1 or more, got {told}"):
        GRU(sizes[0], width=sizes[1], layers=sizes[2])
