"""The studio's engine: a record makes its picture, bad input is refused in words, and the gallery survives."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from genai_lib import Noise, pretrained, studio
from genai_lib.studio import Desk, Edit, Piece, StudioError, dump, make, mix, move, read, slerp, variations

KINDS = studio.kinds()


def piece(name="vae-map", **told):
    usual = KINDS[name].usual
    return Piece(name, **({"prompt": "smiling face"} if "prompt" in usual else {}) | told)


# ---------------------------------------------------------------- models


def test_it_finds_the_models_that_turn_a_code_into_a_picture():
    assert next(iter(KINDS)) == "emoji-diffusion"
    wanted = {"emoji-gan", "dcgan-conditional", "diffusion", "flow", "vae-conditional", "vae-conv"}
    assert wanted < set(KINDS) <= set(pretrained.names())
    assert not {"clip", "classifier", "gpt", "gpt-pixels", "mixture", "hmm", "autoencoder"} & set(KINDS)


def test_it_knows_what_each_can_be_asked():
    settings = {name: list(KINDS[name].usual) for name in ("emoji-diffusion", "emoji-gan", "dcgan-conditional", "flow")}
    assert settings == {
        "emoji-diffusion": ["prompt", "guidance", "steps"], "emoji-gan": ["temperature"],
        "dcgan-conditional": ["label", "temperature"], "flow": ["label", "guidance", "steps"],
    }  # fmt: skip
    sizes = {name: (KINDS[name].latent, KINDS[name].classes) for name in ("vae-conv", "diffusion", "vae-conditional")}
    assert sizes == {"vae-conv": (32, 0), "diffusion": (0, 10), "vae-conditional": (10, 10)}


def test_looking_at_the_models_uses_up_no_random_number():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    studio._kind.cache_clear()
    studio.kinds()
    assert torch.equal(torch.rand(3), expected)


def test_weights_that_are_added_are_found(monkeypatch):
    before = pretrained.names()
    monkeypatch.setattr(pretrained, "names", lambda: [name for name in before if name != "emoji-gan"])
    assert set(studio.kinds()) == set(KINDS) - {"emoji-gan"}
    with pytest.raises(StudioError, match=r"the studio has no model 'emoji-gan'. Choose one of: emoji-diffusion, "):
        Piece("emoji-gan")


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("name", KINDS)
def test_without_edits_a_piece_is_what_the_model_draws_for_the_seed(name):
    p = piece(name, seed=7)
    told = {k: v for k in ("prompt", "guidance", "steps") if (v := getattr(p, k)) is not None}
    told |= {} if p.label is None else {"y": torch.tensor([p.label])}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = pretrained.load(name).sample(1, Noise(7), **told)[0]
    torch.set_num_threads(threads)
    assert torch.equal(make(p), expected)
    assert 0 <= make(p).min() < make(p).max() <= 1


def test_what_was_asked_is_drawn():
    judge = pretrained.load("classifier")
    drawn = torch.stack([make(piece(name, label=y, seed=y)) for name in ("vae-conditional", "diffusion") for y in range(10)])
    assert (judge(drawn).argmax(dim=1) == torch.arange(10).repeat(2)).float().mean() >= 0.8
    words = [make(piece("emoji-diffusion", prompt=prompt)) for prompt in ("smiling face", "blue car")]
    assert [bool(x[0].mean() > x[2].mean() + 0.1) for x in words] == [True, False]  # a face is yellow


def test_the_settings_matter():
    for name, change in [("emoji-gan", {"temperature": 0.5}), ("flow", {"guidance": 1.0}), ("flow", {"steps": 5}),
                         ("vae-conditional", {"label": 4}), ("emoji-diffusion", {"prompt": "cat"})]:  # fmt: skip
        assert (make(piece(name)) - make(piece(name, **change))).abs().max() > 0.01
    assert torch.equal(studio.code(piece(temperature=0.5)), 0.5 * studio.code(piece()))


def test_a_picture_that_is_changed_by_hand_does_not_change_the_next_one():
    make(piece(seed=3)).zero_()
    assert make(piece(seed=3)).max() > 0.5


def test_drawing_takes_one_thread_and_gives_them_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with studio._one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def edited_pieces():
    """Every kind, plain; and one of each kind of edit, nested too."""
    made = [piece(name, seed=5, **({"label": 3} if KINDS[name].classes else {})) for name in KINDS]
    gan, drawing = piece("emoji-gan", seed=1), piece("emoji-diffusion", seed=1)
    other = move(variations(piece("emoji-gan", seed=2), n=1)[0], "bold", -1.5)
    return [*made, move(mix(gan, other, amount=0.3), "warm", 2.0), *variations(drawing, n=2)]


def test_the_same_records_make_the_same_bytes_in_another_process(tmp_path):
    pieces = edited_pieces()
    (tmp_path / "records.json").write_text(dump(pieces), encoding="utf-8")
    program = """
