from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from genai_lib import data
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
            if entry.get("kind", "pictures") == "pictures":
                rows = {f"{split}_{part}": n for split, n in entry["splits"].items() for part in "xy"}
                assert {name: len(arrays[name]) for name in arrays.files if not name.endswith("_names")} == rows
            else:
                assert arrays.files == [f"{split}_text" for split in entry["splits"]]


def test_names_lists_the_sets():
    assert names() == ["digits8", "emoji", "macbeth", "mnist", "shakespeare", "sokoban", "tang"]
    assert set(names()) - {"digits8"} == set(json.loads((store.FOLDER / "manifest.json").read_text()))


# ---------------------------------------------------------------- scikit-learn's digits


def test_the_small_digits_are_scikit_learns():
    train, test = load("digits8"), load("digits8", "test")
    theirs = load_digits()
    for part, rows in ((train, slice(1_500)), (test, slice(1_500, None))):
        assert (part.x.dtype, part.y.dtype) == (torch.float32, torch.int64)
        assert np.array_equal(part.x.numpy()[:, 0] * 16, theirs.images[rows])
        assert np.array_equal(part.y.numpy(), theirs.target[rows])
    assert (len(train.x), len(test.x)) == (1_500, 297)
    assert (train.x.min().item(), train.x.max().item()) == (0.0, 1.0)


def test_the_small_digits_go_where_they_are_wanted_and_belong_to_the_package_alone(folder):
    assert load("digits8", device="meta").x.device.type == "meta"
    assert refusal("digits8", "valid") == "digits8 has no split named 'valid'. Its splits are: train, test."
    assert refusal("digits8", folder=folder) == "there is no set named 'digits8'. The sets are: tiny."


# ---------------------------------------------------------------- the emoji


def test_the_emoji_are_small_colour_pictures_on_white():
    parts = {split: load("emoji", split) for split in ("train", "test")}
    assert {split: tuple(part.x.shape) for split, part in parts.items()} == {
        "train": (1_485, 3, 32, 32), "test": (159, 3, 32, 32)}  # fmt: skip
    x = torch.cat([part.x for part in parts.values()])
    assert (x.min().item(), x.max().item()) == (0.0, 1.0)
    corners = x[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 1).all()  # white
    assert (x.flatten(1).std(dim=1) > 0.01).all()  # and something is on each
    assert ((x.amax(dim=1) - x.amin(dim=1)).flatten(1).amax(dim=1) > 0.3).float().mean() > 0.75  # most are coloured
    for part in parts.values():
        assert part.y.bincount(minlength=8).min() > 0
        assert part.y.max() == 7


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


@pytest.mark.parametrize("name, holds, door", [
    ("shakespeare", "text", "load_text"), ("tang", "poems", "load_poems"), ("sokoban", "levels", "load_levels")])  # fmt: skip
def test_a_set_that_holds_something_else(name, holds, door):
    assert refusal(name) == f"{name} holds {holds}, not pictures: open it with {door}()."
    assert callable(getattr(data, door))


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
