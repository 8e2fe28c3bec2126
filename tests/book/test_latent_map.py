"""The latent map in a real browser, without a network: on a page of its own, on the chapter's page, and under a live kernel.

Each check moves the point as a reader would, reads z from the figure's text and the picture from its canvas, and holds
the picture against PyTorch at that z.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page
from widget_page import open_figure, write_page

from genai_lib import data, pretrained
from genai_lib.models.vae import VAE
from genai_lib.widgets import LatentMap

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = "notebooks/06_vae_elbo.html"
ALLOWED = 2 / 255
PLACES = [(-2.0, 1.5), (0.0, 0.0), (1.75, -0.5), (0.6, 2.4), (-1.1, -2.2), (2.9, 2.9)]


# ---------------------------------------------------------------- pages


@pytest.fixture(scope="module")
def vae() -> VAE:
    return pretrained.load("vae-map")


@pytest.fixture(scope="module")
def widget(vae: VAE) -> LatentMap:
    test = data.load("mnist", "test")
    return LatentMap.from_model(vae, test.x[:1000], test.y[:1000], z=(0.5, -1.0))


@pytest.fixture
def own_page(tmp_path: Path, widget: LatentMap) -> str:
    return write_page(tmp_path / "map.html", widget)


@pytest.fixture(params=["own page", "chapter"])
def address(request: pytest.FixtureRequest) -> str:
    """The page of its own, then the chapter's page on the built site."""
    if request.param == "own page":
        return request.getfixturevalue("own_page")
    return (request.getfixturevalue("site") / CHAPTER).as_uri()


def open_map(page: Page, address: str) -> Locator:
    return open_figure(page, address, ".latent-map")


@pytest.fixture
def figure(page: Page, address: str) -> Locator:
    return open_map(page, address)


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """A phone: 360 px wide, a finger in place of a mouse."""
    context = browser.new_context(viewport={"width": 360, "height": 740}, device_scale_factor=2, has_touch=True, is_mobile=True)
    yield context.new_page()
    context.close()


# ---------------------------------------------------------------- what a reader sees and does


def z_shown(figure: Locator) -> tuple[float, float]:
    text = figure.locator(".lm-z").inner_text()
    match = re.fullmatch(r"z = \((−?\d\.\d\d), (−?\d\.\d\d)\)", text)
    assert match, text
    first, second = (float(group.replace("−", "-")) for group in match.groups())
    return first, second


def pixels(canvas: Locator) -> np.ndarray:
    """What a canvas shows: (height, width, 4) uint8. Read from a copy, for Chromium warns of reading the original often."""
    height, width, encoded = canvas.evaluate("""canvas => {
        const { width, height } = canvas;
        const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        const values = copy.getImageData(0, 0, width, height).data;
        let text = "";
        for (let i = 0; i < values.length; i += 4096) text += String.fromCharCode(...values.subarray(i, i + 4096));
        return [height, width, btoa(text)];
    }""")
    return np.frombuffer(base64.b64decode(encoded), dtype=np.uint8).reshape(height, width, 4)


def picture(figure: Locator) -> np.ndarray:
    """The digit's canvas: 28 × 28 pixels in [0, 1]; it must be grey and opaque."""
    rgba = pixels(figure.locator(".lm-digit"))
    assert (rgba[..., 3] == 255).all()
    assert (rgba[..., :3] == rgba[..., :1]).all()
    return rgba[..., 0] / 255


def gap(figure: Locator, vae: VAE) -> float:
    """Largest difference in a pixel between the figure's picture and PyTorch's at the z that the figure states."""
    with torch.no_grad():
        wanted = vae.decode(torch.tensor([z_shown(figure)])).sigmoid()[0, 0].numpy()
    shown = picture(figure)
    assert shown.shape == wanted.shape == (28, 28)
    return float(np.abs(shown - wanted).max())


