"""Rebuild genai_lib/data/rhymes.json: tone and rhyme, in the Middle Chinese of the rhyme books, of the quatrains' characters.

    python -m tools.pack_rhymes                     fetch the package, write the table
    python -m tools.pack_rhymes --archives FOLDER   take the package from FOLDER, or fetch it and keep it there

The package carries the Guangyun of 1008, a rhyme book that stands in the line of the Tang's own. It gives each character's
reading, or readings, with one of four tones and one of some sixty finals. The finals are joined to the rhymes of the later
Pingshui list, whose level tone has thirty: they follow the notes "used together" of the rhyme books, and are what one holds
Tang quatrains to.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path

from genai_lib.data.texts import load_poems
from tools import pack_data

TARGET = pack_data.TARGET / "rhymes.json"
PACKAGE = "tshet-uinh"
ARCHIVE = pack_data.npm(PACKAGE, "0.15.4", "d0805fcf420525aeca17cc703331f7d9c495e738d72fd34bab0fdd806f1c3f8b")
CODE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789$_"  # the package's digits of base 64
FINALS = (  # in the package's order; ＊ is a second kind of the one before
    "東＊冬鍾江支脂之微魚虞模齊祭泰佳皆夬灰咍廢真臻文殷元魂痕寒刪山先仙蕭宵肴豪歌＊麻＊"
    "陽唐庚＊耕清青蒸登尤侯幽侵覃談鹽添咸銜嚴凡"
)
TONES = "平上去入"  # level, rising, departing, entering
TOGETHER = [  # Pingshui's level rhymes in order, then the one without a level tone that has a name of its own
    *("東", "冬鍾", "江", "支脂之", "微", "魚", "虞模", "齊祭", "佳皆夬", "灰咍廢", "真臻", "文殷", "元魂痕", "寒", "刪山"),
    *("先仙", "蕭宵", "肴", "豪", "歌", "麻", "陽唐", "庚耕清", "青", "蒸登", "尤侯幽", "侵", "覃談", "鹽添嚴", "咸銜凡", "泰"),
]
RHYME = {final: group[0] for group in TOGETHER for final in group}


def readings(source: str) -> dict[str, set[tuple[str, str]]]:
    """Character → its readings, (tone, rhyme), in the table that the package's program holds as one long text."""
    (table,) = re.findall(r"var raw資料 = `\\\n(.*?)`;", source, flags=re.DOTALL)
    found: dict[str, set[tuple[str, str]]] = {}
    for line in table.splitlines():
        if line.startswith("#"):
            continue
        ((head, rest),) = re.findall(r"^((?:[\w$@]{3}..)+)(.*)$", line, flags=re.ASCII)
        codes = [head[i : i + 3] for i in range(0, len(head), 5)]  # three digits, then how the book spells the sound
        for entry in rest.split("|"):
            part = re.match(r".([a-z]?)", entry)
            assert part
            code = codes[ord(part[1] or "a") - ord("a")]
            if code != "@@@":  # a sound that the package's editors strike out
                place = CODE.index(code[1])
                final = FINALS[place - (FINALS[place] == "＊")]
                found.setdefault(entry[0], set()).add((TONES[CODE.index(code[2]) % 4], RHYME[final]))
    return found


def main() -> None:
    """Write the table: rhyme → tone → the characters that have it, those of our quatrains only."""
    parser = argparse.ArgumentParser(description="Tone and rhyme of the quatrains' characters.")
    parser.add_argument("--archives", type=Path, help="a folder with the package; it is fetched into it if it is not there")
    folder = parser.parse_args().archives
    pack_data.ARCHIVES[PACKAGE] = ARCHIVE
    with tempfile.TemporaryDirectory() as temporary:
        package = pack_data.fetch(PACKAGE, folder or Path(temporary))
        (source,) = pack_data.contents(package, r"^package/index\.js$").values()
    known = readings(source.decode())
    used = sorted({c for split in ("train", "test") for poem in load_poems(split) for c in poem.text} - {"\n"})
    table: dict[str, dict[str, str]] = {name[0]: {} for name in TOGETHER}
    for rhyme, tones in table.items():
        for tone in TONES:
            if found := "".join(c for c in used if (tone, rhyme) in known.get(c, ())):
                tones[tone] = found
    TARGET.write_text(json.dumps(table, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    lost = [c for c in used if c not in known]
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1e3:.1f} kB, {len(used) - len(lost)} of {len(used)} characters")


if __name__ == "__main__":
    main()
