"""The report of a sweep: one JSON file that is whole after every row, so that a killed sweep goes on where it stopped.

The scripts in benchmarks/ that write such reports have the same command line, apart from options of their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from genai_lib import pretrained
from genai_lib.checkpoint import write_whole
from genai_lib.noise import setup

Report = dict[str, Any]
Key = TypeVar("Key", int, str)
Side = Callable[[int, Mapping[str, Report]], Report]


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


def head(name: str, note: str = "", *, folder: str = "genai_lib/data") -> Report:
    """How `benchmarks/<name>.py` is run, the day, and the machine; a note says e.g. ``"shared with other work"``."""
    return {
        "command": f"python benchmarks/{name}.py --out {folder}/{name}.json",
        "made": time.strftime("%Y-%m-%d"),
        "machine": ", ".join(filter(None, (pretrained.machine(), f"torch {torch.__version__.split('+')[0]}", note))),
    }


def reopen(path: Path, begin: Callable[[], Report]) -> Report:
    """The report in a file, or, if there is none yet, the one that `begin` makes."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else begin()


def missing(wanted: Iterable[Key], report: Report, *, place: str = "rows", key: str = "seed") -> list[Key]:
    """Those of the wanted seeds, or whatever `key` is, that have no row in the report yet, in their order."""
    there = {row[key] for row in report[place]}
    return [each for each in wanted if each not in there]


def save(report: Report, path: Path) -> None:
    """Write the whole report beside the old one, then put it in its place."""
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    write_whole(lambda part: part.write_text(text, encoding="utf-8"), path)


def keep(row: Any, report: Report, path: Path, *, place: str = "rows") -> None:
    """Add a row to a list of the report, write the whole, and print the row."""
    report[place].append(row)
    save(report, path)
    print(json.dumps(row), flush=True)


def pairs(sides: Mapping[str, Side], report: Report, path: Path, *, count: int, ratios: Mapping[str, tuple[str, ...]]) -> None:
    """Run things to be compared in turns, `count` times, so that a slow hour slows all alike; keep every run in ``"runs"``.

    What the report has is not run again. After each turn the `ratios` are taken anew from all of them.

    Parameters
    ----------
    sides : name → function (number of the turn, the turn's runs so far by their names) → dict of figures
        In the order in which they run.
    ratios : name → (figure, side, other side)
        In each turn the first side's figure is divided by the other's. Kept in ``"ratios"``: their median, ``"low"`` and
        ``"high"``, which are the least and the greatest, and in how many ``"turns"``.
    """
    turns: list[dict[str, Report]] = []
    for turn in range(count):
        turns.append({row["side"]: row for row in report["runs"] if row["turn"] == turn})
        for side, run in sides.items():
            if side not in turns[-1]:
                print(f"turn {turn + 1} of {count}: {side}", flush=True)
                turns[-1][side] = {"turn": turn, "side": side, **run(turn, turns[-1])}
                keep(turns[-1][side], report, path, place="runs")
        for name, (figure, side, other) in ratios.items():
            found = [done[side][figure] / done[other][figure] for done in turns]
            report["ratios"][name] = {
                "median": statistics.median(found), "low": min(found), "high": max(found), "turns": len(found),
            }  # fmt: skip
        save(report, path)


def compare(
    name: str, title: str, sides: Mapping[str, Side], ratios: Mapping[str, tuple[str, ...]], *,
    told: Callable[[], Report] = dict,
) -> None:  # fmt: skip
    """All of `benchmarks/<name>.py`: the command line with ``--pairs``, the report begun or gone on with, its `pairs`.

    `told` says what stands in the report besides; it is asked when a report is begun.
    """
    chosen = options(title, own={"--pairs": {"type": int, "default": 3, "help": "how often all sides run"}})
    setup(seed=0)
    report = reopen(chosen.out, lambda: {
        **head(name, chosen.note, folder="benchmarks/results"), **told(), "runs": [], "ratios": {},
    })  # fmt: skip
    pairs(sides, report, chosen.out, count=chosen.pairs, ratios=ratios)
