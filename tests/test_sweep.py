from __future__ import annotations

import errno
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from genai_lib import pretrained, sweep


@pytest.fixture
def said(monkeypatch):
    """Read the options of a script that was called with these words."""

    def read(*words, **settings):
        monkeypatch.setattr(sys, "argv", ["k0_nothing.py", *words])
        return vars(sweep.options("Nothing.", **settings))

    return read


def test_what_a_script_is_asked(said):
    assert said("--out", "a/b.json") == {"out": Path("a/b.json"), "note": ""}
    assert said("--note", "at night", "--out", "b.json") == {"out": Path("b.json"), "note": "at night"}
    both = {"tune": "print the grid", "clock": "time a step"}
    assert said("--out", "b.json", **both) == {"out": Path("b.json"), "note": "", "tune": False, "clock": False}


@pytest.mark.parametrize("word", ["tune", "clock"])
def test_what_writes_no_report_needs_no_place_for_one(said, word):
    found = said(f"--{word}", tune="print the grid", clock="time a step")
    assert found == {"out": None, "note": "", "tune": word == "tune", "clock": word == "clock"}


def test_a_script_may_have_options_of_its_own(said):
    own = {"--seeds": {"type": int, "nargs": "*", "default": [7]}, "--train-only": {"action": "store_true"}}
    usual = {"out": Path("b.json"), "note": ""}
    assert said("--out", "b.json", own=own) == {**usual, "seeds": [7], "train_only": False}
    found = said("--out", "b.json", "--seeds", "1", "2", "--train-only", own=own)
    assert found == {**usual, "seeds": [1, 2], "train_only": True}


@pytest.mark.parametrize("words, settings, message", [
    ([], {}, "--out is needed: name the JSON file to write, or to complete"),
    (["--note", "x"], {"tune": "t"}, "--out is needed, except with --tune: name the JSON file to write, or to complete"),
    ([], {"tune": "t", "clock": "c", "out": "a folder"}, "--out is needed, except with --tune and --clock: name a folder"),
    (["--quick"], {"own": {"--quick": {"action": "store_true"}}}, "--out is needed: name the JSON file"),  # it writes one
    (["--out", "b.json", "--tune"], {}, "unrecognized arguments: --tune"),
    (["--out", "b.json", "--clock"], {"tune": "t"}, "unrecognized arguments: --clock"),
    (["--out", "b.json", "--seeds", "x"], {"own": {"--seeds": {"type": int}}}, "argument --seeds: invalid int value: 'x'"),
])  # fmt: skip
def test_a_wrong_call_ends_with_what_to_do(said, capsys, words, settings, message):
    with pytest.raises(SystemExit) as end:
        said(*words, **settings)
    assert end.value.code == 2
    assert f"k0_nothing.py: error: {message}" in capsys.readouterr().err


def test_the_help_tells_each_option(said, capsys):
    with pytest.raises(SystemExit) as end:
        said("--help", out="a folder", tune="print the grid", clock="time a step", own={"--rows": {"help": "how many"}})
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for words in ("Nothing.", "--out OUT", "a folder", "print the grid", "time a step", "how many", "added to the machine"):
        assert words in shown


def test_a_report_says_how_and_on_what_it_was_made(monkeypatch):
    monkeypatch.setattr(pretrained, "machine", lambda: "A machine")
    monkeypatch.setattr(torch, "__version__", "9.9.9+cpu")
    found = sweep.head("k0_nothing")
    assert found["command"] == "python benchmarks/k0_nothing.py --out genai_lib/data/k0_nothing.json"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["made"])
    assert found["machine"] == "A machine, torch 9.9.9"
    assert sweep.head("k0_nothing", "at night")["machine"] == "A machine, torch 9.9.9, at night"
    assert sweep.head("speed", folder="results")["command"] == "python benchmarks/speed.py --out results/speed.json"


def test_a_report_is_begun_once_and_gone_on_with(tmp_path):
    path, begun = tmp_path / "new" / "report.json", []
    report = sweep.reopen(path, lambda: begun.append(1) or {"rows": []})
    report["rows"].append({"bits": 1.5, "way": "—"})
    sweep.save(report, path)
    assert sweep.reopen(path, lambda: pytest.fail("begun again")) == report
    assert begun == [1]
    assert [file.name for file in path.parent.iterdir()] == ["report.json"]


