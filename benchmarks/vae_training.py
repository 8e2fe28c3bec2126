"""How soon does a VAE 784-400-20 reach 105.6 nats on the 10,000 test digits, and how good are the others by then?

    python benchmarks/vae_training.py --out benchmarks/results/vae_training.json      eleven minutes

All sides train the same network with the same loss (summed Bernoulli cross-entropy on grey values + KL), batches of 128, one
after another on the same machine; then again with other random numbers, as many turns as there are --pairs. The clock counts
training only: not loading, not what is measured meanwhile.

library         the recipe vae-mlp, with the `EFFORT` below: its minute version trains longer, and ends below the goal. In
                single precision, as the others; and in bfloat16.
usual script    a DataLoader that fetches digits one at a time, turns each into a PIL picture and that into a tensor, and Adam
                at 1e-3. (Its data set is written out below; torchvision's own, measured beside it, needs a fifth more time.)
plain loader    the same script on a DataLoader of a TensorDataset: no pictures in between
pythae          the package's own trainer with its usual settings, Adam at 1e-3 too

The library's schedule knows its end. The others go on until a pass ends at or below the goal. On the way, when the library's
seconds in single precision are over, they are judged as they stand: bound, FID and KID of 10,000 samples, in equal time.

Runs are written as they come; a file that has some is completed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from genai_lib import metrics, pretrained, recipes, sweep
from genai_lib.data import load
from genai_lib.models.vae import VAE, mlp_vae

GOAL = 105.6
MOST = 20  # passes of the others
EFFORT = {"epochs": 3.4, "lr": 8e-3, "beta2": 0.97}  # batches of 128, as the minute version's
OTHERS = ["usual script", "plain loader", "pythae"]


class UsualDigits(Dataset[tuple[Tensor, int]]):
    """Digits as the usual image data sets serve them: bytes → PIL picture → float tensor, one at a time."""

    def __init__(self) -> None:
        x, y = load("mnist", "train")
        self.x, self.y = (x[:, 0] * 255).round().byte(), y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.x[i].numpy())
        pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True)).view(picture.height, picture.width, 1)
        return pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255), int(self.y[i])


class UsualVAE(nn.Module):
    """The introductory example as everybody writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mu, self.logvar = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.up, self.out = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.relu(self.hidden(x.view(-1, 784)))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return torch.sigmoid(self.out(F.relu(self.up(z)))), mu, logvar

    def as_ours(self) -> VAE:
        """The library's VAE with these weights, to be judged as all others are."""
        vae, parts = mlp_vae(), ("weight", "bias")
        layers = {"encoder.1": self.hidden, "decoder.0": self.up, "decoder.2": self.out}
        state = {f"{place}.{part}": getattr(layer, part) for place, layer in layers.items() for part in parts}
        state |= {f"encoder.3.{part}": torch.cat([getattr(self.mu, part), getattr(self.logvar, part)]) for part in parts}
        vae.load_state_dict(state)
        return vae


def usual_loss(y: Tensor, mu: Tensor, logvar: Tensor, x: Tensor) -> Tensor:
    """Summed over pixels, dimensions and the batch."""
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return F.binary_cross_entropy(y, x.view(-1, 784), reduction="sum") + kl


class Reached(Exception):
    """The goal is, or the most passes are over."""


class Watch:
    """Times another's training, and stops the clock while it is judged: once in equal time, and after each pass."""

    def __init__(self, name: str, seconds: float, ours: Callable[[], VAE]) -> None:
        self.name, self.limit, self.ours = name, seconds, ours
        self.passes, self.seconds, self.start = 0, 0.0, time.perf_counter()
        self.figures: dict[str, float] = {}

    def _stop(self) -> VAE:
        self.seconds += time.perf_counter() - self.start
        return deepcopy(self.ours()).eval()

    def _go_on(self) -> None:
        self.start = time.perf_counter()

    def after_step(self) -> None:
        """In equal time: what is there?"""
        if not self.figures and self.seconds + time.perf_counter() - self.start >= self.limit:
            vae = self._stop()
            self.figures = judged(vae, self.seconds)
            self._go_on()

    def after_pass(self) -> None:
        """Raises Reached at the goal, if equal time is over too."""
        vae, self.passes = self._stop(), self.passes + 1
        nats = -metrics.mean_elbo(vae, load("mnist", "test").x)
        print(f"  {self.name}: {self.seconds:6.1f} s  {nats:.2f} nats", flush=True)
        if self.figures and (self.passes >= MOST or nats <= GOAL):
            self.figures |= {"seconds": self.seconds, "passes": self.passes, "nats": nats}
            raise Reached
        self._go_on()


