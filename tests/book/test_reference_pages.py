"""The pages one looks things up in.

The glossary is in order and in both languages; every reference is cited, and every citation is a reference; no module of
the library is left out.
"""

from __future__ import annotations

import math
import re
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(BOOK.glob("*.md"))}
BIB = (BOOK / "references.bib").read_text(encoding="utf-8")
KEYS = re.findall(r"^@\w+\{(\w+),$", BIB, flags=re.MULTILINE)
REQUIRED = {
    "article": {"author", "title", "journal", "year", "volume", "pages"},
    "book": {"author", "title", "publisher", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "techreport": {"author", "title", "institution", "year", "url"},
    "misc": {"author", "title", "howpublished", "year", "url"},
}


def glossary() -> list[tuple[list[str], str]]:
    """The entries: names (a second one is the abbreviation) and explanation."""
    block = re.search(r"```\{glossary\}\n(.*?)\n```", PAGES["glossary.md"], flags=re.DOTALL)
    assert block
    entries = []
    for entry in block[1].split("\n\n"):
        *names, explanation = entry.split("\n")
        entries.append((names, explanation))
    return entries


def plain(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().casefold()


def test_the_glossary_is_in_alphabetical_order_and_names_nothing_twice():
    first = [names[0] for names, _ in glossary()]
    assert first == sorted(first, key=plain)
    every = [plain(name) for names, _ in glossary() for name in names]
    assert len(every) == len(set(every)) > 120


def test_each_entry_has_a_term_in_either_language_and_a_sentence():
    for names, explanation in glossary():
        assert 1 <= len(names) <= 2, names
        match = re.fullmatch(r'  <span lang="zh">([^<]+)</span>( ★)? – ([A-Z].+\.\)?)', explanation)
        assert match, f"{names[0]}: {explanation}"
        chinese = re.search(r"[\u4e00-\u9fff]", match[1])
        assert chinese or names[0] == "Transformer", names


@pytest.mark.parametrize("name", PAGES)
def test_links_to_terms_lead_to_the_glossary(name):
    terms = {term for names, _ in glossary() for term in names}
    assert set(re.findall(r"\{term\}`([^`]+)`", PAGES[name])) <= terms


def test_the_bibliography_is_sorted_and_each_entry_is_complete():
    assert sorted(KEYS) == KEYS
    assert len(KEYS) == len(set(KEYS))
    for kind, key, body in re.findall(r"^@(\w+)\{(\w+),\n(.*?)\n\}$", BIB, flags=re.MULTILINE | re.DOTALL):
        fields = dict(re.findall(r"^  (\w+)\s*= \{(.+)\},?$", body, flags=re.MULTILINE))
        assert REQUIRED[kind] <= fields.keys(), key
        assert key.endswith(fields["year"]) or fields["year"] in key, key
        surname = re.sub(r"[^a-z]", "", plain(fields["author"].split(",")[0].replace("\\'", "")))
        assert key.startswith(surname), (key, surname)


def test_each_reference_is_cited_on_the_page_of_references_and_no_citation_is_unknown():
    cited = {name: set(re.findall(r"\{cite:[a-z]+\}`(\w+)`", text)) for name, text in PAGES.items()}
    assert cited["references.md"] == set(KEYS)
    assert set().union(*cited.values()) <= set(KEYS)


def test_the_library_page_shows_every_module():
    shown = set(re.findall(r"automodule:: ([\w.]+)", PAGES["library.md"]))
    modules = set()
    for path in (ROOT / "genai_lib").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.name != "__init__.py":
            modules.add(name)
    # A package may stand for its modules: it then lists what it takes from them in __all__.
    assert {name for name in modules if name not in shown and name.rpartition(".")[0] not in shown} == set()
    assert all(name in modules or (ROOT / name.replace(".", "/") / "__init__.py").exists() for name in shown)


@pytest.mark.parametrize("name", ["notation.md", "glossary.md"])
def test_a_nat_in_bits(name):
    (bits,) = re.findall(r"(\d\.\d+)\$? bits", PAGES[name])
    assert bits == f"{1 / math.log(2):.3f}"