def on_screen(figure: Locator, z: tuple[float, float]) -> tuple[float, float]:
    """Where on the screen z lies."""
    extent = float(figure.locator(".lm-plane").get_attribute("aria-valuemax") or "nan")
    box = figure.locator(".lm-map").bounding_box()
    assert box
    return box["x"] + box["width"] * (1 + z[0] / extent) / 2, box["y"] + box["height"] * (1 - z[1] / extent) / 2


def drag(page: Page, figure: Locator, z: tuple[float, float]) -> None:
    page.mouse.move(*on_screen(figure, z_shown(figure)))
    page.mouse.down()
    page.mouse.move(*on_screen(figure, z), steps=6)
    page.mouse.up()


def map_colours(figure: Locator) -> np.ndarray:
    """Pixels of the plane's canvas, (N, 4)."""
    return pixels(figure.locator(".lm-map")).reshape(-1, 4)


def test_the_figure_starts_at_its_point_with_its_picture(figure: Locator, vae: VAE, console_errors, foreign_requests):
    assert gap(figure, vae) <= ALLOWED
    assert picture(figure).max() > 0.5
    plane = figure.locator(".lm-plane")
    assert plane.get_attribute("aria-valuetext") == figure.locator(".lm-z").inner_text()
    box, digit = plane.bounding_box(), figure.locator(".lm-digit").bounding_box()
    assert box
    assert box["width"] > 200
    assert digit
    assert digit["width"] == pytest.approx(digit["height"], abs=1)
    assert digit["width"] > 100  # 28 pixels, enlarged by CSS
    assert console_errors == []
    assert foreign_requests == []


def test_dragging_moves_the_point_and_draws_what_torch_draws(page, figure, vae, console_errors, foreign_requests):
    seen = {}
    for place in PLACES:
        drag(page, figure, place)
        at = z_shown(figure)
        np.testing.assert_allclose(at, place, atol=0.03)  # a pixel of the screen is about 0.014
        assert gap(figure, vae) <= ALLOWED, place
        handle = figure.locator(".lm-handle").bounding_box()
        assert handle
        centre = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
        np.testing.assert_allclose(centre, on_screen(figure, at), atol=1.5)
        seen[figure.locator(".lm-z").inner_text()] = picture(figure)
    assert len(seen) == len(PLACES)
    pictures = list(seen.values())
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert np.abs(one - other).max() > 0.5  # far places, other digits
    assert console_errors == []
    assert foreign_requests == []


def test_while_the_mouse_moves_the_picture_follows(page, figure, vae):
    page.mouse.move(*on_screen(figure, (-1.5, 0.5)))
    page.mouse.down()  # anywhere on the map: the point comes
    np.testing.assert_allclose(z_shown(figure), (-1.5, 0.5), atol=0.03)
    for place in [(-0.5, 0.5), (0.5, 1.0), (1.5, 1.0)]:
        page.mouse.move(*on_screen(figure, place))
        np.testing.assert_allclose(z_shown(figure), place, atol=0.03)
        assert gap(figure, vae) <= ALLOWED
    page.mouse.up()
    page.mouse.move(*on_screen(figure, (-2.0, -2.0)))
    np.testing.assert_allclose(z_shown(figure), (1.5, 1.0), atol=0.03)  # let go


def test_dragging_beyond_the_edge_stops_at_the_edge(page, figure, vae):
    x, y = on_screen(figure, (0.0, 0.0))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 2000, y, steps=3)
    extent = float(figure.locator(".lm-plane").get_attribute("aria-valuemax"))
    assert z_shown(figure)[0] == -extent
    assert gap(figure, vae) <= ALLOWED
    page.mouse.up()


