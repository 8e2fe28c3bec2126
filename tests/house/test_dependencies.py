"""One list of dependencies, told in three files: pyproject.toml, constraints.txt and environment.yml."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools import lock

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RUN = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(line) for line in lines] for name, lines in PROJECT["optional-dependencies"].items()}
INSTALLED_BY_MAKE = RUN + EXTRAS["book"] + EXTRAS["test"]
PINNED = lock.read()

# What Colab had in August 2026. The library must install there without replacing any of it.
COLAB = {"python": "3.13", "torch": "2.11.0", "numpy": "2.1.0", "ipywidgets": "7.7.1", "anywidget": "0.9.21",
         "accelerate": "1.14.0", "scikit-learn": "1.6.0", "matplotlib": "3.10.0"}


def bounds(requirement: Requirement) -> tuple[str, str]:
    return canonicalize_name(requirement.name), str(requirement.specifier)


@pytest.mark.parametrize("requirement", RUN, ids=str)
def test_the_library_asks_for_a_lower_bound_and_no_other(requirement):
    assert [clause.operator for clause in requirement.specifier] == [">="]


@pytest.mark.parametrize("requirement", RUN, ids=str)
def test_the_library_takes_what_colab_has(requirement):
    if requirement.name in COLAB:
        assert Version(COLAB[requirement.name]) in requirement.specifier
    assert Version(COLAB["python"]) in SpecifierSet(PROJECT["requires-python"])


def test_colab_is_compared_with_something():
    assert set(COLAB) - {"python"} <= {requirement.name for requirement in RUN}


def test_jupyter_book_stays_at_version_1():
    (book,) = [requirement for requirement in EXTRAS["book"] if requirement.name == "jupyter-book"]
    assert "1.0.4.post1" in book.specifier
    assert "2.0.0" not in book.specifier


def test_the_book_needs_no_torch():
    heavy = {requirement.name for requirement in RUN}
    assert not heavy & {requirement.name for requirement in EXTRAS["book"]}


@pytest.mark.parametrize("requirement", INSTALLED_BY_MAKE, ids=str)
def test_every_dependency_is_pinned_within_its_bounds(requirement):
    name = canonicalize_name(requirement.name)
    assert name in PINNED, f"{name} is missing from constraints.txt: run `make lock`"
    assert Version(PINNED[name]) in requirement.specifier


def test_every_pin_is_exact_sorted_and_alone():
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines)
    names = [line.split("==")[0] for line in lines]
    assert names == sorted(set(names))


def test_torch_is_pinned_without_a_build_so_that_cpu_and_cuda_both_satisfy_it():
    assert PINNED["torch"] == "2.13.0"


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0"])
def test_every_pinned_version_exists_for_every_python_we_promise(python):
    checked = 0
    for name in PINNED:
        try:
            wanted = metadata(name).get("Requires-Python")
        except PackageNotFoundError:  # another system's package: nothing installed to ask
            continue
        checked += 1
        assert wanted is None or Version(python) in SpecifierSet(wanted), f"{name} {PINNED[name]} wants {wanted}"
    assert checked > 100
    assert Version(python) in SpecifierSet(PROJECT["requires-python"])


def test_the_closure_of_what_is_installed_is_pinned():
    everything = lock.closure(INSTALLED_BY_MAKE)
    missing = sorted(set(everything) - set(PINNED))
    assert not missing, f"not in constraints.txt: {missing}. Run `make lock`."


def conda() -> tuple[dict[str, str], dict[str, str]]:
    """Name → bounds of what conda installs, and of what pip adds, as environment.yml has them."""
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (pip,) = [entry["pip"] for entry in listed if isinstance(entry, dict)]
    ours = [Requirement(entry.replace("pytorch", "torch", 1) if entry.startswith("pytorch>") else entry)
            for entry in listed if isinstance(entry, str)]
    assert pip[-1] == "-e ."
    return dict(map(bounds, ours)), dict(bounds(Requirement(entry)) for entry in pip[:-1])


def test_conda_installs_what_the_library_needs_with_the_same_bounds():
    from_conda, _ = conda()
    assert from_conda.pop("pip") == ""
    assert from_conda.pop("python") == PROJECT["requires-python"]
    assert from_conda == dict(map(bounds, RUN))


def test_pip_adds_the_book_and_the_tests_with_the_same_bounds():
    _, from_pip = conda()
    assert from_pip == dict(map(bounds, EXTRAS["book"] + EXTRAS["test"]))


def test_the_version_is_told_once():
    import genai_lib

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert genai_lib.__version__ == PROJECT["version"] == citation["version"]
