from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from genai_lib import Noise
from genai_lib.metrics import recall_at
from genai_lib.objectives import contrastive_loss


def table(seed, n):
    return 3 * Noise(seed).normal(n, n)


@pytest.mark.parametrize("seed", range(20))
def test_the_loss_and_its_gradient_agree_with_cross_entropy_both_ways(seed):
    ours, theirs = (table(seed, 7).requires_grad_() for _ in range(2))
    own = torch.arange(7)
    loss = contrastive_loss(ours).mean()
    expected = (F.cross_entropy(theirs, own) + F.cross_entropy(theirs.T, own)) / 2
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, x)[0] for v, x in ((loss, ours), (expected, theirs))))


@pytest.mark.parametrize("seed", range(5))
def test_each_pair_has_its_own_loss(seed):
    similarity, own = table(seed, 11), torch.arange(11)
    both = [F.cross_entropy(s, own, reduction="none") for s in (similarity, similarity.T)]
    torch.testing.assert_close(contrastive_loss(similarity), (both[0] + both[1]) / 2)


@given(n=st.integers(1, 13), level=st.floats(-50, 50), dtype=st.sampled_from([torch.bfloat16, torch.float32, torch.float64]))
@settings(deadline=None, derandomize=True)
def test_a_model_that_knows_nothing_pays_log_b(n, level, dtype):
    loss, fine = contrastive_loss(torch.full((n, n), level, dtype=dtype)), torch.promote_types(dtype, torch.float32)
    atol = 1e-4 if fine == torch.float32 else 1e-12
    torch.testing.assert_close(loss, torch.full((n,), math.log(n), dtype=fine), atol=atol, rtol=0)


def test_a_model_that_is_sure_and_right_pays_nothing():
    assert contrastive_loss(1000 * torch.eye(5)).tolist() == [0.0] * 5


@pytest.mark.parametrize("seed", range(5))
def test_a_known_pair_is_no_wrong_answer(seed):
    """Leaving a pair out is what deleting its entry from both sums does, and no gradient reaches it."""
    similarity = table(seed, 7).requires_grad_()
    known = torch.eye(7, dtype=torch.bool)
    known[2, 5] = known[6, 0] = True
    loss = contrastive_loss(similarity, known=known)
    s = similarity.detach()
    for i in range(7):
        row = [j for j in range(7) if (i, j) not in ((2, 5), (6, 0))]
        column = [j for j in range(7) if (j, i) not in ((2, 5), (6, 0))]
        by_hand = (s[i, row].logsumexp(0) + s[column, i].logsumexp(0)) / 2 - s[i, i]
        assert loss[i].item() == pytest.approx(by_hand.item(), abs=1e-5)
    (slope,) = torch.autograd.grad(loss.sum(), similarity)
    assert slope[2, 5] == slope[6, 0] == 0
    assert slope.isfinite().all()
    assert (slope != 0).sum() == 47


def test_a_pairs_own_place_is_never_left_out():
    similarity = table(0, 5)
    loss = contrastive_loss(similarity, known=torch.eye(5, dtype=torch.bool))
    torch.testing.assert_close(loss, contrastive_loss(similarity))
    assert contrastive_loss(similarity, known=torch.ones(5, 5, dtype=torch.bool)).tolist() == pytest.approx([0] * 5, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_batch_does_not_matter(seed):
    similarity, known = table(seed, 11), Noise(seed, 1).uniform(11, 11) < 0.2
    order = Noise(seed, 2).permutation(11)
    moved = contrastive_loss(similarity[order][:, order], known=known[order][:, order])
    torch.testing.assert_close(moved, contrastive_loss(similarity, known=known)[order])


def test_half_precision_is_summed_in_single():
    rough = table(0, 7).bfloat16()
    torch.testing.assert_close(contrastive_loss(rough), contrastive_loss(rough.float()))


def test_a_step_that_lowers_the_loss_brings_together_what_belongs_together():
    a, b = (Noise(0, i).normal(7, 5).requires_grad_() for i in range(2))
    for _ in range(200):
        loss = contrastive_loss(F.normalize(a, dim=1) @ F.normalize(b, dim=1).T * 10).mean()
        for x, slope in zip((a, b), torch.autograd.grad(loss, (a, b)), strict=True):
            x.data -= 0.5 * slope
    similarity = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    assert similarity.argmax(dim=1).tolist() == similarity.argmax(dim=0).tolist() == list(range(7))


# ---------------------------------------------------------------- recall


def test_recall_by_hand():
    similarity = torch.tensor([[0.9, 0.5, 0.1], [0.3, 0.2, 0.8], [0.1, 0.3, 0.2]])
    right = torch.eye(3).bool()
    assert [recall_at(similarity, right, k=k) for k in (1, 2, 3)] == [1 / 3, 2 / 3, 1.0]
    assert recall_at(similarity, torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0]]).bool(), k=1) == 2 / 3


@pytest.mark.parametrize("seed", range(5))
def test_chance_finds_k_of_m(seed):
    n, m, k = 4_001, 53, 7
    right = F.one_hot(Noise(seed, 1).integers(m, n), m).bool()
    found = recall_at(Noise(seed).normal(n, m), right, k=k)
    assert found == pytest.approx(k / m, abs=5 * math.sqrt(k / m * (1 - k / m) / n))


@given(n=st.integers(1, 7), m=st.integers(1, 11), seed=st.integers(0, 100),
       dtype=st.sampled_from([torch.bfloat16, torch.float32, torch.float64]))  # fmt: skip
@settings(deadline=None, derandomize=True)
def test_recall_rises_with_k_to_one(n, m, seed, dtype):
    similarity, right = Noise(seed).normal(n, m).to(dtype), F.one_hot(Noise(seed, 1).integers(m, n), m).bool()
    found = [recall_at(similarity, right, k=k) for k in range(1, m + 1)]
    assert all(n * share == pytest.approx(round(n * share), abs=1e-12) for share in found)  # so many of n, to float64's digits
    assert found == sorted(found)
    assert found[-1] == 1.0
