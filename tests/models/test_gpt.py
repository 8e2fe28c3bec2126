from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from by_heart import learn_by_heart
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from genai_lib import Noise
from genai_lib.metrics import bits_per_character, perplexity, text_nll
from genai_lib.models.gpt import (
    GPT,
    GPTConfig,
    LanguageModel,
    attention,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    probabilities,
)
from genai_lib.objectives import next_token_nll

INF = math.inf
SMALL = {"size": 7, "context": 11, "layers": 2, "heads": 3, "width": 15}


def build(seed=0, *, loud=True, **sizes):
    """A small GPT. `loud`: weights ten times GPT-2's, so that every part of it matters."""
    torch.manual_seed(seed)
    model = GPT(GPTConfig(**SMALL | sizes)).eval()
    if loud:
        for p in model.parameters():
            p.data += 0.2 * torch.randn_like(p)
    return model


# ---------------------------------------------------------------- against transformers


CONV1D = ("qkv.weight", "out.weight", "mlp.0.weight", "mlp.2.weight")  # which transformers keeps transposed
NAMES = {
    "tokens": "transformer.wte", "places": "transformer.wpe", "norm": "transformer.ln_f", "blocks": "transformer.h",
    "norm1": "ln_1", "norm2": "ln_2", "attention": "attn", "qkv": "c_attn", "out": "c_proj",
    "mlp": "mlp", "0": "c_fc", "2": "c_proj",
}  # fmt: skip


def their_name(name):
    parts = name.split(".")
    block = parts[:2] if parts[0] == "blocks" else []
    rest = [NAMES.get(part, part) for part in parts[len(block):]]
    return ".".join([NAMES["blocks"], block[1], *rest] if block else rest)


def twin(model):
    """GPT-2 of transformers with the same weights."""
    c = model.config
    theirs = GPT2LMHeadModel(GPT2Config(
        vocab_size=c.size, n_positions=c.context, n_layer=c.layers, n_head=c.heads, n_embd=c.width,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=None, eos_token_id=None,
    )).eval()  # fmt: skip
    named = dict(theirs.named_parameters())
    assert {their_name(name) for name, _ in model.named_parameters()} == set(named)  # the output layer is tied
    for name, p in model.named_parameters():
        named[their_name(name)].data.copy_(p.T if name.endswith(CONV1D) else p)
    return theirs, named


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [
    {}, {"size": 65, "context": 64, "layers": 4, "heads": 4, "width": 32}, {"layers": 1, "heads": 1, "width": 5, "context": 3},
], ids=["prime", "even", "tiny"])  # fmt: skip
def test_gpt_is_gpt2_of_transformers(sizes, seed):
    model = build(seed, **sizes)
    theirs, named = twin(model)
    c = model.config
    tokens = Noise(seed).integers(c.size, 5, c.context + 1)
    torch.testing.assert_close(model(tokens[:, :-1]), theirs(tokens[:, :-1]).logits, atol=1e-5, rtol=1e-5)
    ours = next_token_nll(model, tokens).mean() / c.context
    loss = F.cross_entropy(theirs(tokens[:, :-1]).logits.flatten(0, 1), tokens[:, 1:].flatten())
    torch.testing.assert_close(ours, loss, atol=1e-6, rtol=1e-5)
    ours.backward()
    loss.backward()
    for name, p in model.named_parameters():
        gradient = named[their_name(name)].grad
        torch.testing.assert_close(p.grad, gradient.T if name.endswith(CONV1D) else gradient, atol=1e-5, rtol=1e-4)


def test_first_weights_have_gpt2s_deviations():
    model = build(loud=False, size=211, width=60, layers=3)
    assert model.tokens.weight is dict(model.named_parameters())["tokens.weight"]
    for name, p in model.named_parameters():
        if p.ndim == 1:
            assert (p == (1 if "norm" in name and name.endswith("weight") else 0)).all()
        else:
            adds = name.endswith(("attention.out.weight", "mlp.2.weight"))
            expected = 0.02 / math.sqrt(6) if adds else 0.02  # 2 · 3 layers add to x
            assert p.std().item() == pytest.approx(expected, rel=6 / math.sqrt(2 * p.numel())), name  # six standard errors
    assert sum(p.numel() for p in model.parameters()) == (211 + 11) * 60 + 3 * (12 * 60**2 + 13 * 60) + 2 * 60