def test_the_arrow_keys_move_the_point_and_the_focus_can_be_seen(page, figure, vae, console_errors):
    drag(page, figure, (0.0, 0.0))
    plane = figure.locator(".lm-plane")
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    assert plane.evaluate("p => p === document.activeElement && p.matches(':focus-visible')")
    outline = plane.evaluate("p => { const s = getComputedStyle(p); return [s.outlineStyle, parseFloat(s.outlineWidth)]; }")
    assert outline == ["solid", 3]
    z = np.array(z_shown(figure))
    scrolled = page.evaluate("scrollY")
    for key, step in [("ArrowRight", (0.05, 0)), ("ArrowUp", (0, 0.05)),
                      ("Shift+ArrowLeft", (-0.5, 0)), ("ArrowLeft", (-0.05, 0)),
                      ("Shift+ArrowDown", (0, -0.5)), ("ArrowDown", (0, -0.05)), ("Shift+ArrowRight", (0.5, 0))]:
        before = picture(figure)
        page.keyboard.press(key)
        z = z + step
        np.testing.assert_allclose(z_shown(figure), z, atol=1e-9)
        assert gap(figure, vae) <= ALLOWED
        assert not np.array_equal(picture(figure), before)
        assert plane.get_attribute("aria-valuetext") == figure.locator(".lm-z").inner_text()
    assert page.evaluate("scrollY") == scrolled
    assert console_errors == []


def test_the_button_draws_z_from_the_prior(page, figure, vae, console_errors):
    button = figure.get_by_role("button", name="Random z ~ N(0, I)")
    seen = [z_shown(figure)]
    for _ in range(4):
        before = map_colours(figure)
        button.click()
        seen.append(z_shown(figure))
        assert gap(figure, vae) <= ALLOWED
        said = figure.locator(".lm-status[role=status]").text_content()  # for those who hear the page
        assert said == f"Drawn from the prior: {figure.locator('.lm-z').inner_text()}"
        assert not np.array_equal(map_colours(figure), before)  # the draw stays on the map as a dot
    assert len(set(seen)) == 5
    assert console_errors == []


def test_the_buttons_draws_are_standard_normal(page, own_page):
    figure = open_map(page, own_page)
    draws = np.array(figure.evaluate("""(figure) => { // a fixed stream (xorshift) in place of the browser's
        let s = 20140410;
        Math.random = () => { s ^= s << 13; s ^= s >>> 17; s ^= s << 5; return (s >>> 0) / 2 ** 32; };
        const plane = figure.querySelector(".lm-plane"), button = figure.querySelector("button");
        return Array.from({ length: 300 }, () => {
            button.click();
            return plane.getAttribute("aria-valuetext").replaceAll("−", "-").match(/-?\\d\\.\\d\\d/g).map(Number);
        });
    }"""))
    assert draws.shape == (300, 2)
    assert np.abs(draws.mean(axis=0)).max() < 4 / np.sqrt(300)
    assert np.abs(draws.std(axis=0) - 1).max() < 4 / np.sqrt(600)
    assert abs(np.corrcoef(draws.T)[0, 1]) < 4 / np.sqrt(300)
    assert np.mean(np.hypot(*draws.T) < 1) == pytest.approx(1 - np.exp(-0.5), abs=0.11)  # the ring marked 39 %


def test_a_finger_taps_and_drags(phone, address, vae):
    errors: list[str] = []
    phone.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    phone.on("pageerror", lambda error: errors.append(str(error)))
    figure = open_map(phone, address)
    for place in [(-1.5, 1.2), (1.4, -0.8)]:
        phone.touchscreen.tap(*on_screen(figure, place))
        np.testing.assert_allclose(z_shown(figure), place, atol=0.05)
        assert gap(figure, vae) <= ALLOWED
    finger = phone.context.new_cdp_session(phone)
    start, end = on_screen(figure, z_shown(figure)), on_screen(figure, (-0.5, 1.5))
    finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": start[0], "y": start[1]}]})
    for share in (0.25, 0.5, 0.75, 1.0):
        x, y = (a + share * (b - a) for a, b in zip(start, end, strict=True))
        finger.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y}]})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    phone.wait_for_timeout(50)
    np.testing.assert_allclose(z_shown(figure), (-0.5, 1.5), atol=0.06)
    assert gap(figure, vae) <= ALLOWED
    assert errors == []


