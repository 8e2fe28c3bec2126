"""The creation studio without its buttons (S20): pieces that can be made again, and a gallery that is not lost.

A piece is a record: the model, what it was asked, the seed, the settings, and how its *code* was edited. The code is the noise
a picture begins with: the random numbers that the model's own `sample` draws for the seed, then turned towards the numbers of
other seeds, or moved along a direction that has a name.

The record alone makes the picture, byte for byte on one machine. For that, pictures are drawn one at a time and on one
thread: the last digits of a sum depend on how the work is shared out.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import torch
import torch.nn.functional as F
from torch import Tensor

from genai_lib import pretrained, recipes
from genai_lib.checkpoint import write_whole
from genai_lib.data import emoji_names
from genai_lib.data.pictures import png
from genai_lib.models.clip import pieces as cut
from genai_lib.noise import Noise

FORMAT = "genai_lib studio 1"
LARGEST = 999_999_999  # seed
LIMITS = {"seed": (0, LARGEST), "temperature": (0.0, 2.0), "guidance": (0.0, 10.0), "steps": (1, 100)}
MOST_EDITS, MOST_PIECES, MOST_LETTERS, MOST_BYTES = 60, 500, 200, 5_000_000
DRAWS = 512  # from which a model's directions are measured
OTHER = 20  # key of the noise that is no piece's own: directions, seeds of variations
PROPERTIES = ("bold", "wide", "slanted", "warm")


class StudioError(ValueError):
    """Something was asked that cannot be done. The message says what to do instead; nothing of the gallery has changed."""


# ---------------------------------------------------------------- models


@dataclass(frozen=True)
class Kind:
    """What a model can be asked for.

    Parameters
    ----------
    name, title : str
        Of its recipe.
    latent : int
        Numbers of its code, which then has directions; 0 if the code is a whole picture of noise.
    classes : int
        Classes it knows.
    usual : dict
        The settings it has, with their usual values; a prompt has none and stands as "".
    """

    name: str
    title: str
    latent: int
    classes: int
    usual: dict[str, Any]


@cache
def _kind(name: str) -> Kind | None:
    recipe = recipes.get(name)
    if recipe.text is not None or recipe.music is not None:
        return None
    with torch.random.fork_rng(devices=[]):  # its first weights, which nobody needs, use up no random number of others
        model: Any = recipe.product(recipe.build())
    asked = inspect.signature(model.sample).parameters if hasattr(model, "sample") else {}
    latent = getattr(model, "latent", 0)
    classes = getattr(model, "classes", getattr(getattr(model, "network", None), "classes", 0))
    usual: dict[str, Any] = {"prompt": ""} if "prompt" in asked else {"label": 0} if classes else {}
    usual |= {"temperature": 1.0} if latent else {}
    usual |= {"guidance": 3.0 if "prompt" in asked else 2.0} if usual and "guidance" in asked else {}
    usual |= {"steps": 4 if "heun" in asked else 8} if "steps" in asked else {}  # quick; Heun's method looks twice a step
    return Kind(name, recipe.title, latent, classes, usual) if latent or "steps" in asked else None


def kinds() -> dict[str, Kind]:
    """The models whose weights are there and that turn a code into a picture: those that read, those of emoji, the others."""
    there = pretrained.names()
    found = [kind for name in recipes.RECIPES if name in there and (kind := _kind(name))]
    return {k.name: k for k in sorted(found, key=lambda k: ("prompt" not in k.usual, recipes.get(k.name).judge != "clip"))}


@cache
def _model(name: str) -> Any:
    return pretrained.load(name)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------- records


def _checked(value: object, name: str, low: float, high: float) -> Any:
    """A number within its limits, whole if they are."""
    whole = isinstance(low, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
        said = "a huge number" if isinstance(value, int) and abs(value) > LARGEST else f"{value!r:.40}"
        raise StudioError(f"{name} must be a {'whole ' * whole}number from {low:,} to {high:,}, got {said}")
    return value if whole else float(value)


@dataclass(frozen=True)
class Edit:
    """One change of a code.

    Parameters
    ----------
    amount : float
        Towards another code: the share of the way, 0 to 1. Along a direction: standard deviations, −10 to 10.
    along : str
        The direction, if it is a move.
    seed : int
        The seed of the other code, if it is a turn.
    edits : tuple of Edit
        The other code's own.
    """

    amount: float
    along: str | None = None
    seed: int | None = None
    edits: tuple[Edit, ...] = ()

    def __post_init__(self) -> None:
        low, high = (0.0, 1.0) if self.along is None else (-10.0, 10.0)
        object.__setattr__(self, "amount", _checked(self.amount, "the amount of an edit", low, high))
        object.__setattr__(self, "edits", tuple(self.edits))
        if self.along is None:
            _checked(self.seed, "the seed of an edit", *LIMITS["seed"])


def _all(edits: Iterable[Edit]) -> Iterator[Edit]:
    for edit in edits:
        if not isinstance(edit, Edit):
            raise StudioError(f"an edit must be an Edit, got {edit!r:.40}: use variations, mix and move")
        yield edit
        yield from _all(edit.edits)


@dataclass(frozen=True)
class Piece:
    """The record of a picture. A setting left out takes the model's usual value; one that the model lacks stays None.

    Parameters
    ----------
    model : str
        One of `kinds()`.
    seed : int
        Where its random numbers come from.
    prompt : str
        What to draw, for a model that reads.
    label : int
        The class to draw, for a model that knows some.
    temperature : float
        What the code is multiplied by, 0 to 2: below 1 more typical, above 1 bolder.
    guidance : float
        How far to go from a drawing of anything towards what was asked; 1 is the plain way, more exaggerates.
    steps : int
        More are slower and cleaner.
    edits : tuple of Edit
        Changes of the code, in this order.
    weights : str
        First digits of the SHA-256 of the model's weights: filled in; refused if they are not those that are here.

    Raises
    ------
    StudioError
        For whatever does not fit the model; it says what would.
    """

    model: str
    seed: int = 0
    prompt: str | None = None
    label: int | None = None
    temperature: float | None = None
    guidance: float | None = None
    steps: int | None = None
    edits: tuple[Edit, ...] = ()
    weights: str = ""

    def __post_init__(self) -> None:
        known = kinds()
        if not isinstance(self.model, str) or self.model not in known:
            raise StudioError(f"the studio has no model {self.model!r:.40}. Choose one of: {', '.join(known)}")
        usual, limits = known[self.model].usual, LIMITS | {"label": (0, known[self.model].classes - 1)}
        for name in ("seed", "prompt", "label", "temperature", "guidance", "steps"):
            value = getattr(self, name)
            if name not in ("seed", *usual):
                if value is not None:
                    raise StudioError(f"{self.model} takes no {name}: leave it out. It takes: {', '.join(['seed', *usual])}")
                continue
            value = usual.get(name) if value is None else value
            object.__setattr__(self, name, _prompt(value) if name == "prompt" else _checked(value, name, *limits[name]))
        object.__setattr__(self, "edits", tuple(self.edits))
        if sum(1 for _ in _all(self.edits)) > MOST_EDITS:
            raise StudioError(f"a piece has at most {MOST_EDITS} edits, what it was mixed with included: begin a new one")
        for along in {edit.along for edit in _all(self.edits) if edit.along is not None}:
            if along not in (named := directions(self.model, self.label)):
                ways = ", ".join(named) or "none: mix it with another seed"
                raise StudioError(f"{self.model} has no direction {along!r:.40}. It has: {ways}")
        here = pretrained.card(self.model)["sha256"][:12]
        if self.weights not in ("", here):
            raise StudioError(f"this piece was made with other weights of {self.model} ({self.weights!r:.20}, not {here}): "
                              "open it with the version of genai_lib that made it")  # fmt: skip
        object.__setattr__(self, "weights", here)

    def __str__(self) -> str:
        asked = f", “{self.prompt}”" if self.prompt else "" if self.label is None else f", class {self.label}"
        return f"{self.model}{asked}, seed {self.seed}" + (f", edited {len(self.edits)}×" if self.edits else "")


def _prompt(prompt: object) -> str:
    if not isinstance(prompt, str) or not prompt.isprintable() or len(prompt) > MOST_LETTERS or not cut(prompt):
        raise StudioError(f"the prompt must be words in English or Chinese, at most {MOST_LETTERS} letters on one line: "
                          "describe what to see, for example: smiling face")  # fmt: skip
    return prompt.strip()


@cache
def _words() -> frozenset[str]:
    return frozenset(p for e in emoji_names() for t in (e.english, *e.tags, e.chinese, *e.chinese_tags) for p in cut(t))


def unknown_words(prompt: str) -> list[str]:
    """Words and Chinese characters of a prompt that stand by no training picture: the model guesses from their parts."""
    whole = (piece for piece in cut(prompt) if piece[0] + piece[-1] == "‹›" or len(piece) == 1)
    return [piece.strip("‹›") for piece in dict.fromkeys(whole) if piece not in _words()]


def dump(pieces: Sequence[Piece]) -> str:
    """The records of pieces as JSON."""
    def told(record: dict[str, Any]) -> dict[str, Any]:
        return {k: [told(e) for e in v] if k == "edits" else v for k, v in record.items() if v is not None}

    return json.dumps({"format": FORMAT, "pieces": [told(asdict(p)) for p in pieces]}, indent=1, ensure_ascii=False) + "\n"


def _record(kind: Callable[..., Any], told: object) -> Any:
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if not isinstance(told, dict) or names[0] not in told or not set(told) <= set(names):
        raise StudioError(f"a record has {names[0]}, perhaps {', '.join(names[1:])}, and nothing else, got {told!r:.60}")
    return kind(**{k: [_record(Edit, edit) for edit in v] if k == "edits" else v for k, v in told.items()})


def read(text: str | bytes) -> tuple[Piece, ...]:
    """The pieces of a file that `dump` wrote; StudioError if it is no such file or one of them cannot be made here."""
    try:
        if len(text) > MOST_BYTES:
            raise StudioError(f"it has {len(text):,} bytes, and the studio reads at most {MOST_BYTES:,}")
        told = json.loads(text)
        if not isinstance(told, dict) or told.get("format") != FORMAT or not isinstance(told.get("pieces"), list):
            raise StudioError("there is no record of the studio in it")
        if len(told["pieces"]) > MOST_PIECES:
            raise StudioError(f"it has {len(told['pieces']):,} pieces, and a gallery at most {MOST_PIECES}")
        return tuple(_record(Piece, piece) for piece in told["pieces"])
    except (ValueError, TypeError, RecursionError) as error:
        why = error if isinstance(error, StudioError) else f"it is no JSON file, or a damaged one ({error!s:.60})"
        raise StudioError(f"the file cannot be used: {why}. Choose a .json file that the studio exported") from error


# ---------------------------------------------------------------- pictures


class _Code(Noise):
    """Noise whose normal numbers are those of a code. A model's `sample` asks for them once."""

    def __init__(self, code: Callable[..., Tensor]) -> None:
        super().__init__(0)
        self.code = code

    def normal(self, rows: int, *shape: int) -> Tensor:
        return self.code(*shape)