import sys, pathlib, torch
from genai_lib import studio
torch.set_num_threads(2)
pieces = studio.read(pathlib.Path("records.json").read_bytes())
for i in reversed(range(len(pieces))):  # in another order
    pathlib.Path(f"{i}.png").write_bytes(studio.png_sheet([pieces[i]]))
pathlib.Path("sheet.svg").write_text(studio.svg_sheet(pieces), encoding="utf-8")
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=120)
    for i, p in enumerate(pieces):
        assert (tmp_path / f"{i}.png").read_bytes() == studio.png_sheet([p]), p
    assert (tmp_path / "sheet.svg").read_text(encoding="utf-8") == studio.svg_sheet(pieces)


# ---------------------------------------------------------------- codes


@given(seed=st.integers(0, 999), amount=st.floats(0, 1))
def test_slerp_keeps_the_angle_s_share_and_the_length(seed, amount):
    a, b = (v / v.norm() for v in Noise(seed).normal(2, 7).double())
    z, angle = slerp(a, b, amount), math.acos((a @ b).item())
    assert abs(z.norm().item() - 1) < 1e-5
    assert abs((z @ a).item() - math.cos(amount * angle)) < 1e-5
    assert abs((z @ b).item() - math.cos((1 - amount) * angle)) < 1e-5


def test_slerp_where_the_codes_are_parallel_goes_straight():
    a = Noise(0).normal(1, 5)
    assert torch.allclose(slerp(a, 3 * a, 0.25), 1.5 * a)
    assert torch.equal(slerp(a, a, 0.5), a)


@pytest.mark.parametrize("name", ["emoji-gan", "emoji-diffusion"])
def test_a_mixture_begins_at_one_piece_and_ends_at_the_other(name):
    shape = (KINDS[name].latent,) if KINDS[name].latent else (3, 32, 32)
    p, q = piece(name, seed=1), variations(piece(name, seed=2), n=1)[0]
    codes = [studio.code(mix(p, q, amount=share), *shape) for share in (0, 0.5, 1)]
    assert torch.allclose(codes[0], studio.code(p, *shape), atol=1e-6)
    assert torch.allclose(codes[2], studio.code(q, *shape), atol=1e-6)
    assert torch.allclose(codes[1], slerp(studio.code(p, *shape), studio.code(q, *shape), 0.5), atol=1e-6)
    assert (make(mix(p, q, amount=1)) - make(q)).abs().max() < 1e-3


def test_a_mixture_keeps_what_the_first_was_asked():
    mixed = mix(piece("vae-conditional", label=3, temperature=0.7), piece("vae-conditional", label=8, seed=4))
    assert (mixed.label, mixed.temperature, mixed.edits) == (3, 0.7, (Edit(0.5, seed=4),))
    with pytest.raises(StudioError, match="vae-map and vae-conv have codes of different kinds: mix two pieces of one model"):
        mix(piece("vae-map"), piece("vae-conv"))


@pytest.mark.parametrize("name", ["vae-conv", "diffusion"])
def test_variations_are_others_the_same_each_time_and_closer_than_another_seed(name):
    p = piece(name, seed=11)
    made = variations(p, n=4, amount=0.2)
    assert made == variations(p, n=4, amount=0.2)
    assert made[2:] == variations(p, n=2, amount=0.2, start=2)
    assert len({*made, *variations(p, n=4, amount=0.2, start=4), *variations(made[0], n=4, amount=0.2)}) == 12

    def distance(pieces):
        return np.mean([(make(q) - make(p)).square().mean().item() for q in pieces])

    strangers = [replace(p, seed=seed) for seed in range(20, 24)]
    assert 0 < distance(made) < distance(variations(p, n=4, amount=0.9)) < 2 * distance(strangers)
    assert distance(made) < distance(strangers) / 2


