"""The flipbook in a real browser, without a network: turned by hand, by keys and by itself; on every page that has one."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page
from widget_page import open_figure, write_page

from genai_lib import plotting
from genai_lib.widgets import Flipbook

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WITH_BOOKS = [path.stem for path in CHAPTERS if "Flipbook(" in path.read_text(encoding="utf-8")]


@pytest.fixture(scope="module")
def book() -> Flipbook:
    def draw(value: int):
        return plotting.bars({"a": float(value), "b": 3.0}, title=f"a is {value}")

    return Flipbook.of(draw, [1, 2, 5, 8], name="height of a", label=lambda v: f"{v} m", alt=lambda v: f"a bar of {v}", page=1)


@pytest.fixture
def address(tmp_path: Path, book: Flipbook) -> str:
    return write_page(tmp_path / "book.html", book, views=[book.model_id] * 2)


def opened(page: Page, address: str) -> Locator:
    return open_figure(page, address, ".flipbook")


def bytes_shown(figure: Locator) -> bytes:
    """The picture file that is on show, fully loaded."""
    text = figure.locator("img").evaluate("""async (image) => {
        await image.decode();
        const list = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
        return btoa(Array.from(list, (byte) => String.fromCharCode(byte)).join(""));
    }""")
    return base64.b64decode(text)


def expected(book: Flipbook, number: int) -> bytes:
    starts = [0, *book.ends]
    return book.pictures[starts[number] : starts[number + 1]]


def check(figure: Locator, book: Flipbook, number: int) -> None:
    slider = figure.locator("input")
    assert bytes_shown(figure) == expected(book, number)
    assert figure.locator("img").get_attribute("alt") == book.alts[number]
    assert figure.locator("output").inner_text() == slider.get_attribute("aria-valuetext") == book.labels[number]
    assert slider.input_value() == str(number)


def test_the_slider_turns_the_pages(page, address, book, console_errors, foreign_requests):
    figure = opened(page, address)
    check(figure, book, 1)
    for number in (3, 0, 2):
        figure.locator("input").fill(str(number))
        check(figure, book, number)
    check(page.locator(".flipbook").last, book, 2)  # two views of one book turn together
    assert console_errors == []
    assert foreign_requests == []


def test_the_keys_turn_the_pages(page, address, book, console_errors):
    figure = opened(page, address)
    figure.locator("input").focus()
    for key, number in [("ArrowRight", 2), ("ArrowRight", 3), ("ArrowRight", 3), ("Home", 0), ("ArrowLeft", 0), ("End", 3)]:
        page.keyboard.press(key)
        check(figure, book, number)
    assert page.url == address
    assert console_errors == []


def test_it_plays_to_the_end_and_stops(page, address, book):
    figure = opened(page, address)
    button = figure.get_by_role("button")
    figure.locator("input").fill("0")
    button.click()
    assert button.inner_text() == "Stop"
    seen = []
    deadline = time.monotonic() + 15
    while button.inner_text() == "Stop" and time.monotonic() < deadline:
        label = figure.locator("output").inner_text()
        if label not in seen:
            seen.append(label)
        page.wait_for_timeout(30)
    assert button.inner_text() == "Play"
    assert [*dict.fromkeys([*seen, figure.locator("output").inner_text()])] == book.labels
    button.click()  # once more from the beginning, and stopped by hand
    check(figure, book, 0)
    button.click()
    page.wait_for_timeout(700)
    assert figure.locator("output").inner_text() in book.labels[:2]
    assert button.inner_text() == "Play"


def test_nothing_moves_by_itself(page, address, book):
    figure = opened(page, address)
    page.wait_for_timeout(700)
    check(figure, book, 1)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(page, address, theme):
    opened(page, address)
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    found = Axe().run(page, context=".flipbook")
    assert found.violations_count == 0, found.generate_report()
    checked = Axe().run(page, context=".flipbook", options={"resultTypes": ["passes"]}).response["passes"]
    assert {"image-alt", "button-name", "label"} <= {rule["id"] for rule in checked}


def test_some_chapter_has_one():
    assert WITH_BOOKS


@pytest.mark.parametrize("name", WITH_BOOKS)
def test_on_the_chapters_page_each_page_is_there_and_fits(page, site, name, console_errors, foreign_requests):
    page.set_viewport_size({"width": 360, "height": 800})
    opened(page, (site / "notebooks" / f"{name}.html").as_uri())
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        for figure in page.locator(".flipbook").all():
            slider = figure.locator("input")
            shown, said = set(), set()
            for number in range(int(slider.get_attribute("max")) + 1):
                slider.fill(str(number))
                shown.add(bytes_shown(figure))
                said.add(figure.locator("output").inner_text())
                box = figure.locator("img").bounding_box()
                assert box
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= width
                assert box["width"] > 250
                assert figure.locator("img").get_attribute("alt")
            assert len(shown) == len(said) >= int(slider.get_attribute("max"))  # a book may end where it began
            assert figure.get_by_role("button").bounding_box()["height"] >= 40
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert console_errors == []
    assert foreign_requests == []
