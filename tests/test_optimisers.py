from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from genai_lib import Noise
from genai_lib.models.gpt import GPT, GPTConfig
from genai_lib.optimisers import Muon, Together, adam, muon, orthogonalise

SHAPES = [(11, 31), (31, 11), (13, 13)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(11, 31), (31, 11)])
def test_every_singular_value_comes_near_to_one_and_the_directions_stay(shape, seed):
    x = Noise(seed).normal(3, *shape)
    found = orthogonalise(1e-4 * x)  # a gradient may be small
    values = torch.linalg.svdvals(found)
    assert ((values > 0.65) & (values < 1.25)).all()
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    inner = u.mT @ found @ v.mT  # diagonal, if the directions are the same
    diagonal = inner.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(inner, torch.diag_embed(diagonal), atol=2e-4, rtol=0)
    assert (diagonal > 0).all()


def test_each_matrix_is_orthogonalised_for_itself():
    x = Noise(0).normal(3, 7, 5)
    for together, alone in zip(orthogonalise(x), x, strict=True):
        torch.testing.assert_close(together, orthogonalise(alone[None])[0])
    assert torch.equal(orthogonalise(torch.zeros(2, 7, 5)), torch.zeros(2, 7, 5))


@pytest.mark.parametrize("shape", SHAPES)
def test_muon_agrees_with_torch(shape):
    """torch's works in bfloat16: the two agree to its three digits. A step of another size or sense would not."""
    start = Noise(0).normal(*shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine = Muon([ours], lr=0.03, momentum=0.9)
    other = torch.optim.Muon([theirs], lr=0.03, momentum=0.9, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for step in range(7):
        ours.grad = Noise(1, step).normal(*shape)
        theirs.grad = ours.grad.clone()
        mine.step()
        other.step()
    moved = (theirs - start).detach()
    assert ((ours - theirs).norm() / moved.norm()).item() < 0.02
    assert moved.norm() > 0.1


def test_a_step_has_the_size_that_adams_have():
    """Root mean square 0.2 of the rate, within what the iteration leaves of the singular values."""
    p = nn.Parameter(torch.zeros(31, 11))
    p.grad = Noise(0).normal(31, 11)
    Muon([p], lr=0.5).step()
    assert 0.65 < p.square().mean().sqrt().item() / (0.5 * 0.2) < 1.25


def test_muon_refuses_what_is_no_matrix():
    with pytest.raises(ValueError, match=r"^Muon moves matrices only: give biases, norms and embeddings to another optimiser$"):
        Muon([nn.Parameter(torch.zeros(3))], lr=0.1)


def network(seed):
    torch.manual_seed(seed)
    return GPT(GPTConfig(size=11, context=7, layers=2, heads=2, width=12))


def test_matrices_go_to_muon_and_all_else_to_adam():
    model = network(0)
    ours, adam = muon(model, lr=0.01, beta2=0.97).parts
    name = {p: key for key, p in model.named_parameters()}
    moved = {name[p] for group in ours.param_groups for p in group["params"]}
    layers = ("attention.qkv", "attention.out", "mlp.0", "mlp.2")
    assert moved == {f"blocks.{i}.{layer}.weight" for i in range(2) for layer in layers}
    assert moved.isdisjoint(name[p] for group in adam.param_groups for p in group["params"])
    assert len(moved) + sum(len(group["params"]) for group in adam.param_groups) == len(name)
    assert adam.defaults["betas"] == (0.9, 0.97)


def train(model, optimiser, schedule, steps):
    for step in steps:
        tokens = Noise(0, step).integers(11, 3, 8)
        loss = nn.functional.cross_entropy(model(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return loss.item()


def test_a_schedule_moves_the_rates_of_all_parts():
    model = network(0)
    both = muon(model, lr=0.01)
    schedule = OneCycleLR(both, 0.01, total_steps=10, cycle_momentum=False)
    before = [group["lr"] for part in both.parts for group in part.param_groups]
    train(model, both, schedule, range(3))
    after = [group["lr"] for part in both.parts for group in part.param_groups]
    assert len(set(after)) == 1
    assert after[0] > before[0]


def test_what_is_saved_goes_on_bit_for_bit():
    def fresh():
        model = network(1)
        both = muon(model, lr=0.01)
        return model, both, OneCycleLR(both, 0.01, total_steps=20, cycle_momentum=False)

    model, both, schedule = fresh()
    train(model, both, schedule, range(4))
    saved = [copy.deepcopy(part.state_dict()) for part in (model, both, schedule)]
    file = io.BytesIO()
    torch.save(saved[1], file)  # plain tensors, numbers and lists
    expected = train(model, both, schedule, range(4, 9))

    resumed = fresh()
    for part, state in zip(resumed, saved, strict=True):
        part.load_state_dict(state)
    assert train(*resumed, range(4, 9)) == expected
    for ours, theirs in zip(resumed[0].parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_muon_learns_sooner_than_it_would_by_chance():
    model = network(2)
    both = muon(model, lr=0.02)
    schedule = OneCycleLR(both, 0.02, total_steps=60, cycle_momentum=False)
    tokens = Noise(5).integers(11, 1, 8)
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:])
        both.zero_grad()
        loss.backward()
        both.step()
        schedule.step()
    assert loss.item() < 0.1  # eight tokens learned by heart; chance is log 11 = 2.4


def test_parts_of_unequal_number_are_refused():
    a, b = (nn.Parameter(torch.zeros(2, 2)) for _ in range(2))
    both = Together(torch.optim.SGD([a], lr=0.1), torch.optim.SGD([b], lr=0.1))
    with pytest.raises(ValueError, match="zip"):
        both.load_state_dict({"parts": both.state_dict()["parts"][:1]})


# ---------------------------------------------------------------- what they are made of


@pytest.mark.parametrize(("device", "fused"), [("cpu", True), ("meta", False)])
def test_adam_is_torchs_own_with_the_settings_given(device, fused):
    made = adam(nn.Linear(2, 3, device=device), lr=0.02, beta1=0.7, beta2=0.8)
    assert type(made) is torch.optim.Adam
    (group,) = made.param_groups
    assert (group["lr"], group["betas"], group["fused"]) == (0.02, (0.7, 0.8), fused)


def test_muon_gives_both_parts_its_rate_and_its_memory():
    made = muon(nn.Linear(5, 3), lr=0.02, beta2=0.97)
    matrices, rest = made.parts
    assert matrices.param_groups[0]["lr"] == rest.param_groups[0]["lr"] == 0.02
    assert matrices.param_groups[0]["momentum"] == 0.95
    assert rest.param_groups[0]["betas"] == (0.9, 0.97)
    assert muon(nn.Linear(5, 3), lr=0.02).parts[1].param_groups[0]["betas"] == (0.9, 0.999)
