"""The flipbook: a figure for each of several values, and a slider that turns the pages.

The figures are drawn once, when the notebook runs, and travel with it as PNG pictures. So the reader can follow a training
step by step, or a setting from small to large, where no kernel is running.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import anywidget
import traitlets

COLOURS = 96  # in a picture's palette: enough for a figure, a third of the bytes
MOST = 800_000  # bytes of all pictures: a notebook stays below two million


class Flipbook(anywidget.AnyWidget):
    """Pictures of equal meaning, one for each value of a setting, and a slider to choose among them.

    Make one with `Flipbook.of`. The attribute `page` is the number of the picture shown; with a live kernel it follows the
    reader's hand, and setting it turns to that page.

    Parameters
    ----------
    pictures : sequence of bytes
        PNG files, at least two.
    labels : sequence of str
        What the slider says at each: "step 300".
    alts : sequence of str
        What each picture shows, in words.
    name : str
        What the slider moves: "training step".
    page : int
        Where it starts.

    Raises
    ------
    ValueError
        Fewer than two pictures, not one label and one description for each, or more bytes than a notebook should carry.
    traitlets.TraitError
        There is no such page.
    """

    _esm = Path(__file__).with_name("flipbook.js")
    _css = Path(__file__).with_name("flipbook.css")

    pictures = traitlets.Bytes(read_only=True).tag(sync=True)
    ends = traitlets.List(traitlets.Int(), read_only=True).tag(sync=True)
    labels = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    alts = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    name = traitlets.Unicode(read_only=True).tag(sync=True)
    page = traitlets.Int().tag(sync=True)

    def __init__(self, pictures: Sequence[bytes], labels: Sequence[str], alts: Sequence[str], *, name: str, page: int = 0,
                 **options: Any) -> None:  # fmt: skip
        if len(pictures) < 2 or not len(pictures) == len(labels) == len(alts):
            raise ValueError("a flipbook needs two pictures or more, and a label and a description for each: got "
                             f"{len(pictures)}, {len(labels)} and {len(alts)}")  # fmt: skip
        ends = list(accumulate(map(len, pictures)))
        if ends[-1] > MOST:
            raise ValueError(f"the pictures take {ends[-1]:,} bytes, more than the {MOST:,} that a notebook should carry: "
                             "draw fewer or smaller ones")  # fmt: skip
        values = {"pictures": b"".join(pictures), "ends": ends, "labels": list(labels), "alts": list(alts), "name": name}
        for trait, value in values.items():
            self.set_trait(trait, value)
        super().__init__(page=page, **options)

    @classmethod
    def of(
        cls, draw: Callable[[Any], Any], values: Iterable[Any], *, name: str, label: Callable[[Any], str] = str,
        alt: Callable[[Any], str], page: int = 0, dpi: int = 90,
    ) -> Flipbook:  # fmt: skip
        """Draw the figure of each value, with `dpi` pixels an inch, and bind the book; `name` and `page` are `Flipbook`'s.

        Parameters
        ----------
        draw : callable
            value → a matplotlib figure or axes. The figure is closed when its picture is made.
        label, alt : callable
            value → what the slider says; value → what the picture shows, in words.
        """
        import matplotlib.pyplot as plt

        values, pictures = list(values), []
        for value in values:
            drawn = draw(value)
            figure = getattr(drawn, "figure", drawn)
            pictures.append(_png(figure, dpi))
            plt.close(figure)
        return cls(pictures, [label(value) for value in values], [alt(value) for value in values], name=name, page=page)

    @traitlets.validate("page")
    def _check_page(self, proposal: dict[str, Any]) -> int:
        page: int = proposal["value"]
        if not 0 <= page < len(self.labels):
            raise traitlets.TraitError(f"the pages are numbered 0 to {len(self.labels) - 1}, got {page}")
        return page

    def __repr__(self) -> str:
        return f"Flipbook({self.name}: {len(self.labels)} pages, at {self.labels[self.page]!r})"


def _png(figure: Any, dpi: int) -> bytes:
    """A figure as a PNG with a small palette, on white."""
    from PIL import Image

    whole, small = io.BytesIO(), io.BytesIO()
    figure.savefig(whole, format="png", dpi=dpi, facecolor="white")
    Image.open(whole).convert("RGB").quantize(COLOURS).save(small, format="png", optimize=True)
    return small.getvalue()
