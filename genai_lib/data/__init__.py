"""Data that travels with the package: packed, checked by hash, loaded as tensors."""

from genai_lib.data.batches import Batches
from genai_lib.data.store import DataError, Split, load, names

__all__ = ["Batches", "DataError", "Split", "load", "names"]