def test_on_a_phone_it_fits_and_is_large_enough_to_touch(phone, address):
    figure = open_map(phone, address)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    for name, least in [(".lm-plane", 240), (".lm-digit", 84), ("button", 40), ("label", 24), (".lm-handle", 44)]:
        box = figure.locator(name).bounding_box()
        assert box
        assert box["height"] >= least, name
        if name != ".lm-handle":  # it may overlap the edge of the map
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 360
    for text in figure.locator("p, label, button").all():
        assert text.evaluate("e => e.scrollWidth <= e.clientWidth + 1 || e.classList.contains('lm-status')")


def test_another_theme_repaints_it_and_keeps_the_picture(page, figure, vae):
    def luminance(of: str, what: str) -> float:
        colour = figure.locator(of).evaluate("(e, what) => getComputedStyle(e)[what]", what)
        return float(np.mean([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]))

    drawn, light = picture(figure), map_colours(figure)
    assert luminance(".lm-plane", "backgroundColor") > 200 > 120 > luminance(".lm-note", "color")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_timeout(100)
    dark = map_colours(figure)
    assert not np.array_equal(dark, light)
    assert luminance(".lm-plane", "backgroundColor") < 60 < 120 < luminance(".lm-note", "color")
    opaque_light, opaque_dark = (c[c[:, 3] == 255, :3].mean() for c in (light, dark))
    assert opaque_dark > opaque_light  # digits, rings and axes have become lighter
    assert np.array_equal(picture(figure), drawn)
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    page.wait_for_timeout(100)
    assert np.array_equal(map_colours(figure), light)


def test_the_whole_map_can_be_decoded(page, figure, console_errors):
    before = map_colours(figure)
    figure.get_by_label("decode the whole map").check()
    after = map_colours(figure)
    assert (after[:, 3] > 0).mean() > (before[:, 3] > 0).mean()
    figure.get_by_label("decode the whole map").uncheck()
    assert np.array_equal(map_colours(figure), before)
    assert console_errors == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(page, figure, theme):
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    page.wait_for_timeout(300)
    found = Axe().run(page, context=".latent-map")
    assert found.violations_count == 0, found.generate_report()
    checked = Axe().run(page, context=".latent-map", options={"resultTypes": ["passes"]}).response["passes"]
    assert {"color-contrast", "button-name", "label"} <= {rule["id"] for rule in checked}


def test_nothing_in_it_moves_by_itself(page, figure):
    page.emulate_media(reduced_motion="no-preference")
    figure.get_by_role("button").click()
    assert figure.evaluate("f => f.getAnimations({ subtree: true }).length") == 0
    before = map_colours(figure), picture(figure)
    page.wait_for_timeout(300)
    assert np.array_equal(map_colours(figure), before[0])
    assert np.array_equal(picture(figure), before[1])


# ---------------------------------------------------------------- the loader


def test_two_views_of_one_widget_move_together(page, tmp_path, widget, vae, console_errors):
    figure = open_map(page, write_page(tmp_path / "two.html", widget, views=[widget.model_id] * 2))
    assert page.locator(".latent-map").count() == 2
    styles = page.locator("style").evaluate_all("all => all.filter(one => one.textContent.includes('.latent-map')).length")
    assert styles == 1
    drag(page, figure, (-1.0, 2.0))
    second = page.locator(".latent-map").last
    assert z_shown(second) == z_shown(figure)
    assert np.array_equal(picture(second), picture(figure))
    assert gap(second, vae) <= ALLOWED
    assert console_errors == []