@pytest.mark.parametrize("seed", range(3))
def test_the_first_loss_is_that_of_knowing_nothing(seed):
    model = build(seed, loud=False, size=65)
    nats = next_token_nll(model, Noise(seed).integers(65, 5, 12)).mean().item() / 11
    assert nats == pytest.approx(math.log(65), rel=0.01)


# ---------------------------------------------------------------- attention


@pytest.mark.parametrize("seed", range(20))
def test_attention_is_torchs(seed):
    q, k, v = (Noise(seed, i).normal(3, 5, 7, 11).requires_grad_() for i in range(3))
    ours, theirs = attention(q, k, v), F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(torch.autograd.grad(ours.square().sum(), (q, k, v)),
                    torch.autograd.grad(theirs.square().sum(), (q, k, v)), strict=True):  # fmt: skip
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_attention_by_hand():
    q = k = torch.tensor([[[[0.0], [math.log(3)], [0.0]]]])  # K = 1: scores are products
    v = torch.tensor([[[[1.0], [5.0], [12.0]]]])
    e = 3 ** math.log(3)  # exp(log 3 · log 3)
    torch.testing.assert_close(attention(q, k, v).flatten(), torch.tensor([1.0, (1 + 5 * e) / (1 + e), 6.0]))


@pytest.mark.parametrize("last", [1, 3, 7])
def test_the_last_queries_may_ask_alone(last):
    q, k, v = (Noise(0, i).normal(3, 5, 7, 11) for i in range(3))
    torch.testing.assert_close(attention(q[:, :, -last:], k, v), attention(q, k, v)[:, :, -last:])


