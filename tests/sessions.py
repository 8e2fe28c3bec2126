"""A page with Python sessions (```` ```pycon ````): cut at its headings, replayed, its numbers held against them."""

from __future__ import annotations

import doctest
import re
from collections.abc import Mapping
from typing import Any

SESSION = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"^```\{raw\} html$.*?^```$", re.MULTILINE | re.DOTALL)
DECIMAL = re.compile(r"\d+\.\d+")
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e-?\d+)?")


def sections(text: str, level: str = "#+") -> dict[str, str]:
    """The page cut at its headings of a level, a pattern: title → everything up to the next such heading."""
    parts = re.split(rf"^{level} (.+)$", text, flags=re.MULTILINE)
    assert len(set(parts[1::2])) == len(parts[1::2]), "two sections have the same title"
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def replay(session: str, namespace: dict[str, Any], name: str) -> str:
    """Run one session in the namespace. Returns a report of what differs, empty if nothing does."""
    test = doctest.DocTestParser().get_doctest(session, {}, name, name, 0)
    test.globs = namespace
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=report.append, clear_globs=False)
    return "".join(report)


def replay_all(parts: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """All sessions in one namespace, from the top: what they define, and the reports by section."""
    namespace: dict[str, Any] = {}
    reports = {
        title: "".join(replay(session, namespace, title) for session in SESSION.findall(body)) for title, body in parts.items()
    }
    return namespace, reports


def unsupported(body: str, places: re.Pattern[str] | None = None) -> list[str]:
    """The decimals in a section's text that are no rounding of a number in its sessions, nor part of the name of a place."""
    known = [float(n) for session in SESSION.findall(body) for n in NUMBER.findall(session)]
    prose = PICTURE.sub("", SESSION.sub("", body))  # a picture has a test of its own
    prose = places.sub("", prose) if places else prose
    wrong = []
    for text in DECIMAL.findall(prose):
        half_a_digit = 0.5 * 10.0 ** -len(text.split(".")[1])
        if not any(abs(float(text) - n) <= half_a_digit * (1 + 1e-9) for n in known):
            wrong.append(text)
    return wrong
