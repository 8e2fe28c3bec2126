"""The creation studio's buttons (S20): make pictures with the trained models without writing code.

The ipywidgets here need a running kernel, in JupyterLab or Colab; what they do is done by `genai_lib.studio`. A saved notebook
and the static page show a picture of what was made instead.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as ui

from genai_lib import studio
from genai_lib.pretrained import WeightsError
from genai_lib.studio import Desk, Piece, StudioError

PROMPT = "smiling face"
STRENGTHS = {"a little": 0.2, "clearly": 0.4, "strongly": 0.7}  # share of the way to another code
DEVIATIONS = 5  # a move of strength 1, in standard deviations
VARIATIONS = 4
SHOWN = 24  # pieces of the gallery in its picture


class _Keys(anywidget.AnyWidget):
    """Nothing to see: keeps JupyterLab's shortcuts from the keys that are pressed in the studio."""

    _esm = Path(__file__).with_name("studio.js")


class Studio:
    """Choose a model, say what to draw, vary it, change it, keep what you like, and take it away as files.

    Show it by naming it on the last line of a cell. The attribute `desk` is the same studio for code.

    Parameters
    ----------
    file : path
        Where the gallery is kept; exported files are put beside it.
    """

    def __init__(self, file: Path | str = "studio-gallery.json") -> None:
        self.desk = Desk(file)
        self.variations: list[Piece] = []
        self._rounds: dict[Piece, int] = {}
        self.model = _field(ui.Dropdown, "Model", options=[(kind.title, name) for name, kind in studio.kinds().items()])
        self.settings: dict[str, Any] = {  # a field sends what was typed as one message: a click may overtake a second one
            "prompt": _field(ui.Text, "What to draw", value=PROMPT, continuous_update=False),
            "label": _field(ui.Dropdown, "What to draw", options=[0]),
            "seed": _field(ui.BoundedIntText, "Seed", min=0, max=studio.LARGEST),
            "temperature": _field(ui.Dropdown, "Temperature", options=[("calm", 0.7), ("as learned", 1.0), ("bold", 1.3)]),
            "guidance": _field(ui.Dropdown, "Obedience", options=[("free", 1.0), ("fair", 2.0), ("firm", 3.0), ("hard", 5.0)]),
            "steps": _field(ui.Dropdown, "Quality", options=[1]),
        }  # fmt: skip
        self.strength = _field(ui.Dropdown, "Change", options=list(STRENGTHS.items()), value=0.4)
        self.along, self.other, self.kept = (_field(ui.Dropdown, name) for name in ("Towards", "Mix with", "Kept"))
        self.bar = _field(ui.IntProgress, "Drawing")
        self.bar.layout.visibility = "hidden"
        self.file = ui.FileUpload(accept=".json", multiple=False, description="Open a file", layout=ui.Layout(width="160px"))
        self.picture, self.gallery, self.message, self.links = (ui.HTML() for _ in range(4))
        self.buttons = {name: self._button(name, action) for name, action in {
            "Draw": self._draw, "Another seed": self._another, "Vary": self._vary, "Keep": self._keep, "Undo": self.desk.undo,
            "Redo": self.desk.redo, "More": lambda: self._move(1), "Less": lambda: self._move(-1), "Mix": self._mix,
            "Show": lambda: self._show(self._of_gallery(self.kept)), "Remove": self._remove, "Export": self._export,
        }.items()}  # fmt: skip
        self.thumbs = [ui.HTML() for _ in range(VARIATIONS)]
        take = [self._button(f"Take {i + 1}", partial(self._take, i)) for i in range(VARIATIONS)]
        self.buttons |= {button.description: button for button in take}
        self.row = _row(*(ui.VBox([thumb, button]) for thumb, button in zip(self.thumbs, take, strict=True)))
        self.moves = ui.VBox([self.along, self._buttons("Less", "More")])
        self.view = ui.VBox([
            self.model, *self.settings.values(), self._buttons("Draw", "Another seed"), self.bar, self.picture, self.message,
            self.strength, self._buttons("Vary", "Keep", "Undo", "Redo"), self.row, self.moves, self.other,
            self._buttons("Mix"), self.gallery, self.kept, self._buttons("Show", "Remove", "Export"), self.file, self.links,
            *([] if "google.colab" in sys.modules else [_Keys()]),
        ], layout=ui.Layout(max_width="520px"))  # fmt: skip
        self.model.observe(lambda change: self._offer(), "value")
        self.file.observe(lambda change: self._guarded(self._load)(), "value")
        self._offer()
        self._guarded(self._draw)()
        self._say(self.desk.message or self.message.value)

    def __repr__(self) -> str:
        return f"Studio({self.desk.file.name})"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.view.model_id}
        bundle: dict[str, Any] = {"text/plain": repr(self), "application/vnd.jupyter.widget-view+json": view}
        pieces = [piece for piece in (self.desk.piece, *self.variations, *self.desk.gallery) if piece is not None]
        return bundle | ({"image/png": base64.b64encode(studio.png_sheet(pieces, columns=8)).decode()} if pieces else {})

    # ---------------------------------------------------------------- what the buttons do

    def _draw(self) -> str:
        usual = studio.kinds()[self.model.value].usual
        piece = Piece(self.model.value, **{name: self.settings[name].value for name in ("seed", *usual)})
        self._show(piece)
        unknown = studio.unknown_words(piece.prompt or "")
        return f"The model has never read {', '.join(unknown)}: it guesses from parts of the word." if unknown else ""

    def _another(self) -> str:
        self.settings["seed"].value += 1
        return self._draw()

    def _show(self, piece: Piece) -> None:
        self.desk.show(piece)
        self.variations = []

    def _take(self, i: int) -> None:
        self._show(self.variations[i])

    def _vary(self) -> str:
        piece = self._piece()
        start = self._rounds.get(piece, 0)
        self._rounds[piece] = start + VARIATIONS
        varied = studio.variations(piece, n=VARIATIONS, amount=self.strength.value, start=start)
        self.variations = list(self._drawn(varied))
        return "Four variations: take one, or vary again."

    def _move(self, sign: int) -> None:
        self._show(studio.move(self._piece(), self.along.value, sign * DEVIATIONS * self.strength.value))

    def _mix(self) -> None:
        self._show(studio.mix(self._piece(), self._of_gallery(self.other), amount=self.strength.value))

    def _keep(self) -> str:
        self.desk.keep()
        return f"Kept: the gallery has {len(self.desk.gallery)}. It is saved in {self.desk.file}."

    def _remove(self) -> str:
        self.desk.drop(self._of_gallery(self.kept))
        return "Removed. Undo brings it back."

    def _export(self) -> str:
        paths = self.desk.export(self.desk.file.parent)
        links = (f'<a download="{p.name}" href="data:application/octet-stream;base64,{_base64(p.read_bytes())}">{p.name}</a>'
                 for p in paths)  # fmt: skip
        self.links.value = f"Download: {', '.join(links)}"
        return f"Written to {self.desk.file.parent.resolve()}: {', '.join(path.name for path in paths)}."

    def _load(self) -> str:
        given = list(self.file.value.values() if isinstance(self.file.value, dict) else self.file.value)  # ipywidgets 7 or 8
        if not given:
            return self.message.value
        self.desk.add(studio.read(bytes(given[0]["content"])))
        return f"Opened: the gallery has {len(self.desk.gallery)}."

    # ---------------------------------------------------------------- how they do it

    def _piece(self) -> Piece:
        if self.desk.piece is None:
            raise StudioError("there is no picture yet: press Draw")
        return self.desk.piece

    def _of_gallery(self, choice: Any) -> Piece:
        if choice.value is None:
            raise StudioError("nothing fitting is kept yet: draw something and press Keep")
        return choice.value

    def _drawn(self, pieces: Sequence[Piece]) -> Iterator[Piece]:
        self.bar.max, self.bar.layout.visibility = len(pieces), "visible"
        for self.bar.value, piece in enumerate(pieces):
            studio.make(piece)
            yield piece
        self.bar.layout.visibility = "hidden"

    def _button(self, name: str, action: Callable[[], str | None]) -> ui.Button:
        button = ui.Button(description=name, layout=ui.Layout(width="118px"))
        button.on_click(self._guarded(action))
        return button

    def _buttons(self, *names: str) -> ui.HBox:
        return _row(*(self.buttons[name] for name in names))

    def _guarded(self, action: Callable[[], str | None]) -> Callable[..., None]:
        """The action, with its errors as messages; afterwards everything on show is up to date."""

        def run(*event: Any) -> None:
            self._say("Working …")
            said = self._tried(action)
            self._say(self._tried(self._refresh) or said or str(self.desk.piece or "There is no picture: press Draw."))

        return run

    def _tried(self, action: Callable[[], str | None]) -> str:
        try:
            return action() or ""
        except (StudioError, WeightsError, OSError) as error:
            return f"{str(error)[:1].upper()}{str(error)[1:]}."
        except Exception as error:  # a person who does not code can do nothing with a traceback
            return f"That should not have happened ({type(error).__name__}: {error}). The gallery is as it was."

    def _say(self, text: str) -> None:
        self.message.value = text if text.startswith("<") else f'<div role="status">{escape(text)}&nbsp;</div>'

    def _offer(self) -> None:
        """Show the settings that the chosen model has, at their usual values."""
        usual = (kind := studio.kinds()[self.model.value]).usual
        self.settings["label"].options = range(kind.classes)
        if "steps" in usual:
            self.settings["steps"].options = [("quick", usual["steps"]), ("better, slower", 3 * usual["steps"])]
        for name, control in self.settings.items():
            control.layout.display = None if name in ("seed", *usual) else "none"
            if name in usual and name != "prompt":
                control.value = usual[name]

    def _refresh(self) -> None:
        """Show the desk as it is."""
        piece, gallery = self.desk.piece, list(self._drawn(self.desk.gallery[-SHOWN:]))
        self.picture.value = _image([piece], 6) if piece else ""
        for thumb, varied in zip(self.thumbs, [*self.variations, *[None] * VARIATIONS], strict=False):
            thumb.value = _image([varied], 3) if varied else ""
        self.row.layout.display = None if self.variations else "none"
        self.gallery.value = f"<b>Gallery: {len(self.desk.gallery)} kept</b><br>" + (_image(gallery, 2) if gallery else "")
        named = [(f"{i}: {kept}", kept) for i, kept in enumerate(self.desk.gallery, start=1)]
        _choose(self.kept, named)
        _choose(self.other, [(name, kept) for name, kept in named if piece and kept.model == piece.model and kept != piece])
        latent = piece is not None and studio.kinds()[piece.model].latent
        _choose(self.along, studio.PROPERTIES[: 3 + (len(studio.make(piece)) == 3)] if piece and latent else [])
        self.moves.layout.display = None if latent else "none"
        for name in ("Show", "Remove"):
            self.buttons[name].disabled = not named
        self.buttons["Mix"].disabled = not self.other.options


def _field(kind: type[Any], name: str, **options: Any) -> Any:
    return kind(description=name, style={"description_width": "90px"}, layout=ui.Layout(width="98%"), **options)


def _row(*children: ui.Widget) -> ui.HBox:
    return ui.HBox(children, layout=ui.Layout(flex_flow="row wrap"))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _image(pieces: Sequence[Piece], scale: int) -> str:
    sheet, said = studio.png_sheet(pieces, columns=6, scale=1), escape("; ".join(map(str, pieces)), quote=True)
    width = scale * studio.png_size(sheet)[0]
    return f'<img alt="{said}" width="{width}" style="image-rendering:pixelated" src="data:image/png;base64,{_base64(sheet)}">'


def _choose(control: ui.Dropdown, options: Sequence[Any]) -> None:
    """Offer other options and leave the choice as it is, if it is among them; else choose the first."""
    before, control.options = control.value, options
    values = [option[1] if isinstance(option, tuple) else option for option in options]
    control.value = before if before in values else next(iter(values), None)
