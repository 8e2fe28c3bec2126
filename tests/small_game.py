"""A small game with every kind of state a run can have: two players, dropout, momentum, a schedule, an average, a record."""

from __future__ import annotations

import hashlib
from multiprocessing.synchronize import Event
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from genai_lib.callbacks import EMA, Every
from genai_lib.data import Batches
from genai_lib.data.toys import ring
from genai_lib.noise import Noise
from genai_lib.objectives import game_loss
from genai_lib.training import Callback, Player, Trainer

Z = 5
TOTAL = 200_000  # the schedule's length; a run may stop earlier


def game(steps: int = TOTAL) -> tuple[list[Player], list[Callback]]:
    """Players and callbacks, with weights fixed by seed 3."""
    torch.manual_seed(3)
    generator = nn.Sequential(nn.Linear(Z, 17), nn.BatchNorm1d(17), nn.ReLU(), nn.Linear(17, 2))
    critic = nn.Sequential(nn.Linear(2, 13), nn.LeakyReLU(), nn.Dropout(0.3), nn.Linear(13, 1), nn.Flatten(0))
    losses = game_loss("non-saturating")

    def critic_loss(batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
        fake = generator(noise.normal(len(batch[0]), Z)).detach()
        return {"loss": losses.discriminator(critic(batch[0]), critic(fake))}

    def generator_loss(batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
        return {"loss": losses.generator(critic(generator(noise.normal(len(batch[0]), Z))))}

    adam = torch.optim.Adam(generator.parameters(), lr=1e-3)
    players = [
        Player("critic", critic, critic_loss, torch.optim.SGD(critic.parameters(), lr=0.01, momentum=0.9), turns=2),
        Player("generator", generator, generator_loss, adam, OneCycleLR(adam, 1e-3, total_steps=steps + 1), clip=1.0),
    ]
    return players, [EMA(generator, decay=0.9), Every(11, lambda trainer: float(trainer.step))]


def fingerprint(trainer: Trainer) -> str:
    """SHA-256 of all weights, averages, optimiser moments and the history."""
    sha = hashlib.sha256(repr((trainer.step, trainer.history, trainer.callbacks[1].state_dict())).encode())
    tensors = [t for p in trainer.players for t in p.module.state_dict().values()]
    tensors += [t for p in trainer.players for s in p.optimizer.state.values() for t in s.values() if t is not None]
    tensors += list(trainer.callbacks[0].state_dict().values())
    for t in tensors:
        sha.update(t.detach().numpy().tobytes())
    return sha.hexdigest()


def trainer(folder: str | None, **options: object) -> Trainer:
    """The game on 101 points of the ring."""
    players, callbacks = game()
    batches = Batches(ring(101, Noise(1)), batch_size=19, seed=2)
    return Trainer(players, batches, seed=4, callbacks=callbacks, folder=folder, save_every=7, **options)  # type: ignore[arg-type]


def play(folder: Path, steps: int, result: Path, ready: Event) -> None:
    """Play with checkpoints in `folder`, and write the fingerprint of everything the run ends with."""
    torch.set_num_threads(1)
    running = trainer(str(folder))
    ready.set()
    running.run(steps)
    result.write_text(fingerprint(running))
