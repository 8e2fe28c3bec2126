"""Write the tables and sections of book/verdict.md, the page of claims and verdicts, from book/ledger.json.

    python -m tools.write_verdicts
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tools.parts import fill, table

ROOT = Path(__file__).resolve().parents[1]
LEDGER, PAGE = ROOT / "book" / "ledger.json", ROOT / "book" / "verdict.md"
OPEN = "not yet"


def anchor(heading: str) -> str:
    """The name a heading gets on the page and on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def where(row: dict[str, Any]) -> str:
    """The chapter of the experiment, with a link to the section that settles it; or the section of a page, by its label."""
    if not row["chapter"][:2].isdigit():
        return f"{{ref}}`{row['section']}`"
    name = f"chapter {int(row['chapter'][:2])}"
    return name if row["verdict"] == OPEN else f"[{name}](../notebooks/{row['chapter']}.ipynb#{anchor(row['section'])})"


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def overview(rows: dict[str, Any]) -> str:
    """All claims in one table, and how many are settled."""
    settled = sum(row["verdict"] != OPEN for row in rows.values())
    found = [
        [f"[{claim}](#claim-{claim.lower()})", row["says"],
         row["verdict"] if row["verdict"] == OPEN else f"**{row['verdict']}**", where(row)] for claim, row in rows.items()
    ]  # fmt: skip
    count = f"Settled so far: {settled} of {len(rows)}. The others name the chapter that will settle them."
    return f"{count}\n\n{table(['Claim', 'What the articles say', 'Verdict', 'Where'], found)}"


def details(claim: str, row: dict[str, Any]) -> str:
    """A claim's own section."""
    parts = [f"(claim-{claim.lower()})=\n### {claim}: {row['verdict']}",
             f"> {row['says']} (article{'s' * (',' in row['articles'])} {row['articles']})"]  # fmt: skip
    points = [f"**We ask.** {row['asked']}"]
    if row["rule"] == "interval":
        matters = f"It matters from $m$ = {row['m']:.3f}: {row['m_in_words']}."
        points += [f"**Metric.** {sentence(row['metric'])}", f"**Effect.** {sentence(row['effect'])} {matters}"]
    else:
        points.append(f"**Evidence.** {sentence(row['metric'])}")
    parts.append("\n".join(f"- {point}" for point in points))
    if row["figures"]:
        rows = [[name, f"{e:+.3f}", f"{low:+.3f} to {high:+.3f}"] for name, (e, low, high) in row["figures"].items()]
        parts.append(table(["Family", "Effect", "95 % interval"], rows))
    points = [f"**Scope.** {sentence(row['scope'])}"] if row["scope"] else []
    if row["mind"]:
        points.append(f"**What would change our mind.** {sentence(row['mind'])}")
    points.append(f"**{'To be settled' if row['verdict'] == OPEN else 'Settled'} in** {where(row)}.")
    return "\n\n".join([*parts, "\n".join(f"- {point}" for point in points)])


def page(text: str, rows: dict[str, Any]) -> str:
    """The page with its written parts made anew."""
    return fill(text, {"claims": overview(rows), "details": "\n\n".join(details(*item) for item in rows.items())})


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), json.loads(LEDGER.read_text(encoding="utf-8"))), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