def slerp(a: Tensor, b: Tensor, amount: float) -> Tensor:
    """From a (amount 0) to b (amount 1) along the arc between them (Shoemake 1985); straight where they are parallel.

    Two codes of many normal numbers are about equally long, and so is every code on the arc; the straight way leads through
    shorter ones, which no seed draws.
    """
    angle = torch.arccos(F.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0).clamp(-1, 1)).item()
    if math.sin(angle) < 1e-4:
        return torch.lerp(a, b, amount)
    return (math.sin((1 - amount) * angle) * a + math.sin(amount * angle) * b) / math.sin(angle)


def code(piece: Piece, *shape: int) -> Tensor:
    """What a piece is drawn from: (1, latent), or (1, …) of the shape that a model without `latent` asks for."""
    shape = shape or (kinds()[piece.model].latent,)

    def edited(seed: int, edits: tuple[Edit, ...]) -> Tensor:
        z = Noise(seed).normal(1, *shape)
        for edit in edits:
            if edit.along is not None:
                z = z + edit.amount * directions(piece.model, piece.label)[edit.along]
            elif edit.seed is not None:
                z = slerp(z, edited(edit.seed, edit.edits), edit.amount)
        return z

    z = edited(piece.seed, piece.edits)
    return z if piece.temperature is None else piece.temperature * z


