from __future__ import annotations

import json
import re

import pytest
import torch

from genai_lib import pretrained, sweep


def test_a_report_says_how_and_on_what_it_was_made(monkeypatch):
    monkeypatch.setattr(pretrained, "machine", lambda: "A machine")
    monkeypatch.setattr(torch, "__version__", "9.9.9+cpu")
    found = sweep.head("k0_nothing")
    assert found["command"] == "python benchmarks/k0_nothing.py --out genai_lib/data/k0_nothing.json"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["made"])
    assert found["machine"] == "A machine, torch 9.9.9"
    assert sweep.head("k0_nothing", "at night")["machine"] == "A machine, torch 9.9.9, at night"


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


def test_a_row_that_is_kept_is_in_the_file_and_on_the_screen(tmp_path, capsys):
    path, report = tmp_path / "report.json", {"rows": [], "rounds": []}
    sweep.keep({"seed": 0, "bits": 1.5}, report, path)
    sweep.keep({"round": 3}, report, path, place="rounds")
    assert report == {"rows": [{"seed": 0, "bits": 1.5}], "rounds": [{"round": 3}]}
    assert json.loads(path.read_text()) == report
    assert capsys.readouterr().out == '{"seed": 0, "bits": 1.5}\n{"round": 3}\n'