def judged(vae: nn.Module, seconds: float) -> dict[str, float]:
    """After so many seconds: nats (minus the bound) on the test digits; FID and KID of 10,000 samples."""
    found = recipes.get("vae-mlp").quality(vae, pretrained.judge())
    figures = {"seconds": seconds, "nats": -found["elbo"], "fid": found["fid"], "kid": found["kid"]}
    return {f"{name}, equal time": figure for name, figure in figures.items()}


def library(precision: str) -> sweep.Side:
    """The recipe, as long as the goal needs."""

    def run(turn: int, done: Mapping[str, Any]) -> dict[str, float]:
        made = recipes.run("vae-mlp", seed=turn, precision=precision, **EFFORT)
        found = judged(made.product, made.seconds)
        return found | {"seconds": made.seconds, "passes": made.effort.epochs, "nats": found["nats, equal time"]}

    return run


def script(name: str, digits: Callable[[], Dataset[Any]]) -> sweep.Side:
    """The usual loop on a DataLoader of some digits."""

    def run(turn: int, done: Mapping[str, Any]) -> dict[str, float]:
        torch.manual_seed(turn)
        model = UsualVAE()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        loader = DataLoader(digits(), batch_size=128, shuffle=True)
        watch = Watch(name, done["library, fp32"]["seconds"], model.as_ours)
        while True:
            for x, _label in loader:
                loss = usual_loss(*model(x), x)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watch.after_step()
            try:
                watch.after_pass()
            except Reached:
                return watch.figures

    return run


def pythae(turn: int, done: Mapping[str, Any]) -> dict[str, float]:
    """The same network and loss trained by pythae's own trainer with its usual settings (batch 128, Adam 1e-3)."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    torch.manual_seed(turn)
    ours: VAE = mlp_vae()

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = ours.encoder

        def forward(self, x: Tensor) -> ModelOutput:
            mu, logvar = self.layers(x).chunk(2, dim=1)
            return ModelOutput(embedding=mu, log_covariance=logvar)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = ours.decoder

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.layers(z).sigmoid())

    class Watched(TrainingCallback):
        def on_train_step_end(self, training_config: object, **more: object) -> None:
            watch.after_step()

        def on_epoch_end(self, training_config: object, **more: object) -> None:
            watch.after_pass()

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce")
    model = PythaeVAE(config, encoder=Encoder(), decoder=Decoder())
    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(
            output_dir=folder, num_epochs=100 * MOST, per_device_train_batch_size=128, learning_rate=1e-3, seed=turn,
            optimizer_cls="Adam", no_cuda=True,
        )  # fmt: skip
        data = BaseDataset(*load("mnist", "train"))
        trainer = BaseTrainer(model, train_dataset=data, training_config=settings, callbacks=[Watched()])
        watch = Watch("pythae", done["library, fp32"]["seconds"], lambda: ours)
        with suppress(Reached):
            trainer.train()
    return watch.figures


SIDES: dict[str, sweep.Side] = {
    "library, fp32": library("fp32"), "library, bf16": library("bf16"),
    "usual script": script("usual script", UsualDigits),
    "plain loader": script("plain loader", lambda: TensorDataset(*load("mnist", "train"))), "pythae": pythae,
}  # fmt: skip
RATIOS = {
    f"{figure}, {other} / {own}": (figure, other, own)
    for figure, own in (("seconds", "library, fp32"), ("seconds", "library, bf16"), ("fid, equal time", "library, fp32"))
    for other in OTHERS
}


def main() -> None:
    effort = EFFORT | {"batch size": recipes.get("vae-mlp").minute.batch_size}
    told = {"goal, nats": GOAL, "effort": effort}
    sweep.compare("vae_training", __doc__.split("\n")[0], SIDES, RATIOS, told=lambda: told)


if __name__ == "__main__":
    main()