def test_a_write_that_fails_leaves_the_old_report(tmp_path):
    path = tmp_path / "report.json"
    sweep.save({"rows": [1]}, path)
    with pytest.raises(TypeError):
        sweep.save({"rows": [1, object()]}, path)
    assert json.loads(path.read_text()) == {"rows": [1]}


def test_a_disk_that_is_full_leaves_the_old_report_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    sweep.save({"rows": [1]}, path)

    def half(part, text, **options):
        part.write_bytes(text.encode()[:5])
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="no space left"):
        sweep.save({"rows": [1, 2]}, path)
    assert json.loads(path.read_bytes()) == {"rows": [1]}
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_what_is_missing_is_what_has_no_row():
    report = {"rows": [{"seed": 3}, {"seed": 0}], "rounds": [{"round": 1}]}
    assert sweep.missing(range(5), report) == [1, 2, 4]
    assert sweep.missing([4, 0, 2], report) == [4, 2]
    assert sweep.missing(range(3), report, place="rounds", key="round") == [0, 2]
    assert sweep.missing(range(2), {"rows": []}) == [0, 1]
    assert sweep.missing([0, 3], report) == []


def test_a_row_that_is_kept_is_in_the_file_and_on_the_screen(tmp_path, capsys):
    path, report = tmp_path / "report.json", {"rows": [], "rounds": []}
    sweep.keep({"seed": 0, "bits": 1.5}, report, path)
    sweep.keep({"round": 3}, report, path, place="rounds")
    assert report == {"rows": [{"seed": 0, "bits": 1.5}], "rounds": [{"round": 3}]}
    assert json.loads(path.read_text()) == report
    assert capsys.readouterr().out == '{"seed": 0, "bits": 1.5}\n{"round": 3}\n'


class Killed(Exception):
    pass


def race(path, ran, *, killed_at=None, count=3):
    """Two sides in turns; the second is told the first's seconds. The n-th run may be killed."""

    def runner(name, seconds):
        def run(turn, done):
            if len(ran) == killed_at:
                raise Killed
            ran.append((turn, name, sorted(done)))
            return {"seconds": seconds[turn], "limit": done["ours"]["seconds"] if done else None}

        return run

    report = sweep.reopen(path, lambda: {"runs": [], "ratios": {}})
    sides = {"ours": runner("ours", [2.0, 4.0, 5.0]), "theirs": runner("theirs", [6.0, 4.0, 20.0])}
    sweep.pairs(sides, report, path, count=count, ratios={"sooner": ("seconds", "theirs", "ours")})
    return report


def test_sides_run_in_turns_and_are_told_of_their_own_turn_alone(tmp_path, capsys):
    ran: list = []
    report = race(tmp_path / "a.json", ran)
    assert ran == [(turn, *side) for turn in range(3) for side in (("ours", []), ("theirs", ["ours"]))]
    assert report["runs"][3] == {"turn": 1, "side": "theirs", "seconds": 4.0, "limit": 4.0}
    assert report["ratios"] == {"sooner": {"median": 3.0, "low": 1.0, "high": 4.0, "turns": 3}}
    assert json.loads((tmp_path / "a.json").read_text()) == report
    told = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("{")]
    assert told == [f"turn {turn} of 3: {side}" for turn in (1, 2, 3) for side in ("ours", "theirs")]


@pytest.mark.parametrize("killed_at", range(6))
def test_a_kill_loses_the_run_in_progress_and_no_other(tmp_path, killed_at):
    path, ran = tmp_path / "a.json", []
    with pytest.raises(Killed):
        race(path, ran, killed_at=killed_at)
    kept = json.loads(path.read_text()) if path.exists() else {"runs": [], "ratios": {}}
    assert len(kept["runs"]) == killed_at
    assert [ratio["turns"] for ratio in kept["ratios"].values()] == [killed_at // 2] * (killed_at >= 2)
    report = race(path, ran)
    assert [run[:2] for run in ran] == [(turn, side) for turn in range(3) for side in ("ours", "theirs")]
    assert report == race(tmp_path / "whole.json", [])


def test_what_is_complete_runs_no_more_and_may_be_made_longer(tmp_path):
    ran: list = []
    race(tmp_path / "a.json", ran, count=2)
    race(tmp_path / "a.json", ran, count=2)
    assert len(ran) == 4
    assert race(tmp_path / "a.json", ran)["ratios"]["sooner"]["turns"] == 3
    assert len(ran) == 6
