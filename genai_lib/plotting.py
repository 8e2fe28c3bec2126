"""The figures of the course: one palette with a meaning, one way to draw each idea.

Blue is real data, vermilion is generated, purple is the judge, green is the latent space, grey is a baseline (Okabe &
Ito's colours, which colour-blind readers can tell apart). Each function draws on `ax`, or on a new figure, and
returns the axes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Circle, Rectangle
from torch import Tensor

from genai_lib.data.levels import Level
from genai_lib.data.music import HOLD, notes
from genai_lib.data.pictures import tile

REAL = "#0072B2"
GENERATED = "#D55E00"
JUDGE = "#CC79A7"
LATENT = "#009E73"
BASELINE = "#7F7F7F"
COLOURS = {"real": REAL, "generated": GENERATED, "judge": JUDGE, "latent": LATENT, "baseline": BASELINE}
STYLE = {
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "axes.axisbelow": True,
    "font.size": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


P = ParamSpec("P")
R = TypeVar("R")


def _styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw with the course's style, and leave matplotlib's own settings alone."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> R:
        with plt.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


@_styled
def panels(columns: int = 1, rows: int = 1, *, width: float = 7.5, height: float = 2.8) -> np.ndarray:
    """Make a figure with a grid of axes: an array of rows × columns axes, flattened.

    In inches: `width` of the whole figure, `height` of one row.
    """
    _, axes = plt.subplots(rows, columns, figsize=(width, height * rows), squeeze=False, layout="constrained")
    return axes.flatten()


@_styled
def curves(
    x: Tensor | Sequence[float],
    columns: Mapping[str, Tensor | Sequence[float]],
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    colours: Mapping[str, str] | None = None,
    styles: Mapping[str, str] | None = None,
    log: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw one or more curves over a common x.

    Parameters
    ----------
    x : (N,)
    columns : name → (N,)
        Named in the legend.
    colours : name → meaning or colour, optional
        A meaning ("real", "generated", "judge", "latent", "baseline") or any colour.
    styles : name → line style, optional
        ``"-"``, ``"--"``, ``":"``, ``"-."``, or a marker (``"o"``, ``"x"``, ``"s"``) for points without a line.
    log : str
        Axes on a logarithmic scale: ``""``, ``"x"``, ``"y"`` or ``"xy"``.
    """
    ax = panels()[0] if ax is None else ax
    for i, (name, y) in enumerate(columns.items()):
        style = (styles or {}).get(name, "-")
        drawn: dict[str, Any] = {"marker": style, "linestyle": "none"} if style in ("o", "x", "s") else {"linestyle": style}
        ax.plot(_array(x), _array(y), label=name, color=_colour(name, colours, i), **drawn)
    if "x" in log:
        ax.set_xscale("log")
    if "y" in log:
        ax.set_yscale("log")
    if len(columns) > 1:
        ax.legend()
    return _label(ax, title, xlabel, ylabel)


@_styled
def points(
    sets: Mapping[str, Tensor],
    *,
    title: str = "",
    colours: Mapping[str, str] | None = None,
    limit: float | None = None,
    size: float = 4.0,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Scatter one or more sets of two-dimensional points (N, 2), equal scales on both axes.

    Parameters
    ----------
    sets : name → (N, 2)
    limit : float, optional
        Show the square [−limit, limit]².
    legend : bool
        Name the sets; leave it out where a panel beside it has the same ones.
    """
    ax = panels(width=3.6, height=3.6)[0] if ax is None else ax
    for i, (name, xy) in enumerate(sets.items()):
        place = _array(xy)
        ax.scatter(place[:, 0], place[:, 1], s=size, label=name, color=_colour(name, colours, i), alpha=0.6, linewidths=0)
    ax.set_aspect("equal")
    if limit is not None:
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
    if legend and len(sets) > 1:
        ax.legend(markerscale=3, loc="upper right")
    return _label(ax, title, "", "")


@_styled
def landscape(
    function: Callable[[Tensor], Tensor],
    *,
    limit: float = 3.0,
    levels: int | Sequence[float] = 11,
    title: str = "",
    colourbar: str = "",
    bar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Fill the square [−limit, limit]² with a function's value at each point: white for the lowest, purple for the highest.

    Parameters
    ----------
    function : (N, 2) → (N,)
    colourbar : str
        What the value is, with its unit.
    bar : bool
        Draw the colour bar; leave it out where a panel beside it has the same one.
    """
    ax = panels(width=4.2, height=3.6)[0] if ax is None else ax
    side = torch.linspace(-limit, limit, 121)
    grid = torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=2).view(-1, 2)
    with torch.no_grad():
        height = _array(function(grid)).reshape(121, 121)
    shades = LinearSegmentedColormap.from_list("judge", ["white", JUDGE])  # light enough for points in every colour
    filled = ax.contourf(_array(side), _array(side), height, levels=levels, cmap=shades)
    if bar:
        ax.figure.colorbar(filled, ax=ax).set_label(colourbar)
    ax.grid(False)
    ax.set_aspect("equal")
    return _label(ax, title, "", "")


