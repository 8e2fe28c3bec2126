from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from genai_lib import Noise, setup

KEYS = st.lists(st.integers(0, 2**40), max_size=4).map(tuple)


@pytest.mark.parametrize("seed", range(20))
def test_same_seed_and_key_give_the_same_numbers(seed):
    a, b = Noise(seed, 3, 1), Noise(seed, 3, 1)
    for draw in (lambda n: n.normal(7, 5), lambda n: n.uniform(11), lambda n: n.integers(10, 13), lambda n: n.permutation(17)):
        assert torch.equal(draw(a), draw(b))


def test_successive_calls_go_on_in_one_stream():
    noise = Noise(0)
    assert not torch.equal(noise.normal(97), noise.normal(97))


@given(seed=st.integers(0, 2**33), key=KEYS, other_seed=st.integers(0, 2**33), other_key=KEYS)
def test_another_key_gives_other_numbers(seed, key, other_seed, other_key):
    same = (seed, *key) == (other_seed, *other_key)
    assert torch.equal(Noise(seed, *key).normal(31), Noise(other_seed, *other_key).normal(31)) == same


@pytest.mark.parametrize("one, other", [((0,), (0, 0)), ((0,), (0, 0, 0)), ((3, 5), (3, 5, 0)), ((0, 1), (1, 0)),
                                        ((2**32,), (0, 1)), ((12, 3), (1, 23))])  # fmt: skip
def test_keys_of_different_lengths_differ(one, other):
    assert not torch.equal(Noise(*one).normal(31), Noise(*other).normal(31))


def test_what_is_drawn_from_one_key_does_not_move_another():
    before = Noise(5, 2).normal(7)
    Noise(5, 1).normal(1_009)
    torch.manual_seed(1)
    assert torch.equal(Noise(5, 2).normal(7), before)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    noise = Noise(0)
    noise.normal(7), noise.uniform(7), noise.integers(3, 7), noise.permutation(7)
    assert torch.equal(torch.rand(5), expected)


@given(world=st.integers(1, 7), rows=st.integers(1, 13), width=st.integers(1, 11), key=KEYS)
def test_the_slices_of_all_ranks_are_the_joint_draw(world, rows, width, key):
    def draws(noise, rows):
        return [noise.normal(rows, width), noise.uniform(rows), noise.integers(10, rows, width, 2)]

    ranks = [draws(Noise(3, *key, rank=r, world=world), rows) for r in range(world)]
    for joint, *slices in zip(draws(Noise(3, *key), rows * world), *ranks, strict=True):
        assert torch.equal(torch.cat(slices), joint)


def test_a_permutation_is_the_same_on_every_rank():
    assert torch.equal(Noise(1, rank=0, world=3).permutation(29), Noise(1, rank=2, world=3).permutation(29))


# A sound generator fails each of the tests below with probability < 1e-6 a seed.


@pytest.mark.parametrize("seed", range(20))
def test_the_numbers_have_the_distribution_they_say(seed):
    n = 10_007
    assert stats.kstest(Noise(seed, 1).normal(n).numpy(), "norm").pvalue > 1e-6
    uniform = Noise(seed, 2).uniform(n)
    assert stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-6
    assert uniform.min() >= 0
    assert uniform.max() < 1
    counts = Noise(seed, 3).integers(7, n).bincount(minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts.numpy()).pvalue > 1e-6


def test_neighbouring_keys_are_uncorrelated():
    rows = torch.stack([Noise(0, step).normal(1_009) for step in range(101)]).double()
    correlation = torch.corrcoef(rows)[torch.triu(torch.ones(101, 101), diagonal=1) == 1]  # 5,050 pairs
    assert correlation.abs().max() < 6 / 1_009**0.5  # six standard errors: p < 1e-5 for the largest of 5,050


@given(length=st.integers(1, 101), seed=st.integers(0, 1_000))
def test_a_permutation_holds_each_number_once(length, seed):
    order = Noise(seed).permutation(length)
    assert order.dtype == torch.int64
    assert order.sort().values.tolist() == list(range(length))


def test_types_shapes_and_device():
    noise = Noise(0)
    assert (noise.normal(3, 5, 7).shape, noise.normal(3).dtype) == ((3, 5, 7), torch.float32)
    assert (noise.uniform(3, 5).shape, noise.uniform(3).dtype) == ((3, 5), torch.float32)
    assert (noise.integers(2, 3, 5).shape, noise.integers(2, 3).dtype) == ((3, 5), torch.int64)
    meta = Noise(0, device="meta")
    for drawn in (meta.normal(3, 5), meta.uniform(3), meta.integers(2, 3), meta.permutation(5)):
        assert drawn.device.type == "meta"


@pytest.mark.parametrize("arguments, shown", [((-1,), "seed=-1, key=()"), ((2, 3, -4), "seed=2, key=(3, -4)")])
def test_a_negative_seed_or_key_is_refused(arguments, shown):
    with pytest.raises(ValueError) as error:
        Noise(*arguments)
    assert str(error.value) == f"seed and key must be 0 or larger, got {shown}"


# ---------------------------------------------------------------- setup


@pytest.fixture
def threads():
    """Put torch's threads back: `setup` is global on purpose."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("seed", [0, 1, 731])
def test_setup_seeds_python_numpy_and_torch(seed, threads):
    def draw():
        return random.random(), np.random.random(), torch.rand(()).item()  # noqa: NPY002 (the old generator is meant)

    setup(seed=seed)
    first = draw()
    setup(seed=seed)
    assert draw() == first
    setup(seed=seed + 1)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_setup_sets_the_threads(threads, monkeypatch):
    setup(threads=1)
    assert torch.get_num_threads() == 1
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    setup()
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    setup()
    assert torch.get_num_threads() == 1


def test_setup_chooses_the_cpu_without_a_gpu(threads, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert setup() == torch.device("cpu")


def test_setup_chooses_the_gpu_and_asks_it_to_repeat_itself(threads, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    assert setup() == torch.device("cuda")
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark


def test_setup_refuses_a_seed_that_numpy_cannot_take():
    with pytest.raises(ValueError, match="Seed must be between 0 and"):
        setup(seed=-1)
