from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgba

from genai_lib import Noise, plotting
from genai_lib.data.levels import Level
from genai_lib.data.pictures import tile
from genai_lib.metrics import Interval, bootstrap

plt = plotting.plt


@pytest.fixture(autouse=True)
def closed_figures():
    """Draw into memory, and leave no figure behind."""
    before = matplotlib.get_backend()
    plt.switch_backend("Agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


def drawn(ax):
    """Render the axes' figure: its pixels (H, W, 4)."""
    ax.figure.canvas.draw()
    return np.asarray(ax.figure.canvas.buffer_rgba())


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# ---------------------------------------------------------------- the palette


def test_the_palette_is_the_courses():
    assert plotting.COLOURS == {
        "real": "#0072B2", "generated": "#D55E00", "judge": "#CC79A7", "latent": "#009E73", "baseline": "#7F7F7F"
    }  # fmt: skip
    for meaning, colour in plotting.COLOURS.items():
        assert getattr(plotting, meaning.upper()) == colour


@pytest.mark.parametrize(
    "name, colours, expected",
    [
        ("real", None, plotting.REAL),
        ("generated", {}, plotting.GENERATED),
        ("D(x)", {"D(x)": "judge"}, plotting.JUDGE),
        ("real", {"real": "latent"}, plotting.LATENT),
        ("any", {"any": "black"}, "#000000"),
        ("any", {"any": "#123456"}, "#123456"),
        ("any", None, plotting.REAL),
    ],
)
def test_a_curves_colour_is_what_its_name_means_or_what_is_asked(name, colours, expected):
    ax = plotting.curves([0, 1], {name: [0, 1]}, colours=colours)
    assert to_hex(ax.lines[0].get_color()) == expected.lower()


def test_names_without_a_meaning_take_their_places_in_the_palette():
    ax = plotting.curves([0, 1], {str(i): [0, i] for i in range(6)})
    palette = [*plotting.COLOURS.values(), plotting.REAL]
    assert [to_hex(line.get_color()) for line in ax.lines] == [c.lower() for c in palette]


# ---------------------------------------------------------------- each figure


def test_panels_are_a_flat_array_of_axes():
    axes = plotting.panels(3, 2, width=6.0, height=2.0)
    assert axes.shape == (6,)
    assert axes[0].figure.get_size_inches().tolist() == [6.0, 4.0]
    assert plotting.panels().shape == (1,)
    assert not axes[0].spines["top"].get_visible()


def test_making_figures_leaves_matplotlibs_settings_alone():
    before = dict(matplotlib.rcParams)
    drawn(plotting.curves([0, 1], {"a": [0, 1], "b": [1, 0]}, title="t"))
    assert dict(matplotlib.rcParams) == before


def test_the_style_holds_for_what_is_drawn_later():
    ax = plotting.curves([0, 1], {"a": [0, 1], "b": [1, 0]}, title="a title")
    assert ax.get_title(loc="left") == "a title"
    assert ax.get_legend().get_frame_on() is False
    assert ax.lines[0].get_linewidth() == plotting.STYLE["lines.linewidth"]
    (title,) = [text for text in ax.findobj(matplotlib.text.Text) if text.get_text() == "a title"]
    assert title.get_fontsize() == plotting.STYLE["axes.titlesize"]


def titles(ax):
    return {ax.get_title(loc=loc) for loc in ("left", "center", "right")} - {""}


def test_curves():
    x, y = torch.linspace(1, 2, 7), torch.linspace(3, 5, 7, requires_grad=True)
    ax = plotting.curves(x, {"real": y, "generated": [1.0] * 7}, title="T", xlabel="step", ylabel="nats",
                         styles={"generated": "--"}, log="xy")  # fmt: skip
    assert drawn(ax).std() > 0
    assert isinstance(ax, matplotlib.axes.Axes)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), torch.stack((x, y.detach()), dim=1).numpy())
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert legend(ax) == ["real", "generated"]
    assert (titles(ax), ax.get_xlabel(), ax.get_ylabel()) == ({"T"}, "step", "nats")
    plain = plotting.curves(x, {"real": y})
    assert plain.get_legend() is None
    assert (plain.get_xscale(), plain.get_yscale(), titles(plain)) == ("linear", "linear", set())
    assert plotting.curves(x, {"real": y}, log="x").get_yscale() == "linear"


@pytest.mark.parametrize("style, line, marker", [("o", "None", "o"), ("x", "None", "x"), (":", ":", "None")])
def test_a_curve_may_be_points(style, line, marker):
    (curve,) = plotting.curves([0, 1], {"real": [0, 1]}, styles={"real": style}).lines
    assert (curve.get_linestyle(), curve.get_marker()) == (line, marker)


