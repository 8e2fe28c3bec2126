"""torch.compile, without a break in the graph, computes what the models compute.

A graph cannot hold a generator, so the numbers are drawn before the step and handed in.
"""

from __future__ import annotations

import pytest
import torch

from genai_lib import Noise
from genai_lib.models.gpt import GPT, GPTConfig
from genai_lib.models.vae import mlp_vae
from genai_lib.objectives import elbo, next_token_nll


class Drawn:
    """Noise whose numbers are there already."""

    def __init__(self, eps):
        self.eps = eps

    def normal(self, *shape):
        assert self.eps.shape == shape
        return self.eps


def vae_loss(model, x, eps):
    return elbo(model, x, Drawn(eps)).loss()


def gpt_loss(model, tokens):
    return next_token_nll(model, tokens).mean()


NOISE = Noise(0)
CASES = {
    "gpt": (lambda: GPT(GPTConfig(size=11, context=7, layers=2, heads=2, width=12)), gpt_loss, [NOISE.integers(11, 3, 8)]),
    "vae-mlp": (mlp_vae, vae_loss, [NOISE.uniform(5, 1, 28, 28), NOISE.normal(5, 20)]),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # compilers warn about themselves; what they compute is tested
@pytest.mark.parametrize("name", CASES)
def test_a_compiled_step_gives_the_same_loss_and_gradients(name):
    build, loss, inputs = CASES[name]
    torch.manual_seed(0)
    model = build()
    found = []
    for function in (loss, torch.compile(loss, fullgraph=True)):
        model.zero_grad()
        value = function(model, *inputs)
        value.backward()
        found.append([value.detach(), *(p.grad.clone() for p in model.parameters())])
    assert len(found[0]) > 5
    for compiled, eager in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-4)
