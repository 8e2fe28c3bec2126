from __future__ import annotations

import math
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from genai_lib import Noise, metrics, pretrained
from genai_lib.__main__ import main
from genai_lib.data import load_chorales
from genai_lib.data.music import HOLD, REST, Chorale, save_midi
from genai_lib.models.gpt import GPT, GPTConfig, LanguageModel
from genai_lib.models.ngram import NGram
from genai_lib.recipes import core, music

RECIPE = music.RECIPES[0]
PITCHES = music.HIGH - music.LOW
SIZE = music.EDGE + 1


class Counting(LanguageModel):
    """Each voice climbs by a semitone from its own note: the soprano from 40, the alto from 41, …, and from the edge anew.

    It reads whole steps and no more than the context.
    """

    def forward(self, tokens):
        first = (torch.arange(tokens.shape[1]) + 1) % 4 + 10
        before = torch.cat([torch.full((len(tokens), 3), music.EDGE), tokens], dim=1)[:, : tokens.shape[1]]  # this voice, last
        wanted = torch.where(before == music.EDGE, first, (before + 1) % PITCHES)
        return 50.0 * nn.functional.one_hot(wanted, SIZE)

    def step(self, tokens, state):
        assert tokens.shape[1] <= music.CONTEXT
        if state is None:
            assert tokens.shape[1] % 4 == 0
        return self(tokens)[:, -1], True


def counted(steps):
    """What it writes: (steps, 4)."""
    return music.LOW + (10 + torch.arange(4) + torch.arange(steps)[:, None]) % PITCHES


class Equal(LanguageModel):
    """A language model that knows nothing."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(2, 2)
        self.weight = nn.Parameter(torch.zeros(2, 2))  # an optimiser wants one

    def forward(self, tokens):
        return torch.zeros(*tokens.shape, SIZE)

    def step(self, tokens, state):
        return self(tokens)[:, -1], None


# ---------------------------------------------------------------- voices as tokens


def test_tokens_by_hand():
    voices = torch.tensor([[music.LOW, music.HIGH - 1, HOLD, REST]])
    tokens = music.encode(voices)
    assert tokens.tolist() == [[0, PITCHES - 1, PITCHES, PITCHES + 1]]
    assert torch.equal(music.decode(tokens), voices)
    assert PITCHES + 2 == music.EDGE
    assert music.decode(torch.full((1, 4), music.EDGE)).tolist() == [[REST] * 4]
    every = torch.cat([torch.arange(music.LOW, music.HIGH), torch.tensor([HOLD, REST])])
    assert music.encode(every).tolist() == list(range(music.EDGE))


def test_a_row_is_moved_as_one_and_only_its_notes():
    one = torch.cat([torch.arange(10, PITCHES - 10), torch.tensor([PITCHES, PITCHES + 1, music.EDGE])])
    moved = music.transpose(one.expand(300, -1), Noise(0))
    by = moved[:, :-3] - one[:-3]
    assert (by == by[:, :1]).all()
    assert set(by[:, 0].tolist()) == set(range(-5, 7))  # each of the twelve keys once
    assert (moved[:, -3:] == one[-3:]).all()
    assert torch.equal(moved, music.transpose(one.expand(300, -1), Noise(0)))


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_transposition_of_every_chorale_has_tokens(split):
    for _, voices in load_chorales(split, steps=music.STEPS):
        notes = voices[voices < HOLD]
        assert notes.min() - 5 >= music.LOW
        assert notes.max() + 6 < music.HIGH


@pytest.fixture
def two(monkeypatch):
    """Two chorales of one voice's making: the first of 80 steps, the second of 61."""
    chorales = [Chorale(f"bwv{n}", 40 + torch.arange(4 * n).view(n, 4) % 40) for n in (80, 61)]

    def load(split, *, steps):
        assert steps == music.STEPS
        return chorales if split == "train" else chorales[1:]

    monkeypatch.setattr(music, "load_chorales", load)
    monkeypatch.setattr(music, "row", music.row.__wrapped__)  # nothing is kept
    return chorales


