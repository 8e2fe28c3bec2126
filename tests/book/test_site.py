"""The built site: every page opened in a browser without a network, by keyboard too, light and dark, wide and on a phone."""

from __future__ import annotations

import gzip
import re
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[2]
FIRST_LOAD = 1_500_000  # bytes, gzipped: what a reader on a phone waits for
DECORATIVE = {"logo.svg"}  # beside the title that says the same
# axe fetches style sheets anew, which a browser refuses under file://; it finds them in the page without that.
AXE = {"resultTypes": ["violations"], "preload": False}


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and writes no log."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def listed(entry: object) -> list[str]:
    """All pages below an entry of _toc.yml, in its order."""
    if isinstance(entry, list):
        return [name for item in entry for name in listed(item)]
    assert isinstance(entry, dict)
    own = [entry[key] for key in ("root", "file") if key in entry]
    return own + [name for key in ("parts", "chapters", "sections") for name in listed(entry.get(key, []))]


PAGES = listed(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))


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


def open_page(page: Page, path: Path) -> None:
    """Open a page and wait until its mathematics is typeset."""
    page.goto(path.as_uri())
    page.evaluate("() => window.MathJax?.startup?.promise?.then(() => 0)")


def test_all_pages_of_the_table_of_contents_are_built_and_no_others(site):
    built = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html") if "_static" not in path.parts}
    assert built == {*PAGES, "index", "search"}
    assert len(PAGES) == len(set(PAGES)) >= 11


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


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_a_network(site, page, foreign_requests, console_errors, name):
    asked = set()
    page.on("request", lambda request: asked.add(request.url))
    path = site / f"{name}.html"
    open_page(page, path)
    page.wait_for_load_state("networkidle")
    assert foreign_requests == []
    assert console_errors == []

    files = [Path(unquote(urlsplit(url).path)) for url in asked if url.startswith("file:")]
    weights = {file.name: len(gzip.compress(file.read_bytes())) for file in files}
    assert path.name in weights
    assert sum(weights.values()) <= FIRST_LOAD, sorted(weights.items(), key=lambda item: -item[1])[:8]

    formulas = page.locator("article .math").count()
    assert page.locator("article mjx-container").count() >= formulas
    assert page.locator("mjx-merror").count() == 0
    assert "Math Processing Error" not in page.locator("article").inner_text()

    icon = page.locator(".article-header-buttons .fa-download")
    assert icon.evaluate("e => getComputedStyle(e, '::before').fontFamily").startswith('"Font Awesome')
    assert 8 < icon.bounding_box()["width"] < 40

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
    page.wait_for_function("document.activeElement.getBoundingClientRect().top >= 0")  # it slides into view


@pytest.mark.parametrize("name", PAGES)
def test_a_page_serves_everybody(site, page, name):
    open_page(page, site / f"{name}.html")
    # Axe would be at all of it for a minute. Mathematics is MathJax's own; a chapter's code has the colours that its
    # solutions' code has, which is looked at; on the library's page every entry is laid out as the first of its section.
    page.evaluate("() => document.querySelectorAll('mjx-container').forEach(e => e.replaceWith('formula'))")
    if re.fullmatch(r"notebooks/\w+|book/library", name):
        left_out = ".highlight pre, section > dl:not(dl:first-of-type)"
        page.evaluate("selectors => document.querySelectorAll(selectors).forEach(e => e.remove())", left_out)
    colours = {}
    for theme in ("light", "dark"):
        page.evaluate("theme => { const d = document.documentElement.dataset; d.theme = d.mode = theme }", theme)
        page.wait_for_timeout(250)  # buttons fade from one colour to the other
        colours[theme] = page.locator("body").evaluate("e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]")
        options = AXE if theme == "light" else AXE | {"runOnly": ["color-contrast"]}  # a theme changes colours and nothing else
        found = Axe().run(page, options=options).response["violations"]
        said = [(fault["id"], [node["html"][:150] for node in fault["nodes"][:4]]) for fault in found]
        assert said == [], f"{theme}: {said}"
    light, dark = ([sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours[theme]] for theme in ("light", "dark"))
    assert light[0] > 700 > 300 > light[1]  # a light ground and dark letters; 765 is white
    assert dark[0] < 150 < 450 < dark[1]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(site, page, name):
    page.set_viewport_size({"width": 360, "height": 740})
    open_page(page, site / f"{name}.html")
    too_wide = """() => [...document.querySelectorAll("article *")].filter(e => e.getBoundingClientRect().right > 361)
        .filter(e => !e.closest("mjx-container, pre, .output_area, .pst-scrollable-table-container, dt"))
        .map(e => e.outerHTML.slice(0, 120)).slice(0, 5)"""
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, page.evaluate(too_wide)
    assert page.evaluate(too_wide) == []
    assert page.locator("article").evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 15


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
    open_page(page, site / f"{PAGES[0]}.html")
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
