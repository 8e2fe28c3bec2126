"""The report of a sweep: one JSON file that is whole after every row, so that a killed sweep goes on where it stopped."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from genai_lib import pretrained

Report = dict[str, Any]


def head(name: str, note: str = "") -> Report:
    """How `benchmarks/<name>.py` is run, the day, and the machine; a note says e.g. ``"shared with other work"``."""
    return {
        "command": f"python benchmarks/{name}.py --out genai_lib/data/{name}.json",
        "made": time.strftime("%Y-%m-%d"),
        "machine": ", ".join(filter(None, (pretrained.machine(), f"torch {torch.__version__.split('+')[0]}", note))),
    }


def reopen(path: Path, begin: Callable[[], Report]) -> Report:
    """The report in a file, or, if there is none yet, the one that `begin` makes."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else begin()


def save(report: Report, path: Path) -> None:
    """Write the whole report beside the old one, then put it in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half-written")
    half.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(half, path)


def keep(row: Any, report: Report, path: Path, *, place: str = "rows") -> None:
    """Add a row to a list of the report, write the whole, and print the row."""
    report[place].append(row)
    save(report, path)
    print(json.dumps(row), flush=True)