def test_an_edge_stands_before_each_chorale(two):
    steps = music.row("train").view(-1, 4)
    assert len(steps) == 1 + 80 + 1 + 61
    assert (steps == music.EDGE).all(dim=1).nonzero().flatten().tolist() == [0, 81]
    assert torch.equal(music.decode(steps[1:81]), two[0].voices)
    assert torch.equal(music.decode(steps[82:]), two[1].voices)
    assert torch.equal(music.row("test"), music.row("train")[4 * 81 :])


def test_pieces_begin_with_a_soprano_half_a_bar_apart(two):
    (pieces,) = music.pieces(torch.device("cpu"))
    row = music.row("train")
    assert pieces.shape == ((len(row) - music.CONTEXT - 1) // 16 + 1, music.CONTEXT + 1)
    for number, piece in enumerate(pieces):
        assert torch.equal(piece, row[16 * number : 16 * number + 257])
    assert music.pieces(torch.device("meta"))[0].device.type == "meta"


def test_bachs_row_is_made_once():
    assert music.row("test") is music.row("test")
    assert music.row("test").max() == music.EDGE
    edges = (music.row("test") == music.EDGE).sum().item()
    assert edges == 4 * len(load_chorales("test", steps=music.STEPS))


# ---------------------------------------------------------------- drawing


@pytest.mark.parametrize("steps", [1, 31, 63, 64, 97, 200])
def test_a_long_piece_goes_on_where_each_window_ends(steps):
    drawn = music.draw(Counting(), 3, steps, Noise(0))
    assert drawn.shape == (3, steps, 4)
    assert torch.equal(drawn, counted(steps).expand(3, -1, -1))


def small():
    torch.manual_seed(0)
    return GPT(GPTConfig(size=SIZE, context=music.CONTEXT, layers=1, heads=2, width=16)).eval()


def test_drawing_repeats_with_its_noise_and_with_nothing_else():
    model = small()
    first = music.draw(model, 2, 70, Noise(0))
    torch.rand(7)
    assert torch.equal(music.draw(model, 2, 70, Noise(0)), first)
    assert not torch.equal(music.draw(model, 2, 70, Noise(1)), first)
    assert not torch.equal(first[0], first[1])
    allowed = set(range(music.LOW, music.HIGH)) | {HOLD, REST}
    assert set(first.flatten().tolist()) <= allowed


def test_the_temperature_reaches_the_model():
    model = small()
    cold = music.draw(model, 2, 5, Noise(0), temperature=0)
    assert torch.equal(cold[0], cold[1])
    assert torch.equal(cold, music.draw(model, 2, 5, Noise(1), temperature=0))


def test_composing_needs_no_chorales(monkeypatch):
    def gone(split, *, steps):
        raise AssertionError("the weights must do")

    monkeypatch.setattr(music, "load_chorales", gone)
    monkeypatch.setattr(music, "row", music.row.__wrapped__)
    model = RECIPE.build().eval()
    voices = RECIPE.music(model, 7, Noise(0))
    assert voices.shape == (14, 4)
    assert torch.equal(voices, music.draw(model, 1, 14, Noise(0))[0])
    assert RECIPE.text is None


# ---------------------------------------------------------------- parallel fifths and octaves


@pytest.mark.parametrize(
    "second, share",
    [
        ([74, 62, 57, 50], 1),  # the bass moves as soprano and alto do, two octaves below
        ([74, 60, 55, 48], 0),  # one voice alone
        ([74, 60, 57, 48], 0),  # soprano and tenor move together, a fourth apart
        ([72, 62, 57, 48], 0),  # alto and tenor, a fourth apart
        ([72, 60, 57, 50], 1),  # tenor and bass in fifths
        ([74, 60, 55, 46], 0),  # apart
        ([74, 60, 55, 38], 0),  # against each other
        ([72, 60, 55, 48], 0),  # every note again: nobody moves
        ([HOLD, HOLD, HOLD, HOLD], 0),
        ([REST, 62, 57, 50], 1),  # alto and bass
        ([REST, 62, 57, 48], 0),
    ],
)
def test_parallels_by_hand(second, share):
    assert music.parallels(torch.tensor([[72, 60, 55, 48], second])) == share


def test_parallels_through_held_notes_rests_and_beginnings():
    h, r = HOLD, REST
    voices = torch.tensor([
        [h, h, 72, h, 74, h, r, 76],
        [60, h, h, 67, h, 64, h, 60],
        [r, r, r, r, r, r, r, r],
        [r, 48, h, h, 50, 48, h, h],
    ])  # fmt: skip
    # Soprano and bass move in octaves at step 4; at step 5 alto and bass move, apart; after its rest no voice moves.
    assert music.parallels(voices.T) == 1 / 2
    assert music.parallels(voices.T[:4]) == 0


def by_the_book(voices):
    """The same, voice by voice and step by step."""
    now, sounding = [None] * 4, []
    for step in voices:
        now = [before if new == HOLD else None if new == REST else new for before, new in zip(now, step, strict=True)]
        sounding.append(now)
    moved, found = 0, 0
    for before, after in pairwise(sounding):
        by = [None if a is None or b is None else b - a for a, b in zip(before, after, strict=True)]
        moving = [voice for voice in range(4) if by[voice]]
        moved += len(moving) > 1
        found += any(by[i] == by[j] and (after[i] - after[j]) % 12 in (0, 7) for i, j in combinations(moving, 2))
    return found / max(moved, 1)


STEP = st.lists(st.sampled_from([48, 50, 55, 57, 60, 62, 67, HOLD, HOLD, REST]), min_size=4, max_size=4)


@given(st.lists(STEP, min_size=1, max_size=13))
def test_parallels_as_the_book_counts_them(steps):
    assert music.parallels(torch.tensor(steps)) == pytest.approx(by_the_book(steps))


# ---------------------------------------------------------------- the recipe


def test_the_loss_is_nats_per_token_of_transposed_pieces(monkeypatch):
    x = torch.randint(10, 40, (7, music.CONTEXT + 1))
    (player,) = RECIPE.players(Equal(), core.Effort(epochs=1), 10)
    assert player.loss((x,), Noise(0))["loss"].item() == pytest.approx(math.log(SIZE), rel=1e-5)
    seen = []
    monkeypatch.setattr(core, "next_token_nll", lambda model, tokens: seen.append(tokens) or torch.zeros(len(tokens)))
    player.loss((x,), Noise(5))
    assert torch.equal(seen[0], music.transpose(x, Noise(5)))


def test_the_step_runs_on_the_meta_device():
    with torch.device("meta"):
        model = RECIPE.build()
    (player,) = RECIPE.players(model, core.Effort(epochs=1), 10)
    x = torch.zeros(7, music.CONTEXT + 1, dtype=torch.int64, device="meta")
    loss = player.loss((x,), Noise(0, device="meta"))["loss"]
    loss.backward()
    assert (loss.shape, loss.device.type) == ((), "meta")
    assert all(p.grad.device.type == "meta" for p in model.parameters())


def test_the_weights_stay_small():
    assert sum(p.numel() for p in RECIPE.build().parameters()) <= 450_000


def test_the_quality_of_a_model_that_knows_nothing():
    found = RECIPE.quality(Equal(), None)
    assert set(found) == {"nats per token", "parallels", "parallels, Bach"}
    assert found["nats per token"] == pytest.approx(math.log(SIZE), rel=1e-5)
    assert 0 < found["parallels"] < 0.02
    assert 0 < found["parallels, Bach"] < 0.005  # he allowed himself a few


def test_the_quality_of_a_model_that_knows_all(two):
    """In Bach's place a chorale that climbs by four semitones a step; the drawn ones climb by one."""

    class Knowing(Counting):
        def forward(self, tokens):
            row = torch.cat([music.row("test"), torch.zeros(1, dtype=torch.int64)])
            for start in range(0, len(row), music.CONTEXT):
                if torch.equal(tokens[0], row[start : start + tokens.shape[1]]):
                    return 50.0 * nn.functional.one_hot(row[start + 1 : start + 1 + tokens.shape[1]], SIZE)[None]
            return super().forward(tokens)

    found = RECIPE.quality(Knowing(), None)
    assert found["nats per token"] < 1e-6
    assert found["parallels"] == pytest.approx(by_the_book(counted(64).tolist()))
    assert found["parallels, Bach"] == pytest.approx(by_the_book(two[1].voices.tolist()))


def test_silence_stands_between_drawn_pieces(monkeypatch, two):
    """Played on without it, the first step of the second piece would be a parallel."""
    pieces = torch.tensor([[72, 60, 55, 48], [74, 62, 57, 50]])
    assert music.parallels(pieces) == 1
    monkeypatch.setattr(music, "draw", lambda model, n, steps, noise: pieces[:, None])
    assert RECIPE.quality(Equal(), None)["parallels"] == 0


# ---------------------------------------------------------------- from the command line


@pytest.mark.parametrize("out, path", [([], "samples.mid"), (["--out", "new/song.mid"], "new/song.mid")])
def test_the_command_line_writes_a_song(out, path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "chorales", "-n", "12", "--seed", "5", *out]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    voices = RECIPE.music(pretrained.load("chorales"), 12, Noise(5))
    assert voices.shape == (24, 4)
    expected = save_midi(voices, tmp_path / "expected.mid", steps=2)
    assert (tmp_path / path).read_bytes() == expected.read_bytes()


def test_training_from_the_command_line_draws_no_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pretrained, "measure", lambda name, product: {"nats per token": 1.0})
    epochs = 3 / (len(music.pieces(torch.device("cpu"))[0]) // RECIPE.minute.batch_size)
    assert main(["train", "chorales", "--epochs", str(epochs), "--folder", str(tmp_path)]) == 0
    assert not (tmp_path / "samples").exists()
    assert (tmp_path / "chorales.safetensors").is_file()


# ---------------------------------------------------------------- the shipped weights


def test_the_shipped_weights_know_more_than_counting():
    """Both read the same tokens; the table of 6-grams is the best of its kind here (5: 1.50 nats, 6: 1.49, 9: 1.60)."""
    test = music.row("test")
    counted = -NGram(6, SIZE).fit(music.row("train")).log_prob(test)[1:].mean().item()
    nats = metrics.text_nll(pretrained.load("chorales"), test, context=music.CONTEXT) / (len(test) - 1)
    assert nats < counted - 0.5


# ---------------------------------------------------------------- given voices, and the rule in the loop


def test_given_voices_stand_where_they_were_asked():
    writer, given = pretrained.load("chorales"), torch.full((2, 70, 4), -1)
    given[0, :, 0] = torch.tensor([60, HOLD] * 35)
    given[1, 5] = torch.tensor([70, 65, REST, 50])
    drawn = music.draw(writer, 2, 70, Noise(0), given=given)
    assert torch.equal(drawn[given >= 0], given[given >= 0])
    free = music.draw(writer, 2, 70, Noise(0))
    assert torch.equal(free[1, :5], drawn[1, :5])  # what is to come is not seen
    assert not torch.equal(free[1, 6:], drawn[1, 6:])


def test_what_cannot_be_given_is_refused():
    with pytest.raises(ValueError, match=r"given must have shape \(1, 3, 4\), got \(3, 4\)"):
        music.draw(small(), 1, 3, Noise(0), given=torch.full((3, 4), -1))
    with pytest.raises(ValueError, match="pitches must lie from 30 to 87, got 20 to 20: transpose them"):
        music.draw(small(), 1, 1, Noise(0), given=torch.tensor([[[20, -1, -1, -1]]]))
    with pytest.raises(ValueError, match="rule must lie from 0, never, to 1, as trained; got 2"):
        music.draw(small(), 1, 1, Noise(0), rule=2)


@pytest.mark.parametrize("seed", range(3))
def test_with_the_hard_rule_there_are_no_parallels(seed):
    knows_nothing = Equal()
    hold = 3.5 * nn.functional.one_hot(torch.tensor(PITCHES), SIZE)
    knows_nothing.forward = lambda tokens: hold.expand(*tokens.shape, SIZE)
    wild, tame = (music.draw(knows_nothing, 40, 40, Noise(seed), temperature=0.9, rule=rule) for rule in (1.0, 0.0))
    assert sum(map(music.parallels, wild)) > 0
    assert sum(map(music.parallels, tame)) == 0
    half = music.draw(knows_nothing, 40, 40, Noise(seed), temperature=0.9, rule=1e-9)
    assert torch.equal(half, tame)  # a rule nearly hard draws the same


@given(st.lists(STEP, min_size=2, max_size=9))
def test_forbidden_tokens_are_those_that_make_parallels(steps):
    voices = torch.tensor(steps)
    heard = music.sounding(voices)
    for voice in range(4):
        masked = music.forbidden(heard[:-1], heard[1:, :voice])
        assert masked.shape == (len(voices) - 1, SIZE)
        assert not masked[:, PITCHES:].any()
        token = music.encode(voices[1:, voice])
        for t in range(len(voices) - 1):
            before, now = heard[t], heard[t + 1]
            moved = now[voice] - before[voice]
            alike = [u for u in range(voice) if moved != 0 and now[u] - before[u] == moved]
            made = any((now[u] - now[voice]) % 12 in (0, 7) for u in alike)
            if voices[t + 1, voice] < HOLD:
                assert masked[t, token[t]].item() == made


# ---------------------------------------------------------------- faults, copies, counting


def test_faults_by_hand():
    h, r = HOLD, REST
    voices = torch.tensor([
        [72, h, 74, 84, h, r],  # a leap of 10 to a note above the range
        [60, h, 76, h, 62, h],  # an octave up less a bit: above the soprano; outside its own range
        [55, h, h, h, h, h],
        [48, h, h, 36, h, h],  # an octave down is no leap, but too low
    ]).T  # fmt: skip
    found = music.faults(voices)
    assert list(found) == ["parallels", "crossing", "spacing", "range", "leaps"]
    assert found["crossing"] == pytest.approx(1 / 6)  # step 2: 76 above 74
    assert found["spacing"] == pytest.approx(3 / 6)  # 76 − 55 = 21 at steps 2 and 3; 84 − 62 at step 4, and not silent ones
    assert found["leaps"] == pytest.approx(3 / 5)  # 10 in the soprano, 16 and 14 in the alto; not 2, not the octave
    sung = [(p, *music.SINGERS[v].tolist()) for v in range(4) for p in voices[:, v].tolist() if p < HOLD]
    by_key = [sum(not low <= pitch + key <= high for pitch, low, high in sung) for key in range(-6, 6)]
    assert found["range"] == pytest.approx(min(by_key) / 9)
    assert set(music.faults(torch.full((3, 4), r)).values()) == {0}


def test_a_piece_has_its_faults_in_every_key():
    voices = load_chorales("test", steps=music.STEPS)[0].voices
    moved = torch.where(voices < HOLD, voices + 3, voices)
    assert music.faults(voices) == pytest.approx(music.faults(moved))


def test_the_longest_run_is_found_in_whatever_key_and_never_across_two_pieces():
    known = [counted(30), load_chorales("train", steps=music.STEPS)[0].voices]
    copy = torch.where(known[1] < HOLD, known[1] - 4, known[1])
    new = torch.tensor([[60, 55, 52, 40], [79, 50, 41, 33]] * 6)
    assert music.longest_runs([copy, copy[6:20], new], known).tolist() == [len(copy) - 1, 13, 0]
    first, second = copy[:10], copy[10:20]
    assert music.longest_runs([copy[:20]], [first, second]).tolist() == [9]
    patched = torch.cat([copy[:9], new[:3], copy[12:30]])
    assert music.longest_runs([patched], known).tolist() == [30 - 12 - 1]


def test_counting_answers_as_it_scores():
    tokens = music.row("test")[: 4 * 300]
    counts = music.VoiceCounts(5, tokens)
    for n in (4, 5, 7, 18):
        logits, state = counts.step(tokens[None, :n], None)
        assert state is None
        assert logits.shape == (1, SIZE)
        known = torch.cat([tokens[:n].expand(SIZE, -1), torch.arange(SIZE)[:, None]], dim=1)
        assert torch.allclose(logits[0], counts.log_prob(known)[:, -1])
    assert counts.log_prob(tokens).shape == tokens.shape


def test_counting_knows_whose_turn_it_is_and_every_key():
    tokens = music.row("test")[: 4 * 300]
    counts, plain = music.VoiceCounts(5, tokens), NGram(5, SIZE).fit(tokens)
    other = torch.where(tokens < PITCHES, tokens + 2, tokens)
    assert counts.log_prob(other).mean() > plain.log_prob(other).mean() + 0.5
    drawn = music.draw(counts, 3, 12, Noise(0), temperature=1.0)
    assert drawn.shape == (3, 12, 4)
    assert (music.sounding(drawn[0]).nanmean(dim=0).diff() < 0).all()  # soprano above alto above tenor above bass
