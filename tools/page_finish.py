"""The last touch on each page: what the theme brings and this book does without.

A Sphinx extension. When the pages are written it goes through them once and

- drops the theme's icon script (1.5 MB; `book/assets/course.css` draws the few icons that are used);
- gives each control the name it shows, and each part of the page a landmark, which a screen reader needs;
- gives figures their size and loads them when the reader comes near;
- shows the picture of an output that offers one beside a control that needs a kernel;
- leaves one first heading and one title on a page, lets formulas of several lines have a number, and drops the page's
  address where it has none yet.

A change that every page needs and one does not take stops the build: after an update of the theme somebody has to look.
"""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that autodoc finds genai_lib

# (what it is, pattern, replacement); each page has to have it
EVERYWHERE = [
    ("the icon script", r'\s*<!--[^>]*custom icons -->\s*<script[^>]*src="[^"]*fontawesome\.js[^"]*"[^>]*></script>', ""),
    ("the side bar", r'<div id="pst-primary-sidebar"', r'<div id="pst-primary-sidebar" role="region" aria-label="The book"'),
    ("the search button", r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1"),
]
# the same, where a page has it
SOMEWHERE = [
    ("the arrows of the side bar", r'<summary>(?=<span class="toctree-toggle")', '<summary aria-label="Pages below">'),
    ("the printed title", r'(<div id="jb-print-docs-body" class="onlyprint">\s*)<h1>(.*?)</h1>', r'\1<p class="h1">\2</p>'),
    ("a title said twice", r"<title>\s*(.+?) &#8212; \1\s*</title>", r"<title>\1</title>"),
    ("a reference", r'role="doc-biblioentry"', 'role="listitem"'),
    # Sphinx wraps every formula of several lines in `split`, which allows no number in it.
    ("a numbered formula",
     r"\\begin\{split\}\s*(\\begin\{aligned\}(?:(?!\\end\{split\}).)*?\\tag\{[^}]*\}\s*)\\end\{split\}", r"\1"),
    ("an address that is none", r'<meta property="og:url" content="(?!https?:)[^"]*" />\s*', ""),
    ("another viewport", r'(<meta name="viewport"[^>]*>)(.*?)<meta name="viewport"[^>]*>', r"\1\2"),
    ("another viewport", r'(<meta name="viewport"[^>]*>)(.*?)<meta name="viewport"[^>]*>', r"\1\2"),
]


WIDGET = "application/vnd.jupyter.widget-view+json"
PICTURE = re.compile(r'<img (?![^>]*(?:width|style)=)([^>]*src="([^"]*_images/[^"]*\.png)"[^>]*>)')


def size(png: Path) -> tuple[int, int]:
    """Width and height of a PNG in pixels, from its header."""
    return struct.unpack(">II", png.read_bytes()[16:24])


def pictures_wait(html: str, folder: Path) -> str:
    """Let each figure load when the reader comes near it, and keep its place free until then; `folder` is the page's."""
    def with_size(found: re.Match[str]) -> str:
        width, height = size(folder / found[2])
        return f'<img loading="lazy" width="{width}" height="{height}" {found[1]}'

    return PICTURE.sub(with_size, html)


def finish(html: str) -> tuple[str, list[str]]:
    """The finished page, and the names of the changes that every page needs and this one did not take."""
    missed = []
    for name, pattern, replacement in EVERYWHERE:
        html, found = re.subn(pattern, replacement, html)
        if not found:
            missed.append(name)
    for _, pattern, replacement in SOMEWHERE:
        html = re.sub(pattern, replacement, html, flags=re.DOTALL)
    return html, missed


def remember(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Note which pages this build writes; the others were finished when they were written."""
    app.pages_to_finish.add(pagename)  # type: ignore[attr-defined]


def pictures_stand_in(app: Sphinx, doctree: nodes.document) -> None:
    """Of an output that is a picture as well as a control, leave the picture: the page has no kernel."""
    for bundle in doctree.findall(nodes.container):
        kinds = {child["mime_type"]: child for child in bundle.children if "mime_type" in getattr(child, "attributes", {})}
        if "image/png" in kinds and WIDGET in kinds:
            bundle.remove(kinds[WIDGET])


def finish_all(app: Sphinx, failed: Exception | None) -> None:
    """Finish every page that a successful build has written."""
    if failed or app.builder.name != "html":
        return
    for pagename in sorted(app.pages_to_finish):  # type: ignore[attr-defined]
        path = Path(app.builder.get_outfilename(pagename))  # type: ignore[attr-defined]
        html, missed = finish(path.read_text(encoding="utf-8"))
        if missed:
            raise ExtensionError(f"tools/page_finish.py does not find {', '.join(missed)} in {pagename}: "
                                 "has the theme changed? Compare its pages with the patterns there.")
        path.write_text(pictures_wait(html, path.parent), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.pages_to_finish = set()  # type: ignore[attr-defined]
    app.connect("doctree-read", pictures_stand_in)
    app.connect("html-page-context", remember)
    app.connect("build-finished", finish_all)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
