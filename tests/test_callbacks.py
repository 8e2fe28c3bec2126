from __future__ import annotations

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from genai_lib.callbacks import EMA, Every, Samples, TensorBoard
from genai_lib.data import Batches
from genai_lib.training import Player, Trainer


def run(callbacks_of, steps=10, folder=None):
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 32)[:, None]
    model = nn.Sequential(nn.Linear(1, 3), nn.Dropout(0.5), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    player = Player("p", model, lambda b, n: {"loss": (model(b[0]) - b[0]).square().mean()}, optimizer)
    callbacks = callbacks_of(model)
    trainer = Trainer([player], Batches(x, batch_size=8), callbacks=callbacks, log_every=2, folder=folder, save_every=4)
    trainer.run(steps)
    return model, callbacks, trainer


def test_the_average_is_the_average():
    seen = []
    model, (ema, _), _ = run(lambda m: [EMA(m, decay=0.75), Every(1, lambda t: seen.append(m[0].weight.detach().clone()))])
    expected = seen[0]
    for weight in seen[1:]:
        expected = 0.75 * expected + 0.25 * weight
    torch.testing.assert_close(ema.module[0].weight, expected)
    assert not torch.equal(ema.module[0].weight, model[0].weight)
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\), got 1"):
        EMA(model, decay=1)


def test_every_keeps_what_it_saw_across_a_stop(tmp_path):
    _, (first,), _ = run(lambda m: [Every(3, lambda t: t.step * 10)], steps=8, folder=tmp_path)
    assert first.record == [(3, 30), (6, 60)]
    _, (second,), _ = run(lambda m: [Every(3, lambda t: t.step * 10)], steps=12, folder=tmp_path)
    assert second.record == [(3, 30), (6, 60), (9, 90), (12, 120)]


def test_samples_are_written_in_evaluation_mode_and_training_goes_on(tmp_path):
    modes = []

    def draw(model):
        def inner():
            modes.append(model.training or model[1].training)
            return torch.rand(5, 1, 7, 11)

        return inner

    model, _, _ = run(lambda m: [Samples(draw(m), tmp_path / "s", every=4)])
    assert modes == [False, False]
    assert model.training
    assert model[1].training
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["samples_00000004.png", "samples_00000008.png"]
    with Image.open(tmp_path / "s" / "samples_00000004.png") as sheet:
        assert sheet.size == (2 * (3 * 11 + 2 * 2), 2 * (2 * 7 + 2))


def test_tensorboard_finds_the_history_once_across_a_stop(tmp_path):
    def callbacks(model):
        return [TensorBoard(tmp_path / "logs", draw=lambda: torch.rand(4, 1, 5, 5), every=5)]

    run(callbacks, steps=6, folder=tmp_path / "c")
    _, _, trainer = run(callbacks, steps=10, folder=tmp_path / "c")
    events = EventAccumulator(str(tmp_path / "logs"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    scalars = events.Scalars("p/loss")
    assert [e.step for e in scalars] == [2, 4, 6, 8, 10]
    assert [e.value for e in scalars] == pytest.approx(trainer.history["p/loss"], rel=1e-6)
    assert [e.step for e in events.Images("samples")] == [5, 10]
