"""The studio's buttons, pressed from Python: with ipywidgets 8 here, and written so that they do the same with 7.7 (Colab's).

What a person sees of them in JupyterLab is tested in a browser: test_studio_lab.py.
"""

from __future__ import annotations

import base64
import html
import io
import re
import sys
from datetime import datetime
from types import SimpleNamespace

import anywidget
import ipywidgets
import numpy as np
import pytest
from PIL import Image

from genai_lib import studio
from genai_lib.pretrained import WeightsError
from genai_lib.studio import Desk, Piece
from genai_lib.widgets.studio import Studio


@pytest.fixture
def tool(tmp_path):
    return Studio(tmp_path / "gallery.json")


def press(tool, *names):
    for name in names:
        assert not tool.buttons[name].disabled, name
        tool.buttons[name].click()


def said(tool):
    return html.unescape(re.sub(r"<[^>]+>", "", tool.message.value)).replace("\xa0", "")


def shown(widget):
    """The pixels and the description of the picture in an HTML widget."""
    found = re.search(r'<img alt="([^"]*)".* src="data:image/png;base64,([^"]*)"', widget.value)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[2])))), html.unescape(found[1])


def drawn(piece):
    return np.asarray(Image.open(io.BytesIO(studio.png_sheet([piece], scale=1))))


