"""The errata are all there, in order, each with a home; the 23 questions too."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from tools.write_verdicts import anchor

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.md")}
ERRATA, QUESTIONS = PAGES["errata"], PAGES["questions"]
LINKING = ["after_pretraining", "applications", "errata", "questions", "rights"]
SECTIONS = re.split(r"^## ", ERRATA, flags=re.MULTILINE)[1:]


def headings(name: str) -> set[str]:
    """The names of all headings of a notebook."""
    cells = nbformat.read(ROOT / "notebooks" / name, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)}


def test_there_are_35_each_with_what_is_said_and_what_is_right():
    assert [section.split(" · ")[0] for section in SECTIONS] == [f"X{i}" for i in range(1, 36)]
    for i, section in enumerate(SECTIONS, start=1):
        assert f"(erratum-x{i})=\n## X{i} · " in ERRATA
        assert re.search(r"^\*\*(Article [A-E], |Article [A-E]; |Reading lists of articles ).+", section, flags=re.MULTILINE), i
        assert "\n**What is right.** " in section, i
        assert re.search(r"(Run in|To be run in chapter|Explained here|\[Chapter 1\])", section), f"X{i} has no home"


@pytest.mark.parametrize("page", LINKING)
def test_every_link_to_a_chapter_leads_to_a_heading(page):
    links = re.findall(r"\]\(\.\./notebooks/(\w+\.ipynb)(?:#([^)\s]+))?\)", PAGES[page])
    assert len(links) >= 2
    for name, place in links:
        assert not place or place in headings(name), f"{name}#{place}"


def test_what_is_to_be_run_belongs_to_a_chapter_that_is_not_there():
    for number in re.findall(r"To be run in chapter (\d+)", ERRATA):
        assert not list((ROOT / "notebooks").glob(f"{int(number):02d}_*.ipynb")), f"chapter {number} is there: link it"


def test_there_are_23_questions():
    found = re.findall(r"^### ([A-E])(\d) · .+\?$", QUESTIONS, flags=re.MULTILINE)
    counts = {letter: [int(n) for other, n in found if other == letter] for letter in "ABCDE"}
    assert counts == {letter: list(range(1, n + 1)) for letter, n in {"A": 5, "B": 3, "C": 5, "D": 5, "E": 5}.items()}
    assert QUESTIONS.count("**The article:**") == QUESTIONS.count("**We say:**") == 23
