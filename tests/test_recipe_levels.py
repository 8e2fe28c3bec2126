from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from genai_lib import Noise
from genai_lib.data import load_levels
from genai_lib.data.levels import CELLS, Level, parse_levels
from genai_lib.games import play, puzzle, solve
from genai_lib.models.gpt import GPT, GPTConfig, LanguageModel
from genai_lib.recipes import core, levels

RECIPE = levels.RECIPES[0]
FIRST = len(CELLS)  # the token of the number 0


class Fixed(LanguageModel):
    """A language model that wants the same cells whatever it is asked: `wanted`, (SIDE²,) tokens, again and again."""

    def __init__(self, wanted):
        super().__init__()
        self.wanted, self.size = wanted, FIRST + levels.BOXES + 1

    def forward(self, tokens):
        places = torch.arange(tokens.shape[1]) - 2
        return 20.0 * nn.functional.one_hot(self.wanted[places % len(self.wanted)], self.size).expand(len(tokens), -1, -1)

    def step(self, tokens, state):
        return self(tokens)[:, -1], None


class Random(LanguageModel):
    """A language model that knows nothing."""

    def forward(self, tokens):
        return torch.zeros(*tokens.shape, FIRST + levels.BOXES + 1)

    def step(self, tokens, state):
        return self(tokens)[:, -1], None


def only(cell):
    return Fixed(torch.full((levels.SIDE**2,), CELLS.index(cell)))


def writes(level):
    """A model that writes this level, in the upper left corner."""
    return Fixed(levels.encode([level])[0, 3:])


def room(rows):
    return Level.walled(np.array([list(row) for row in rows]))


# ---------------------------------------------------------------- levels as tokens


def test_the_small_levels_are_those_whose_room_fits():
    small = levels.small_levels("train")
    assert (len(small), len(levels.small_levels("test"))) == (234, 23)
    titles = {level.title: level for level in load_levels()}
    for level in small:
        original = titles[level.title]
        assert max(level.grid.shape) <= levels.SIDE + 2
        assert (level.boxes.sum(), level.goals.sum()) == (original.boxes.sum(), original.goals.sum())
        assert level.faults() == []
    fits = [level for level in titles.values() if max(level.grid.shape) <= levels.SIDE + 2]
    assert len({level.title for level in fits} - {level.title for level in small}) <= 1  # a box that lies outside the room


def test_a_row_tells_size_and_boxes_and_then_every_cell():
    (row, *others) = levels.encode([room(["@$.", " # "])]).tolist()
    assert row[:3] == [FIRST + 2, FIRST + 3, FIRST + 1]
    frame = ["@$.#####", " # #####", *["########"] * 6]
    assert [CELLS[token] for token in row[3:]] == list("".join(frame))
    assert len(others) == 7
    assert others[1][:3] == [FIRST + 2, FIRST + 3, FIRST + 1] or others[0][:3] == [FIRST + 3, FIRST + 2, FIRST + 1]


def test_the_eight_rows_of_a_level_are_its_turned_and_mirrored_copies():
    some = levels.small_levels("train")[::23]
    for level, eight in zip(some, levels.encode(some).view(len(some), 8, -1), strict=True):
        read = [Level.walled(np.array(list(CELLS))[row[3:].view(levels.SIDE, levels.SIDE)]) for row in eight]
        assert {puzzle(copy) for copy in read} == {puzzle(level)}
        assert len({tuple(row.tolist()) for row in eight}) == len({str(copy) for copy in read}) >= 4 or level.boxes.sum() > 5
        assert all(row[0] - FIRST == copy.room.shape[0] and row[1] - FIRST == copy.room.shape[1]
                   for row, copy in zip(eight, read, strict=True))  # fmt: skip


def test_all_rows_are_made_once():
    rows = levels.rows("train")
    assert rows is levels.rows("train")
    assert (rows.shape, rows.dtype) == ((8 * 234, 3 + levels.SIDE**2), torch.int64)
    assert rows[:, 3:].max() < FIRST <= rows[:, :3].min()
    assert rows.max() <= FIRST + levels.BOXES
    (data,) = RECIPE.data(torch.device("meta"))
    assert (data.device.type, data.shape) == ("meta", rows.shape)


# ---------------------------------------------------------------- asking


def test_what_is_asked_by_hand():
    assert levels.ask(2, height=3, width=5, boxes=4).tolist() == [[FIRST + 3, FIRST + 5, FIRST + 4]] * 2