def inside(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from inside(child)


def upload(tool, data):
    """As the browser does it: ipywidgets 7 keeps a dict of files, 8 a tuple."""
    if ipywidgets.__version__.startswith("7."):
        tool.file.set_trait("value", {"file.json": {"metadata": {}, "content": data}})
    else:
        tool.file.value = ({"name": "file.json", "type": "", "size": len(data), "content": memoryview(data),
                            "last_modified": datetime.now()},)  # fmt: skip


def test_there_is_a_picture_at_once(tool):
    assert tool.desk.piece == Piece("emoji-diffusion", prompt="smiling face")
    pixels, alt = shown(tool.picture)
    assert np.array_equal(pixels, drawn(tool.desk.piece))
    assert alt == said(tool) == "emoji-diffusion, “smiling face”, seed 0"
    assert not tool.desk.file.exists()


def test_draw_vary_take_keep_undo_redo(tool):
    tool.settings["prompt"].value = "house"
    press(tool, "Draw")
    first = tool.desk.piece
    assert first.prompt == "house"
    press(tool, "Vary")
    assert said(tool) == "Four variations: take one, or vary again."
    earlier = tool.variations
    assert [shown(thumb)[1] for thumb in tool.thumbs] == ["emoji-diffusion, “house”, seed 0, edited 1×"] * 4
    press(tool, "Vary")
    assert not set(earlier) & set(tool.variations)
    third = tool.variations[2]
    assert np.array_equal(shown(tool.thumbs[2])[0], drawn(third))
    press(tool, "Take 3")
    assert (tool.desk.piece, tool.row.layout.display) == (third, "none")
    press(tool, "Keep")
    assert said(tool) == f"Kept: the gallery has 1. It is saved in {tool.desk.file}."
    assert Desk(tool.desk.file).gallery == (third,)
    press(tool, "Undo", "Undo")
    assert (tool.desk.piece, tool.desk.gallery) == (first, ())
    assert np.array_equal(shown(tool.picture)[0], drawn(first))
    press(tool, "Redo", "Redo")
    assert (tool.desk.piece, tool.desk.gallery) == (third, (third,))
    assert np.array_equal(shown(tool.gallery)[0], drawn(third))


def test_every_model_can_be_drawn_varied_and_kept(tool):
    for name, kind in studio.kinds().items():
        tool.model.value, tool.settings["seed"].value = name, 0
        visible = {field for field, control in tool.settings.items() if control.layout.display != "none"}
        assert visible == {"seed", *kind.usual}
        press(tool, "Draw")
        assert tool.desk.piece == Piece(name, **({"prompt": "smiling face"} if "prompt" in kind.usual else {}))
        press(tool, "Another seed", "Vary", "Take 1", "Keep")
        assert tool.desk.gallery[-1].model == name
        if kind.classes:
            assert len(tool.settings["label"].options) == kind.classes
    assert len(tool.desk.gallery) == len(studio.kinds())
    assert shown(tool.gallery)[0].shape[0] > 2 * 32  # several rows


def test_the_settings_reach_the_record(tool):
    tool.model.value = "diffusion"
    for name, value in {"seed": 42, "label": 7, "guidance": 5.0, "steps": 24}.items():
        tool.settings[name].value = value
    press(tool, "Draw")
    assert tool.desk.piece == Piece("diffusion", seed=42, label=7, guidance=5.0, steps=24)
    press(tool, "Another seed")
    assert tool.desk.piece.seed == tool.settings["seed"].value == 43


def test_what_is_typed_is_sent_whole_and_before_the_click(tool):
    """Letter by letter, all but the first wait in the browser until the kernel has answered; a click goes ahead of them."""
    typed = {name: control for name, control in tool.settings.items() if control.has_trait("continuous_update")}
    assert set(typed) == {"prompt", "seed"}
    assert [control.continuous_update for control in typed.values()] == [False, False]


def test_more_less_and_mix(tool):
    assert tool.moves.layout.display == "none"  # a diffusion model has no directions
    tool.model.value = "emoji-gan"
    press(tool, "Draw")
    assert tool.buttons["Mix"].disabled
    assert list(tool.along.options) == ["bold", "wide", "slanted", "warm"]
    tool.along.value, tool.strength.value = "warm", 0.2
    plain = tool.desk.piece
    press(tool, "More")
    assert tool.desk.piece == studio.move(plain, "warm", 1.0)
    assert tool.along.value == "warm"  # the choice stays
    press(tool, "Less", "Less")
    assert [edit.amount for edit in tool.desk.piece.edits] == [1.0, -1.0, -1.0]
    press(tool, "Keep", "Another seed")
    press(tool, "Mix")
    assert tool.desk.piece == studio.mix(Piece("emoji-gan", seed=1), tool.desk.gallery[0], amount=0.2)
    tool.model.value = "vae-conv"
    press(tool, "Draw")
    assert list(tool.along.options) == ["bold", "wide", "slanted"]
    assert tool.buttons["Mix"].disabled  # what is kept is another model's


def test_show_and_remove_what_was_kept(tool):
    press(tool, "Keep", "Another seed", "Keep")
    first, second = tool.desk.gallery
    assert [value for _, value in tool.kept.options] == [first, second]
    tool.kept.value = first
    press(tool, "Show")
    assert tool.desk.piece == first
    press(tool, "Remove")
    assert said(tool) == "Removed. Undo brings it back."
    assert Desk(tool.desk.file).gallery == (second,)
    press(tool, "Undo")
    assert Desk(tool.desk.file).gallery == (first, second)


def test_the_gallery_comes_back(tool):
    press(tool, "Keep")
    again = Studio(tool.desk.file)
    assert again.desk.gallery == tool.desk.gallery
    assert "Gallery: 1 kept" in again.gallery.value


def test_an_export_can_be_downloaded_and_opened_again(tool):
    press(tool, "Keep", "Another seed", "Keep", "Export")
    links = re.findall(r'<a download="([^"]*)" href="data:application/octet-stream;base64,([^"]*)">\1</a>', tool.links.value)
    assert [name.rsplit(".")[1] for name, _ in links] == ["png", "svg", "json"]
    for name, data in links:
        assert (tool.desk.file.parent / name).read_bytes() == base64.b64decode(data)
    assert said(tool).startswith(f"Written to {tool.desk.file.parent}: studio-")
    kept = tool.desk.gallery
    other = Studio(tool.desk.file.with_name("other.json"))
    upload(other, base64.b64decode(links[2][1]))
    assert said(other) == "Opened: the gallery has 2."
    assert (other.desk.gallery, other.desk.piece) == (kept, kept[-1])


@pytest.mark.parametrize("value", [{"a.json": {"content": None}}, ({"name": "a.json", "content": None},)])
def test_a_file_is_opened_as_ipywidgets_7_and_8_hand_it_over(tool, value):
    entry = value["a.json"] if isinstance(value, dict) else value[0]
    entry["content"] = studio.dump([Piece("vae-map", seed=3)]).encode()
    tool.file = SimpleNamespace(value=value)
    tool._guarded(tool._load)()
    assert tool.desk.gallery == (Piece("vae-map", seed=3),)


@pytest.mark.parametrize("data", [b"", b"\x89PNG", b'{"cells": []}', b'{"format": "genai_lib studio 1", "pieces": [{}]}'])
def test_a_wrong_file_gets_a_message_and_the_gallery_stays(tool, data):
    press(tool, "Keep")
    before = tool.desk.gallery, tool.desk.file.read_bytes()
    upload(tool, data)
    assert said(tool).startswith("The file cannot be used: ")
    assert said(tool).endswith("Choose a .json file that the studio exported.")
    assert (tool.desk.gallery, tool.desk.file.read_bytes()) == before


def test_what_a_person_may_do_wrong_gets_a_message(tool):
    press(tool, "Keep")
    before = tool.desk.file.read_bytes()
    tool.settings["prompt"].value = "  "
    press(tool, "Draw")
    assert said(tool).startswith("The prompt must be words in English or Chinese, at most 200 letters on one line: describe")
    tool.settings["prompt"].value = "a xylograph of a cat"
    press(tool, "Draw")
    assert said(tool) == "The model has never read xylograph: it guesses from parts of the word."
    assert tool.desk.file.read_bytes() == before
    tool.settings["seed"].value = 10**30  # the field itself stays in its bounds
    press(tool, "Another seed")
    assert tool.desk.piece.seed == tool.settings["seed"].value == studio.LARGEST
    press(tool, "Keep", "Keep")
    assert said(tool) == "The gallery has all of that already: change something first."
    assert len(tool.desk.gallery) == 2
    press(tool, *["Undo"] * 5)
    assert said(tool) == "There is no picture: press Draw."
    press(tool, "Undo")
    assert said(tool) == "There is no step to undo."
    press(tool, "Vary")
    assert said(tool) == "There is no picture yet: press Draw."


@pytest.mark.parametrize("name", ["Show", "Remove", "Mix"])
def test_a_click_that_comes_before_anything_is_kept_is_answered(tool, name):
    assert tool.buttons[name].disabled
    before = tool.desk.piece
    tool.buttons[name].click()
    assert said(tool) == "Nothing fitting is kept yet: draw something and press Keep."
    assert (tool.desk.piece, tool.desk.gallery) == (before, ())


@pytest.mark.parametrize(("error", "message"), [
    (WeightsError("vae.safetensors is damaged. Reinstall genai_lib"), "Vae.safetensors is damaged. Reinstall genai_lib."),
    (OSError(28, "No space left on device"), "[Errno 28] No space left on device."),
    (RuntimeError("<b>boom</b>"), "That should not have happened (RuntimeError: <b>boom</b>). The gallery is as it was."),
])  # fmt: skip
def test_an_error_is_a_message_never_a_traceback(tool, monkeypatch, error, message):
    press(tool, "Keep")
    before = tool.desk.gallery

    def fail(piece):
        raise error

    monkeypatch.setattr(studio, "make", fail)
    press(tool, "Another seed")
    assert said(tool) == message
    assert "<b>boom" not in tool.message.value  # words, not markup
    assert tool.desk.gallery == before


def test_a_damaged_gallery_is_told_at_the_start(tmp_path):
    (tmp_path / "gallery.json").write_text("{", encoding="utf-8")
    tool = Studio(tmp_path / "gallery.json")
    assert said(tool).startswith("gallery.json could not be opened: the file cannot be used: ")
    assert len(list(tmp_path.iterdir())) == 1  # set aside, and nothing new yet


def test_progress_is_shown_while_several_are_drawn(tool, monkeypatch):
    seen, make = [], studio.make

    def watched(piece):
        seen.append((tool.bar.layout.visibility, tool.bar.value, tool.bar.max, said(tool)))
        return make(piece)

    monkeypatch.setattr(studio, "make", watched)
    press(tool, "Vary")
    assert seen[:4] == [("visible", i, 4, "Working …") for i in range(4)]
    assert tool.bar.layout.visibility == "hidden"


def test_every_control_has_a_name_and_every_picture_a_description(tool):
    press(tool, "Vary", "Keep")
    silent = ipywidgets.Box, ipywidgets.HTML, anywidget.AnyWidget
    controls = [w for w in inside(tool.view) if not isinstance(w, silent)]
    assert len(controls) > 25
    assert all(control.description for control in controls)
    pictures = [w.value for w in inside(tool.view) if isinstance(w, ipywidgets.HTML) and "<img" in w.value]
    assert len(pictures) == 6
    assert all(re.search('<img alt="emoji-diffusion, ', picture) for picture in pictures)
    assert 'role="status"' in tool.message.value
    assert {type(w).__name__ for w in controls} == {"Dropdown", "Text", "BoundedIntText", "IntProgress", "Button", "FileUpload"}
    assert len({id(control.layout) for control in controls}) == len(controls)  # hiding one hides no other


def test_a_prompt_is_never_markup(tool):
    tool.settings["prompt"].value = 'cat"><script>alert(1)</script>'
    press(tool, "Draw", "Keep")
    assert tool.desk.piece.prompt == 'cat"><script>alert(1)</script>'
    assert not any("<script" in w.value for w in inside(tool.view) if isinstance(w, ipywidgets.HTML))


def test_a_saved_notebook_shows_a_picture_beside_the_live_tool(tool):
    press(tool, "Vary", "Keep")
    bundle = tool._repr_mimebundle_()
    assert bundle["text/plain"] == repr(tool) == "Studio(gallery.json)"
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == tool.view.model_id
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))))
    assert sheet.shape == (4 * 32, 4 * (6 * 34 - 2), 3)  # in hand, four variations, one kept
    assert np.array_equal(sheet[::4, : 4 * 32 : 4], drawn(tool.desk.piece))


def test_in_colab_there_are_core_controls_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    colab = Studio(tmp_path / "gallery.json")
    assert not any(isinstance(w, anywidget.AnyWidget) for w in inside(colab.view))
    press(colab, "Keep")
    assert len(colab.desk.gallery) == 1
