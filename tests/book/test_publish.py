"""What a fork publishes: its own name and address everywhere, and nothing else changed; a name that is none is refused."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]
NAME = "someone/some-course"
URL = "https://someone.github.io/some-course/"
COLAB = f"https://colab.research.google.com/github/{NAME}/blob/colab/"
NOTEBOOKS = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "notebooks").rglob("*.ipynb"))
             if ".ipynb_checkpoints" not in path.parts]


def publish(target: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run tools/publish.py with these variables and none of the surroundings' own."""
    own = ("GITHUB_REPOSITORY", "PAGES_URL", "COLAB_BRANCH")
    environment = {key: value for key, value in os.environ.items() if key not in own}
    return subprocess.run([sys.executable, "tools/publish.py", "--target", str(target)], cwd=ROOT, env=environment | variables,
                          capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    target = tmp_path_factory.mktemp("publish")
    done = publish(target, GITHUB_REPOSITORY=NAME)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert URL in done.stdout
    return target


def tree(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def pages(site: Path) -> list[str]:
    """All pages that have an article, by their address below the site."""
    found = [path for folder in ("book", "notebooks") for path in (site / folder).rglob("*.html")]
    return sorted(path.relative_to(site).as_posix() for path in found)


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 4


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_one_line_of_a_notebook_is_stamped(published, name):
    before = (ROOT / name).read_text(encoding="utf-8").splitlines()
    after = (published / "colab" / name).read_text(encoding="utf-8").splitlines()
    changed = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    assert len(changed) == 2, changed
    old, new = (line[1:].strip() for line in changed)
    assert old.startswith(r'"REPOSITORY = \"\"')
    assert new == old.replace(r"\"\"", rf"\"{NAME}\"", 1)


def test_the_branch_for_colab_holds_the_notebooks_and_a_word_about_them(published):
    files = {path.relative_to(published / "colab").as_posix() for path in (published / "colab").rglob("*") if path.is_file()}
    assert files == {*NOTEBOOKS, "README.md"}
    assert NAME in (published / "colab" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_page_of_a_notebook_leads_to_colab(published, name):
    page = tree(published / "site" / name.replace(".ipynb", ".html"))
    links = {tag["href"] for tag in page.find_all("a", href=True) if "colab.research" in tag["href"]}
    assert links == {COLAB + name}


def test_no_other_page_leads_to_colab(published):
    for name in pages(published / "site"):
        if not name.startswith("notebooks/"):
            assert "colab.research" not in (published / "site" / name).read_text(encoding="utf-8"), name


def test_each_page_knows_its_address(published):
    names = pages(published / "site")
    assert len(names) >= 11
    for name in names:
        page = tree(published / "site" / name)
        assert [tag["href"] for tag in page.select('link[rel="canonical"]')] == [URL + name]
        assert [tag["content"] for tag in page.select('meta[property="og:url"]')] == [URL + name]
        assert f"https://github.com/{NAME}" in {tag.get("href") for tag in page.find_all("a")}


def test_the_sitemap_lists_the_pages(published):
    root = ElementTree.parse(published / "site" / "sitemap.xml").getroot()
    listed = [element.text for element in root.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")]
    assert sorted(listed) == [URL + name for name in pages(published / "site")]


def test_only_links_the_reader_follows_leave_the_site(published):
    for name in pages(published / "site"):
        for tag in tree(published / "site" / name).find_all(src=True):
            assert not tag["src"].startswith(("http:", "https:", "//")), (name, tag["src"])


def test_a_local_site_has_neither_the_name_nor_colab(site):
    for path in site.rglob("*"):
        if path.suffix in (".html", ".ipynb", ".js", ".xml", ".md") and "mathjax" not in path.parts:
            text = path.read_text(encoding="utf-8")
            assert "some-course" not in text, path.name
            assert "colab.research" not in text, path.name


NO_NAMES = ["", "a", "a/", "/b", "a/b/c", "../x", "a/..", "a/.", "a/b; rm -rf", "a/$(id)", "a/b\n", "a b/c", "-a/b", "a-/b",
            "a--b/c", "a/b.git", 'a/b"', "a/<b>", "ä/b", f"{'a' * 40}/b", f"a/{'b' * 101}"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_is_none_is_refused(tmp_path, name):
    done = publish(tmp_path / "p", GITHUB_REPOSITORY=name)
    assert done.returncode == 2
    assert done.stderr.startswith("error: GITHUB_REPOSITORY")
    assert "owner/name" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(("variable", "value"), [
    ("PAGES_URL", "javascript:alert(1)"), ("PAGES_URL", "https://example.org/?a=b"), ("PAGES_URL", 'https://example.org/"'),
    ("PAGES_URL", "https://"), ("COLAB_BRANCH", "../main"), ("COLAB_BRANCH", "a b"),
    ("COLAB_BRANCH", "-x"), ("COLAB_BRANCH", "a//b"),
])
def test_an_address_or_a_branch_that_is_none_is_refused(tmp_path, variable, value):
    done = publish(tmp_path / "p", GITHUB_REPOSITORY=NAME, **{variable: value})
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {variable}=")
    assert not (tmp_path / "p").exists()