def test_what_cannot_be_shown_says_why_and_does_not_stop_the_rest(page, tmp_path, widget, vae, console_errors):
    slider = {"model_module": "@jupyter-widgets/controls", "model_name": "IntSliderModel", "state": {}}
    broken = {"model_module": "anywidget", "model_name": "AnyModel", "state": {"_esm": "export default {"}}
    views = ["gone", "slider", "broken", widget.model_id]
    open_map(page, write_page(tmp_path / "bad.html", widget, views=views, extra={"slider": slider, "broken": broken}))
    page.wait_for_function("[...document.querySelectorAll('.widget-on-page')].every(box => box.textContent)")
    gone, needs_kernel, failed, _ = page.locator(".widget-on-page").all_inner_texts()
    assert "could not be started in your browser (its state was not saved with the notebook)" in gone
    assert needs_kernel == "This control needs a running kernel: open the chapter in Jupyter or Colab to use it."
    assert "could not be started in your browser (" in failed
    assert len(console_errors) == 2  # the two failures are on the console, too
    drag(page, page.locator(".latent-map"), (1.0, 1.0))
    assert gap(page.locator(".latent-map"), vae) <= ALLOWED


# ---------------------------------------------------------------- a live kernel

HOST = """async ([code, state, kind]) => { // what Jupyter and Colab hand to an anywidget: a model with buffers, an element
    const binary = (text) => {
        const list = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        const padded = new Uint8Array([9, 9, 9, ...list, 9]); // a message's buffers are windows into one large buffer
        if (kind === "DataView") return new DataView(padded.buffer, 3, list.length);
        return kind === "Uint8Array" ? padded.subarray(3, 3 + list.length) : padded.buffer.slice(3, 3 + list.length);
    };
    const values = { ...state, weights: binary(state.weights), points: binary(state.points) }, listeners = [];
    window.sent = [];
    window.listeners = listeners;
    window.fromKernel = (name, value) => {
        values[name] = value;
        listeners.filter(([event]) => event === `change:${name}`).forEach(([, listener]) => listener());
    };
    let changed = {};
    const model = {
        get: (name) => values[name],
        set(name, value) { changed[name] = value; window.fromKernel(name, value); },
        save_changes() { window.sent.push(changed); changed = {}; },
        on: (event, listener) => listeners.push([event, listener]),
        off: (event, listener) => listeners.splice(listeners.findIndex((l) => l[0] === event && l[1] === listener), 1),
    };
    const module = await import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    window.cleanup = await module.default.render({ model, el: document.querySelector("main") });
}"""


@pytest.fixture(params=["DataView", "Uint8Array", "ArrayBuffer"])
def live(request, page: Page, tmp_path: Path, widget: LatentMap) -> Callable[[], Locator]:
    """Start the widget's module under a host that offers no more than anywidget's protocol."""
    path = tmp_path / "live.html"
    path.write_text('<!doctype html><html lang="en"><meta charset="utf-8"><title>Live</title><main></main></html>')
    state = {"layers": widget.layers, "extent": widget.extent, "z": [0.25, 0.75],
             **{name: base64.b64encode(getattr(widget, name)).decode() for name in ("weights", "points")}}

    def start() -> Locator:
        page.goto(path.as_uri())
        page.add_style_tag(content=str(widget._css))
        page.evaluate(HOST, [str(widget._esm), state, request.param])
        return page.locator(".latent-map")

    return start


def test_under_a_live_kernel_z_goes_both_ways(page, live, vae, widget, console_errors):
    figure = live()
    assert z_shown(figure) == (0.25, 0.75)
    assert gap(figure, vae) <= ALLOWED
    drag(page, figure, (-1.0, -1.0))
    sent = page.evaluate("sent")
    assert sent
    assert all(set(message) == {"z"} and len(message["z"]) == 2 for message in sent)
    np.testing.assert_allclose(sent[-1]["z"], z_shown(figure))
    np.testing.assert_allclose(picture(figure), widget.decode(sent[-1]["z"]), atol=ALLOWED)
    page.evaluate("fromKernel('z', [2.125, 1.5])")
    np.testing.assert_allclose(picture(figure), widget.decode([2.125, 1.5]), atol=ALLOWED)
    assert page.evaluate("listeners.length") == 1
    page.evaluate("cleanup()")
    assert page.evaluate("listeners.length") == 0
    assert console_errors == []