@pytest.mark.parametrize("height, width, boxes", [(0, 3, 1), (3, 9, 1), (9, 3, 1), (3, 3, 0), (2, 2, 4), (8, 8, 21)])
def test_what_no_level_could_be_is_not_asked(height, width, boxes):
    with pytest.raises(ValueError) as error:
        levels.ask(1, height=height, width=width, boxes=boxes)
    assert str(error.value) == (
        "a room has 1 to 8 rows and columns, up to 20 boxes, and a cell for the player; "
        f"got height={height}, width={width}, boxes={boxes}"
    )


def test_prompts_are_those_of_training_levels_with_few_boxes():
    asked = levels.prompts(500, Noise(0))
    known = {tuple(row) for row in levels.rows("train")[:, :3].tolist()}
    assert asked.shape == (500, 3)
    assert {tuple(row) for row in asked.tolist()} <= known
    assert set((asked[:, 2] - FIRST).tolist()) == {1, 2, 3, 4, 5}
    assert torch.equal(asked, levels.prompts(500, Noise(0)))
    assert not torch.equal(asked, levels.prompts(500, Noise(1)))


def test_full_rooms_are_as_large_as_they_come_and_ask_for_few_boxes():
    asked = levels.full_rooms(500, Noise(0))
    assert asked.shape == (500, 3)
    assert (asked[:, :2] - FIRST == levels.SIDE).all()
    counts = (asked[:, 2] - FIRST).bincount()
    assert len(counts) == levels.FEW + 1
    assert counts[0] == 0
    assert counts[1:].min() > 60  # of 100 expected
    assert torch.equal(asked, levels.full_rooms(500, Noise(0)))


