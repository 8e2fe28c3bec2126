"""A page that shows saved widgets without a kernel, as the book's pages do, and how a test opens one."""

from __future__ import annotations

import json
from pathlib import Path

from anywidget import AnyWidget
from ipywidgets.embed import dependency_state
from myst_nb.core.render import WIDGET_STATE_MIMETYPE, WIDGET_VIEW_MIMETYPE, sanitize_script_content
from playwright.sync_api import Locator, Page

LOADER = Path(__file__).resolve().parents[1] / "book" / "assets" / "widgets" / "loader.js"


def write_page(path: Path, widget: AnyWidget, *, views: list[str] | None = None, extra: dict | None = None) -> str:
    """A page with views of saved widgets, embedded by the book's own means (myst-nb); return its address."""
    saved = {**dependency_state([widget], drop_defaults=False), **(extra or {})}
    state = {"version_major": 2, "version_minor": 0, "state": saved}

    def embed(kind: str, content: dict) -> str:
        return f'<script type="{kind}">{sanitize_script_content(json.dumps(content))}</script>'

    shown = "\n<p>Between two views.</p>\n".join(
        embed(WIDGET_VIEW_MIMETYPE, {"version_major": 2, "version_minor": 0, "model_id": name})
        for name in views or [widget.model_id])
    path.write_text(f"""<!doctype html>
<html lang="en" data-theme="light">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>A widget</title>
<style>html[data-theme="dark"] body {{ background: #121212; color: #ced6dd; }}</style>
<script defer src="{LOADER.as_uri()}"></script></head>
<body><main><h1>A widget</h1>
{shown}
</main>
{embed(WIDGET_STATE_MIMETYPE, state)}
</body></html>""", encoding="utf-8")
    return path.as_uri()


def open_figure(page: Page, address: str, selector: str) -> Locator:
    """Open a page with no network at all; return its first figure of this kind."""
    page.context.set_offline(True)
    page.goto(address)
    figure = page.locator(selector).first
    figure.wait_for()
    figure.scroll_into_view_if_needed()
    return figure
