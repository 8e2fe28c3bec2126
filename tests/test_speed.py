from __future__ import annotations

import time

from genai_lib.speed import seconds_in_turns


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
