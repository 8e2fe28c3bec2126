"""Bach's four-voice chorales as whole numbers, read from an installed music21, whose encodings may not be shipped here.

T time steps, 4 voices (soprano, alto, tenor, bass). A number is the MIDI pitch of a note that begins (60: middle C),
`HOLD` where the voice keeps its note, `REST` where it is silent.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from genai_lib.data.pipeline import number
from genai_lib.data.store import DataError

HOLD, REST = 128, 129


class Chorale(NamedTuple):
    """`title`: its number in Bach's works. `voices`: (T, 4) int64, values 0 … 129."""

    title: str
    voices: Tensor


def load_chorales(split: str = "train", *, steps: int = 4) -> list[Chorale]:
    """Load one split of the chorales; the first call reads them all with music21 (two minutes), later ones a cached file.

    ``"train"`` and ``"test"`` are nine and one of ten *tunes*: Bach set some tunes many times, and settings whose soprano
    has the same first eight intervals are never on both sides. `steps` is time steps in a quarter note: 4 is a grid of
    sixteenths, 2 of eighths. Raises DataError if music21 is not installed, for a wrong split, for a damaged cached file.
    """
    if split not in ("train", "test"):
        raise DataError(f"the chorales have no split named {split!r}. Their splits are: train, test.")
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genai_lib" / f"chorales-{steps}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(f".{os.getpid()}.npz")  # under its own name only when it is whole
        parsed: dict[str, Any] = {title: voices.byte().numpy() for title, voices in parse_chorales(steps=steps)}
        np.savez_compressed(whole, **parsed)
        whole.replace(path)
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            chorales = [Chorale(title, torch.from_numpy(arrays[title]).long()) for title in arrays.files]
    except (EOFError, OSError, ValueError, BadZipFile) as error:
        raise DataError(f"{path} is damaged ({error}). Delete it: the chorales will be read again.") from None
    tunes = number(tuple(s[s < HOLD].diff()[:8].tolist()) for s in (voices[:, 0] for _, voices in chorales)).tolist()
    return [chorale for chorale, tune in zip(chorales, tunes, strict=True) if (tune % 10 == 9) == (split == "test")]


def parse_chorales(*, steps: int = 4) -> list[Chorale]:
    """Read the chorales with music21; those with more or fewer than four voices are left out."""
    try:
        from music21 import corpus
    except ImportError:
        raise DataError("Bach's chorales are read with music21, which is not installed: pip install music21") from None
    files = [str(name) for name in corpus.chorales.Iterator(returnType="filename")]
    read = ((Path(file).name, corpus.parse(file).parts) for file in tqdm(files, desc="chorales"))
    return [Chorale(title, voices_of(parts, steps=steps)) for title, parts in read if len(parts) == 4]


def voices_of(parts: Any, *, steps: int = 4) -> Tensor:
    """Lay music21's parts on the grid: (T, 4). What neither begins nor sounds at a grid point is left out."""
    length = max(round(steps * float(part.highestTime)) for part in parts)
    voices = torch.full((length, len(parts)), REST)
    for voice, part in enumerate(parts):
        for note in part.stripTies().flatten().notes:
            begin = -int(-steps * note.offset // 1)  # the first grid point at or after its beginning
            end = -int(-steps * (note.offset + note.quarterLength) // 1)
            voices[begin:end, voice] = HOLD
            voices[begin : min(begin + 1, end), voice] = max(pitch.midi for pitch in note.pitches)
    return voices


def save_midi(voices: Tensor, path: Path | str, *, steps: int = 4, tempo: float = 80.0) -> Path:
    """Write voices into a MIDI file, a track for each, with music21; returns the path.

    Flute, oboe, clarinet and bassoon play them: with one instrument for all, voices that meet would cut each other short.

    Parameters
    ----------
    voices : (T, 4)
        As in `Chorale`. A voice that begins with `HOLD` is silent until its first note.
    path : path
    steps : int
        Time steps in a quarter note.
    tempo : float
        Quarter notes a minute.

    Raises
    ------
    DataError
        music21 is not installed.
    """
    try:
        from music21 import instrument, note, stream
        from music21.tempo import MetronomeMark
    except ImportError:
        raise DataError("MIDI files are written with music21, which is not installed: pip install music21") from None
    score = stream.Score([MetronomeMark(number=tempo)])
    for voice, player in zip(voices.T, ("Flute", "Oboe", "Clarinet", "Bassoon"), strict=True):
        part = stream.Part([getattr(instrument, player)()])
        begins = [0, *(voice[1:] != HOLD).nonzero().flatten().add(1).tolist()]
        for begin, end in pairwise([*begins, len(voice)]):
            pitch, length = int(voice[begin]), (end - begin) / steps
            part.append(note.Note(pitch, quarterLength=length) if pitch < HOLD else note.Rest(quarterLength=length))
        score.insert(0, part)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    score.write("midi", fp=path)
    return path
