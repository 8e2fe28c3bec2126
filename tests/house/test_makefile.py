"""The Makefile: every command that is promised exists, and says clearly what is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROMISED = ["bench", "book", "clean", "coverage", "data", "help", "lint", "notebooks", "paths", "publish", "serve", "table",
            "test"]  # fmt: skip
TARGETS = re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.M)


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "--no-print-directory", *arguments], cwd=folder, capture_output=True, text=True,
                          check=False)


def fresh(folder: Path) -> Path:
    """A copy of what `make` reads, with no environment in it."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.mark.parametrize("target", PROMISED)
def test_every_promised_command_exists(target):
    done = make("-n", target)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_make_alone_lists_every_command():
    done = make()
    assert done.returncode == 0
    assert re.findall(r"^  make ([a-z-]+) ", done.stdout, re.M) == TARGETS
    assert set(PROMISED) <= set(TARGETS)


def test_every_command_is_phony_so_that_no_file_can_hide_it():
    assert set(TARGETS) <= set(" ".join(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.M)).split())


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_the_commands_in_the_documents_exist(document):
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / document).read_text(encoding="utf-8"), re.M))
    assert {"book", "test"} <= named
    assert named <= set(TARGETS)


def test_the_test_command_runs_every_check():
    recipe = make("-n", "test").stdout
    for check in ("ruff check", "-m mypy", "check-jsonschema", "zizmor --offline", "jupyter-book build . -W",
                  "pytest -n 2", "--nbval --nbval-sanitize-with tests/nbval_sanitize.cfg"):
        assert check in recipe, check


@pytest.mark.parametrize("target", ["check", "coverage"])
def test_two_test_processes_keep_to_one_thread_each(target):
    (line,) = [line for line in make("-n", target).stdout.splitlines() if "pytest -n 2" in line]
    assert line.startswith("OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 ")


def test_coverage_is_the_library_s_and_95_percent_at_least():
    """Counted by the library's own tests: a page that is built, or a repository that is searched, proves no line."""
    recipe = make("-n", "coverage").stdout
    for option in ("--cov=genai_lib", "--cov-branch", "--cov-fail-under=95", "--ignore=tests/book", "--ignore=tests/house"):
        assert f" {option}" in recipe, option


def test_other_cpu_paths_are_those_the_course_promises():
    assert "ATEN_CPU_CAPABILITY=default DNNL_MAX_CPU_ISA=SSE41" in make("-n", "paths").stdout
    assert "OMP_NUM_THREADS=1" in make("-n", "paths").stdout


def test_every_benchmark_is_run():
    recipe = make("-n", "bench", "sweep", "table").stdout
    scripts = sorted((ROOT / "benchmarks").glob("[a-z]*.py"))
    assert scripts
    assert [path.name for path in scripts if f"benchmarks/{path.name}" not in recipe] == []


def test_the_book_is_built_without_the_library_s_dependencies(tmp_path):
    recipe = make("-n", "book", folder=fresh(tmp_path)).stdout
    assert "-r .venv-book/requirements.txt" in recipe
    assert "-e " not in recipe


def test_packages_come_through_pip_within_the_constraints():
    installs = [line for line in MAKEFILE.splitlines() if " install " in line and "pip" in line.split("#")[0]
                and "echo" not in line]
    assert len(installs) >= 4
    for line in installs:
        assert "-m pip" in line
        assert "-c constraints.txt" in line or "--pip" in line or "install --quiet pip;" in line, line
    assert not re.search(r"\b(npm|npx|node|conda|uv|curl|wget)\b", MAKEFILE)


def test_a_missing_interpreter_is_named(tmp_path):
    done = make("book", "PYTHON=no-such-python", folder=fresh(tmp_path))
    assert done.returncode != 0
    assert "error: no program called 'no-such-python'. Install Python 3.11 or newer" in done.stderr
    assert not (tmp_path / ".venv-book").exists()


def script(folder: Path, body: str) -> str:
    """An executable that answers like some other machine's Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return f"PYTHON={path}"


def test_an_old_interpreter_is_refused_with_its_version(tmp_path):
    old = script(tmp_path, 'case "$2" in *version_info*) exit 1;; *python_version*) echo 3.9.18;; esac')
    done = make("test", old, folder=fresh(tmp_path))
    assert done.returncode != 0
    assert "error: Python 3.11 or newer is needed" in done.stderr
    assert "is 3.9.18. Name a newer one: make PYTHON=python3.12" in done.stderr


def test_a_missing_venv_module_is_explained(tmp_path):
    bare = script(tmp_path, 'case "$2" in "import venv") exit 1;; esac')
    done = make("book", bare, folder=fresh(tmp_path))
    assert done.returncode != 0
    assert "has no venv module. On Debian or Ubuntu: sudo apt-get install python3-venv" in done.stderr


def test_neither_ensurepip_nor_pip_is_explained(tmp_path):
    bare = script(tmp_path, 'case "$2" in "import ensurepip"|pip) exit 1;; esac')
    done = make("book", bare, folder=fresh(tmp_path))
    assert done.returncode != 0
    assert "has neither ensurepip nor pip" in done.stderr


def test_pip_alone_is_enough_where_ensurepip_is_missing(tmp_path):
    """Debian's python3 has venv but no ensurepip; `pip --python` then fills the environment."""
    debian = script(tmp_path, f"""case "$*" in
        *"import ensurepip"*) exit 1;;
        *--without-pip*) mkdir -p .venv-book/bin; echo without-pip; exit 0;;
        *--python*) echo filled; exit 9;;
        *) exec {sys.executable} "$@";;
        esac""")
    done = make("book", debian, folder=fresh(tmp_path))
    assert "without-pip" in done.stdout
    assert "filled" in done.stdout