@lru_cache(maxsize=MOST_PIECES)
def _drawn(piece: Piece) -> Tensor:
    options = {"prompt": piece.prompt, "guidance": piece.guidance, "steps": piece.steps,
               "y": None if piece.label is None else torch.tensor([piece.label])}  # fmt: skip
    with _one_thread():
        given = {name: value for name, value in options.items() if value is not None}
        return _model(piece.model).sample(1, _Code(lambda *shape: code(piece, *shape)), **given)[0]


def make(piece: Piece) -> Tensor:
    """The picture of a record: (C, H, W) in [0, 1]. The same record makes the same picture, to the last bit on one machine."""
    return _drawn(piece).clone()


def properties(x: Tensor) -> dict[str, Tensor]:
    """What the directions are about, of pictures (N, C, H, W) in [0, 1]: names and values (N,).

    How much differs from the picture's corner ("bold"); how much wider than high that is; how far it leans to the right; how
    much more red than blue there is ("warm"), in colour pictures alone.
    """
    ink = (x - x[..., :1, :1]).abs().amax(dim=1)  # (N, H, W)
    share = ink / ink.sum(dim=(1, 2), keepdim=True).clamp(min=1e-6)
    up, right = (torch.linspace(*ends, side) for ends, side in zip([(1, -1), (-1, 1)], ink.shape[1:], strict=True))
    y = up[:, None] - (share.sum(dim=2) @ up)[:, None, None]  # (N, H, 1), from the middle of the ink
    x_ = right - (share.sum(dim=1) @ right)[:, None, None]  # (N, 1, W)
    moments = (share * (x_**2 - y**2)).sum(dim=(1, 2)), (share * x_ * y).sum(dim=(1, 2))
    warm = [(x[:, 0] - x[:, 2]).mean(dim=(1, 2))] if x.shape[1] == 3 else []
    return dict(zip(PROPERTIES, [ink.mean(dim=(1, 2)), *moments, *warm], strict=False))


