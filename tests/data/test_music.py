from __future__ import annotations

import builtins
import gc
import hashlib
import io
import wave
from itertools import pairwise

import numpy as np
import pytest
import torch
from music21 import chord, converter, corpus, meter, midi, note, stream, tie

from genai_lib.data import DataError, load_chorales, music
from genai_lib.data.music import (
    HOLD,
    RATE,
    REST,
    Chorale,
    notes,
    parse_chorales,
    read_voices,
    save_midi,
    save_musicxml,
    sound,
    voices_of,
)  # fmt: skip


def part(*things):
    """A part that begins with a 4/4 and is cut into measures, as those of the chorales are."""
    return stream.Part([meter.TimeSignature("4/4"), *things]).makeNotation()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "genai_lib"


def tune(seed, length=12):
    return 60 + torch.randint(0, 12, (length, 4), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def thirty(cache, monkeypatch):
    """Thirty settings of fifteen tunes in place of Bach's, two keys each; the readings are counted."""
    readings = []

    def read(*, steps=4):
        readings.append(steps)
        return [Chorale(f"bwv{i}", tune(i % 15) + i // 15) for i in range(30)]

    monkeypatch.setattr(music, "parse_chorales", read)
    return readings


# ---------------------------------------------------------------- notes on the grid


def test_notes_rests_ties_and_chords_are_laid_on_the_grid():
    soprano = part(note.Note("C5", quarterLength=1), note.Rest(quarterLength=0.5), note.Note("D5", quarterLength=0.5),
                   note.Note("D5", quarterLength=2))  # fmt: skip
    tied = [note.Note("G3", quarterLength=1), note.Note("G3", quarterLength=1)]
    tied[0].tie, tied[1].tie = tie.Tie("start"), tie.Tie("stop")
    bass = part(*tied, chord.Chord(["C3", "C2"], quarterLength=1))
    voices = voices_of([soprano, bass])
    h, r = HOLD, REST
    assert voices[:, 0].tolist() == [72, h, h, h, r, r, 74, h, 74, h, h, h, h, h, h, h]
    assert voices[:, 1].tolist() == [55, h, h, h, h, h, h, h, 48, h, h, h, r, r, r, r]  # of two notes the upper one
    assert voices.dtype == torch.int64
    assert voices_of([soprano, bass], steps=2)[:, 0].tolist() == [72, h, r, 74, 74, h, h, h]


def test_what_is_shorter_than_a_step_and_misses_the_grid_is_left_out():
    quick = part(*(note.Note(p, quarterLength=0.125) for p in ("C4", "D4", "E4", "F4")), note.Note("G4", quarterLength=0.5))
    assert voices_of([quick])[:, 0].tolist() == [60, 64, 67, HOLD]
    late = part(note.Rest(quarterLength=0.125), note.Note("C4", quarterLength=0.875))
    assert voices_of([late])[:, 0].tolist() == [REST, 60, HOLD, HOLD]
    between = part(note.Rest(quarterLength=0.0625), note.Note("C4", quarterLength=0.125), note.Rest(quarterLength=0.8125))
    assert voices_of([between])[:, 0].tolist() == [REST] * 4


@pytest.fixture(scope="module")
def three():
    """Three of Bach's chorales, as music21 reads them: at random, each with four voices."""
    return [corpus.parse(name) for name in ("bach/bwv269", "bach/bwv153.1", "bach/bwv267")]


def test_a_chorale_can_be_read_off_its_grid_again(three):
    for score in three:
        voices = voices_of(score.parts)
        assert voices.shape == (round(4 * score.highestTime), 4)
        for voice, told in enumerate(score.parts):
            begins = torch.nonzero(voices[:, voice] != HOLD).flatten().tolist()
            runs = [(begin, end, voices[begin, voice].item()) for begin, end in pairwise([*begins, len(voices)])]
            heard = [(begin, end, pitch) for begin, end, pitch in runs if pitch != REST]
            notes = [(4 * n.offset, 4 * (n.offset + n.quarterLength), n.pitch.midi) for n in told.stripTies().flatten().notes]
            assert heard == notes
            assert len(heard) > 20
        ranges = voices.where(voices < HOLD, torch.nan).nanmean(dim=0)
        assert (ranges.diff() < 0).all()  # soprano, alto, tenor, bass


def test_the_chorales_are_read_with_music21(monkeypatch, three):
    class Few:
        def __init__(self, returnType):
            assert returnType == "filename"

        def __iter__(self):
            return iter(["bach/bwv269", "five", "bach/bwv153.1"])

    real = corpus.parse
    monkeypatch.setattr(corpus.chorales, "Iterator", Few)
    monkeypatch.setattr(corpus, "parse", lambda name: stream.Score([stream.Part() for _ in range(5)])
                        if name == "five" else real(name))  # fmt: skip
    found = parse_chorales(steps=2)
    assert [chorale.title for chorale in found] == ["bwv269", "bwv153.1"]  # five voices are one too many
    assert torch.equal(found[1].voices, voices_of(three[1].parts, steps=2))


# ---------------------------------------------------------------- the cache and the split


def test_the_second_call_reads_the_cached_file(thirty, cache):
    first = load_chorales()
    assert thirty == [4]
    assert [path.name for path in cache.iterdir()] == ["chorales-4.npz"]
    again = load_chorales()
    assert thirty == [4]
    assert [chorale.title for chorale in again] == [chorale.title for chorale in first]
    assert all(torch.equal(a.voices, b.voices) for a, b in zip(again, first, strict=True))
    assert torch.equal(first[0].voices, tune(0))
    assert first[0].voices.dtype == torch.int64
    load_chorales(steps=2)
    assert thirty == [4, 2]
    assert sorted(path.name for path in cache.iterdir()) == ["chorales-2.npz", "chorales-4.npz"]


def test_settings_of_one_tune_stay_on_one_side_in_whatever_key(thirty):
    train, test = ([chorale.title for chorale in load_chorales(split)] for split in ("train", "test"))
    assert test == ["bwv9", "bwv24"]
    assert sorted(train + test) == sorted(f"bwv{i}" for i in range(30))


def test_without_a_cache_folder_of_its_own_it_is_in_the_home(thirty, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    load_chorales()
    assert (tmp_path / "home" / ".cache" / "genai_lib" / "chorales-4.npz").is_file()


def test_a_reading_that_fails_leaves_no_cached_file(cache, monkeypatch):
    def fail(*, steps):
        raise RuntimeError("interrupted")

    monkeypatch.setattr(music, "parse_chorales", fail)
    with pytest.raises(RuntimeError, match="interrupted"):
        load_chorales()
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("damage", [lambda raw: b"", lambda raw: raw[:-100], lambda raw: b"x" + raw[1:]])
def test_a_damaged_cached_file_is_named(thirty, cache, damage):
    load_chorales()
    path = cache / "chorales-4.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as error:
        load_chorales()
    assert str(error.value).startswith(f"{path} is damaged (")
    assert str(error.value).endswith("). Delete it: the chorales will be read again.")
    path.unlink()
    assert len(load_chorales()) == 28


def test_two_processes_that_read_at_once_do_each_other_no_harm(thirty, cache, monkeypatch):
    read = music.parse_chorales

    def while_another_reads(*, steps):
        with monkeypatch.context() as patch:
            patch.setattr(music, "parse_chorales", read)
            patch.setattr(music.os, "getpid", lambda: 1)
            other.extend(load_chorales())
        assert [path.name for path in cache.iterdir()] == ["chorales-4.npz"]
        return read(steps=steps)

    other = []
    monkeypatch.setattr(music, "parse_chorales", while_another_reads)
    ours = load_chorales()
    assert thirty == [4, 4]
    assert [path.name for path in cache.iterdir()] == ["chorales-4.npz"]
    for a, b, c in zip(ours, other, load_chorales(), strict=True):
        assert a.title == b.title == c.title
        assert torch.equal(a.voices, b.voices)
        assert torch.equal(a.voices, c.voices)


def test_without_music21_it_says_what_to_install(cache, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("music21"):
            raise ModuleNotFoundError("No module named 'music21'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError) as error:
        load_chorales()
    assert str(error.value) == "Bach's chorales are read with music21, which is not installed: pip install music21"
    with pytest.raises(DataError) as error:
        save_midi(tune(0), cache / "song.mid")
    assert str(error.value) == "MIDI files are written with music21, which is not installed: pip install music21"
    with pytest.raises(DataError, match="MusicXML files are written with music21, which is not installed"):
        save_musicxml(tune(0), cache / "song.xml")
    with pytest.raises(DataError, match="files of music are read with music21, which is not installed"):
        read_voices(cache / "song.mid")
    assert not (cache / "song.mid").exists()


def test_a_wrong_split_is_refused_before_anything_is_read(thirty):
    with pytest.raises(DataError) as error:
        load_chorales("valid")
    assert str(error.value) == "the chorales have no split named 'valid'. Their splits are: train, test."
    assert thirty == []


def test_every_value_fits_a_byte():
    assert np.iinfo(np.uint8).max > REST > HOLD > 127


# ---------------------------------------------------------------- files to be heard


@pytest.mark.parametrize("steps", [2, 4])
def test_a_chorale_comes_back_from_its_file(steps, three, tmp_path):
    for number, score in enumerate(three):
        voices = voices_of(score.parts, steps=steps)
        path = save_midi(voices, str(tmp_path / "songs" / f"{number}.mid"), steps=steps)
        assert path == tmp_path / "songs" / f"{number}.mid"
        parts = converter.parse(path).parts
        assert len(parts) == 4
        read = voices_of(parts, steps=steps)
        assert torch.equal(read[: len(voices)], voices)
        assert (read[len(voices) :] == REST).all()  # music21 fills the last measure


def events(path):
    """What each track of a file plays: (when, on or off, pitch), in steps of half a quarter note; and tempo and channels."""
    file = midi.MidiFile()
    file.open(str(path))
    file.read()
    file.close()
    played, tempi, channels = [], [], []
    for track in file.tracks:
        now, notes = 0, []
        for event in track.events:
            if event.isDeltaTime():
                now += event.time
            elif event.isNoteOn() or event.isNoteOff():
                notes.append((2 * now / file.ticksPerQuarterNote, event.isNoteOn(), event.pitch))
            elif event.type == midi.MetaEvents.SET_TEMPO:
                tempi.append(60e6 / int.from_bytes(event.data))
        played.append(notes)
        channels.append(track.getChannels())
    return played, tempi, channels


def test_a_held_note_is_one_note_and_every_voice_has_its_track_and_channel(tmp_path):
    h, r = HOLD, REST
    voices = torch.tensor([[72, h, h, 72, h], [60, r, h, h, 62], [h, h, 55, h, h], [r, r, r, 48, 50]]).T
    played, tempi, channels = events(save_midi(voices, tmp_path / "a.mid", steps=2, tempo=120))
    assert played == [
        [],  # the tempo stands in a track of its own
        [(0, True, 72), (3, False, 72), (3, True, 72), (5, False, 72)],
        [(0, True, 60), (1, False, 60), (4, True, 62), (5, False, 62)],
        [(2, True, 55), (5, False, 55)],  # what is held before anything began is silence
        [(3, True, 48), (4, False, 48), (4, True, 50), (5, False, 50)],
    ]
    assert tempi == [pytest.approx(120)]
    assert channels == [[], [1], [2], [3], [4]]
    slow = events(save_midi(voices, tmp_path / "b.mid"))
    assert slow[0][1] == [(place / 2, on, pitch) for place, on, pitch in played[1]]  # four steps in a quarter note
    assert slow[1] == [pytest.approx(80)]


def test_a_voice_that_is_silent_throughout_has_a_silent_track(tmp_path):
    voices = torch.tensor([[72, HOLD], [REST, HOLD], [HOLD, HOLD], [48, REST]]).T
    played, _, _ = events(save_midi(voices, tmp_path / "a.mid", steps=2))
    assert played[1:] == [[(0, True, 72), (2, False, 72)], [], [], [(0, True, 48), (1, False, 48)]]


# ---------------------------------------------------------------- scores, sound, files of others


@pytest.mark.parametrize("steps", [2, 4])
def test_a_chorale_comes_back_from_its_score(steps, three, tmp_path):
    voices = voices_of(three[0].parts, steps=steps)
    path = save_musicxml(voices, str(tmp_path / "scores" / "a.musicxml"), steps=steps)
    assert path == tmp_path / "scores" / "a.musicxml"
    read = read_voices(path, steps=steps)
    assert torch.equal(read[: len(voices)], voices)
    assert (read[len(voices) :] == REST).all()
    assert [part.partName for part in converter.parse(path).parts] == ["Soprano", "Alto", "Tenor", "Bass"]


def test_two_voices_make_a_score_of_two(tmp_path):
    voices = torch.tensor([[72, HOLD, 74, HOLD], [HOLD, 60, HOLD, REST]]).T
    read = read_voices(save_musicxml(voices, tmp_path / "a.musicxml", steps=2), steps=2)
    assert torch.equal(read[:4], torch.tensor([[72, HOLD, 74, HOLD], [REST, 60, HOLD, REST]]).T)


@pytest.mark.parametrize("voices", [
    torch.tensor([[130, 60, 55, 48]]), torch.tensor([[60, -1, 55, 48]]), torch.tensor([60, 55]), torch.zeros(0, 4).long(),
    torch.tensor([[60.5, 60, 55, 48]]),
])  # fmt: skip
@pytest.mark.parametrize("write", [save_midi, save_musicxml])
def test_what_are_no_voices_is_refused_and_leaves_no_file(voices, write, tmp_path):
    with pytest.raises(DataError, match=r"voices must be whole numbers \(T, voices\) from 0 to 129, got"):
        write(voices, tmp_path / "a")
    with pytest.raises(DataError, match="voices must be whole numbers"):
        sound(voices)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")  # music21 leaves it open
def test_a_file_that_is_no_music_is_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*nothing\.mid"):
        read_voices(tmp_path / "nothing.mid")
    for name in ("a.mid", "a.xml", "a.txt"):
        (tmp_path / name).write_text("C D E F")
        with pytest.raises(DataError, match=rf"{name} cannot be read as music"):
            read_voices(tmp_path / name)
    silent = save_midi(torch.full((4, 4), REST), tmp_path / "silent.mid")
    with pytest.raises(DataError, match=r"silent\.mid holds no notes"):
        read_voices(silent)
    gc.collect()  # here, so that the warning is this test's


def test_notes_by_hand():
    h, r = HOLD, REST
    voices = torch.tensor([[h, 72, h, r, 74], [60, 60, h, h, h]]).T
    assert list(notes(voices)) == [(0, 0, 1, r), (0, 1, 3, 72), (0, 3, 4, r), (0, 4, 5, 74), (1, 0, 1, 60), (1, 1, 5, 60)]


def played(file):
    with wave.open(io.BytesIO(file)) as opened:
        assert opened.getparams()[:3] == (1, 2, RATE)
        return np.frombuffer(opened.readframes(opened.getnframes()), dtype="<i2").astype(int)


@pytest.mark.parametrize("pitch", [36, 57, 69, 81])
def test_a_note_sounds_at_its_frequency_with_two_softer_partials(pitch):
    heard = played(sound(torch.tensor([[pitch]] + 7 * [[HOLD]]), steps=2, tempo=60))
    assert len(heard) == 4 * RATE
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    f = 440 * 2 ** ((pitch - 69) / 12)
    peaks = [spectrum[round(4 * k * f) - 3 : round(4 * k * f) + 4].max() for k in (1, 2, 3)]
    assert abs(spectrum.argmax() / 4 - f) <= 0.25
    assert np.array(peaks) / peaks[0] == pytest.approx([1, 1 / 2, 1 / 4], rel=0.1)  # a peak may lie between two entries


def test_voices_are_added_and_rests_are_silent():
    one, two = torch.tensor([[60], [HOLD], [REST], [64]]), torch.tensor([[67], [REST], [REST], [HOLD]])
    both = played(sound(torch.cat([one, two], dim=1)))
    assert np.array_equal(both, played(sound(one)) + played(sound(two)))
    each = len(both) // 4
    assert not both[2 * each : 3 * each].any()
    assert both[:each].any()
    assert (both[[0, -1]] == 0).all()  # no click


def test_the_loudest_chord_is_not_cut_off():
    heard = played(sound(torch.tensor([[45] * 4] + 3 * [[HOLD] * 4])))
    assert 20_000 < np.abs(heard).max() < 2**15


def test_the_bytes_of_a_sound_are_the_same_on_every_machine():
    """Only two roundings touch a float: no value that they round lies near a tie."""
    i = np.arange(1024) * 2 * np.pi / 1024
    table = 5_800 * (np.sin(i) + np.sin(2 * i) / 2 + np.sin(3 * i) / 4)
    speeds = np.array([440 * 2 ** ((pitch - 69) / 12) / RATE * 2**30 for pitch in range(128)])
    for values, margin in ((table, 1e-4), (speeds, 1e-4)):
        assert np.abs(values - np.floor(values) - 0.5).min() > margin
    assert np.array_equal(music._period(), np.rint(table))
    assert [music._speed(pitch) for pitch in range(128)] == np.rint(speeds).tolist()
    voices = torch.tensor([[72, 64, 55, 48], [HOLD, 65, HOLD, 50], [74, HOLD, REST, HOLD], [HOLD, HOLD, 57, 53]])
    assert hashlib.sha256(sound(voices, steps=2, tempo=96)).hexdigest()[:16] == "b549de92883a44b9"
