from __future__ import annotations

import pytest

from genai_lib import progress


@pytest.fixture(autouse=True)
def loud(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.delenv("RANK", raising=False)


def shown(capsys, **options):
    with progress.bar(5, "round", **options) as bar:
        bar.update()
        bar.update()
    return capsys.readouterr().err


def test_a_bar_counts_on_the_screen(capsys):
    said = shown(capsys, initial=2)
    assert "4/5" in said
    assert "round/s" in said


@pytest.mark.parametrize("name, value", [("TQDM_DISABLE", "1"), ("RANK", "1")])
def test_no_bar_where_none_is_wanted_or_another_process_shows_it(name, value, capsys, monkeypatch):
    monkeypatch.setenv(name, value)
    assert shown(capsys) == ""


def test_what_is_soon_done_shows_no_bar(capsys):
    assert shown(capsys, delay=30.0) == ""


@pytest.mark.parametrize("rank, expected", [(None, True), ("0", True), ("1", False), ("7", False)])
def test_one_process_of_a_run_speaks(rank, expected, monkeypatch):
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    assert progress.speaks() == expected
