"""A widget's JavaScript as anywidget wants it: one module without imports."""

from __future__ import annotations

from pathlib import Path


def with_theme(name: str) -> str:
    """``<name>.js`` of this folder, with ``isDark`` and ``onTheme`` of ``theme.js`` before it."""
    return "\n".join(Path(__file__).with_name(file).read_text(encoding="utf-8") for file in ("theme.js", f"{name}.js"))
