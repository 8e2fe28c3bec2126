from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genai_lib import Noise
from genai_lib.data import Batches


@st.composite
def sizes(draw):
    rows = draw(st.integers(1, 61))
    return rows, draw(st.integers(1, rows)), draw(st.integers(0, 10))


@given(sizes=sizes(), epoch=st.integers(0, 5))
def test_an_epoch_shows_each_row_at_most_once_in_whole_batches(sizes, epoch):
    rows, batch_size, seed = sizes
    batches = Batches(torch.arange(rows), batch_size=batch_size, seed=seed)
    assert batches.per_epoch == rows // batch_size
    start = epoch * batches.per_epoch
    seen = [batches[start + i][0] for i in range(batches.per_epoch)]
    assert all(len(rows) == batch_size for rows in seen)
    together = torch.cat(seen)
    assert len(together.unique()) == len(together) == batch_size * batches.per_epoch
    if rows % batch_size == 0:
        assert together.sort().values.tolist() == list(range(rows))


# Pictures as bytes or numbers, labels, masks: a batch takes rows and changes none.
DTYPES = st.sampled_from([torch.uint8, torch.int64, torch.bool, torch.bfloat16, torch.float32, torch.float64])


@given(sizes=sizes(), order=st.permutations(range(12)), dtype=DTYPES)
def test_a_batch_depends_on_its_number_alone(sizes, order, dtype):
    rows, batch_size, seed = sizes
    numbers = torch.arange(rows)
    x = (Noise(seed).uniform(rows, 3) * 7).to(dtype)
    in_turn = Batches(numbers, x, batch_size=batch_size, seed=seed)
    expected = [in_turn[i] for i in range(12)]
    jumping = Batches(numbers, x, batch_size=batch_size, seed=seed)
    for i in order:
        picked, batch = jumping[i]
        assert torch.equal(picked, expected[i][0])
        assert batch.dtype == dtype
        assert torch.equal(batch, x[picked])


@given(world=st.integers(1, 5), per_process=st.integers(1, 7), number=st.integers(0, 20), spare=st.integers(0, 11),
       dtype=DTYPES)  # fmt: skip
def test_the_shards_of_all_processes_are_the_joint_batch(world, per_process, number, spare, dtype):
    x = torch.arange(world * per_process + spare).to(dtype)  # no more than bfloat16 can count
    size = world * per_process
    joint = Batches(x, batch_size=size, seed=2)[number][0]
    shards = [Batches(x, batch_size=size, seed=2, rank=r, world=world)[number][0] for r in range(world)]
    assert torch.equal(torch.cat(shards), joint)
    assert joint.dtype == dtype


@pytest.mark.parametrize("seed", range(20))
def test_epochs_and_seeds_shuffle_anew(seed):
    batches = Batches(torch.arange(101), batch_size=101, seed=seed)
    assert not torch.equal(batches[0][0], batches[1][0])
    assert not torch.equal(batches[0][0], Batches(torch.arange(101), batch_size=101, seed=seed + 1)[0][0])


@pytest.mark.parametrize("seed", range(20))
def test_left_over_rows_wait_for_another_epoch(seed):
    batches = Batches(torch.arange(7), batch_size=5, seed=seed)  # two rows are left over in each epoch
    seen = torch.cat([batches[epoch][0] for epoch in range(40)])
    assert set(seen.tolist()) == set(range(7))  # a row misses forty epochs with probability (2/7)^40 = 1e-22


def test_all_tensors_are_cut_alike():
    x = torch.arange(13 * 3).view(13, 3)
    for number in range(7):
        rows, first, doubled = Batches(x, x[:, 0], 2 * x, batch_size=5)[number]
        assert torch.equal(rows[:, 0], first)
        assert torch.equal(doubled, 2 * rows)


def test_batches_are_born_on_the_tensors_device():
    assert Batches(torch.empty(7, 3, device="meta"), batch_size=5)[0][0].shape == (5, 3)
    assert Batches(torch.empty(7, 3, device="meta"), batch_size=5)[0][0].device.type == "meta"


@pytest.mark.parametrize(
    "lengths, arguments, message",
    [
        ((), {"batch_size": 1}, "Batches needs at least one tensor"),
        ((7, 5), {"batch_size": 1}, "all tensors must have equally many rows, got [7, 5]"),
        ((7,), {"batch_size": 0}, "batch_size must lie between 1 and the 7 rows there are, got 0"),
        ((7,), {"batch_size": 8}, "batch_size must lie between 1 and the 7 rows there are, got 8"),
        ((7,), {"batch_size": 5, "world": 2}, "batch_size must be a multiple of the number of processes, got 5 and 2"),
    ],
)
def test_what_cannot_be_cut_is_refused(lengths, arguments, message):
    with pytest.raises(ValueError) as error:
        Batches(*[torch.zeros(n) for n in lengths], **arguments)
    assert str(error.value) == message


@pytest.mark.parametrize("number", [-1, -7])
def test_a_negative_number_is_refused(number):
    with pytest.raises(IndexError, match=f"must be 0 or larger, got {number}"):
        Batches(torch.arange(7), batch_size=5)[number]