def test_the_properties_of_pictures_made_by_hand():
    x = torch.zeros(4, 3, 9, 9)
    x[0, 0, 4, 1:8] = 1.0  # a red bar, lying
    x[1, 2, 1:8, 4] = 1.0  # a blue bar, standing
    for i in range(1, 8):
        x[2, :, 8 - i, i] = 1.0  # from bottom left to top right
        x[3, :, i, i] = 0.5  # from top left to bottom right
    found = studio.properties(x)
    expected = {"bold": [7 / 81] * 3 + [3.5 / 81], "wide": [0.25, -0.25, 0, 0], "slanted": [0, 0, 0.25, -0.25],
                "warm": [7 / 81, -7 / 81, 0, 0]}  # fmt: skip
    for name, values in expected.items():
        assert torch.allclose(found[name], torch.tensor(values), atol=1e-6), name
    assert list(studio.properties(x[:, :1])) == ["bold", "wide", "slanted"]
    assert all(torch.isfinite(v).all() for v in studio.properties(torch.ones(1, 1, 5, 5)).values())  # a picture of nothing


@pytest.mark.parametrize("name", ["emoji-gan", "dcgan-conditional", "vae-conditional"])
def test_along_a_direction_its_property_grows(name):
    label = 3 if KINDS[name].classes else None
    for along, way in studio.directions(name, label).items():
        assert way.shape == (1, KINDS[name].latent)
        assert way.norm().item() == pytest.approx(1)
        pieces = [piece(name, seed=seed, label=label) for seed in range(10)]
        ends = [torch.stack([make(move(p, along, by)) for p in pieces]) for by in (-2, 2)]
        low, high = (studio.properties(x)[along] for x in ends)
        assert (high > low).sum() >= 9  # of seeds 0 to 19, 19 or 20 in every model


def test_a_move_is_so_many_deviations_long():
    p = piece("vae-map", seed=2)
    step = studio.code(move(p, "wide", 1.5)) - studio.code(p)
    assert torch.allclose(step, 1.5 * studio.directions("vae-map")["wide"], atol=1e-6)


def test_a_model_whose_code_is_a_picture_of_noise_has_no_directions():
    assert studio.directions("diffusion", 3) == {}
    with pytest.raises(StudioError, match=r"diffusion has no direction 'bold'. It has: none: mix it with another seed"):
        move(piece("diffusion"), "bold", 1.0)
    with pytest.raises(StudioError, match=r"vae-map has no direction 'warm'. It has: bold, wide, slanted"):
        move(piece("vae-map"), "warm", 1.0)


# ---------------------------------------------------------------- records


def test_a_record_cannot_be_changed_and_says_what_it_is():
    p = piece("dcgan-conditional", label=3, seed=8)
    with pytest.raises(FrozenInstanceError):
        p.seed = 9
    assert str(p) == "dcgan-conditional, class 3, seed 8"
    assert str(variations(piece("emoji-diffusion"), n=1)[0]) == "emoji-diffusion, “smiling face”, seed 0, edited 1×"
    assert str(piece("emoji-gan")) == "emoji-gan, seed 0"
    assert p.weights == pretrained.card("dcgan-conditional")["sha256"][:12]


