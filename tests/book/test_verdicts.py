"""The ledger, the notebooks and the page of verdicts say the same."""

from __future__ import annotations

import json
import math
import re

import nbformat
import pytest

from genai_lib import ledger
from genai_lib.metrics import Interval
from tools import write_verdicts

ROOT = write_verdicts.ROOT
ROWS = json.loads(write_verdicts.LEDGER.read_text(encoding="utf-8"))
CHAPTERS = {path.stem: nbformat.read(path, as_version=4).cells for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
MEASURED = [claim for claim, row in ROWS.items() if row["verdict"] != "not yet" and row["rule"] == "interval"]
TEXT = write_verdicts.PAGE.read_text(encoding="utf-8")
COLUMNS = {"articles", "says", "asked", "metric", "effect", "m", "m_in_words", "families", "rule", "scope", "mind",
           "chapter", "section", "figures", "verdict"}  # fmt: skip
CALL = re.compile(r"""\bledger\.settle\(\s*["'](K\d+)["']""")


def output(cell: nbformat.NotebookNode) -> str:
    return "".join(o.text for o in cell.get("outputs", []) if o.output_type == "stream")


def test_the_ledger_has_all_claims_in_order_and_each_row_is_whole():
    assert list(ROWS) == [f"K{i}" for i in range(1, 32)]
    for claim, row in ROWS.items():
        assert set(row) == COLUMNS, claim
        assert re.fullmatch(r"[A-E](, [A-E])*", row["articles"]), claim
        assert row["says"].endswith((".", ")")), claim
        assert row["asked"].endswith("?"), claim
        assert row["rule"] in ("interval", "sources"), claim
        if row["rule"] == "interval":
            assert row["m"] > 0, claim
            assert len(row["families"]) == len(set(row["families"])) >= 1, claim


@pytest.mark.parametrize("claim", ROWS)
def test_a_claim_without_figures_has_no_verdict_and_one_with_figures_has_that_of_the_rule(claim):
    row = ROWS[claim]
    if row["verdict"] == "not yet":
        assert row["figures"] == {}
        return
    assert row["scope"], f"{claim}: say what was run"
    if row["rule"] == "interval":
        effects = {name: Interval(*values) for name, values in row["figures"].items()}
        assert list(effects) == row["families"]
        assert all(math.isfinite(value) for effect in effects.values() for value in effect)
        assert row["verdict"] == ledger.verdict(effects, row["m"])


@pytest.mark.parametrize("claim", MEASURED)
def test_the_notebook_prints_the_figures_of_the_ledger_under_the_heading_that_the_page_links(claim):
    row = ROWS[claim]
    heading, printed = "", {}
    for cell in CHAPTERS[row["chapter"]]:
        if cell.cell_type == "markdown":
            found = re.findall(r"^#{2,3} (.+)$", cell.source, flags=re.MULTILINE)
            heading = found[-1] if found else heading
        elif claim in CALL.findall(cell.source):
            printed[heading] = output(cell)
    assert list(printed) == [row["section"]], f"{claim} is settled once, in the section that the ledger names"
    effects = {name: Interval(*values) for name, values in row["figures"].items()}
    assert ledger.lines(claim, effects, row["m"]) in printed[row["section"]]


def test_every_claim_that_a_notebook_settles_is_in_the_ledger_with_that_chapter():
    settled = {claim: name for name, cells in CHAPTERS.items() for cell in cells for claim in CALL.findall(cell.source)}
    assert settled == {claim: ROWS[claim]["chapter"] for claim in MEASURED}
    assert len(settled) >= 1


def test_a_claim_settled_by_sources_is_settled_on_a_page_under_the_label_that_is_linked():
    settled = {claim: row for claim, row in ROWS.items() if row["verdict"] != "not yet" and row["rule"] == "sources"}
    assert settled
    for claim, row in settled.items():
        page = (ROOT / "book" / f"{row['chapter']}.md").read_text(encoding="utf-8")
        assert page.count(f"({row['section']})=\n") == 1, claim
        section = page.partition(f"({row['section']})=\n")[2].partition("\n(")[0]
        assert f"Verdict on {claim}" in section


def test_the_page_is_written_from_the_ledger():
    assert write_verdicts.page(TEXT, ROWS) == TEXT, "run: make pages"


def test_a_changed_figure_changes_the_page():
    (claim, *_) = MEASURED
    (family, *_) = ROWS[claim]["families"]
    changed = json.loads(json.dumps(ROWS))
    changed[claim]["figures"][family][0] += 0.1
    assert write_verdicts.page(TEXT, changed) != TEXT


@pytest.mark.parametrize(("heading", "name"), [
    ("6.2 Can it draw?", "62-can-it-draw"), ("A–B (c)", "ab-c"),
])  # fmt: skip
def test_the_name_of_a_heading(heading, name):
    assert write_verdicts.anchor(heading) == name