def test_points():
    sets = {"real": Noise(0).normal(7, 2), "generated": Noise(1).normal(5, 2)}
    ax = plotting.points(sets, limit=3, title="T")
    assert drawn(ax).std() > 0
    for dots, (name, xy) in zip(ax.collections, sets.items(), strict=True):
        np.testing.assert_allclose(dots.get_offsets(), xy.numpy(), rtol=1e-6)
        assert to_hex(dots.get_facecolor()[0]) == plotting.COLOURS[name].lower()
    assert (ax.get_xlim(), ax.get_ylim(), ax.get_aspect()) == ((-3, 3), (-3, 3), 1)
    assert legend(ax) == ["real", "generated"]
    assert plotting.points({"real": sets["real"]}).get_legend() is None
    assert plotting.points(sets, legend=False).get_legend() is None


def test_a_landscape_shows_the_function_where_it_is():
    asked = []

    def slope(x):
        asked.append(x)
        return x[:, 0] + 10 * x[:, 1]

    ax = plotting.landscape(slope, limit=2.0, levels=[-30, 0, 30], title="T", colourbar="nats")
    (grid,) = asked
    assert grid.shape == (121 * 121, 2)
    assert grid.min(dim=0).values.tolist() == [-2, -2]
    assert grid.max(dim=0).values.tolist() == [2, 2]
    picture = drawn(ax)
    place = ax.get_window_extent()
    high = picture.shape[0]

    def shade(x, y):  # the colour at a point of the plane
        right, up = ax.transData.transform((x, y)).astype(int)
        return picture[high - up, right, :3].astype(int).sum()

    assert shade(0, 1.5) < shade(0, -1.5)  # white is low, purple is high; the second axis weighs most
    assert place.width == pytest.approx(place.height, rel=0.01)
    assert ax.figure.axes[1].get_ylabel() == "nats"
    assert len(plotting.landscape(slope, bar=False).figure.axes) == 1


def test_bars():
    values = {"real": 1, "generated": (3.0, 2.5, 4.0), "mixture": Interval(2.0, 1.5, 2.5)}
    ax = plotting.bars(values, title="T", xlabel="FID", floor=0.5)
    assert drawn(ax).std() > 0
    assert [bar.get_width() for bar in ax.patches] == [1, 3, 2]
    expected = [plotting.REAL, plotting.GENERATED, plotting.BASELINE]
    assert [to_hex(bar.get_facecolor()) for bar in ax.patches] == [c.lower() for c in expected]
    assert [text.get_text().strip() for text in ax.texts] == ["1", "3", "2"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(values)
    low, high = ax.get_ylim()
    assert low > high  # the first name stands on top
    assert len(ax.containers) == 5  # three bars, two intervals
    whiskers = [c.lines[2][0].get_segments()[0][:, 0].tolist() for c in ax.containers if hasattr(c, "has_xerr")]
    assert whiskers == [[2.5, 4.0], [1.5, 2.5]]
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [0.5]
    assert plotting.bars({"a": 10.0, "b": 1.0}, log=True).get_xscale() == "log"
    drawn(plotting.bars({"a": bootstrap([1.0, 2.0, 4.0])}, colours={"a": "generated"}))


def test_pictures_are_shown_pixel_by_pixel_in_a_frame_of_their_kind():
    x = Noise(0).uniform(7, 1, 5, 3)
    for kind, colour in plotting.COLOURS.items():
        ax = plotting.pictures(x, columns=4, kind=kind, title="T")
        assert np.array_equal(ax.images[0].get_array(), tile(x, columns=4))
        assert all(side.get_visible() and side.get_edgecolor() == to_rgba(colour) for side in ax.spines.values())
        assert len(ax.get_xticks()) == len(ax.get_yticks()) == 0
    assert drawn(ax).std() > 0


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError) as error:
        plotting.pictures(torch.zeros(1, 1, 2, 2), kind="fake")
    assert str(error.value) == "kind must be one of real, generated, judge, latent, baseline, got 'fake'"


def test_pictures_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"pictures must have shape \(N, 1 or 3, H, W\)"):
        plotting.pictures(torch.zeros(28, 28))


def test_a_gallery_has_a_sheet_for_each_name():
    x = Noise(0).uniform(5, 1, 5, 3)
    axes = plotting.gallery({"a": (x, "real"), "b": (1 - x, "generated"), "c": (x, "latent")}, columns=2)
    assert len(axes) == 3
    assert [titles(ax) for ax in axes] == [{"a"}, {"b"}, {"c"}]
    assert np.array_equal(axes[1].images[0].get_array(), tile(1 - x, columns=2))
    assert axes[1].spines["left"].get_edgecolor() == to_rgba(plotting.GENERATED)
    bare = plotting.gallery({"a": (x, "real"), "b": (x, "real")}, titles_above=False)
    assert [titles(ax) for ax in bare] == [set(), set()]
    assert drawn(axes[0]).std() > 0


