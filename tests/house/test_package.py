"""The package as pip builds it: what Colab installs must carry the data, the weights and the widgets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "genai_lib"
CARRIED = {".npz", ".json", ".safetensors", ".js", ".css", ".md", ".typed", ".py"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that nothing is left in the checkout."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(SOURCE, copy / "genai_lib", ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("wheel")
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index",
                           "--quiet", "--wheel-dir", str(target)],
                          cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_carries_every_file_of_the_library(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("genai_lib/")}
    ours = {str(path.relative_to(ROOT)) for path in SOURCE.rglob("*")
            if path.is_file() and path.suffix in CARRIED and "__pycache__" not in path.parts}
    assert packed == ours
    assert {"genai_lib/py.typed", "genai_lib/data/mnist.npz", "genai_lib/data/SOURCES.md"} <= packed


def test_the_wheel_runs_on_any_system_and_names_both_licences(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
    assert "License-Expression: MIT AND CC-BY-SA-3.0 AND CC-BY-SA-4.0" in metadata
    assert "Requires-Python: >=3.11" in metadata


def test_the_library_runs_from_the_wheel_alone(wheel, tmp_path):
    """Unpacked elsewhere, with nothing of the checkout on the path."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = ("import genai_lib, genai_lib.data as data; "
            "assert genai_lib.__file__.startswith(" + repr(str(tmp_path)) + "), genai_lib.__file__; "
            "print(tuple(data.load('mnist', 'test').x.shape))")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.stdout.strip() == "(10000, 1, 28, 28)", done.stderr
