"""The studio as a person meets it: in a real JupyterLab, in a real browser, with the keyboard alone."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from genai_lib import studio
from genai_lib.studio import Piece

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120  # seconds: a busy machine starts slowly
pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the notebook lies."""
    place = tmp_path_factory.mktemp("lab")
    cell = nbformat.v4.new_code_cell("from genai_lib.widgets.studio import Studio\nStudio()")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, place / "studio.ipynb")
    return place


@pytest.fixture(scope="module")
def lab(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a JupyterLab on a free port, which keeps all it writes in a folder of its own."""
    own = tmp_path_factory.mktemp("jupyter")
    names = ["JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR",
             "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR"]  # fmt: skip
    settings = own / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    environment = os.environ | {name: str(own / name) for name in names} | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
               "--ServerApp.port=0", f"--ServerApp.root_dir={folder}", "--IdentityProvider.token=",
               "--LabApp.extension_manager=readonly",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # fmt: skip
    with (own / "log").open("w") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server:
        try:
            deadline = time.monotonic() + PATIENCE
            while not (found := list((own / "JUPYTER_RUNTIME_DIR").glob("jpserver-*.json"))):
                assert server.poll() is None, (own / "log").read_text()
                assert time.monotonic() < deadline, (own / "log").read_text()
                time.sleep(0.2)
            yield json.loads(found[0].read_text())["url"]
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def page(lab: str, browser: Browser) -> Iterator[Page]:
    """The notebook, opened, with its cell run."""
    page = browser.new_page(viewport={"width": 1000, "height": 1400})
    page.set_default_timeout(1000 * PATIENCE)
    expect.set_options(timeout=1000 * PATIENCE)
    page.goto(f"{lab}doc/tree/studio.ipynb")
    page.get_by_role("button", name="Python 3 (ipykernel) | Idle").wait_for()
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+Enter")
    expect(said(page)).to_have_text("emoji-diffusion, “smiling face”, seed 0\N{NO-BREAK SPACE}")
    yield page
    expect.set_options(timeout=5000)
    page.close()


def said(page: Page) -> Locator:
    return page.get_by_role("status").filter(visible=True).first


def press(page: Page, name: str, answer: str | None = None) -> None:
    """Reach a button or link by Tab alone, press Enter, and wait for what the studio says then."""
    for _ in range(60):
        if page.evaluate("document.activeElement.textContent") == name:
            break
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('button, a')")
    assert page.evaluate("document.activeElement.textContent") == name
    page.keyboard.press("Enter")
    if answer is not None:
        expect(said(page)).to_contain_text(answer)


def back_to_the_top(page: Page) -> None:
    page.get_by_label("Model").focus()


def picture(page: Page, piece: Piece) -> Locator:
    return page.get_by_role("img", name=str(piece), exact=True)


def pixels(image: Locator) -> np.ndarray:
    """What the browser has in an image, as the PNG it was sent."""
    data = image.get_attribute("src").removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def drawn(*pieces: Piece) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(studio.png_sheet(pieces, columns=6, scale=1))))


def test_a_person_makes_varies_keeps_undoes_and_exports_by_keyboard(page: Page, folder: Path) -> None:
    back_to_the_top(page)
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("house")
    press(page, "Draw", "emoji-diffusion, “house”, seed 0")
    house = Piece("emoji-diffusion", prompt="house")
    assert np.array_equal(pixels(picture(page, house)), drawn(house))

    press(page, "Vary", "Four variations")
    varied = studio.variations(house, amount=0.4)
    thumbs = picture(page, varied[0])
    assert [np.array_equal(pixels(thumb), drawn(p)) for thumb, p in zip(thumbs.all(), varied, strict=True)] == [True] * 4
    press(page, "Take 2", str(varied[1]))
    back_to_the_top(page)
    press(page, "Keep", "Kept: the gallery has 1.")
    assert np.array_equal(pixels(picture(page, varied[1]).last), drawn(varied[1]))  # in the gallery
    assert studio.read((folder / "studio-gallery.json").read_bytes()) == (varied[1],)

    press(page, "Undo", str(varied[1]))
    expect(page.get_by_text("Gallery: 0 kept")).to_be_visible()
    back_to_the_top(page)
    press(page, "Undo", str(house))
    assert np.array_equal(pixels(picture(page, house)), drawn(house))
    press(page, "Redo", str(varied[1]))
    press(page, "Redo", str(varied[1]))
    expect(page.get_by_text("Gallery: 1 kept")).to_be_visible()

    press(page, "Export", "Written to")
    (record,) = folder.glob("studio-????????.json")
    assert record.with_suffix(".png").read_bytes() == studio.png_sheet([varied[1]])
    assert record.with_suffix(".svg").read_text(encoding="utf-8") == studio.svg_sheet([varied[1]])
    assert studio.read(record.read_bytes()) == (varied[1],)
    with page.expect_download() as download:
        press(page, record.name)
    assert Path(download.value.path()).read_bytes() == record.read_bytes()


def test_another_model_is_chosen_by_keyboard_and_changed_in_its_code(page: Page) -> None:
    back_to_the_top(page)
    page.keyboard.press("ArrowDown")  # JupyterLab's own shortcut would go to another cell
    expect(page.get_by_label("Model")).to_have_value("Deep convolutional GAN of emoji, with augmentation")
    expect(page.get_by_label("What to draw").filter(visible=True)).to_have_count(0)
    press(page, "Draw", "emoji-gan, seed 0")
    gan = Piece("emoji-gan")
    assert np.array_equal(pixels(picture(page, gan)), drawn(gan))
    press(page, "More", "emoji-gan, seed 0, edited 1×")
    bolder = studio.move(gan, "bold", 2.0)
    assert np.array_equal(pixels(picture(page, bolder)), drawn(bolder))


def test_the_keys_of_the_studio_are_no_shortcuts_of_jupyterlab(page: Page) -> None:
    for name in ("Model", "Change"):
        page.get_by_label(name).focus()
        page.keyboard.type("bddx")  # a cell below, delete this one, cut it
    assert page.locator(".jp-CodeCell").count() == 1
    expect(page.get_by_text("Gallery: 1 kept")).to_be_visible()
    back_to_the_top(page)
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")


def test_errors_are_messages(page: Page, tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text("{}")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open a file").press("Enter")
    chooser.value.set_files(tmp_path / "wrong.json")
    expect(said(page)).to_contain_text("The file cannot be used: there is no record of the studio in it. Choose a .json file")
    back_to_the_top(page)
    page.keyboard.press("ArrowUp")
    field = page.get_by_label("What to draw").filter(visible=True)
    expect(field).to_have_count(1)
    field.fill("")
    press(page, "Draw", "The prompt must be words in English or Chinese")
    expect(page.get_by_text("Gallery: 1 kept")).to_be_visible()
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0


def test_axe_finds_nothing_and_it_fits_a_narrow_window(page: Page) -> None:
    found = Axe().run(page, context=".jp-OutputArea-output")
    assert found.violations_count == 0, found.generate_report()
    named = Axe().run(page, context=".jp-OutputArea-output", options={"resultTypes": ["passes"]}).response["passes"]
    assert {"image-alt", "button-name", "label", "select-name"} <= {rule["id"] for rule in named}
    page.set_viewport_size({"width": 600, "height": 900})
    output = page.locator(".jp-OutputArea-output").first
    assert output.evaluate("(e) => e.scrollWidth <= e.clientWidth")
