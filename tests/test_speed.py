from __future__ import annotations

import time

import pytest

from genai_lib import recipes, speed
from genai_lib.speed import seconds_in_turns, step_cost


class Runner:
    """Stands for a trainer; its first two steps take longer, by a clock that only runners move."""

    def __init__(self, name, seconds, clock, turns):
        self.name, self.seconds, self.clock, self.turns, self.step = name, seconds, clock, turns, 0

    def run(self, steps):
        self.turns.append((self.name, steps - self.step))
        self.clock[0] += (self.seconds if self.step else 50.0) * (steps - self.step)
        self.step = steps


def test_each_takes_its_turn_and_the_first_steps_do_not_count(monkeypatch):
    clock, turns = [0.0], []
    monkeypatch.setattr(time, "process_time", lambda: clock[0])
    runners = {name: Runner(name, seconds, clock, turns) for name, seconds in (("quick", 0.25), ("slow", 2.0))}
    assert seconds_in_turns(runners, block=3, blocks=2) == {"quick": 0.25, "slow": 2.0}
    assert turns == [("quick", 2), ("slow", 2)] + [("quick", 3), ("slow", 3)] * 2


def test_a_step_s_cost_is_the_median_of_three_stretches(monkeypatch):
    """After ten steps of 0.1 s come three stretches of eight; another program disturbs the second, and its fetching."""
    clock, ran = [0.0], []

    class Disturbed:
        bf16 = False

        def __init__(self, players, batches, **settings):
            self.batches, self.step = batches, 0

        def run(self, steps):
            pace, fetching = [(0.1, 0.0), (0.25, 0.01), (4.0, 2.0), (0.5, 0.1)][len(ran)]
            ran.append(steps - self.step)
            clock[0] += pace * ran[-1]
            self.batches.seconds += fetching * ran[-1]
            self.step = steps

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(speed, "Trainer", Disturbed)
    cost = step_cost(recipes.get("autoencoder"), seconds=2.4)
    assert ran == [10, 8, 8, 8]
    assert cost == {
        "ms a step": pytest.approx(500), "examples a second": pytest.approx(512), "data": pytest.approx(0.2),
        "steps a pass": 234,
    }  # fmt: skip
    ran.clear()
    step_cost(recipes.get("autoencoder"), seconds=0.0)
    assert ran == [10, 4, 4, 4]
