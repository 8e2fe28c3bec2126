"""The built site: its pages as files, its search and its theme. Each page in a browser: test_site_even_pages.py and _odd_."""

from __future__ import annotations

import re
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from bs4 import BeautifulSoup

from tests.book import test_site_even_pages, test_site_odd_pages
from tests.book.pages_in_browser import PAGES

ROOT = Path(__file__).resolve().parents[2]
DECORATIVE = {"logo.svg"}  # beside the title that says the same


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and writes no log."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path: Path) -> frozenset[str]:
    """What a link to the page may name after its #."""
    tags = soup(path).find_all(True)
    return frozenset({tag.get("id", "") for tag in tags} | {tag.get("name", "") for tag in tags if tag.name == "a"})


def dead_links(path: Path) -> list[str]:
    """The addresses in a page, other hosts' left out, that lead nowhere."""
    dead = []
    for tag in soup(path).find_all(True):
        for address in filter(None, (tag.get("href"), tag.get("src"))):
            if urlsplit(address).scheme or address.startswith("//"):
                continue
            file, anchor = urldefrag(address)
            target = (path.parent / unquote(urlsplit(file).path)).resolve() if file else path
            if not target.is_file() or (anchor and target.suffix == ".html" and unquote(anchor) not in anchors(target)):
                dead.append(address)
    return dead


def test_all_pages_of_the_table_of_contents_are_built_and_no_others(site):
    built = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html") if "_static" not in path.parts}
    assert built == {*PAGES, "index", "search"}
    assert len(PAGES) == len(set(PAGES)) >= 11


def test_two_files_together_open_every_page_in_a_browser():
    marks = [*test_site_even_pages.TestEvenPages.pytestmark, *test_site_odd_pages.TestOddPages.pytestmark]
    assert sorted(name for mark in marks for name in mark.args[1]) == sorted(PAGES)


@pytest.mark.parametrize("name", [*PAGES, "index", "search"])
def test_no_link_is_dead(site, name):
    assert dead_links(site / f"{name}.html") == []


def test_a_dead_link_would_be_found(tmp_path):
    (tmp_path / "b.html").write_text('<p id="here"></p>', encoding="utf-8")
    path = tmp_path / "a.html"
    path.write_text('<a href="b.html#here"></a><a href="b.html#gone"></a><a href="c.html"></a><a href="#no"></a>'
                    '<img src="d.png"><a href="https://example.org/x"></a>', encoding="utf-8")
    assert dead_links(path) == ["b.html#gone", "c.html", "#no", "d.png"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_it_is(site, name):
    tree = soup(site / f"{name}.html")
    assert tree.html["lang"] == "en"
    assert len(tree.find_all("h1")) == 1
    heading = tree.h1.get_text().rstrip("#").strip()
    assert tree.title.string.startswith(heading)
    assert tree.title.string.count(heading) == 1
    (description,) = tree.select('meta[name="description"]')
    assert 50 <= len(description["content"]) <= 320
    assert len(tree.select('meta[name="viewport"]')) == 1
    levels = [int(tag.name[1]) for tag in tree.article.find_all(re.compile("^h[1-6]$"))]
    assert all(deeper <= level + 1 for level, deeper in pairwise(levels)), levels


def test_no_two_pages_have_the_same_title_or_description(site):
    for select in (lambda tree: tree.title.string, lambda tree: tree.select_one('meta[name="description"]')["content"]):
        texts = [select(soup(site / f"{name}.html")) for name in PAGES]
        assert len(set(texts)) == len(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_each_picture_is_described(site, name):
    for image in soup(site / f"{name}.html").find_all("img"):
        file = image["src"].rpartition("/")[2]
        assert image.has_attr("alt"), file
        if file in DECORATIVE:
            assert image["alt"] == ""
        else:
            assert len(image["alt"].split()) > 3, f"{file}: alt={image['alt']!r}"
            assert not re.search(r"\.(png|svg)$|jupyter_execute", image["alt"]), file


def test_the_search_finds_a_term(site, page, console_errors):
    """Over HTTP: the lines below each result are fetched, which a browser refuses under file://."""
    handler = partial(QuietHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            page.goto(f"http://127.0.0.1:{server.server_port}/search.html?q=reparameterisation")
            page.wait_for_selector("#search-results li a")
            page.wait_for_load_state("networkidle")
            found = page.locator("#search-results li a").all_inner_texts()
        finally:
            server.shutdown()
    assert any("Glossary" in text for text in found)
    assert console_errors == []


def test_the_theme_can_be_switched_by_hand(site, page):
    page.goto((site / f"{PAGES[0]}.html").as_uri())
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for _ in range(3):
        page.locator(".theme-switch-button").first.click()
        if page.evaluate("document.documentElement.dataset.theme") == "dark":
            break
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_the_library_page_shows_the_docstrings(site):
    text = re.sub(r"\s+", " ", soup(site / "book" / "library.html").article.get_text())
    source = (ROOT / "genai_lib" / "objectives.py").read_text(encoding="utf-8")
    (sentence,) = re.findall(r'def gaussian_kl\(.*?"""(.+?)\n', source, flags=re.DOTALL)
    assert "gaussian_kl(" in text
    plain = re.sub(r"[`*]", "", sentence.strip())
    assert plain in text, plain
    for name in ("Trainer", "mlp_vae", "dcgan", "LatentMap", "iwae_bound", "Noise", "load("):
        assert name in text
    assert "Bases: object" not in text


def test_the_local_site_has_no_address(site):
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "colab.research" not in text, path.name
        assert "og:url" not in text, path.name
        assert 'rel="canonical"' not in text, path.name
    assert not (site / "sitemap.xml").exists()
