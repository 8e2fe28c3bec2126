"""The report of a sweep: one JSON file that is whole after every row, so that a killed sweep goes on where it stopped.

The scripts in benchmarks/ that write such reports have the same command line, apart from options of their own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from genai_lib import pretrained
from genai_lib.checkpoint import write_whole

Report = dict[str, Any]


def options(
    description: str, *, tune: str = "", clock: str = "", out: str = "the JSON file to write, or to complete",
    own: Mapping[str, Mapping[str, Any]] | None = None,
) -> argparse.Namespace:  # fmt: skip
    """Read the command line of a sweep's script: `--out`, `--note`, `--tune` and `--clock` if it has them, and its own.

    A missing `--out`, like any mistake there, ends the program: argparse says on the screen what is wrong, with code 2.

    Parameters
    ----------
    description : str
        One line for ``--help``.
    tune, clock : str, optional
        What the script does with ``--tune`` or ``--clock`` in place of a report; neither needs an ``--out``. A script that
        does nothing of the kind has no such switch.
    out : str
        What ``--out`` names.
    own : dict, optional
        The script's own options, e.g. ``{"--rows": {"type": int, "default": 10, "help": "how many"}}``: what `add_argument`
        of `argparse` takes.

    Returns
    -------
    argparse.Namespace
        `out`, a Path; `note`, for `head`; and the others by their names.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, help=out)
    parser.add_argument("--note", default="", help="added to the machine in the report, e.g. 'shared with other work'")
    instead = {name: told for name, told in (("tune", tune), ("clock", clock)) if told}
    for name, told in instead.items():
        parser.add_argument(f"--{name}", action="store_true", help=told)
    for name, settings in (own or {}).items():
        parser.add_argument(name, **settings)
    found = parser.parse_args()
    if found.out is None and not any(getattr(found, name) for name in instead):
        unless = " and ".join(f"--{name}" for name in instead)
        parser.error(f"--out is needed{f', except with {unless}' if unless else ''}: name {out}")
    return found


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


def missing(wanted: Iterable[int], report: Report, *, place: str = "rows", key: str = "seed") -> list[int]:
    """Those of the wanted seeds, or whatever number `key` is, that have no row in the report yet, in their order."""
    there = {row[key] for row in report[place]}
    return [number for number in wanted if number not in there]


def save(report: Report, path: Path) -> None:
    """Write the whole report beside the old one, then put it in its place."""
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    write_whole(lambda part: part.write_text(text, encoding="utf-8"), path)


def keep(row: Any, report: Report, path: Path, *, place: str = "rows") -> None:
    """Add a row to a list of the report, write the whole, and print the row."""
    report[place].append(row)
    save(report, path)
    print(json.dumps(row), flush=True)