def test_rows_stand_below_each_other_with_their_names():
    x = Noise(0).uniform(5, 1, 5, 3)
    ax = plotting.rows({"digits": (x, "real"), "rebuilt": (1 - x, "generated")}, title="T")
    assert np.array_equal(ax.images[0].get_array(), tile(torch.cat([x, 1 - x]), columns=5))
    labels = ax.get_yticklabels()
    assert [text.get_text() for text in labels] == ["digits", "rebuilt"]
    assert [text.get_color() for text in labels] == [plotting.REAL, plotting.GENERATED]
    assert 0 < ax.get_yticks()[0] < 5 < ax.get_yticks()[1] < 12  # beside their rows: pixels 0–5 and 7–12
    assert drawn(ax).std() > 0


def test_rows_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match=r"^every row must have equally many pictures, got \[3, 2\]$"):
        plotting.rows({"a": (torch.zeros(3, 1, 2, 2), "real"), "b": (torch.zeros(2, 1, 2, 2), "generated")})


def test_histograms_have_area_one_and_densities_over_them():
    x = torch.linspace(-4, 4, 101)
    density = torch.exp(-0.5 * x**2) / (2 * torch.pi) ** 0.5
    ax = plotting.histogram({"real": Noise(0).normal(1_009)}, bins=30, xlabel="x", density={"p(x)": (x, density)})
    assert sum(bar.get_width() * bar.get_height() for bar in ax.patches) == pytest.approx(1)
    assert len(ax.patches) == 30
    assert to_hex(ax.patches[0].get_facecolor()) == plotting.REAL.lower()
    np.testing.assert_allclose(ax.lines[0].get_ydata(), density.numpy())
    assert sorted(legend(ax)) == ["p(x)", "real"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x", "density")
    assert drawn(ax).std() > 0


def test_a_latent_map_writes_each_digit_at_its_place():
    z = torch.tensor([[0.5, -1.0], [2.0, 2.0], [9.0, 0.0]])
    ax = plotting.latent_map(z, torch.tensor([3, 7, 5]), limit=3.0, title="T")
    assert [(text.get_text(), text.get_position()) for text in ax.texts] == [("3", (0.5, -1.0)), ("7", (2.0, 2.0))]
    circles = [(circle.get_radius(), circle.center) for circle in ax.patches]
    assert circles == [(1, (0, 0)), (2, (0, 0))]  # the prior's one and two sigma; 9 lies outside the figure
    assert all(circle.get_edgecolor() == to_rgba(plotting.LATENT) for circle in ax.patches)
    assert (ax.get_xlim(), ax.get_ylabel()) == ((-3, 3), "$z_2$")
    assert drawn(ax).std() > 0


@pytest.mark.parametrize("side", [2, 5])
def test_a_decoded_map_puts_each_picture_where_its_code_is(side):
    def decode(z):  # a picture of one grey value: dark on the left, light on the right, and a little lighter on top
        return (0.5 + 0.15 * z[:, :1, None, None] + 0.02 * z[:, 1:, None, None]).expand(-1, 1, 3, 3)

    ax = plotting.decoded_map(decode, limit=2.0, side=side)
    sheet = ax.images[0].get_array()[::3, ::3, 0].astype(int)
    assert sheet.shape == (side, side)
    assert (np.diff(sheet, axis=1) > 0).all()  # z₁ grows to the right
    assert (np.diff(sheet, axis=0) < 0).all()  # z₂ grows upwards
    left, right, bottom, top = ax.images[0].get_extent()
    step = 4.0 / (side - 1)
    assert (left, right, bottom, top) == pytest.approx((-2 - step / 2, 2 + step / 2, -2 - step / 2, 2 + step / 2))
    assert sheet[0, 0] == round(255 * (0.5 - 0.3 + 0.04))
    assert drawn(ax).std() > 0


def test_a_heatmap_shows_each_number_in_its_place():
    values = torch.tensor([[0.0, 2.0, 1.0], [4.0, 0.0, 3.0]])
    ax = plotting.heatmap(values, rows="ab", columns="xyz", title="t", xlabel="x", ylabel="y", kind="judge")
    image = ax.images[0]
    assert np.array_equal(image.get_array(), values)
    assert to_hex(image.cmap(image.norm(0.0))) == "#ffffff"
    assert to_hex(image.cmap(image.norm(4.0))).upper() == plotting.JUDGE
    assert [label.get_text() for label in (*ax.get_yticklabels(), *ax.get_xticklabels())] == list("abxyz")
    assert (ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()) == ("t", "x", "y")
    given = plotting.panels()[0]
    assert plotting.heatmap(values, ax=given) is given
    assert not given.get_xticklabels()
    assert drawn(ax).std() > 0


def test_levels_show_each_cell_in_its_place():
    small, odd = Level.parse("#####\n#+$*#\n#####"), Level(("@@", "."))
    ax = plotting.levels([small, odd, odd], captions=["a", "b", "c"], columns=2, kind="real", title="t")

    def corners(number):
        return sorted(tuple(path.vertices[0].round(2).tolist()) for path in ax.collections[number].get_paths())

    walls, goals, boxes, players = (ax.collections[number] for number in range(4))
    assert [len(kind.get_paths()) for kind in (walls, goals, boxes, players)] == [12, 4, 2, 5]
    assert corners(2) == [(2.24, 1.24), (3.24, 1.24)]
    assert (0.0, 0.0) in corners(0)
    assert (4.0, 2.0) in corners(0)
    centres = sorted(tuple(path.get_extents().get_points().mean(axis=0).round(2).tolist()) for path in players.get_paths())
    assert centres == [(0.5, 7.7), (1.5, 1.5), (1.5, 7.7), (6.5, 0.5), (7.5, 0.5)]  # 5 + 1 to the right, 5 + 2.2 down
    assert to_hex(boxes.get_facecolor()[0]).upper() == plotting.REAL
    assert ([text.get_text() for text in ax.texts], ax.get_title(loc="left")) == (["a", "b", "c"], "t")
    assert ax.yaxis_inverted()
    given = plotting.panels()[0]
    assert plotting.levels([small], ax=given) is given
    assert len(plotting.levels([]).texts) == 0  # where none was found, nothing is drawn
    assert drawn(ax).std() > 0


def test_everything_can_be_drawn_on_given_axes():
    x, z = Noise(0).uniform(3, 1, 2, 2), Noise(1).normal(3, 2)
    ways = [
        lambda ax: plotting.curves([0, 1], {"real": [0, 1]}, ax=ax),
        lambda ax: plotting.points({"real": z}, ax=ax),
        lambda ax: plotting.landscape(lambda z: z[:, 0], ax=ax),
        lambda ax: plotting.bars({"real": 1.0}, ax=ax),
        lambda ax: plotting.pictures(x, ax=ax),
        lambda ax: plotting.rows({"a": (x, "real")}, ax=ax),
        lambda ax: plotting.histogram({"real": z[:, 0]}, ax=ax),
        lambda ax: plotting.latent_map(z, torch.tensor([1, 2, 3]), ax=ax),
        lambda ax: plotting.decoded_map(lambda z: z[:, :1, None, None].sigmoid().expand(-1, 1, 2, 2), ax=ax),
    ]
    axes = plotting.panels(3, 3)
    figures = len(plt.get_fignums())
    for way, ax in zip(ways, axes, strict=True):
        assert way(ax) is ax
    assert len(plt.get_fignums()) == figures  # no second figure was made
    assert drawn(axes[0]).std() > 0


def test_a_piano_roll_has_a_bar_for_each_note():
    h, r = 128, 129
    voices = torch.tensor([[72, h, r, 74], [r, 48, h, h]]).T
    ax = plotting.piano_roll(voices, steps=2, kinds=["real", "generated"], marked=[3], title="t")
    bars = [patch for patch in ax.patches if patch.get_height() < 0.95]
    told = [(patch.get_x(), patch.get_width(), patch.get_y() + 0.45, to_hex(patch.get_facecolor()).upper()) for patch in bars]
    assert told == [
        (0, pytest.approx(0.925), pytest.approx(72), plotting.REAL),
        (1.5, pytest.approx(0.425), pytest.approx(74), plotting.REAL),
        (0.5, pytest.approx(1.425), pytest.approx(48), plotting.GENERATED),
    ]  # fmt: skip
    (mark,) = [patch for patch in ax.patches if patch.get_height() >= 0.95]
    assert (mark.get_x(), mark.get_width()) == (1, 1)
    assert ax.get_xlim() == (0, 2)
    assert ax.get_ylim() == (46, 76)
    assert sorted(line.get_ydata()[0] for line in ax.lines) == [43, 47, 50, 53, 57, 64, 67, 71, 74, 77]
    assert ax.get_title(loc="left") == "t"
    given = plotting.panels()[0]
    assert plotting.piano_roll(torch.full((4, 4), r), ax=given) is given  # silence
    assert drawn(ax).std() > 0