@pytest.mark.parametrize("n", [1, 7, 250])
def test_both_kinds_are_half_and_half(n):
    asked = levels.both_kinds(n, Noise(3))
    assert asked.shape == (n, 3)
    assert torch.equal(asked[: n - n // 2], levels.prompts(n - n // 2, Noise(3)))
    assert (asked[n - n // 2 :, :2] - FIRST == levels.SIDE).all()


# ---------------------------------------------------------------- drawing


@pytest.mark.parametrize("model", [Random(), *map(only, CELLS)], ids=["random", *CELLS])
@pytest.mark.parametrize("height, width, boxes", [(1, 3, 1), (1, 5, 4), (2, 7, 3), (8, 8, 20), (5, 3, 2), (3, 2, 5), (8, 1, 1)])
def test_the_rules_make_every_level_well_formed_whatever_the_model_wants(model, height, width, boxes):
    for level in levels.draw(model, levels.ask(7, height=height, width=width, boxes=boxes), Noise(0)):
        assert level.grid.shape == (levels.SIDE + 2, levels.SIDE + 2)
        assert level.faults() == []
        assert level.boxes.sum() == level.goals.sum() == boxes
        outside = np.ones(level.grid.shape, dtype=bool)
        outside[1:height + 1, 1:width + 1] = False
        assert level.walls[outside].all()


def test_each_level_of_a_batch_obeys_its_own_order():
    asked = torch.cat([levels.ask(1, height=3, width=5, boxes=2), levels.ask(1, height=6, width=2, boxes=3)])
    small, tall = levels.draw(Random(), asked, Noise(0))
    assert (small.boxes.sum(), tall.boxes.sum()) == (2, 3)
    assert small.walls[4:].all()
    assert tall.walls[:, 3:].all()


def test_the_rules_leave_a_level_that_keeps_them_as_the_model_wants_it():
    for level in levels.small_levels("train")[:20]:
        asked = levels.encode([level])[:1, :3]
        (drawn,) = levels.draw(writes(level), asked, Noise(0), temperature=0)
        assert puzzle(drawn) == puzzle(level)
        assert (drawn.room == level.room).all()


def test_without_the_rules_the_model_writes_what_it_wants():
    (level,) = levels.draw(only("@"), levels.ask(1, height=3, width=3, boxes=1), Noise(0), rules=False)
    assert level.rows == ("#" * 10, *["#" + 8 * "@" + "#"] * 8, "#" * 10)


def test_the_temperature_reaches_the_model():
    asked = levels.ask(5, height=8, width=8, boxes=3)
    cold = levels.draw(only(" "), asked, Noise(0), temperature=0, rules=False)
    assert all(set(str(level)) == {"#", " ", "\n"} for level in cold)
    warm = levels.draw(only(" "), asked, Noise(0), temperature=20.0, rules=False)
    assert len(set(map(str, warm))) == 5


def test_drawing_repeats_with_its_noise_and_with_nothing_else():
    torch.manual_seed(0)
    model, asked = RECIPE.build().eval(), levels.ask(3, height=5, width=6, boxes=2)
    first = levels.draw(model, asked, Noise(0))
    torch.rand(7)
    assert levels.draw(model, asked, Noise(0)) == first
    assert levels.draw(model, asked, Noise(1)) != first


# ---------------------------------------------------------------- new levels


def test_fresh_levels_are_new_and_counted():
    found, new = levels.fresh(Random(), 60, Noise(0))
    known = set(map(puzzle, levels.small_levels("train")))
    assert len(found) == 60 == len(set(map(puzzle, found)))
    assert not known & set(map(puzzle, found))
    assert 0.5 < new <= 1.0


@pytest.fixture
def known():
    """A training level."""
    return next(level for level in levels.small_levels("train") if level.boxes.sum() <= levels.FEW and level.room.size > 35)


def again(level):
    """Orders that want nothing but this level's size and boxes."""
    return lambda n, noise: levels.encode([level])[:1, :3].repeat(n, 1)


def test_copies_and_repetitions_are_dropped(known):
    class Copier(Random):
        """The first level of each batch is the known one, the others are wild."""

        def forward(self, tokens):
            logits = super().forward(tokens)
            logits[0] = writes(known)(tokens)[0]
            return logits

    found, new = levels.fresh(Copier(), 5, Noise(1), orders=again(known))
    assert (len(found), new) == (5, 0.8)  # twice four of five; the three that are too many are not kept
    assert puzzle(known) not in set(map(puzzle, found))
    assert len(set(map(puzzle, found))) == 5


def test_fresh_levels_are_as_they_are_ordered():
    found, _ = levels.fresh(Random(), 30, Noise(0), orders=lambda n, noise: levels.ask(n, height=4, width=5, boxes=3))
    assert {int(level.boxes.sum()) for level in found} == {3}
    assert all(level.walls[5:].all() and level.walls[:, 6:].all() and not level.walls[1:5, 1:6].all() for level in found)


def test_a_model_that_only_copies_is_found_out(known):
    with pytest.raises(ValueError) as error:
        levels.fresh(writes(known), 4, Noise(0), orders=again(known))
    assert str(error.value) == "only 0 of 204 levels drawn were new: train for fewer epochs, or draw more warmly"


def test_a_model_learns_from_those_of_its_levels_that_are_solved():
    found = levels.own(Random(), 40)
    assert found.shape[1] == 3 + levels.SIDE**2
    assert 0 < len(found) < 8 * 40
    for row in found[::8]:
        level = Level.walled(np.array(list(CELLS))[row[3:].view(levels.SIDE, levels.SIDE)])
        assert solve(level).pushes > 0
    assert torch.equal(found, levels.own(Random(), 40))
    wide = levels.own(Random(), 40, orders=lambda n, noise: levels.ask(n, height=1, width=6, boxes=1))
    assert (wide[:, :2].min(dim=1).values == FIRST + 1).all()
    assert (wide[:, 2] == FIRST + 1).all()


def test_a_model_that_writes_nothing_solvable_has_nothing_to_learn_from():
    with pytest.raises(ValueError) as error:
        levels.own(Random(), 2, orders=lambda n, noise: levels.ask(n, height=1, width=5, boxes=4))  # no room to push
    assert str(error.value) == "none of the 2 levels written could be solved: train longer before the rounds of own levels"


# ---------------------------------------------------------------- the recipe


def build():
    torch.manual_seed(0)
    return GPT(GPTConfig(size=FIRST + levels.BOXES + 1, context=levels.SIDE**2 + 2, layers=1, heads=2, width=16))


def batch(n):
    return (levels.rows("train")[:n],)


def test_the_loss_is_nats_per_token():
    model = Random()
    model.weight = nn.Parameter(torch.zeros(2, 2))  # an optimiser wants one
    model.embedding = nn.Embedding(2, 2)
    (player,) = RECIPE.players(model, core.Effort(epochs=1), 10)
    assert player.loss(batch(7), Noise(0))["loss"].item() == pytest.approx(math.log(model(batch(7)[0]).shape[-1]), rel=1e-5)


def test_each_further_round_mixes_in_what_the_model_wrote(monkeypatch):
    written = levels.encode([room(["@$.", "   "])])
    asked = []
    monkeypatch.setattr(levels, "own", lambda model, n, *, orders: asked.append((n, orders)) or written)
    seen = []
    monkeypatch.setattr(core, "next_token_nll", lambda model, x: seen.append(x) or model.tokens.weight.sum().expand(len(x)))
    model = build()
    (player,) = RECIPE.players(model, levels.OWN, 10)
    x = levels.rows("train")[80:93]
    player.loss((x,), Noise(0))
    (mixed,) = seen
    assert asked == [(8_000, levels.both_kinds)]
    assert torch.equal(mixed[:7], x[6:])
    assert all(any(torch.equal(row, other) for other in written) for row in mixed[7:])
    assert len(mixed) == 13
    player.loss((x,), Noise(0))
    assert len(asked) == 1  # written once a round
    first, *rounds = RECIPE.shipped.stages
    assert first is RECIPE.shipped
    assert len(rounds) == 6
    for stage in (RECIPE.shipped, RECIPE.minute, replace(levels.OWN)):  # an equal effort is no such round
        RECIPE.players(model, stage, 10)[0].loss((x,), Noise(0))
    assert len(asked) == 1
    for stage in rounds:
        assert replace(stage, then=None) == replace(levels.OWN, then=None)
        RECIPE.players(model, stage, 10)[0].loss((x,), Noise(0))
    assert len(asked) == 7


def test_a_round_that_goes_on_learns_from_what_was_written_at_its_beginning(monkeypatch):
    wrote = []

    def own(model, n, *, orders):
        wrote.append(model.tokens.weight.clone())
        return levels.encode([room(["@$.", "   "])])

    monkeypatch.setattr(levels, "own", own)
    model = build()
    first = model.tokens.weight.detach().clone()
    (player,) = RECIPE.players(model, levels.OWN, 10)
    assert wrote == []  # a round that is found finished writes nothing
    with torch.no_grad():
        model.tokens.weight.add_(1.0)  # a checkpoint from its middle
    player.loss(batch(4), Noise(0))
    assert torch.equal(wrote[0], first)


def test_the_step_runs_on_the_meta_device():
    with torch.device("meta"):
        model = RECIPE.build()
    (player,) = RECIPE.players(model, core.Effort(epochs=1), 10)
    loss = player.loss((levels.rows("train")[:7].to("meta"),), Noise(0, device="meta"))["loss"]
    loss.backward()
    assert (loss.shape, loss.device.type) == ((), "meta")
    assert all(p.grad.device.type == "meta" for p in model.parameters())


def test_a_few_steps_learn_and_repeat():
    small = replace(RECIPE, build=build)
    first, second = (core.run_recipe(small, epochs=45 / 117) for _ in range(2))
    losses = first.history["model/loss"]
    assert losses[-1] < losses[0] < math.log(28)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))


def test_the_quality_of_a_model_that_knows_nothing():
    found = RECIPE.quality(Random(), None)
    assert set(found) == {"well-formed", "solvable", "new", "pushes", "nats per cell", "solvable, full rooms"}
    assert found["well-formed"] == 1.0
    assert found["solvable"] < 0.4
    assert found["solvable, full rooms"] < 0.2
    assert 0.5 < found["new"] <= 1.0
    assert found["nats per cell"] == pytest.approx(math.log(28), rel=1e-5)


def test_the_nats_of_a_cell_do_not_count_the_numbers_before_it(monkeypatch):
    level = levels.small_levels("test")[0]
    monkeypatch.setattr(levels, "rows", lambda split: levels.encode([level])[:1])
    easy, lost = room(["@$ .", "    "]), room(["$@ .", "    "])
    written = {levels.prompts: [easy] * 4, levels.full_rooms: [easy, lost]}
    monkeypatch.setattr(levels, "fresh", lambda model, n, noise, *, orders=levels.prompts: (written[orders], 0.8))
    found = RECIPE.quality(writes(level), None)  # wrong about the numbers, right about the cells
    assert found["nats per cell"] < 1e-6
    assert (found["solvable"], found["pushes"], found["new"], found["solvable, full rooms"]) == (1.0, 2.0, 0.8, 0.5)


def test_levels_are_written_as_a_collection_that_can_be_read_and_played():
    text = RECIPE.text(Random(), 40, Noise(0))
    assert text == RECIPE.text(Random(), 40, Noise(0)) != RECIPE.text(Random(), 40, Noise(1))
    read = parse_levels(text)
    assert len(read) == 40
    verdicts = set()
    for number, level in enumerate(read, start=1):
        answer = solve(level, limit=levels.LIMIT)
        end = f"pushes: {answer.pushes}" if answer.verdict == "solved" else answer.verdict
        assert level.title == f"Level {number}, boxes: {level.boxes.sum()}, {end}"
        verdicts.add(answer.verdict)
        if answer.moves:
            last = play(level, answer.moves)
            assert (last.boxes == last.goals).all()
    assert {"solved", "unsolvable"} <= verdicts
