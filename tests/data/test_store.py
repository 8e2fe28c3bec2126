from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch

from genai_lib.data import DataError, load, names, store

# The labels of MNIST, counted by LeCun, Cortes and Burges' files themselves: zeros, ones, …, nines.
COUNTS = {
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}


@pytest.fixture(scope="module")
def mnist():
    return {split: load("mnist", split) for split in COUNTS}


@pytest.fixture
def folder(tmp_path):
    """A small set of one's own: seven pictures to train on, three to test."""
    rng = np.random.default_rng(0)
    arrays = {f"{split}_x": rng.integers(0, 256, (n, 1, 5, 3), dtype=np.uint8) for split, n in (("train", 7), ("test", 3))}
    arrays |= {"train_y": np.arange(7, dtype=np.uint8), "test_y": np.arange(3, dtype=np.uint8)}
    np.savez(tmp_path / "tiny.npz", **arrays)
    sha256 = hashlib.sha256((tmp_path / "tiny.npz").read_bytes()).hexdigest()
    manifest = {"tiny": {"file": "tiny.npz", "sha256": sha256, "splits": {"train": 7, "test": 3}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


# ---------------------------------------------------------------- MNIST


@pytest.mark.parametrize("split, n", [("train", 60_000), ("test", 10_000)])
def test_mnist_is_all_there(mnist, split, n):
    x, y = mnist[split]
    assert (x.shape, x.dtype, x.device.type) == ((n, 1, 28, 28), torch.float32, "cpu")
    assert (y.shape, y.dtype) == ((n,), torch.int64)
    assert (x.min().item(), x.max().item()) == (0.0, 1.0)
    assert x.is_contiguous()
    levels = (255 * x).round()
    assert torch.equal(levels / 255, x)  # 256 grey values, nothing in between
    assert y.bincount().tolist() == COUNTS[split]


def test_mnist_has_the_mean_and_deviation_everybody_normalises_with(mnist):
    pixels = mnist["train"].x.double()
    assert pixels.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert pixels.std().item() == pytest.approx(0.3081, abs=5e-5)


def test_the_first_digits_are_the_ones_every_tutorial_shows(mnist):
    assert mnist["train"].y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert mnist["test"].y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_the_manifest_tells_the_truth():
    manifest = json.loads((store.FOLDER / "manifest.json").read_text())
    for entry in manifest.values():
        packed = (store.FOLDER / entry["file"]).read_bytes()
        assert hashlib.sha256(packed).hexdigest() == entry["sha256"]
        with np.load(store.FOLDER / entry["file"]) as arrays:
            rows = {f"{split}_{part}": n for split, n in entry["splits"].items() for part in "xy"}
            assert {name: len(arrays[name]) for name in arrays.files} == rows


def test_names_lists_the_packed_sets():
    assert "mnist" in names()
    assert names() == sorted(json.loads((store.FOLDER / "manifest.json").read_text()))


# ---------------------------------------------------------------- a folder of one's own


def test_a_folder_of_ones_own_loads_through_the_same_door(folder):
    assert names(folder) == ["tiny"]
    x, y = load("tiny", folder=str(folder))
    with np.load(folder / "tiny.npz") as arrays:
        np.testing.assert_allclose(x.numpy(), arrays["train_x"] / 255.0, atol=1e-7)
    assert (x.dtype, y.tolist()) == (torch.float32, [0, 1, 2, 3, 4, 5, 6])
    assert load("tiny", "test", folder=folder).y.tolist() == [0, 1, 2]


def test_tensors_are_put_where_they_are_wanted(folder):
    x, y = load("tiny", device="meta", folder=folder)
    assert (x.device.type, y.device.type) == ("meta", "meta")


# ---------------------------------------------------------------- errors: the whole message


def refusal(*arguments, **keywords):
    with pytest.raises(DataError) as error:
        load(*arguments, **keywords)
    return str(error.value)


def test_an_unknown_name():
    sets = ", ".join(names())
    assert refusal("mnits") == f"there is no set named 'mnits'. The sets are: {sets}."


def test_a_wrong_split():
    assert refusal("mnist", "valid") == "mnist has no split named 'valid'. Its splits are: train, test."


@pytest.mark.parametrize("place", [0, 300, -1])
def test_one_flipped_byte(folder, place):
    packed = bytearray((folder / "tiny.npz").read_bytes())
    expected = hashlib.sha256(packed).hexdigest()
    packed[place] ^= 1
    (folder / "tiny.npz").write_bytes(packed)
    found = hashlib.sha256(packed).hexdigest()
    assert refusal("tiny", folder=folder) == (
        f"tiny.npz is damaged (SHA-256 {found[:8]}… instead of {expected[:8]}…). "
        f"Pack the set again into {folder} (tools/pack_data.py shows how), or correct `folder`."
    )


def test_a_truncated_file(folder):
    packed = (folder / "tiny.npz").read_bytes()
    (folder / "tiny.npz").write_bytes(packed[: len(packed) // 2])
    assert refusal("tiny", folder=folder).startswith("tiny.npz is damaged (SHA-256 ")


def test_an_empty_file(folder):
    (folder / "tiny.npz").write_bytes(b"")
    assert refusal("tiny", folder=folder).startswith("tiny.npz is damaged (SHA-256 e3b0c442… instead of ")


def test_a_missing_file(folder):
    (folder / "tiny.npz").unlink()
    assert refusal("tiny", folder=folder) == (
        f"{folder / 'tiny.npz'} is missing. "
        f"Pack the set again into {folder} (tools/pack_data.py shows how), or correct `folder`."
    )


def test_a_missing_manifest(tmp_path):
    message = (
        f"{tmp_path / 'manifest.json'} is missing. "
        f"Pack the set again into {tmp_path} (tools/pack_data.py shows how), or correct `folder`."
    )
    assert refusal("mnist", folder=tmp_path) == message
    with pytest.raises(DataError) as error:
        names(tmp_path)
    assert str(error.value) == message


def test_the_packages_own_set_damaged_or_missing(tmp_path, monkeypatch):
    for file in ("manifest.json", "mnist.npz"):
        shutil.copy(store.FOLDER / file, tmp_path)
    monkeypatch.setattr(store, "FOLDER", tmp_path)  # the remedy for the package's own folder is another one
    packed = bytearray((tmp_path / "mnist.npz").read_bytes())
    expected = hashlib.sha256(packed).hexdigest()
    packed[5_000_011] ^= 128
    (tmp_path / "mnist.npz").write_bytes(packed)
    found = hashlib.sha256(packed).hexdigest()
    assert refusal("mnist", folder=tmp_path) == (
        f"mnist.npz is damaged (SHA-256 {found[:8]}… instead of {expected[:8]}…). "
        "Reinstall genai_lib, or rebuild it with `make data`."
    )
    (tmp_path / "mnist.npz").unlink()
    assert refusal("mnist", "test", folder=tmp_path) == (
        f"{tmp_path / 'mnist.npz'} is missing. Reinstall genai_lib, or rebuild it with `make data`."
    )
