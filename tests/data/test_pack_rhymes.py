"""tools/pack_rhymes.py on a tiny package made here, and the table that is shipped. Nothing is downloaded."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile

import pytest

from genai_lib.data import load_poems, store
from tools import pack_data, pack_rhymes

# In the package's form. Three digits are one sound: the second names the final, the third modulo 4 the tone.
SOURCE = """var other = 1;
    var raw資料 = `\\
#東
EAA德紅東春方也|菄東風菜
GAC徒弄EABx@洞洞庭|峒b山名
@@@@@GAA徒紅凍a無此音|同b齊也
#冬
EDD都毒篤厚也|東又音
`;
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder with a package of that one file, whose hash the tool expects, and a target of its own."""
    buffer, raw = io.BytesIO(), SOURCE.encode()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("package/index.js")
        info.size = len(raw)
        archive.addfile(info, io.BytesIO(raw))
    (tmp_path / pack_rhymes.ARCHIVE.file).write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    monkeypatch.setattr(pack_rhymes, "ARCHIVE", pack_rhymes.ARCHIVE._replace(sha256=digest))
    monkeypatch.setattr(pack_rhymes, "TARGET", tmp_path / "rhymes.json")
    monkeypatch.setattr(pack_data, "ARCHIVES", dict(pack_data.ARCHIVES))
    monkeypatch.setattr(sys, "argv", ["pack_rhymes", "--archives", str(tmp_path)])
    return tmp_path


def test_each_entry_has_the_sound_that_its_letter_says():
    found = pack_rhymes.readings(SOURCE)
    assert found["菄"] == {("平", "東")}
    assert found["東"] == {("平", "東"), ("入", "冬")}
    assert found["洞"] == {("去", "東")}  # no letter: the first sound of its line
    assert found["峒"] == {("上", "東")}
    assert "凍" not in found  # its sound is struck out
    assert found["同"] == {("平", "東")}


def test_the_table_is_written_for_the_characters_of_the_quatrains(package, capsys):
    pack_rhymes.main()
    table = json.loads((package / "rhymes.json").read_text(encoding="utf-8"))
    assert table["東"] == {"平": "同東", "上": "峒", "去": "洞"}  # 菄 is in no poem
    assert table["冬"] == {"入": "東篤"}
    assert "characters" in capsys.readouterr().out


def test_another_package_is_refused(package, monkeypatch):
    monkeypatch.setattr(pack_rhymes, "ARCHIVE", pack_rhymes.ARCHIVE._replace(sha256="0" * 64))
    with pytest.raises(SystemExit, match="this is not the published package"):
        pack_rhymes.main()


def shipped() -> dict[str, set[tuple[str, str]]]:
    """Character → its readings, from the shipped table."""
    found: dict[str, set[tuple[str, str]]] = {}
    for rhyme, tones in json.loads((store.FOLDER / "rhymes.json").read_text(encoding="utf-8")).items():
        for tone, characters in tones.items():
            for c in characters:
                found.setdefault(c, set()).add((tone, rhyme))
    return found


@pytest.mark.parametrize(("c", "reading"), [
    ("流", ("平", "尤")), ("樓", ("平", "尤")), ("光", ("平", "陽")), ("霜", ("平", "陽")), ("鄉", ("平", "陽")),
    ("鳥", ("上", "蕭")), ("曉", ("上", "蕭")), ("雪", ("入", "先")), ("絕", ("入", "先")), ("月", ("入", "元")),
])  # fmt: skip
def test_known_characters_stand_where_the_rhyme_books_have_them(c, reading):
    assert reading in shipped()[c]


def test_most_quatrains_rhyme_in_lines_2_and_4_and_few_in_3_and_4():
    found = shipped()

    def rhyme(a: str, b: str) -> bool:
        return a != b and bool(found.get(a, set()) & found.get(b, set()))

    poems = [poem.text.split("\n") for split in ("train", "test") for poem in load_poems(split)]
    assert sum(rhyme(poem[1][4], poem[3][4]) for poem in poems) > 0.88 * len(poems)
    assert sum(rhyme(poem[2][4], poem[3][4]) for poem in poems) < 0.02 * len(poems)


def test_the_table_covers_nearly_all_that_is_written_and_its_source_is_named():
    found = shipped()
    written = "".join(poem.text for split in ("train", "test") for poem in load_poems(split)).replace("\n", "")
    assert sum(c in found for c in written) > 0.99 * len(written)
    sources = (store.FOLDER / "SOURCES.md").read_text(encoding="utf-8")
    assert all(part in sources for part in ("| `rhymes.json`", "`tshet-uinh`", "Project NK2028"))
