"""Data that travels with the package: packed, checked by hash, loaded as tensors."""

from genai_lib.data.batches import Batches
from genai_lib.data.levels import load_levels
from genai_lib.data.music import load_chorales
from genai_lib.data.store import DataError, Split, load, names
from genai_lib.data.texts import emoji_names, load_poems, load_text

__all__ = [
    "Batches", "DataError", "Split", "emoji_names", "load", "load_chorales", "load_levels", "load_poems", "load_text", "names",
]  # fmt: skip
