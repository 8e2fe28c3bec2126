"""The ledger of claims: what was said, what was measured, and the verdict that the rule makes of it.

A claim's row in book/ledger.json holds its metric, the smallest effect that matters and the families to be tested before
the experiment is run. A notebook then calls `settle` once. `make notebooks` enters the figures; every other run compares.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genai_lib.metrics import Interval

FILE = Path("book") / "ledger.json"
WRITING = "GENAI_LEDGER"  # this variable set to "write" makes `settle` enter what it finds
DIGITS = 4  # of a figure, behind the point


class LedgerError(RuntimeError):
    """What a notebook found is not what the ledger holds. The message says what to do."""


def ruling(effect: Interval, m: float) -> str:
    """What one family says, its effect signed so that positive speaks for the claim.

    Parameters
    ----------
    effect : Interval
        The mean effect and its 95 % interval.
    m : float
        The smallest effect that matters, above 0, in the unit of the effect.

    Returns
    -------
    str
        ``"supported"``: the interval lies beyond m. ``"refuted"``: it lies beyond m the other way, or inside ±m.
        ``"inconclusive"``: anything else.
    """
    if m <= 0:
        raise ValueError(f"the smallest effect that matters must be above 0, got {m}")
    if effect.low > m:
        return "supported"
    return "refuted" if effect.high < -m or -m < effect.low <= effect.high < m else "inconclusive"


def verdict(effects: Mapping[str, Interval], m: float) -> str:
    """What all families say together: what they agree on, ``"mixed"`` if some support and some refute, else "inconclusive"."""
    rulings = {ruling(effect, m) for effect in effects.values()}
    if len(rulings) == 1:
        return rulings.pop()
    return "mixed" if {"supported", "refuted"} <= rulings else "inconclusive"


def lines(claim: str, effects: Mapping[str, Interval], m: float) -> str:
    """The figures and the verdict as `settle` prints them, a family a line: those of the ledger, one digit less."""
    width, rows = max(map(len, effects)), []
    for name, e in effects.items():
        estimate, low, high = (f"{round(value, DIGITS):+.{DIGITS - 1}f}" for value in e)
        rows.append(f"{claim}  {name:{width}}  {estimate}, 95 % interval [{low}, {high}]: {ruling(e, m)}")
    return "\n".join([*rows, f"{claim}  verdict with m = {m:.3f}: {verdict(effects, m)}"])


def settle(claim: str, effects: Mapping[str, Interval], *, m: float) -> None:
    """Print the verdict on a claim, and hold it to the ledger if there is one in this folder or above.

    Parameters
    ----------
    claim : str
        "K1" … "K31".
    effects : mapping of str to Interval
        For each family tested the effect with its 95 % interval, positive if it speaks for the claim. They must come out
        the same on every machine: compute them from shipped results.
    m : float
        The smallest effect that matters.

    Raises
    ------
    LedgerError
        The ledger does not know the claim, asks for another m or other families, or holds other figures. Figures are
        entered, not compared, when the variable GENAI_LEDGER is "write", as `make notebooks` sets it.
    """
    print(lines(claim, effects, m))
    path = next((folder / FILE for folder in (Path.cwd(), *Path.cwd().parents) if (folder / FILE).is_file()), None)
    if path is None:  # in Colab, or beside a notebook that was sent alone
        return
    rows = json.loads(path.read_text(encoding="utf-8"))
    if claim not in rows:
        raise LedgerError(f"{path.name} has no claim {claim!r}. It has: {', '.join(rows)}.")
    row: dict[str, Any] = rows[claim]
    if abs(row["m"] - m) > 0.5 * 10**-DIGITS or row["families"] != list(effects):
        raise LedgerError(
            f"{claim}: {path.name} asks for m = {row['m']} in the families {row['families']}. The experiment came with "
            f"m = {m:.{DIGITS}f} and {list(effects)}. The ledger comes first: follow it, or change it."
        )
    found = {name: [round(value, DIGITS) for value in effect] for name, effect in effects.items()}
    entry = {"figures": found, "verdict": verdict(effects, m)}
    held = {key: row[key] for key in entry}
    if os.environ.get(WRITING) == "write":
        rows[claim] = row | entry
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    elif entry != held:
        raise LedgerError(f"{claim}: found {entry}, but {path.name} holds {held}. If the experiment has changed, enter its "
                          "figures with `make notebooks`, then `make pages`.")  # fmt: skip
