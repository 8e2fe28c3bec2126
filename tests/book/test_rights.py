"""The page on rights tells what it read with a source each, and of our own house nothing that the house does not say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from genai_lib import pretrained

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "book" / "rights.md").read_text(encoding="utf-8")
SOURCES = (ROOT / "genai_lib" / "data" / "SOURCES.md").read_text(encoding="utf-8")
PARTS = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
SECTIONS = dict(zip(PARTS[1::2], PARTS[2::2], strict=True))
READ = ["Copyright", "Misinformation and misuse", "Monopoly", "Shortage of talent", "Are these the obstacles?"]
OURS = re.compile(r"^(Our own models|\*\*Verdict)")  # paragraphs that speak of this course


def statements(body: str) -> list[str]:
    """Rows of tables without their heads, points of lists."""
    rows = [line for line in body.splitlines() if line.startswith("| ") and not line.startswith(("| Where", "| For", "| ---"))]
    return rows + re.findall(r"^- .+$", body, flags=re.MULTILINE)


@pytest.mark.parametrize("title", READ)
def test_each_statement_has_a_source_and_a_year(title):
    found = statements(SECTIONS[title])
    assert found
    for line in found:
        assert "{cite:" in line, line
        assert re.search(r"\b20\d\d\b", line), line


@pytest.mark.parametrize("title", READ)
def test_a_number_outside_tables_and_lists_stands_beside_a_source(title):
    for paragraph in re.split(r"\n\n+", SECTIONS[title]):
        if paragraph.startswith(("|", "-", ":::")) or OURS.match(paragraph):
            continue
        assert not re.search(r"\d+(\.\d+)? (%|million|billion)", paragraph) or "{cite:" in paragraph, paragraph


def test_a_statement_without_a_source_would_be_found():
    row = "| Atlantis, court | 1 April 2024 | Everything is allowed | – |"
    assert [line for line in statements(SECTIONS["Copyright"] + "\n" + row) if "{cite:" not in line] == [row]


def test_the_licences_are_those_of_the_data():
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", SECTIONS["The licences of our own data"], flags=re.MULTILINE)[2:]
    assert len(rows) == 7
    names = {"MNIST": "mnist.npz", "OpenMoji": "OpenMoji", "Emojibase": "emojibase", "Shakespeare": "shakespeare.npz",
             "Tang": "tang.npz", "Skinner": "David W. Skinner", "GRIGoRusha": "levels by GRIGoRusha"}  # fmt: skip
    for (what, licence), (word, there) in zip(rows, names.items(), strict=True):
        assert word in what
        lines = [line for line in SOURCES.splitlines() if line.startswith("|") and there in line]
        assert any(licence.strip() in line for line in lines), (what, licence)


def test_no_set_of_the_package_is_without_a_row():
    told = {"mnist", "emoji", "shakespeare", "macbeth", "tang", "sokoban"}  # the page tells both of the plays' files in one row
    assert {path.stem for path in (ROOT / "genai_lib" / "data").glob("*.npz")} == told


def test_no_emoji_of_the_cards_is_a_copy():
    assert [pretrained.card(name)["figures"]["copies"] for name in ("emoji-gan", "emoji-diffusion")] == [0.0, 0.0]


def test_every_model_was_trained_on_a_processor_in_about_half_an_hour():
    cards = [pretrained.card(name) for name in pretrained.names()]
    assert max(card["seconds"] for card in cards) < 2_000
    assert all("thread" in card["machine"] for card in cards)
