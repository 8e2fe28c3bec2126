"""Bach's four-voice chorales as whole numbers, read from an installed music21, whose encodings may not be shipped here.

T time steps, 4 voices (soprano, alto, tenor, bass). A number is the MIDI pitch of a note that begins (60: middle C),
`HOLD` where the voice keeps its note, `REST` where it is silent.
"""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Iterator
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


def read_voices(path: Path | str, *, steps: int = 4) -> Tensor:
    """Read a file that music21 knows (MusicXML, MIDI, ABC, …), a voice for each of its parts: (T, parts), as in `Chorale`.

    Raises DataError if music21 is not installed, if there is no such file, if it is no music.
    """
    try:
        from music21 import converter
    except ImportError:
        raise DataError("files of music are read with music21, which is not installed: pip install music21") from None
    if not Path(path).is_file():
        raise DataError(f"there is no file {path}")
    try:
        score: Any = converter.parse(Path(path), forceSource=True)
        parts = score.parts
    except Exception as error:  # each of its readers has errors of its own
        raise DataError(f"{path} cannot be read as music ({error}). MusicXML and MIDI files can.") from None
    if not parts or not any(part.flatten().notes for part in parts):
        raise DataError(f"{path} holds no notes")
    return voices_of(parts, steps=steps)


def notes(voices: Tensor) -> Iterator[tuple[int, int, int, int]]:
    """Each note of voices (T, V), voice by voice: its voice, the steps at which it begins and has ended, its pitch or `REST`.

    A voice that begins with `HOLD` is silent until its first note. Raises DataError for what are no voices.
    """
    if voices.ndim != 2 or not len(voices) or voices.is_floating_point() or voices.min() < 0 or voices.max() > REST:
        told = f" from {voices.min()} to {voices.max()}" if voices.numel() else ""
        raise DataError(f"voices must be whole numbers (T, voices) from 0 to {REST}, got {tuple(voices.shape)} "
                        f"{voices.dtype}{told}")  # fmt: skip
    for singer, voice in enumerate(voices.T):
        begins = [0, *(voice[1:] != HOLD).nonzero().flatten().add(1).tolist()]
        for begin, end in pairwise([*begins, len(voice)]):
            yield singer, begin, end, REST if (pitch := int(voice[begin])) == HOLD else pitch


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
        music21 is not installed, or these are no voices.
    """
    return _save(voices, path, "midi", steps, tempo)


def save_musicxml(voices: Tensor, path: Path | str, *, steps: int = 4, tempo: float = 80.0) -> Path:
    """Write voices into a MusicXML file, which notation programs open as a score; all else as in `save_midi`."""
    return _save(voices, path, "musicxml", steps, tempo)


def _save(voices: Tensor, path: Path | str, kind: str, steps: int, tempo: float) -> Path:
    try:
        from music21 import instrument, note, stream
        from music21.tempo import MetronomeMark
    except ImportError:
        name = {"midi": "MIDI", "musicxml": "MusicXML"}[kind]
        raise DataError(f"{name} files are written with music21, which is not installed: pip install music21") from None
    played = list(notes(voices))  # is refused before a file is made
    parts = [stream.Part([getattr(instrument, name)()]) for name in ("Flute", "Oboe", "Clarinet", "Bassoon")]
    for part, name in zip(parts, ("Soprano", "Alto", "Tenor", "Bass"), strict=True):
        part.partName = name
    for voice, begin, end, pitch in played:
        length = (end - begin) / steps
        parts[voice].append(note.Note(pitch, quarterLength=length) if pitch < HOLD else note.Rest(quarterLength=length))
    score = stream.Score([MetronomeMark(number=tempo)])
    for part in parts[: voices.shape[1]]:
        score.insert(0, part)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    score.write(kind, fp=path)
    return path


RATE = 8_000  # numbers a second in `sound`: the highest partial of the highest note lies below half of it


def sound(voices: Tensor, *, steps: int = 4, tempo: float = 80.0) -> bytes:
    """Play voices (T, V), four or fewer, on a small organ: a WAV file, 16 bits, one channel, `RATE` numbers a second.

    Each note adds three sines, of its frequency, twice and three times that. They are read from a table of whole numbers,
    and everything else is done in whole numbers too, so the bytes are the same on every machine. `steps` and `tempo` are as
    in `save_midi`; raises DataError if these are no voices.
    """
    each = round(60 * RATE / (tempo * steps))  # numbers in a step
    played = np.zeros(each * len(voices), dtype=np.int64)
    for _, begin, end, pitch in notes(voices):
        if pitch < HOLD:
            i = np.arange(each * (end - begin))
            wave_form = _period()[(i * _speed(pitch) >> 20) % 1024]
            loudness = np.minimum(np.minimum(24 * i, 12 * i[::-1]), 4096)  # up in 20 milliseconds, down in 40
            fading = 4096 - 2048 * i // len(i)
            played[each * begin : each * end] += (wave_form * loudness >> 12) * fading >> 12
    whole = io.BytesIO()
    with wave.open(whole, "wb") as file:
        file.setparams((1, 2, RATE, len(played), "NONE", ""))
        file.writeframes(played.astype("<i2").tobytes())
    return whole.getvalue()


def _period() -> np.ndarray:  # of the sound, (1024,): four of them at once stay below 2¹⁵
    i = np.arange(1024) * 2 * np.pi / 1024
    return np.rint(5_800 * (np.sin(i) + np.sin(2 * i) / 2 + np.sin(3 * i) / 4)).astype(np.int64)


def _speed(pitch: int) -> int:  # periods a number, in units of 2⁻³⁰
    return round(440 * 2 ** ((pitch - 69) / 12) / RATE * 2**30)