def test_the_model_attends_as_written(monkeypatch):
    model, tokens = build(), Noise(0).integers(7, 5, 11)
    expected = model(tokens)
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, is_causal: attention(q, k, v))
    torch.testing.assert_close(model(tokens), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(model(tokens), model(tokens))


# ---------------------------------------------------------------- invariants


@pytest.mark.parametrize("t", [0, 5, 10])
def test_nothing_is_known_ahead(t):
    model, tokens = build(), Noise(0).integers(7, 5, 11)
    other = tokens.clone()
    other[:, t] = (other[:, t] + 1) % 7
    before, after = model(tokens), model(other)
    torch.testing.assert_close(before[:, :t], after[:, :t], atol=1e-6, rtol=0)
    assert ((before - after)[:, t:].abs().amax(dim=2) > 1e-4).all()  # and everything later is changed


def test_no_gradient_comes_from_ahead():
    model, tokens = build(), Noise(0).integers(7, 1, 11)
    embedded = model.tokens(tokens).detach().requires_grad_()
    model.tokens.register_forward_hook(lambda module, given, out: embedded)
    (slope,) = torch.autograd.grad(model(tokens)[:, 4].square().sum(), embedded)
    assert (slope[0, :5].abs().sum(dim=1) > 0).all()
    assert (slope[0, 5:] == 0).all()


@given(n=st.sampled_from([1, 2, 3, 5]), length=st.integers(1, 11), seed=st.integers(0, 20))
def test_the_order_of_the_batch_does_not_matter(n, length, seed):
    model, tokens, order = build(), Noise(seed).integers(7, n, length), Noise(seed, 1).permutation(n)
    assert (model(tokens).shape, model(tokens).dtype) == ((n, length, 7), torch.float32)
    torch.testing.assert_close(model(tokens[order]), model(tokens)[order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(tokens[:1]), model(tokens)[:1], atol=1e-5, rtol=1e-4)


def test_the_probabilities_of_all_continuations_sum_to_one():
    model = build(size=3).double()
    for first in range(3):
        sequences = torch.tensor([(first, *rest) for rest in itertools.product(range(3), repeat=5)])
        assert (-next_token_nll(model, sequences)).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_places_matter():
    model = build()
    logits = model(torch.full((1, 11), 3))[0]
    assert torch.pdist(logits).min() > 1e-3  # one token eleven times: only its places differ


def test_the_step_runs_on_the_meta_device():
    with torch.device("meta"):
        model = GPT(GPTConfig(**SMALL))
    loss = next_token_nll(model, torch.empty(5, 12, dtype=torch.int64, device="meta")).mean()
    loss.backward()
    assert (loss.shape, loss.device.type) == ((), "meta")
    assert all(p.grad.device.type == "meta" for p in model.parameters())


def test_bf16_stays_close_to_fp32():
    model, tokens = build(loud=False, size=65), Noise(0).integers(65, 5, 11)
    model.tokens.weight.data *= 10
    with torch.autocast("cpu", torch.bfloat16):
        rough, nll = model(tokens), next_token_nll(model, tokens)
    assert nll.dtype == torch.float32
    torch.testing.assert_close(rough.float(), model(tokens), atol=0.04, rtol=0)  # logits up to 2; bf16 keeps 8 bits
    torch.testing.assert_close(nll, next_token_nll(model, tokens), atol=0, rtol=0.005)


def test_the_training_step_compiles_to_one_graph():
    model, tokens = build(width=6, layers=1), Noise(0).integers(7, 5, 12)
    # Tracing fails or succeeds alike for every backend; this one traces both directions and builds no C++, a minute's work.
    compiled = torch.compile(lambda tokens: next_token_nll(model, tokens).mean(), fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(next_token_nll(model, tokens).mean(), list(model.parameters()))
    compiled(tokens).backward()
    torch.testing.assert_close(compiled(tokens), next_token_nll(model, tokens).mean())
    for p, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_a_few_lines_are_learned_by_heart(seed):
    model, tokens = build(seed, loud=False, width=30), Noise(seed).integers(7, 5, 12)
    assert learn_by_heart(model, tokens, lr=0.01).max() / 11 < 0.3 < math.log(7) / 5


# ---------------------------------------------------------------- the cache


@pytest.mark.parametrize("context", [11, 10, 2, 1])
@pytest.mark.parametrize("first", [1, 2, 7, 11, 12, 29])
def test_the_cache_changes_nothing(context, first):
    model, tokens = build(context=context), Noise(0).integers(7, 3, 40)
    read, state = first - 1, None
    for T in range(first, 41):
        read = read + 1 if read < context else max(1, context // 2)  # the prompt, if it fits; then one more each step
        logits, state = model.step(tokens[:, :T], state)
        torch.testing.assert_close(logits, model(tokens[:, T - read : T])[:, -1], atol=1e-5, rtol=1e-4)
        assert (state.read, state.pairs.shape) == (read, (2, 2, 3, 3, context, 5))


def test_a_step_from_one_cache_can_be_taken_again():
    model, tokens = build(), Noise(0).integers(7, 3, 9)
    _, before = model.step(tokens[:, :5], None)
    once, after = model.step(tokens[:, :6], before)
    again, _ = model.step(tokens[:, :6], before)
    assert torch.equal(once, again)
    assert (before.read, after.read) == (5, 6)
    assert after.pairs is before.pairs  # nothing was copied


def test_a_cached_step_reads_one_token(monkeypatch):
    model, tokens = build(), Noise(0).integers(7, 3, 11)
    seen = []
    model.blocks[0].register_forward_hook(lambda module, given, out: seen.append(given[0].shape[1]))
    model.sample(tokens[:, :4], 15, Noise(0))
    assert seen == [4, *[1] * 7, 5, *[1] * 6]  # the prompt, until 11 are read; then the last 5 anew


def test_more_tokens_than_the_context_are_refused():
    with pytest.raises(ValueError, match="12 tokens are more than the context of 11: cut them into windows"):
        build()(torch.zeros(5, 12, dtype=torch.int64))


# ---------------------------------------------------------------- filters


LOGITS = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()


def kept(logits):
    return (logits > -INF).nonzero().flatten().tolist()


@pytest.mark.parametrize("k, expected", [(1, [0]), (2, [0, 1]), (3, [0, 1, 2, 3]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])])
def test_top_k(k, expected):
    filtered = keep_top_k(LOGITS, k)
    assert kept(filtered) == expected  # of equals, all or none
    assert torch.equal(filtered[expected], LOGITS[expected])


@pytest.mark.parametrize("p, expected", [
    (1e-9, [0]), (0.5, [0]), (0.51, [0, 1]), (0.75, [0, 1]), (0.76, [0, 1, 2, 3]), (0.99, [0, 1, 2, 3]), (1.0, [0, 1, 2, 3]),
])  # fmt: skip
def test_top_p(p, expected):
    filtered = keep_top_p(LOGITS, p)
    assert kept(filtered) == expected
    assert torch.equal(filtered[expected], LOGITS[expected])


def test_top_p_of_one_keeps_what_is_very_unlikely():
    assert kept(keep_top_p(torch.tensor([0.0, -40.0, -80.0]), 1.0)) == [0, 1, 2]


@pytest.mark.parametrize("p, expected", [
    (1e-9, [0, 1, 2, 3]), (0.24, [0, 1, 2, 3]), (0.26, [0, 1]), (0.49, [0, 1]), (0.51, [0]), (1.0, [0]),
])  # fmt: skip
def test_min_p(p, expected):
    filtered = keep_min_p(LOGITS, p)
    assert kept(filtered) == expected
    assert torch.equal(filtered[expected], LOGITS[expected])


@given(n=st.integers(1, 5), size=st.sampled_from([1, 2, 7, 31]), seed=st.integers(0, 200),
       temperature=st.sampled_from([0.3, 1.0, 2.5]), k=st.sampled_from([None, 1, 3, 31, 50]),
       p=st.sampled_from([None, 0.05, 0.5, 0.9, 1.0]), m=st.sampled_from([None, 0.01, 0.3, 1.0]),
       dtype=st.sampled_from([torch.float32, torch.float64]))  # fmt: skip
def test_the_filters_are_those_of_transformers(n, size, seed, temperature, k, p, m, dtype):
    given = (3 * Noise(seed).normal(n, size)).to(dtype)
    logits = given.double()  # in which both compute
    warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    warpers += [TopKLogitsWarper(k)] if k else []
    warpers += [TopPLogitsWarper(p)] if p else []
    warpers += [MinPLogitsWarper(m)] if m else []
    theirs = warpers(torch.zeros(n, 1, dtype=torch.int64), logits).softmax(dim=-1)
    ours = probabilities(given, temperature=temperature, top_k=k, top_p=p, min_p=m)
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, theirs)


def test_rows_and_vocabulary_may_come_in_any_order():
    logits = 3 * Noise(0).normal(5, 31)
    choice = {"temperature": 0.7, "top_k": 11, "top_p": 0.8, "min_p": 0.05}
    rows, columns = Noise(1).permutation(5), Noise(2).permutation(31)
    mixed = probabilities(logits[rows][:, columns], **choice)
    torch.testing.assert_close(mixed, probabilities(logits, **choice)[rows][:, columns])


def test_temperature_zero_takes_the_likeliest():
    p = probabilities(torch.tensor([[1.0, 3.0, 2.0], [5.0, -1.0, 4.9]]), temperature=0, top_k=2)
    assert p.tolist() == [[0, 1, 0], [1, 0, 0]]
    cold = probabilities(torch.tensor([[1.0, 3.0, 2.0]]), temperature=1e-3)
    torch.testing.assert_close(cold, p[:1])


def test_without_a_choice_nothing_is_changed():
    logits = Noise(0).normal(5, 7)
    torch.testing.assert_close(probabilities(logits), logits.double().softmax(dim=1))


@pytest.mark.parametrize("choice, message", [
    ({"temperature": -0.1}, "temperature must be 0 or more and top_k 1 or more, got -0.1 and None"),
    ({"top_k": 0}, "temperature must be 0 or more and top_k 1 or more, got 1.0 and 0"),
    ({"top_p": 0.0}, "top_p and min_p must lie above 0 and not above 1, got 0.0 and None"),
    ({"top_p": 1.1}, "top_p and min_p must lie above 0 and not above 1, got 1.1 and None"),
    ({"min_p": 0.0}, "top_p and min_p must lie above 0 and not above 1, got None and 0.0"),
    ({"min_p": 1.1}, "top_p and min_p must lie above 0 and not above 1, got None and 1.1"),
])  # fmt: skip
def test_a_choice_out_of_range_is_refused(choice, message):
    for temperature in ({}, {"temperature": 0}):  # a greedy draw checks the others all the same
        with pytest.raises(ValueError, match=message.replace("got 1.0", "got (1.0|0)")):
            probabilities(torch.zeros(1, 3), **temperature | choice)


# ---------------------------------------------------------------- drawing


class Fixed(LanguageModel):
    """Believes the same after every text, and counts its steps in the state."""

    def forward(self, tokens):
        return LOGITS.expand(*tokens.shape, 4)

    def step(self, tokens, state):
        return LOGITS.expand(len(tokens), 4), (state or 0) + 1


@pytest.mark.parametrize("choice, expected", [
    ({}, [0.5, 0.25, 0.125, 0.125]), ({"temperature": 0}, [1, 0, 0, 0]), ({"top_k": 2}, [2 / 3, 1 / 3, 0, 0]),
    ({"temperature": 0.5}, [8 / 11, 2 / 11, 1 / 22, 1 / 22]), ({"top_p": 0.6}, [2 / 3, 1 / 3, 0, 0]),
    ({"min_p": 0.6}, [1, 0, 0, 0]),
])  # fmt: skip
def test_draws_have_the_filtered_probabilities(choice, expected):
    drawn = Fixed().sample(torch.zeros(10_007, 1, dtype=torch.int64), 3, Noise(0), **choice)
    assert drawn.shape == (10_007, 4)
    assert not drawn[:, 0].any()
    p = torch.tensor(expected)
    for column in drawn[:, 1:].T:
        share = torch.bincount(column, minlength=4) / 10_007
        assert ((share - p).abs() <= 6 * (p * (1 - p) / 10_007).sqrt()).all()  # six standard errors; none for 0 and 1
    assert (drawn[:, 1] != drawn[:, 2]).any() or max(expected) == 1  # each step draws anew


def test_the_same_key_draws_the_same_text():
    model, prompt = build(), Noise(0).integers(7, 5, 3)
    first, again, other = (model.sample(prompt, 29, Noise(key)) for key in (4, 4, 5))
    assert (first.shape, first.dtype, first.requires_grad) == ((5, 32), torch.int64, False)
    assert torch.equal(first[:, :3], prompt)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(model.sample(prompt, 0, Noise(4)), prompt)


def test_a_greedy_text_is_the_likeliest_token_each_time():
    model, tokens = build(), Noise(0).integers(7, 5, 3)
    expected = tokens
    for _ in range(8):
        expected = torch.cat([expected, model(expected)[:, -1:].argmax(dim=2)], dim=1)
    assert torch.equal(model.sample(tokens, 8, Noise(1), temperature=0), expected)
    assert torch.equal(model.sample(tokens, 8, Noise(2), top_k=1), expected)


@pytest.mark.parametrize("shape", [(5, 0), (5,), (1, 2, 3)])
def test_a_prompt_needs_a_token(shape):
    with pytest.raises(ValueError, match=r"a prompt must have shape \(B, T ≥ 1\), got \("):
        build().sample(torch.zeros(shape, dtype=torch.int64), 3, Noise(0))


# ---------------------------------------------------------------- the configuration


@pytest.mark.parametrize("field", ["size", "context", "layers", "heads", "width"])
def test_sizes_must_be_positive(field):
    with pytest.raises(ValueError, match=f"{field} must be 1 or more, got 0"):
        GPTConfig(**SMALL | {field: 0})


def test_width_must_be_a_multiple_of_heads():
    with pytest.raises(ValueError, match="width must be a multiple of heads, got width=10, heads=3"):
        GPTConfig(size=7, width=10, heads=3)


def test_a_configuration_is_complete_and_fixed():
    config = GPTConfig(size=65)
    assert config == GPTConfig(size=65, context=64, layers=4, heads=4, width=128)
    with pytest.raises(AttributeError):
        config.width = 5


# ---------------------------------------------------------------- the objective, and what is said about texts


class Given(nn.Module):
    """Answers with fixed logits, and remembers what it was asked."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, tokens):
        self.asked = tokens
        return self.logits


@pytest.mark.parametrize("seed", range(20))
def test_the_loss_is_the_probability_of_the_next_token(seed):
    logits, tokens = 3 * Noise(seed).normal(3, 5, 7).double(), Noise(seed, 1).integers(7, 3, 6)
    model = Given(logits)
    by_hand = [-sum(logits[b, t].softmax(dim=0)[tokens[b, t + 1]].log() for t in range(5)) for b in range(3)]
    torch.testing.assert_close(next_token_nll(model, tokens), torch.stack(by_hand))
    assert torch.equal(model.asked, tokens[:, :-1])


def test_the_loss_is_summed_over_time():
    for T in (1, 5, 31):
        nll = next_token_nll(Given(torch.zeros(3, T, 7)), torch.zeros(3, T + 1, dtype=torch.int64))
        torch.testing.assert_close(nll, torch.full((3,), T * math.log(7)))


def test_the_loss_keeps_its_digits_in_bf16():
    logits, tokens = Noise(0).normal(3, 5, 7).bfloat16(), Noise(1).integers(7, 3, 6)
    nll = next_token_nll(Given(logits), tokens)
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll, next_token_nll(Given(logits.float()), tokens))


@pytest.mark.parametrize("length", [1, 2, 11, 12, 13, 23, 100])
def test_every_token_but_the_first_is_judged_once(length):
    bigram = nn.Embedding(7, 7)  # looks at one token, so windows change nothing
    tokens = Noise(0).integers(7, length)
    expected = next_token_nll(bigram, tokens[None]).item() if length > 1 else 0
    for context in (1, 5, 11, 200):
        nll = text_nll(bigram, tokens, context=context)
        assert nll == pytest.approx(expected, rel=1e-5)


def test_a_text_is_judged_with_the_context_there_is():
    model, tokens = build(), Noise(0).integers(7, 29)
    windows = [tokens[0:12], tokens[11:23], tokens[22:29]]
    expected = sum(next_token_nll(model, window[None]).item() for window in windows)
    assert text_nll(model, tokens, context=11) == pytest.approx(expected, rel=1e-5)


def test_a_long_text_is_judged_in_parts():
    model = Given(None)
    rows = []
    model.forward = lambda tokens: rows.append(len(tokens)) or torch.zeros(*tokens.shape, 7)
    assert text_nll(model, torch.zeros(1_204, dtype=torch.int64), context=5) == pytest.approx(1_203 * math.log(7))
    assert rows == [100, 100, 40, 1]
    rows.clear()
    text_nll(model, torch.zeros(1_201, dtype=torch.int64), context=5)
    assert rows == [100, 100, 40]  # nothing is left over, and nothing empty is asked


def test_bits_and_perplexity():
    nll = 60 * math.log(8)  # 60 tokens, 3 bits each
    assert bits_per_character(nll, 60) == pytest.approx(3)
    assert bits_per_character(nll, 120) == pytest.approx(1.5)  # each token two characters
    assert perplexity(nll, 60) == pytest.approx(8)
    assert perplexity(nll, 120) == pytest.approx(math.sqrt(8))