@_styled
def bars(
    estimates: Mapping[str, float | tuple[float, float, float]],
    *,
    title: str = "",
    xlabel: str = "",
    colours: Mapping[str, str] | None = None,
    floor: float | None = None,
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw horizontal bars, with their 95 % intervals where there are some, and the value beside each.

    Parameters
    ----------
    estimates : name → number, or (estimate, low, high)
    floor : float, optional
        The best value possible, a dashed line.
    log : bool
        Logarithmic scale.
    """
    ax = panels(height=0.5 + 0.42 * len(estimates))[0] if ax is None else ax
    for i, (name, value) in enumerate(estimates.items()):
        middle, low, high = (value, value, value) if isinstance(value, int | float) else value
        ax.barh(name, middle, color=_colour(name, colours, i, default=BASELINE), height=0.6)
        if high > low:
            ax.errorbar(middle, name, xerr=[[middle - low], [high - middle]], color="black", capsize=3, linewidth=1)
        ax.annotate(f" {middle:.3g}", (high, i), va="center")
    if floor is not None:
        ax.axvline(floor, color=REAL, linestyle="--", linewidth=1.2)
    if log:
        ax.set_xscale("log")
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.grid(axis="y", visible=False)
    return _label(ax, title, xlabel, "")


@_styled
def pictures(
    x: Tensor, *, columns: int | None = None, title: str = "", kind: str = "baseline", ax: Axes | None = None
) -> Axes:
    """Show a sheet of pictures (N, C, H, W) in [0, 1], framed in the colour of their kind.

    Parameters
    ----------
    kind : str
        ``"real"``, ``"generated"``, ``"latent"`` (for decoded codes) or ``"baseline"``.
    """
    sheet = tile(x, columns=columns)
    if ax is None:
        ax = panels(width=7.5, height=0.35 + 7.5 * sheet.shape[0] / sheet.shape[1])[0]
    ax.imshow(sheet, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set(visible=True, color=_meaning(kind), linewidth=2)
    return _label(ax, title, "", "")


@_styled
def gallery(sheets: Mapping[str, tuple[Tensor, str]], *, columns: int = 6, titles_above: bool = True) -> np.ndarray:
    """Show several sheets side by side: name → (pictures (N, C, H, W), kind). Returns the axes."""
    axes = panels(len(sheets), width=7.5, height=7.5 / len(sheets) + 0.35)
    for ax, (name, (x, kind)) in zip(axes, sheets.items(), strict=True):
        pictures(x, columns=columns, title=name if titles_above else "", kind=kind, ax=ax)
    return axes


@_styled
def rows(sheets: Mapping[str, tuple[Tensor, str]], *, title: str = "", ax: Axes | None = None) -> Axes:
    """Show named rows of pictures below each other: name → (pictures (N, C, H, W), kind), the same N in each row."""
    counts = [len(x) for x, _ in sheets.values()]
    if len(set(counts)) > 1:
        raise ValueError(f"every row must have equally many pictures, got {counts}")
    columns = counts[0]
    sheet = tile(torch.cat([x for x, _ in sheets.values()]), columns=columns)
    if ax is None:
        ax = panels(width=7.5, height=0.35 + 6.2 * sheet.shape[0] / sheet.shape[1])[0]
    ax.imshow(sheet, interpolation="nearest")
    ax.grid(False)
    height = sheet.shape[0] / len(sheets)
    ax.set(xticks=[], yticks=[(i + 0.5) * height for i in range(len(sheets))], yticklabels=list(sheets))
    ax.tick_params(length=0)
    for label, (_, kind) in zip(ax.get_yticklabels(), sheets.values(), strict=True):
        label.set_color(_meaning(kind))
    ax.spines[:].set_visible(False)
    return _label(ax, title, "", "")


@_styled
def histogram(
    sets: Mapping[str, Tensor],
    *,
    bins: int = 60,
    title: str = "",
    xlabel: str = "",
    colours: Mapping[str, str] | None = None,
    density: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw histograms of numbers (N,), scaled to area 1, and exact densities over them.

    Parameters
    ----------
    sets : name → (N,)
    density : name → (x, density at x), optional
    """
    ax = panels()[0] if ax is None else ax
    for i, (name, values) in enumerate(sets.items()):
        ax.hist(_array(values), bins=bins, density=True, alpha=0.4, label=name, color=_colour(name, colours, i))
    for i, (name, (x, y)) in enumerate((density or {}).items()):
        ax.plot(_array(x), _array(y), label=name, color=_colour(name, colours, i))
    ax.legend()
    return _label(ax, title, xlabel, "density")


@_styled
def latent_map(z: Tensor, labels: Tensor, *, limit: float = 3.5, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw codes (N, 2) as the digits they stand for, each at its place, with the prior's one- and two-sigma circles.

    Parameters
    ----------
    labels : (N,)
        Digits. A glyph says which one without any colour; the colour only helps the eye to group.
    """
    ax = panels(width=5.6, height=5.6)[0] if ax is None else ax
    hues = plt.get_cmap("tab10")
    for (horizontal, vertical), digit in zip(_array(z), _array(labels), strict=True):
        if abs(horizontal) < limit and abs(vertical) < limit:
            ax.text(horizontal, vertical, str(int(digit)), color=hues(int(digit)), fontsize=7, ha="center", va="center")
    for radius in (1, 2):
        ax.add_patch(plt.Circle((0, 0), radius, fill=False, color=LATENT, linestyle="--", linewidth=1.2))
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
    ax.set_aspect("equal")
    return _label(ax, title, "$z_1$", "$z_2$")


@_styled
def decoded_map(
    decode: Callable[[Tensor], Tensor], *, limit: float = 2.5, side: int = 17, title: str = "", ax: Axes | None = None
) -> Axes:
    """Decode a lattice over the latent square [−limit, limit]² and show each picture at its place.

    Parameters
    ----------
    decode : (N, 2) → (N, 1, H, W) in [0, 1]
    side : int
        Pictures along each edge.
    """
    ax = panels(width=5.6, height=5.6)[0] if ax is None else ax
    across, up = torch.linspace(-limit, limit, side), torch.linspace(limit, -limit, side)  # the first row is the top one
    z = torch.stack(torch.meshgrid(across, up, indexing="xy"), dim=2).view(-1, 2)
    with torch.no_grad():
        sheet = tile(decode(z), columns=side, gap=0)
    half = limit * (1 + 1 / (side - 1))
    ax.imshow(sheet, extent=(-half, half, -half, half), interpolation="nearest")
    ax.grid(False)
    return _label(ax, title, "$z_1$", "$z_2$")


@_styled
def heatmap(
    values: Tensor, *, rows: Sequence[str] = (), columns: Sequence[str] = (), title: str = "", xlabel: str = "",
    ylabel: str = "", kind: str = "latent", ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Show a table of numbers (R, C), 0 or larger, as squares: white for 0, the colour of its kind for the largest.

    `rows` and `columns` name its rows, from top to bottom, and its columns.
    """
    ax = panels(width=6.0, height=0.7 + 5.6 * values.shape[0] / values.shape[1])[0] if ax is None else ax
    shades = LinearSegmentedColormap.from_list(kind, ["white", _meaning(kind)])
    ax.imshow(_array(values), cmap=shades, vmin=0, interpolation="nearest", aspect="equal")
    ax.set(xticks=range(len(columns)), xticklabels=columns, yticks=range(len(rows)), yticklabels=rows)
    ax.tick_params(length=0, labelsize=7)
    ax.grid(False)
    return _label(ax, title, xlabel, ylabel)


@_styled
def levels(
    shown: Sequence[Level], *, captions: Sequence[str] = (), columns: int = 6, kind: str = "generated", title: str = "",
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Show Sokoban levels: walls grey, goals as rings, boxes as squares in the colour of their kind, the player as a disc.

    Parameters
    ----------
    shown : sequence of Level
        Any, well-formed or not.
    captions : sequence of str, optional
        One for each, below it.
    columns : int
        Levels in a row.
    """
    side, gap = max((max(level.grid.shape) for level in shown), default=1), 2.2 if captions else 1.0
    down = -(-len(shown) // columns)
    if ax is None:
        ax = panels(width=7.5, height=0.4 + 7.3 * down * (side + gap) / (columns * (side + 1)))[0]
    walls, goals, boxes, players = list[Any](), list[Any](), list[Any](), list[Any]()
    for i, level in enumerate(shown):
        left, top = i % columns * (side + 1), i // columns * (side + gap)
        for row, column in np.argwhere(level.grid != " "):
            x, y, cell = left + column, top + row, level.grid[row, column]
            walls += [Rectangle((x, y), 1, 1)] if cell == "#" else []
            goals += [Circle((x + 0.5, y + 0.5), 0.36)] if cell in ".*+" else []
            boxes += [Rectangle((x + 0.24, y + 0.24), 0.52, 0.52)] if cell in "$*" else []
            players += [Circle((x + 0.5, y + 0.5), 0.24)] if cell in "@+" else []
        if captions:
            height, width = level.grid.shape
            ax.text(left + width / 2, top + height + 0.2, captions[i], fontsize=7.5, ha="center", va="top")
    looks = [(walls, "#9AA0A6", "#9AA0A6", 0.5), (goals, "none", "black", 1.1), (boxes, _meaning(kind), "black", 0.5),
             (players, "black", "black", 0.5)]  # fmt: skip
    for patches, face, edge, width in looks:
        ax.add_collection(PatchCollection(patches, facecolor=face, edgecolor=edge, linewidth=width))
    ax.set(xticks=[], yticks=[], xlim=(-0.5, columns * (side + 1) - 0.5), ylim=(down * (side + gap), -0.5))
    ax.set_aspect("equal")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return _label(ax, title, "", "")


@_styled
def piano_roll(
    voices: Tensor, *, steps: int = 2, kinds: Sequence[str] = ("generated",), marked: Sequence[int] | Tensor = (),
    title: str = "", ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw each note of voices (T, V) as a bar: time in quarter notes to the right, pitch upwards.

    The ten grey lines are those of a written score, where the tones do not lie equally far apart.

    Parameters
    ----------
    steps : int
        Time steps in a quarter note.
    kinds : sequence of str
        ``"real"``, ``"generated"``, …: one for all voices, or one for each.
    marked : sequence of int
        Steps to mark with the judge's colour.
    """
    ax = panels(height=2.6)[0] if ax is None else ax
    for line in (43, 47, 50, 53, 57, 64, 67, 71, 74, 77):  # those of the bass clef, then those of the treble clef
        ax.axhline(line, color="#C8C8C8", linewidth=0.7, zorder=0)
    for step in marked:
        ax.axvspan((int(step) - 1) / steps, (int(step) + 1) / steps, color=JUDGE, alpha=0.35, linewidth=0, zorder=0)
    for voice, begin, end, pitch in notes(voices):
        if pitch < HOLD:
            colour = _meaning(kinds[voice % len(kinds)])
            ax.barh(pitch, (end - begin - 0.15) / steps, left=begin / steps, height=0.9, color=colour)
    octaves = {36: "C2", 48: "C3", 60: "C4", 72: "C5", 84: "C6"}
    ax.set(xlim=(0, len(voices) / steps), xticks=range(0, len(voices) // steps + 1, 4))
    ax.set_yticks(list(octaves), labels=list(octaves.values()))
    heard = voices[voices < HOLD]
    ax.set_ylim(*((int(heard.min()) - 2, int(heard.max()) + 2) if len(heard) else (48, 72)))
    ax.grid(axis="y", visible=False)
    return _label(ax, title, "quarter notes", "")


def _array(values: Tensor | Sequence[float] | np.ndarray) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _meaning(kind: str) -> str:
    if kind not in COLOURS:
        raise ValueError(f"kind must be one of {', '.join(COLOURS)}, got {kind!r}")
    return COLOURS[kind]


def _colour(name: str, colours: Mapping[str, str] | None, place: int, default: str | None = None) -> str:
    """The colour asked for; else the one the name means; else the place's in the palette."""
    asked = (colours or {}).get(name, name)
    if asked in COLOURS:
        return COLOURS[asked]
    if asked != name:
        return asked
    return default or list(COLOURS.values())[place % len(COLOURS)]


def _label(ax: Axes, title: str, xlabel: str, ylabel: str) -> Axes:
    said = {"title": title, "xlabel": xlabel, "ylabel": ylabel}
    ax.set(**{place: text for place, text in said.items() if text})
    return ax
