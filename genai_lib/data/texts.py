"""Words: plays, quatrains, the names of the emoji. `folder` and the errors are those of `store.load`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from genai_lib.data.store import FOLDER, read_text


class Poem(NamedTuple):
    """`text`: four lines of five characters, with line breaks between them."""

    text: str
    title: str
    author: str


class Emoji(NamedTuple):
    """What one picture is called. Variants of one thing (the cook, the man and the woman who cook) share a `concept`."""

    hexcode: str
    english: str
    chinese: str
    tags: list[str]
    chinese_tags: list[str]
    group: str
    concept: str


def load_text(name: str, split: str = "train", *, folder: Path | str = FOLDER) -> str:
    """Load one split of a text.

    ``"shakespeare"`` is the eight plays and a half of tiny-shakespeare (Karpathy 2015): speeches with an empty line
    between them, the speaker's name and a colon on a line above. It is cut by position, at the end of a speech: the
    first 90 % are ``"train"``, then 5 % ``"validation"`` and 5 % ``"test"``. ``"macbeth"`` is a play that is not in it,
    acts I to IV ``"train"``, act V ``"test"``.
    """
    return read_text(name, split, "text", folder)


def load_poems(split: str = "train", *, name: str = "tang", folder: Path | str = FOLDER) -> list[Poem]:
    """Load one split of a set of poems: nine and one of ten groups of like poems; copies and variants stay together."""
    return [Poem(*fields) for fields in json.loads(read_text(name, split, "poems", folder))]


def emoji_names(split: str = "train", *, name: str = "emoji", folder: Path | str = FOLDER) -> list[Emoji]:
    """What the pictures of ``load("emoji", split)`` are called, in the same order."""
    return [Emoji(*fields) for fields in json.loads(read_text(name, split, "pictures", folder, part="names"))]