@cache
def directions(model: str, label: int | None = None) -> dict[str, Tensor]:
    """The directions of a model's code that have a name, each (1, latent) and of length 1; none for a model without `latent`.

    Each is the slope of a least-squares fit of one of the `properties` to the codes of `DRAWS` pictures, of the class
    `label` if the model knows classes.
    """
    latent = kinds()[model].latent
    if not latent:
        return {}
    z = Noise(0, OTHER).normal(DRAWS, latent)
    y = {} if label is None else {"y": torch.full((DRAWS,), label)}
    with _one_thread():
        values = properties(_model(model).sample(DRAWS, _Code(lambda *shape: z), **y))
        slopes = torch.linalg.lstsq(z, torch.stack([v - v.mean() for v in values.values()], dim=1)).solution  # (latent, 4)
    return dict(zip(values, F.normalize(slopes, dim=0).T[:, None], strict=True))


def variations(piece: Piece, *, n: int = 4, amount: float = 0.3, start: int = 0) -> list[Piece]:
    """Pieces whose codes are turned towards n other seeds, the same each time; another `start` gives others."""
    seeds = [int(Noise(piece.seed, OTHER, len(piece.edits), start + i).integers(LARGEST, 1)) for i in range(n)]
    return [replace(piece, edits=(*piece.edits, Edit(amount, seed=seed))) for seed in seeds]


def mix(piece: Piece, other: Piece, *, amount: float = 0.5) -> Piece:
    """A piece on the way to another: what was asked and the settings stay the first one's, its code turns."""
    if piece.model != other.model:
        raise StudioError(f"{piece.model} and {other.model} have codes of different kinds: mix two pieces of one model")
    return replace(piece, edits=(*piece.edits, Edit(amount, seed=other.seed, edits=other.edits)))


def move(piece: Piece, along: str, amount: float) -> Piece:
    """A piece whose code is moved along one of its model's `directions`, by so many standard deviations."""
    return replace(piece, edits=(*piece.edits, Edit(amount, along)))


def png_sheet(pieces: Sequence[Piece], *, columns: int | None = None, scale: int = 4) -> bytes:
    """A PNG file of pieces in rows, each pixel scale × scale large; smaller pictures get a border of their own edge."""
    if not pieces:
        raise StudioError("there is no picture yet: make one first")
    drawn = [make(piece).expand(3, -1, -1) for piece in pieces]
    borders = [(max(x.shape[1] for x in drawn) - x.shape[1]) // 2 for x in drawn]
    return png(torch.cat([F.pad(x[None], [b] * 4, mode="replicate") for x, b in zip(drawn, borders, strict=True)]),
               columns=columns and min(columns, len(pieces)), scale=scale)  # fmt: skip


def png_size(sheet: bytes) -> tuple[int, int]:
    """Width and height of a PNG file in pixels, from its header."""
    return int.from_bytes(sheet[16:20], "big"), int.from_bytes(sheet[20:24], "big")


def svg_sheet(pieces: Sequence[Piece]) -> str:
    """An SVG file that any size suits: the PNG sheet inside, embedded, sharp edges asked for; the records in <metadata>."""
    sheet = png_sheet(pieces, scale=1)
    width, height = png_size(sheet)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{4 * width}" height="{4 * height}" '
            f'role="img" aria-label={quoteattr("; ".join(map(str, pieces)))}>\n<metadata>{escape(dump(pieces))}</metadata>\n'
            f'<image width="{width}" height="{height}" style="image-rendering:pixelated" '
            f'href="data:image/png;base64,{base64.b64encode(sheet).decode()}"/>\n</svg>\n')  # fmt: skip


