"""The rule of the ledger on intervals of every kind, and what happens when a notebook and the ledger disagree."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai_lib import ledger
from genai_lib.ledger import LedgerError, ruling, settle, verdict
from genai_lib.metrics import Interval

YES, NO, SMALL, WIDE = Interval(2, 1.5, 2.5), Interval(-2, -2.5, -1.5), Interval(0.1, -0.5, 0.6), Interval(1, 0.2, 1.8)


@pytest.mark.parametrize(("effect", "expected"), [
    (YES, "supported"), (NO, "refuted"), (SMALL, "refuted"), (WIDE, "inconclusive"),
    (Interval(1.5, 1.0, 2.0), "inconclusive"),  # it touches m
    (Interval(-0.5, -1.0, 0.0), "inconclusive"), (Interval(0.5, 0.0, 1.0), "inconclusive"),  # they touch −m and m
    (Interval(-1.5, -2.0, -1.0), "inconclusive"), (Interval(0, -3, 3), "inconclusive"),
])  # fmt: skip
def test_the_rule_for_one_family(effect, expected):
    assert ruling(effect, 1.0) == expected


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3).map(sorted), st.floats(0.1, 3))
def test_the_rule_in_other_words(ends, m):
    low, middle, high = ends
    found = ruling(Interval(middle, low, high), m)
    assert (found == "supported") == all(value > m for value in ends)
    assert (found == "refuted") == (all(value < -m for value in ends) or all(abs(value) < m for value in ends))
    turned = ruling(Interval(-middle, -high, -low), m)
    if found == "supported":
        assert turned == "refuted"


@pytest.mark.parametrize(("effects", "expected"), [
    ([YES, YES], "supported"), ([NO, SMALL], "refuted"), ([YES, NO], "mixed"), ([YES, WIDE], "inconclusive"),
    ([NO, WIDE], "inconclusive"), ([YES, NO, WIDE], "mixed"), ([WIDE], "inconclusive"), ([YES, SMALL], "mixed"),
])  # fmt: skip
def test_what_the_families_say_together(effects, expected):
    assert verdict({str(i): effect for i, effect in enumerate(effects)}, 1.0) == expected


@pytest.mark.parametrize("m", [0.0, -1.0])
def test_an_effect_that_matters_is_above_zero(m):
    with pytest.raises(ValueError, match=f"the smallest effect that matters must be above 0, got {m}"):
        ruling(YES, m)


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A folder with a ledger of one claim, seen from a folder below; returns the ledger's rows as they are now."""
    path = tmp_path / ledger.FILE
    path.parent.mkdir()
    path.write_text(json.dumps({"K8": {"says": "é", "m": 1.0, "families": ["a", "b"], "figures": {}, "verdict": "not yet"}}))
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.delenv(ledger.WRITING, raising=False)
    return lambda: json.loads(path.read_text(encoding="utf-8"))


def test_what_is_entered_is_what_is_printed_and_the_next_run_agrees(book, monkeypatch, capsys):
    monkeypatch.setenv(ledger.WRITING, "write")
    settle("K8", {"a": YES, "b": NO}, m=1.0)
    assert book()["K8"] == {
        "says": "é", "m": 1.0, "families": ["a", "b"], "verdict": "mixed",
        "figures": {"a": [2, 1.5, 2.5], "b": [-2, -2.5, -1.5]},
    }  # fmt: skip
    first = capsys.readouterr().out
    assert first.splitlines() == [
        "K8  a  +2.000, 95 % interval [+1.500, +2.500]: supported", "K8  b  -2.000, 95 % interval [-2.500, -1.500]: refuted",
        "K8  verdict with m = 1.000: mixed",
    ]  # fmt: skip
    monkeypatch.delenv(ledger.WRITING)
    settle("K8", {"a": YES, "b": NO}, m=1.0)
    assert capsys.readouterr().out == first


def test_other_figures_than_the_ledger_holds_are_an_error(book, monkeypatch):
    monkeypatch.setenv(ledger.WRITING, "write")
    settle("K8", {"a": YES, "b": NO}, m=1.0)
    before = book()
    monkeypatch.delenv(ledger.WRITING)
    with pytest.raises(LedgerError, match=r"K8: found .*2\.1.* but ledger\.json holds .*\[2, 1.* `make notebooks`"):
        settle("K8", {"a": Interval(2.1, 1.5, 2.5), "b": NO}, m=1.0)
    assert book() == before


def test_the_ledger_comes_first(book, monkeypatch):
    monkeypatch.setenv(ledger.WRITING, "write")
    with pytest.raises(LedgerError, match=r"asks for m = 1.0 in the families \['a', 'b'\].*came with m = 0.5000"):
        settle("K8", {"a": YES, "b": NO}, m=0.5)
    with pytest.raises(LedgerError, match=r"came with m = 1.0000 and \['b', 'a'\]"):
        settle("K8", {"b": YES, "a": NO}, m=1.0)
    with pytest.raises(LedgerError, match=r"ledger.json has no claim 'K99'. It has: K8."):
        settle("K99", {"a": YES}, m=1.0)
    assert book()["K8"]["verdict"] == "not yet"


def test_without_a_ledger_the_verdict_is_printed_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settle("K8", {"a": SMALL}, m=1.0)
    assert capsys.readouterr().out.endswith("K8  verdict with m = 1.000: refuted\n")
    assert list(tmp_path.iterdir()) == []
