"""What every page of the site has to pass in a browser: no network, the keyboard, light and dark, wide and on a phone.

Two test files inherit these tests, one for every second page and one for the pages between, so that two test processes
share the work.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[2]
FIRST_LOAD = 1_500_000  # bytes, gzipped: what a reader on a phone waits for
# axe fetches style sheets anew, which a browser refuses under file://; it finds them in the page without that.
AXE = {"resultTypes": ["violations"], "preload": False}


def listed(entry: object) -> list[str]:
    """All pages below an entry of _toc.yml, in its order."""
    if isinstance(entry, list):
        return [name for item in entry for name in listed(item)]
    assert isinstance(entry, dict)
    own = [entry[key] for key in ("root", "file") if key in entry]
    return own + [name for key in ("parts", "chapters", "sections") for name in listed(entry.get(key, []))]


PAGES = listed(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))


def lay_out(page: Page, width: int, height: int) -> None:
    """Make the window this large; the page as after opening it: at its top, with the focus nowhere."""
    page.set_viewport_size({"width": width, "height": height})
    page.evaluate("""() => {
        document.activeElement.blur();
        scrollTo({top: 0, behavior: "instant"});
        return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    }""")


class PageInBrowser:
    """The tests of one page. `visit` opens it once for all of them, and they run in this order: the last one spoils it."""

    def test_a_page_opens_without_a_network(self, visit):
        page = visit.page
        assert visit.foreign_requests == []
        assert visit.console_errors == []

        files = [Path(unquote(urlsplit(url).path)) for url in visit.asked if url.startswith("file:")]
        weights = {file.name: len(gzip.compress(file.read_bytes())) for file in files}
        assert visit.path.name in weights
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

    def test_a_page_fits_a_phone(self, visit):
        page = visit.page
        lay_out(page, 360, 740)
        too_wide = """() => [...document.querySelectorAll("article *")].filter(e => e.getBoundingClientRect().right > 361)
            .filter(e => !e.closest("mjx-container, pre, .output_area, .pst-scrollable-table-container, dt"))
            .map(e => e.outerHTML.slice(0, 120)).slice(0, 5)"""
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, page.evaluate(too_wide)
        assert page.evaluate(too_wide) == []
        assert page.locator("article").evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 15

    def test_a_page_serves_everybody(self, visit):
        page = visit.page
        lay_out(page, 1280, 900)
        # Axe would be at all of it for a minute. Mathematics is MathJax's own; a chapter's code has the colours that its
        # solutions' code has, which is looked at; on the library's page every entry is laid out as the first of its section.
        page.evaluate("() => document.querySelectorAll('mjx-container').forEach(e => e.replaceWith('formula'))")
        if re.fullmatch(r"notebooks/\w+|book/library", visit.name):
            left_out = ".highlight pre, section > dl:not(dl:first-of-type)"
            page.evaluate("selectors => document.querySelectorAll(selectors).forEach(e => e.remove())", left_out)
        colours = {}
        for theme in ("light", "dark"):
            page.evaluate("theme => { const d = document.documentElement.dataset; d.theme = d.mode = theme }", theme)
            colours[theme] = page.locator("body").evaluate(
                "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]")
            # a theme changes colours and nothing else
            options = AXE if theme == "light" else AXE | {"runOnly": ["color-contrast"]}
            found = Axe().run(page, options=options).response["violations"]
            said = [(fault["id"], [node["html"][:150] for node in fault["nodes"][:4]]) for fault in found]
            assert said == [], f"{theme}: {said}"
        light, dark = ([sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours[theme]]
                       for theme in ("light", "dark"))
        assert light[0] > 700 > 300 > light[1]  # a light ground and dark letters; 765 is white
        assert dark[0] < 150 < 450 < dark[1]
