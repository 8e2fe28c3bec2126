"""The documents at the front door, and what must not lie about the house."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ["README.md", "CONTRIBUTING.md"]
NEVER = {".git", ".venv", ".venv-book", "_build", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache",
         ".hypothesis", "build", "dist", "runs", "htmlcov", ".ipynb_checkpoints", "node_modules"}
BINARY = {".npz", ".safetensors", ".png", ".jpg", ".ico", ".woff2", ".pyc"}
# Someone's own disk: a path like this works on one machine only. (Put together here so that this file passes.)
PRIVATE = re.compile(r"(?<![\w.:/-])/(?:" + "|".join(["root", "home", "Users", "work", "opt", "mnt"]) + r")/[\w.]")


def committed() -> list[Path]:
    """Every file that git tracks or would take; in a copy without git, every file that is not made by a command."""
    done = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    if done.returncode == 0:
        found = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        found = [path for path in ROOT.rglob("*") if not NEVER & set(path.relative_to(ROOT).parts[:-1])]
    return sorted(path for path in found if path.is_file() and not path.name.endswith(".egg-info"))


FILES = committed()


def test_there_is_a_house_to_look_at():
    names = {str(path.relative_to(ROOT)) for path in FILES}
    assert {"Makefile", "README.md", "LICENSE", "genai_lib/__init__.py", ".ci/run"} <= names


def test_no_file_names_a_folder_of_someone_s_machine():
    wrong = []
    for path in FILES:
        if path.suffix in BINARY:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if found := PRIVATE.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line[max(0, found.start() - 20):found.end() + 40]}")
    assert not wrong, "\n".join(wrong)


def test_the_search_for_private_folders_finds_them():
    assert PRIVATE.search('open("/' + 'home/anna/data.npz")')
    assert PRIVATE.search("File /" + "root/x.py")
    assert not PRIVATE.search("https://example.org/home/x or notebooks/home/x")


def test_nothing_is_larger_than_five_megabytes_but_the_data():
    heavy = {str(path.relative_to(ROOT)): path.stat().st_size for path in FILES if path.stat().st_size > 5_000_000}
    assert [name for name in heavy if not name.startswith("genai_lib/data/")] == []


def test_what_commands_make_is_ignored_by_git():
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {".venv*/", "_build/", "__pycache__/", "*.egg-info/", ".ipynb_checkpoints/"} <= set(lines)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_links_of_the_documents_lead_somewhere(name):
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (ROOT / target).exists()] == []


def test_the_map_of_the_house_names_what_exists():
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## The house")[1].split("## ")[0]
    named = [name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`([^`]+)`", row)]
    assert len(named) >= 8
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_picture_in_the_readme_is_small_enough_and_described():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ((alt, picture),) = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", readme)
    assert len(alt) > 40
    assert 20_000 < (ROOT / picture).stat().st_size < 200_000


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 80


def test_packages_are_installed_by_python_s_own_pip():
    for name in [*DOCUMENTS, ".ci/run", ".github/workflows/test.yml", ".github/workflows/pages.yml"]:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert len(re.findall(r"pip3? install", text)) == len(re.findall(r"-m pip install", text)), name


def test_the_licences_are_the_official_ones():
    mit = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert mit.startswith("MIT License\n\nCopyright (c) 2026 ")
    assert 'THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND' in mit
    text = (ROOT / "LICENSE-text").read_text(encoding="utf-8")
    assert "https://creativecommons.org/licenses/by/4.0/" in text
    assert "Creative Commons Attribution 4.0 International Public License" in text
    assert re.findall(r"^Section (\d) ", text, re.M) == list("12345678")


def test_the_citation_file_follows_its_schema():
    checker = Path(sys.executable).parent / "check-jsonschema"
    done = subprocess.run([checker, "--builtin-schema", "vendor.citation-file-format", ROOT / "CITATION.cff"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    title = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    assert citation["title"] == title
    assert citation["license"] == ["MIT", "CC-BY-4.0"]