WRONG = {
    "no such model": ({"model": "stable"}, "the studio has no model 'stable'. Choose one of: emoji-diffusion, "),
    "a model of text": ({"model": "gpt"}, "the studio has no model 'gpt'. Choose one of"),
    "no name at all": ({"model": ["vae-map"]}, r"the studio has no model \['vae-map'\]. Choose one of"),
    "negative seed": ({"seed": -1}, "seed must be a whole number from 0 to 999,999,999, got -1"),
    "huge seed": ({"seed": 10**5000}, "seed must be a whole number from 0 to 999,999,999, got a huge number"),
    "broken seed": ({"seed": 1.5}, "seed must be a whole number from 0 to 999,999,999, got 1.5"),
    "seed in words": ({"seed": "seven"}, "seed must be a whole number from 0 to 999,999,999, got 'seven'"),
    "true is no number": ({"seed": True}, "seed must be a whole number from 0 to 999,999,999, got True"),
    "not a number": ({"temperature": math.nan}, "temperature must be a number from 0.0 to 2.0, got nan"),
    "too hot": ({"temperature": 1e300}, "temperature must be a number from 0.0 to 2.0, got 1e.300"),
    "temperature in words": ({"temperature": "hot"}, "temperature must be a number from 0.0 to 2.0, got 'hot'"),
    "no such class": ({"model": "flow", "label": 10}, "label must be a whole number from 0 to 9, got 10"),
    "too many steps": ({"model": "flow", "steps": 101}, "steps must be a whole number from 1 to 100, got 101"),
    "no step": ({"model": "flow", "steps": 0}, "steps must be a whole number from 1 to 100, got 0"),
    "too strict": ({"model": "flow", "guidance": 11}, "guidance must be a number from 0.0 to 10.0, got 11"),
    "what it lacks": ({"prompt": "cat"}, "vae-map takes no prompt: leave it out. It takes: seed, temperature"),
    "other weights": ({"weights": "0123456789ab"}, "other weights of vae-map .'0123456789ab', not .*: open it"),
    "edits of another kind": ({"edits": ["bold"]}, "an edit must be an Edit, got 'bold': use variations, mix and move"),
    "too many edits": ({"edits": [Edit(0.1, seed=1)] * 61}, "a piece has at most 60 edits, .* included: begin a new one"),
    "too many inside": ({"edits": [Edit(0.1, seed=1, edits=(Edit(0.1, seed=2),) * 60)]}, "at most 60 edits"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_in_words(case):
    told, message = WRONG[case]
    with pytest.raises(StudioError, match=message):
        Piece(**{"model": "vae-map", **told})


@pytest.mark.parametrize("prompt", [None, "", "   ", "!?", "🙂", "a" * 201, "cat\ndog", "cat\x00", 5, ["cat"]])
def test_a_prompt_must_be_words(prompt):
    with pytest.raises(StudioError, match=r"the prompt must be words in English or Chinese, .* for example: smiling face"):
        Piece("emoji-diffusion", prompt=prompt)


@pytest.mark.parametrize(("told", "message"), [
    ({"amount": 1.5, "seed": 1}, "the amount of an edit must be a number from 0.0 to 1.0, got 1.5"),
    ({"amount": -0.1, "seed": 1}, "the amount of an edit must be a number from 0.0 to 1.0, got -0.1"),
    ({"amount": 11, "along": "bold"}, "the amount of an edit must be a number from -10.0 to 10.0, got 11"),
    ({"amount": 0.5}, "the seed of an edit must be a whole number from 0 to 999,999,999, got None"),
    ({"amount": "much", "seed": 1}, "the amount of an edit must be a number from 0.0 to 1.0, got 'much'"),
])  # fmt: skip
def test_an_edit_that_does_not_fit_is_refused(told, message):
    with pytest.raises(StudioError, match=message):
        Edit(**told)


def test_words_that_the_model_never_read():
    assert studio.unknown_words("red Xylograph of a cat") == ["xylograph"]
    assert studio.unknown_words("红心 龘") == ["龘"]
    assert studio.unknown_words("smiling face") == []
    assert make(piece("emoji-diffusion", prompt="xylograph")).std() > 0.05  # it draws something all the same


EDITS = st.recursive(
    st.builds(Edit, st.floats(0, 1), seed=st.integers(0, 999_999_999))
    | st.builds(Edit, st.floats(-10, 10), along=st.sampled_from(["bold", "wide", "slanted"])),
    lambda inner: st.builds(Edit, st.floats(0, 1), seed=st.integers(0, 9), edits=st.lists(inner, max_size=2)), max_leaves=5,
)  # fmt: skip
PIECES = st.builds(Piece, st.just("vae-map"), seed=st.integers(0, 999_999_999), temperature=st.floats(0, 2),
                   edits=st.lists(EDITS, max_size=3)) | st.builds(
    Piece, st.just("emoji-diffusion"), prompt=st.sampled_from(["cat", "红心", 'a "quoted" <cat> & dog', "ﬁsh’s"]),
    guidance=st.floats(0, 10), steps=st.integers(1, 100))  # fmt: skip


@given(st.lists(PIECES, max_size=3))
def test_what_is_written_is_what_is_read(pieces):
    text = dump(pieces)
    assert read(text) == read(text.encode()) == tuple(pieces)
    assert dump(read(text)) == text


def test_a_record_holds_model_seed_settings_and_edits_and_no_more():
    p = move(mix(piece("dcgan-conditional", label=3, seed=4), piece("dcgan-conditional", seed=9)), "bold", 1)
    assert json.loads(dump([p])) == {"format": "genai_lib studio 1", "pieces": [{
        "model": "dcgan-conditional", "seed": 4, "label": 3, "temperature": 1.0, "weights": p.weights,
        "edits": [{"amount": 0.5, "seed": 9, "edits": []}, {"amount": 1.0, "along": "bold", "edits": []}],
    }]}  # fmt: skip


def file_of(**told):
    return json.dumps({"format": studio.FORMAT, "pieces": [{"model": "vae-map", **told}]})


BAD = {
    "nothing": (b"", "it is no JSON file, or a damaged one"),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\xff", "it is no JSON file, or a damaged one"),
    "half a file": (dump([piece()])[:-30], "it is no JSON file, or a damaged one"),
    "another file": ('{"cells": []}', "there is no record of the studio in it"),
    "a list": ("[1, 2]", "there is no record of the studio in it"),
    "a later format": ('{"format": "genai_lib studio 2", "pieces": []}', "there is no record of the studio in it"),
    "no pieces": (json.dumps({"format": studio.FORMAT, "pieces": 3}), "there is no record of the studio in it"),
    "a piece of nothing": (file_of().replace('{"model": "vae-map"}', "null"), "a record has model, perhaps seed, .* got None"),
    "another key": (file_of(size=3), "a record has model, perhaps seed, prompt, .* and nothing else, got {'model'"),
    "no model": (json.dumps({"format": studio.FORMAT, "pieces": [{"seed": 1}]}), "a record has model, .* got {'seed': 1}"),
    "a huge number": (file_of().replace("}]", ', "seed": 1' + "0" * 6000 + "}]"), "a damaged one .Exceeds the limit"),
    "a large number": (file_of(seed=10**30), "seed must be a whole number from 0 to 999,999,999, got a huge number"),
    "infinity": (file_of(temperature=math.inf), "temperature must be a number from 0.0 to 2.0, got inf"),
    "edits that are none": (file_of(edits=5), "it is no JSON file, or a damaged one"),
    "an edit with more": (file_of(edits=[{"amount": 1, "seed": 1, "size": 2}]), "a record has amount, perhaps along, seed"),
    "bottomless edits": (file_of(edits="?").replace('"?"', '[{"amount": 1, "edits": ' * 9999 + "[]" + "}]" * 9999), "recurs"),
    "too many": (file_of().replace("[", "[" + "{}, " * 500), "it has 501 pieces, and a gallery at most 500"),
    "too large": (b" " * 5_000_001, "it has 5,000,001 bytes, and the studio reads at most 5,000,000"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_used_is_refused_in_words(case):
    text, message = BAD[case]
    with pytest.raises(StudioError, match=message) as caught:
        read(text)
    assert str(caught.value).startswith("the file cannot be used: ")
    assert str(caught.value).endswith("Choose a .json file that the studio exported")


# ---------------------------------------------------------------- sheets


def opened(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_png_sheet_shows_pictures_of_all_sizes_pixel_by_pixel():
    colour, grey = piece("emoji-gan", seed=1), piece("vae-conditional", label=3)
    sheet = opened(studio.png_sheet([colour, grey], columns=5, scale=3))[::3, ::3]  # no empty columns
    assert sheet.shape == (32, 66, 3)
    assert np.array_equal(sheet[:, :32], (make(colour) * 255).round().byte().permute(1, 2, 0).numpy())
    drawn = (make(grey)[0] * 255).round().byte().numpy()
    assert all(np.array_equal(sheet[2:30, 36:64, c], drawn) for c in range(3))
    assert np.array_equal(sheet[:2, 36:64, 0], drawn[:1].repeat(2, axis=0))  # the border is the picture's own edge


@pytest.mark.parametrize("size", [(1, 1), (66, 32), (300, 70_000)])
def test_the_size_of_a_png_is_read_from_its_header(size):
    file = io.BytesIO()
    Image.new("L", size).save(file, "PNG")
    assert studio.png_size(file.getvalue()) == size


def test_an_svg_sheet_holds_the_picture_and_the_records():
    pieces = [piece("emoji-diffusion", prompt='a "cat" <&> dog'), piece("emoji-gan")]
    root = ElementTree.fromstring(studio.svg_sheet(pieces))
    names = "{http://www.w3.org/2000/svg}"
    image = root.find(f"{names}image")
    assert base64.b64decode(image.get("href").removeprefix("data:image/png;base64,")) == studio.png_sheet(pieces, scale=1)
    assert (root.get("viewBox"), root.get("width"), image.get("width"), image.get("height")) == ("0 0 66 32", "264", "66", "32")
    assert read(root.find(f"{names}metadata").text) == tuple(pieces)
    assert root.get("aria-label") == "; ".join(map(str, pieces))


def test_a_sheet_of_nothing_is_refused():
    for sheet in (studio.png_sheet, studio.svg_sheet):
        with pytest.raises(StudioError, match="there is no picture yet: make one first"):
            sheet([])


# ---------------------------------------------------------------- the desk


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path / "gallery.json")


def test_show_keep_undo_redo_drop(desk):
    a, b = piece(seed=1), piece(seed=2)
    assert (desk.piece, desk.gallery, desk.message) == (None, (), "")
    assert torch.equal(desk.show(a), make(a))
    desk.keep()
    desk.show(b)
    assert (desk.piece, desk.gallery) == (b, (a,))
    desk.keep()
    desk.drop(a)
    seen = [(desk.piece, desk.gallery)]
    for _ in range(5):
        desk.undo()
        seen.append((desk.piece, desk.gallery))
    assert seen == [(b, (b,)), (b, (a, b)), (b, (a,)), (a, (a,)), (a, ()), (None, ())]
    for expected in reversed(seen[:-1]):
        desk.redo()
        assert (desk.piece, desk.gallery) == expected
    desk.undo()
    desk.show(piece(seed=3))  # another way on: there is nothing to redo
    with pytest.raises(StudioError, match="there is no step to redo"):
        desk.redo()


def test_what_cannot_be_done_says_so_and_changes_nothing(desk):
    with pytest.raises(StudioError, match="there is no picture yet: make one first"):
        desk.keep()
    with pytest.raises(StudioError, match="there is no step to undo"):
        desk.undo()
    with pytest.raises(StudioError, match="there is no picture yet: make one first"):
        desk.export(desk.file.parent)
    desk.show(piece(seed=1))
    desk.keep()
    before = desk.file.read_bytes(), desk.gallery
    with pytest.raises(StudioError, match="the gallery has all of that already: change something first"):
        desk.keep()
    with pytest.raises(StudioError, match="a gallery has at most 500 pieces: export it, and begin another"):
        desk.add([piece(seed=i) for i in range(2, 502)])
    for text, _ in BAD.values():
        with pytest.raises(StudioError):
            desk.add(read(text))
    assert (desk.file.read_bytes(), desk.gallery) == before
    assert os.listdir(desk.file.parent) == ["gallery.json"]


def test_the_gallery_is_on_the_disk_after_every_change_and_comes_back(desk):
    kept = [piece(seed=seed) for seed in range(3)]
    for i, p in enumerate(kept, start=1):
        desk.show(p)
        desk.keep()
        assert read(desk.file.read_bytes()) == tuple(kept[:i])
    desk.undo()
    assert Desk(desk.file).gallery == tuple(kept[:2])
    desk.redo()
    assert Desk(desk.file).gallery == tuple(kept)


def test_an_exported_file_is_taken_in_all_or_none(desk):
    a, b, c = (piece(seed=seed) for seed in (1, 2, 3))
    desk.add([a])
    desk.add(read(dump([b, a, c, b])))
    assert (desk.gallery, desk.piece) == ((a, b, c), c)
    desk.undo()
    assert desk.gallery == (a,)


@pytest.mark.parametrize("damage", [lambda text: text[:-20], lambda text: text.replace(piece().weights, "0" * 12)])
def test_a_gallery_that_cannot_be_opened_is_set_aside_never_overwritten(desk, damage):
    desk.add([piece(seed=1)])
    damaged = damage(desk.file.read_text(encoding="utf-8"))
    desk.file.write_text(damaged, encoding="utf-8")
    later = Desk(desk.file)
    (aside,) = (path for path in desk.file.parent.iterdir() if path != desk.file)
    assert aside.read_text(encoding="utf-8") == damaged
    assert later.gallery == ()
    assert later.message.startswith("gallery.json could not be opened: the file cannot be used: ")
    assert later.message.endswith(f"It is kept as {aside.name}; a new gallery begins")
    later.add([piece(seed=2)])
    assert aside.read_text(encoding="utf-8") == damaged


def test_two_notebooks_with_one_gallery_lose_nothing(desk):
    other = Desk(desk.file)
    a, b, c, d = (piece(seed=seed) for seed in range(4))
    desk.add([a])
    other.add([b])  # it has not seen a
    desk.add([c])  # nor this b
    assert other.gallery == (b, a)
    assert set(read(desk.file.read_bytes())) == set(desk.gallery) == {a, b, c}
    desk.undo()  # takes back c, and not what the other kept
    assert set(read(desk.file.read_bytes())) == {a, b}
    desk.drop(b)
    assert set(read(desk.file.read_bytes())) == {a}
    other.add([d])
    assert d in read(desk.file.read_bytes())


def test_a_full_disk_is_told_and_the_gallery_stays(desk, monkeypatch):
    desk.add([piece(seed=1)])
    before = desk.file.read_bytes()

    def full(write, path):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(studio, "write_whole", full)
        with pytest.raises(StudioError, match=r"could not be written to .*gallery.json .No space left on device. and is whole"):
            desk.add([piece(seed=2)])
    assert desk.gallery == (piece(seed=1), piece(seed=2))
    assert desk.file.read_bytes() == before
    desk.add([piece(seed=3)])
    assert read(desk.file.read_bytes()) == tuple(piece(seed=seed) for seed in (1, 2, 3))


def test_a_kill_while_it_saves_loses_nothing_that_was_kept(tmp_path):
    """A process keeps piece after piece and says so; it is killed in the middle, ten times, and each time another goes on."""
    program = """
import os, pathlib, signal, time
from genai_lib.studio import Desk, Piece, read
file, told = pathlib.Path("gallery.json"), 0
for number in range(10):
    ear, mouth = os.pipe()
    child = os.fork()
    if not child:
        desk = Desk(file)
        while desk.message == "":
            desk.add([Piece("vae-map", seed=len(desk.gallery))])
            os.write(mouth, b".")
    told += len(os.read(ear, 1))  # at least one is kept
    time.sleep(0.0007 * number)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(mouth)
    while more := os.read(ear, 4096):
        told += len(more)
    found = [piece.seed for piece in read(file.read_bytes())]
    assert found == list(range(len(found))), found
    assert told <= len(found) <= told + number + 1, (told, found)  # one more may be kept and not yet told, each time
print("told", told)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) >= 10
    assert Desk(tmp_path / "gallery.json").message == ""


def test_an_export_is_three_files_that_keep_their_names(desk, tmp_path):
    desk.show(piece("vae-conditional", label=3))
    single = desk.export(tmp_path / "out")
    desk.add(edited_pieces()[:4])
    paths = desk.export(tmp_path / "out")
    assert [path.suffix for path in paths] == [".png", ".svg", ".json"]
    assert paths == desk.export(tmp_path / "out")
    assert not set(paths) & set(single)  # another sheet has another name
    png, svg, record = (path.read_bytes() for path in paths)
    assert png == studio.png_sheet(desk.gallery)
    assert svg.decode() == studio.svg_sheet(desk.gallery)
    assert read(record) == desk.gallery
    assert read(single[2].read_bytes()) == (piece("vae-conditional", label=3),)
    assert len(os.listdir(tmp_path / "out")) == 6
