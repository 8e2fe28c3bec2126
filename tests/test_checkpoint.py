from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from genai_lib import checkpoint
from genai_lib.checkpoint import CheckpointError, Folder

TREE = {
    "weights": {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3, dtype=torch.int64)},
    7: ["a list", 1, 0.1, True, None, (1.5, "a tuple")],
    "empty": {},
    "random": torch.get_rng_state(),
    "half": torch.ones(5, dtype=torch.bfloat16),
}


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


def test_a_tree_comes_back_as_it_was(tmp_path):
    file = checkpoint.save(TREE, tmp_path / "deep" / "run.safetensors")
    assert equal(checkpoint.load(file), TREE)
    assert os.listdir(tmp_path / "deep") == ["run.safetensors"]  # no part is left beside it


def test_floats_survive_to_the_last_bit(tmp_path):
    numbers = [0.1, 1 / 3, 1e-308, 2.0**-1074, 123456789.123456789]
    assert checkpoint.load(checkpoint.save(numbers, tmp_path / "n.safetensors")) == numbers


def test_nothing_is_unpickled(tmp_path):
    with pytest.raises(TypeError, match="a checkpoint holds dicts, lists, tuples, tensors, numbers, strings and None, not set"):
        checkpoint.save({"a": {1, 2}}, tmp_path / "x.safetensors")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, keep):
    file = checkpoint.save(TREE, tmp_path / "x.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(CheckpointError, match=r"x.safetensors is damaged .* Delete it and resume from an older one"):
        checkpoint.load(file)


def test_every_flipped_byte_of_the_payload_is_noticed(tmp_path):
    file = checkpoint.save({"a": torch.arange(40, dtype=torch.uint8), "b": 0.25}, tmp_path / "x.safetensors")
    whole = file.read_bytes()
    for place in range(len(whole) - 40, len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match="its SHA-256 does not fit its content"):
            checkpoint.load(file)
    place = whole.index(b"0.25")
    file.write_bytes(whole[:place] + b"0.75" + whole[place + 4 :])
    with pytest.raises(CheckpointError, match="its SHA-256 does not fit its content"):
        checkpoint.load(file)


def test_a_missing_or_foreign_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*nothing.safetensors. Start the run anew, or correct"):
        checkpoint.load(tmp_path / "nothing.safetensors")
    save_file({"a": torch.ones(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="is a safetensors file, but not a checkpoint of this library"):
        checkpoint.load(tmp_path / "foreign.safetensors")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = checkpoint.save({"a": 1}, tmp_path / "x.safetensors")

    def full_disk(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save({"a": 2}, file)
    assert checkpoint.load(file) == {"a": 1}
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_the_folder_keeps_the_newest_two(tmp_path):
    folder = Folder(tmp_path)
    assert folder.newest() is None
    for step in (5, 10, 100):
        folder.write({"step": step}, step)
    assert [f.name for f in folder.files()] == ["step_00000010.safetensors", "step_00000100.safetensors"]
    assert folder.newest() == {"step": 100}


def test_a_damaged_newest_is_passed_over_with_a_warning(tmp_path):
    folder = Folder(tmp_path)
    for step in (5, 10):
        folder.write({"step": step}, step)
    newest = folder.files()[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="passing over a checkpoint: .*step_00000010.safetensors is damaged"):
        assert folder.newest() == {"step": 5}


def test_if_all_are_damaged_the_reader_decides(tmp_path):
    folder = Folder(tmp_path)
    folder.write({"step": 5}, 5).write_bytes(b"")
    message = r"every checkpoint in .* is damaged. Delete the folder to start anew"
    with pytest.warns(UserWarning, match="passing over"), pytest.raises(CheckpointError, match=message):
        folder.newest()


def test_the_header_is_readable_json(tmp_path):
    file = checkpoint.save({"step": 3}, tmp_path / "x.safetensors")
    raw = file.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert json.loads(header["__metadata__"]["tree"]) == {"dict": [["step", 3]]}