# ---------------------------------------------------------------- the desk


class Desk:
    """The piece in hand, the gallery on the disk, and the way back.

    Parameters
    ----------
    file : path
        Where the gallery is. Every change is written at once, whole or not at all. A file that is there is opened; one that
        cannot be used is set aside under another name, and `message` says so.

    Attributes
    ----------
    piece : Piece or None
        The piece in hand.
    gallery : tuple of Piece
        What was kept.
    """

    def __init__(self, file: Path | str = "studio-gallery.json") -> None:
        self.file, self.message = Path(file), ""
        self._written = self._on_disk()
        self._states: list[tuple[Piece | None, tuple[Piece, ...]]] = [(None, self._written)]
        self._at = 0

    piece = property(lambda self: self._states[self._at][0])
    gallery = property(lambda self: self._states[self._at][1])

    def show(self, piece: Piece) -> Tensor:
        """Take a piece in hand; returns its picture."""
        x = make(piece)
        self._enter(piece, self.gallery)
        return x

    def keep(self) -> None:
        """Put the piece in hand into the gallery."""
        if self.piece is None:
            raise StudioError("there is no picture yet: make one first")
        self.add([self.piece])

    def add(self, pieces: Sequence[Piece]) -> None:
        """Put pieces into the gallery, those that are not in it, and take the last of them in hand."""
        new = tuple(piece for piece in dict.fromkeys(pieces) if piece not in self.gallery)
        if not new:
            raise StudioError("the gallery has all of that already: change something first")
        if len(self.gallery) + len(new) > MOST_PIECES:
            raise StudioError(f"a gallery has at most {MOST_PIECES} pieces: export it, and begin another")
        self._enter(new[-1], (*self.gallery, *new))

    def drop(self, piece: Piece) -> None:
        """Take a piece out of the gallery; `undo` brings it back."""
        self._enter(self.piece, tuple(kept for kept in self.gallery if kept != piece))

    def undo(self) -> None:
        """One step back."""
        self._go(self._at - 1)

    def redo(self) -> None:
        """One step forward again."""
        self._go(self._at + 1)

    def export(self, folder: Path | str = ".") -> list[Path]:
        """Write the gallery, or the piece in hand if it is empty, as PNG, SVG and JSON; the same pieces get the same names."""
        pieces = self.gallery or tuple(filter(None, [self.piece]))
        files = {"png": png_sheet(pieces), "svg": svg_sheet(pieces).encode(), "json": dump(pieces).encode()}
        stem = f"studio-{hashlib.sha256(files['json']).hexdigest()[:8]}"
        return [write_whole(lambda part, data=data: part.write_bytes(data), Path(folder) / f"{stem}.{kind}")  # type: ignore[misc]
                for kind, data in files.items()]  # fmt: skip

    def _enter(self, piece: Piece | None, gallery: tuple[Piece, ...]) -> None:
        self._states[self._at + 1 :] = [(piece, gallery)]
        self._go(self._at + 1)

    def _go(self, at: int) -> None:
        if not 0 <= at < len(self._states):
            raise StudioError("there is no step to undo" if at < 0 else "there is no step to redo")
        self._at = at
        if self.gallery != self._written:
            self._save()

    def _on_disk(self) -> tuple[Piece, ...]:
        """The gallery in the file; a file that cannot be used gets another name."""
        try:
            return read(self.file.read_bytes())
        except FileNotFoundError:
            return ()
        except StudioError as error:
            digest = hashlib.sha256(self.file.read_bytes()).hexdigest()[:8]
            aside = self.file.replace(self.file.with_name(f"{self.file.stem}-set-aside-{digest}.json"))
            self.message = f"{self.file.name} could not be opened: {error}. It is kept as {aside.name}; a new gallery begins"
            return ()

    def _save(self) -> None:
        """Write the gallery, with what another notebook has put into the file since it was read or written here."""
        try:
            foreign = tuple(piece for piece in self._on_disk() if piece not in (*self._written, *self.gallery))
            self._states = [(piece, (*gallery, *foreign)) for piece, gallery in self._states]
            write_whole(lambda part: part.write_text(dump(self.gallery), encoding="utf-8"), self.file)
        except OSError as error:
            raise StudioError(f"the gallery could not be written to {self.file} ({error.strerror}) and is whole in this "
                              "session: export it to another folder, or make room and keep one more") from error  # fmt: skip
        self._written = self.gallery
