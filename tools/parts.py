"""Parts of a page that a program writes: what stands between `% begin NAME` and `% end NAME`."""

from __future__ import annotations

import re
from collections.abc import Mapping


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def fill(text: str, parts: Mapping[str, str]) -> str:
    """The page's text with each named part written anew.

    Raises
    ------
    ValueError
        The page has not exactly one place for a part.
    """
    for name, made in parts.items():
        between = re.compile(rf"(% begin {name}\n).*?(% end {name}\b)", re.DOTALL)
        text, found = between.subn(lambda m, made=made: f"{m[1]}\n{made}\n\n{m[2]}", text)
        if found != 1:
            raise ValueError(f"the page needs one '% begin {name}' … '% end {name}', has {found}")
    return text
