"""What a flipbook keeps, and what it refuses. What a reader sees of it is tested in a browser: tests/book/test_flipbook.py."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import traitlets
from PIL import Image

from genai_lib import plotting
from genai_lib.widgets import Flipbook


def bars(value):
    return plotting.bars({"a": value, "b": 3.0}, title=f"a is {value}")


@pytest.fixture(scope="module")
def book():
    words = {"label": lambda value: f"{value:.0f} m", "alt": lambda value: f"a bar of {value:.0f}"}
    return Flipbook.of(bars, [1.0, 2.0, 5.0], name="height of a", page=1, **words)


def pages(book):
    return [Image.open(io.BytesIO(part)) for part in np.split(np.frombuffer(book.pictures, np.uint8), book.ends[:-1])]


def test_there_is_a_page_for_each_value_and_it_shows_its_figure(book):
    assert (book.labels, book.name, book.page) == (["1 m", "2 m", "5 m"], "height of a", 1)
    assert book.alts == ["a bar of 1", "a bar of 2", "a bar of 5"]
    shown = [np.asarray(page.convert("RGB"), dtype=float) for page in pages(book)]
    assert len(shown) == 3
    assert len({page.shape for page in shown}) == 1
    for number, value in enumerate([1.0, 2.0, 5.0]):
        figure = bars(value).figure
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=90, facecolor="white")
        plt.close(figure)
        wanted = np.asarray(Image.open(drawn).convert("RGB"), dtype=float)
        gaps = [np.abs(page - wanted).mean() for page in shown]
        assert gaps[number] < 1  # of 255: the palette is small
        assert min(gap for other, gap in enumerate(gaps) if other != number) > 2 * gaps[number]


def test_figures_are_closed_when_their_pictures_are_made(book):
    before = plt.get_fignums()
    Flipbook.of(bars, [1.0, 2.0], name="height", alt=str)
    assert plt.get_fignums() == before


def test_a_figure_will_do_as_well_as_axes():
    made = Flipbook.of(lambda value: bars(value).figure, [1, 2], name="height", alt=lambda v: f"bar {v}")
    assert made.labels == ["1", "2"]


def test_it_says_what_it_is_without_an_address(book):
    assert repr(book) == "Flipbook(height of a: 3 pages, at '2 m')"


@pytest.mark.parametrize("page", [-1, 3])
def test_there_is_no_such_page(book, page):
    with pytest.raises(traitlets.TraitError, match=f"the pages are numbered 0 to 2, got {page}"):
        book.page = page
    assert book.page == 1


@pytest.mark.parametrize(("pictures", "labels", "alts"), [([b"x"], ["1"], ["a"]), ([b"x"] * 2, ["1"], ["a", "b"]),
                                                          ([b"x"] * 2, ["1", "2"], ["a"]), ([], [], [])])  # fmt: skip
def test_two_pages_at_least_and_words_for_each(pictures, labels, alts):
    with pytest.raises(ValueError) as error:
        Flipbook(pictures, labels, alts, name="n")
    assert str(error.value) == (
        "a flipbook needs two pictures or more, and a label and a description for each: got "
        f"{len(pictures)}, {len(labels)} and {len(alts)}"
    )


def test_too_many_bytes():
    with pytest.raises(ValueError, match=r"take 800,002 bytes, more than the 800,000 .* draw fewer or smaller ones"):
        Flipbook([b"x" * 400_001] * 2, ["1", "2"], ["a", "b"], name="n")
