"""Named, reproducible runs: data + model + players + schedule + the quality to expect.

Each recipe has a *minute* version, which trains while one reads on, and a *shipped* version, whose weights travel
with the package. Both are the same code with another `Effort`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from genai_lib import metrics
from genai_lib.callbacks import EMA
from genai_lib.data import Batches, load
from genai_lib.data.steps import binarise, shift
from genai_lib.models.autoencoder import Autoencoder, mlp_autoencoder
from genai_lib.models.classifier import Classifier
from genai_lib.models.gan import GAN, dcgan, mlp_gan
from genai_lib.models.mixture import PictureMixture
from genai_lib.models.vae import VAE, conv_vae, map_vae, mlp_vae
from genai_lib.noise import Noise
from genai_lib.objectives import bernoulli_nll, elbo, game_loss
from genai_lib.training import Callback, Player, Trainer

Quality = dict[str, float]
Judge = Callable[[Tensor], Tensor]
Callbacks = Sequence[Callback] | Callable[[nn.Module], Sequence[Callback]]


@dataclass(frozen=True)
class Effort:
    """How long and how fast.

    Parameters
    ----------
    epochs : float
        Passes over the training set (for a fitted model: rounds of its algorithm).
    batch_size : int
    lr : float
        Largest learning rate.
    precision : str
        ``"fp32"`` or ``"bf16"``.
    beta2 : float
        Adam's memory of squared gradients: 1 / (1 − beta2) steps. A run of few steps wants a short one.
    ema : float, optional
        Decay of the averaged weights; they are the run's product then.
    then : Effort, optional
        A second stage from the weights reached, with a fresh optimiser, schedule and seed + 1.
    """

    epochs: float
    batch_size: int = 256
    lr: float = 1e-3
    precision: str = "fp32"
    beta2: float = 0.999
    ema: float | None = None
    then: Effort | None = None


@dataclass(frozen=True)
class Recipe:
    """One kind of run.

    Parameters
    ----------
    name, title : str
    build : function () → nn.Module
        The network with fresh weights.
    players : function (model, effort, steps) → list of Player
        Who moves in the game. Empty for a model that is `fit` without gradients.
    minute, shipped : Effort
    quality : function (product, judge) → dict
        Figures on the 10,000 test digits; `judge` maps pictures to features (N, F).
    product : function (model) → nn.Module
        The part worth keeping: of a GAN, the generator.
    fit : function (model, x, noise, rounds) → list of float, optional
        Fits a model without gradients.
    """

    name: str
    title: str
    build: Callable[[], nn.Module]
    minute: Effort
    shipped: Effort
    quality: Callable[[nn.Module, Judge | None], Quality]
    players: Callable[[nn.Module, Effort, int], list[Player]] | None = None
    product: Callable[[nn.Module], nn.Module] = field(default=lambda model: model)
    fit: Callable[[nn.Module, Tensor, Noise, int], list[float]] | None = None

    def effort(self, version: str) -> Effort:
        """The minute or the shipped effort."""
        if version not in ("minute", "shipped"):
            raise ValueError(f"a recipe has the versions 'minute' and 'shipped', not {version!r}")
        return self.minute if version == "minute" else self.shipped


@dataclass
class Run:
    """What a run leaves behind: the whole `model`, its `product` (averaged if so asked), the `history`, the `seconds`."""

    recipe: Recipe
    effort: Effort
    model: nn.Module
    product: nn.Module
    history: dict[str, list[float]]
    seconds: float


def run(
    name: str,
    version: str = "minute",
    *,
    seed: int = 0,
    folder: Path | str | None = None,
    callbacks: Callbacks = (),
    save_every: int = 500,
    **changes: object,
) -> Run:
    """Train a recipe on the 60,000 training digits.

    Parameters
    ----------
    name : str
        One of `RECIPES`.
    version : str
        ``"minute"`` or ``"shipped"``.
    seed : int
        Fixes first weights, order of the data and all noise.
    folder : path, optional
        Keeps checkpoints there, and goes on from them.
    callbacks : sequence of Callback, or function (model) → sequence
        A function gets the model, to draw samples from it as it trains.
    save_every : int
        Steps between checkpoints.
    **changes
        Fields of `Effort` to change, e.g. ``epochs=2`` or ``lr=1e-4``.

    Returns
    -------
    Run
        With model and product in evaluation mode.
    """
    recipe = get(name)
    alone = {"then": None} if "epochs" in changes else {}  # other epochs than the recipe's: one stage of them
    effort = replace(recipe.effort(version), **alone, **changes)  # type: ignore[arg-type]
    torch.manual_seed(seed)
    model = recipe.build()
    if recipe.fit is not None:
        x = load("mnist", "train").x
        start = time.perf_counter()
        rise = recipe.fit(model, x, Noise(seed), int(effort.epochs))
        record = {"step": [float(i) for i in range(len(rise))], "log-likelihood": rise}
        return Run(recipe, effort, model, model, record, time.perf_counter() - start)
    history: dict[str, list[float]] = {}
    seconds, stages = 0.0, [effort] if effort.then is None else [effort, effort.then]
    for number, stage in enumerate(stages):
        place = None if folder is None else Path(folder) / f"stage {number + 1}" if number else Path(folder)
        trainer, product, took = _stage(recipe, model, stage, seed + number, callbacks, place, save_every)
        seconds += took
        before = history["step"][-1] if history else 0.0
        for name, column in trainer.history.items():
            history.setdefault(name, []).extend(before + v if name == "step" else v for v in column)
    return Run(recipe, effort, model.eval(), product.eval(), history, seconds)


def _stage(
    recipe: Recipe, model: nn.Module, effort: Effort, seed: int, callbacks: Callbacks, folder: Path | None, save_every: int
) -> tuple[Trainer, nn.Module, float]:
    """Play the recipe's game once, from the weights the model has; returns trainer, product and seconds of training."""
    assert recipe.players is not None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = Batches(*load("mnist", "train", device=device), batch_size=effort.batch_size, seed=seed)
    steps = round(effort.epochs * batches.per_epoch)
    if steps < 1:
        raise ValueError(f"epochs={effort.epochs} makes no step: an epoch has {batches.per_epoch} steps")
    model.to(device)
    average = EMA(recipe.product(model), decay=effort.ema) if effort.ema is not None else None
    more = list(callbacks(model) if callable(callbacks) else callbacks)
    trainer = Trainer(
        recipe.players(model, effort, steps),
        batches,
        seed=seed,
        precision=effort.precision,
        callbacks=[average, *more] if average else more,
        folder=folder,
        save_every=save_every,
    )
    start = time.perf_counter()
    trainer.run(steps)
    return trainer, average.module if average else recipe.product(model), time.perf_counter() - start


# ---------------------------------------------------------------- players


def _adam(module: nn.Module, effort: Effort, *, beta1: float = 0.9) -> torch.optim.Adam:
    """Adam in one pass over the weights (`fused`) on devices that can; the meta device has no numbers to pass over."""
    fused = all(p.device.type in ("cpu", "cuda") for p in module.parameters())
    return torch.optim.Adam(module.parameters(), lr=effort.lr, betas=(beta1, effort.beta2), fused=fused)


def _one_cycle(module: nn.Module, effort: Effort, steps: int) -> tuple[torch.optim.Optimizer, OneCycleLR]:
    """Adam whose learning rate climbs for three tenths of the run and then sinks to zero (Smith & Topin 2019)."""
    optimizer = _adam(module, effort)
    return optimizer, OneCycleLR(optimizer, effort.lr, total_steps=steps, pct_start=0.3, final_div_factor=1e3)


def _vae_players(model: nn.Module, effort: Effort, steps: int) -> list[Player]:
    assert isinstance(model, VAE)

    def loss(batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
        bound = elbo(model, batch[0], noise)
        return {"loss": bound.loss(), "reconstruction": bound.reconstruction.mean(), "kl": bound.kl.mean()}

    return [Player("vae", model, loss, *_one_cycle(model, effort, steps))]


def _autoencoder_players(model: nn.Module, effort: Effort, steps: int) -> list[Player]:
    assert isinstance(model, Autoencoder)

    def loss(batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
        x = batch[0]
        return {"loss": bernoulli_nll(model.decode(model.encode(x)), x).mean()}

    return [Player("autoencoder", model, loss, *_one_cycle(model, effort, steps))]


def _classifier_players(model: nn.Module, effort: Effort, steps: int) -> list[Player]:
    def loss(batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
        x, y = batch
        logits = model(shift(x, noise))
        return {"loss": F.cross_entropy(logits, y), "accuracy": (logits.argmax(dim=1) == y).float().mean()}

    return [Player("classifier", model, loss, *_one_cycle(model, effort, steps))]


def _gan_players(model: nn.Module, effort: Effort, steps: int) -> list[Player]:
    assert isinstance(model, GAN)
    generator, discriminator = model.generator, model.discriminator
    losses = game_loss("non-saturating")

    def discriminator_loss(batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
        real = 2 * batch[0] - 1
        with torch.no_grad():
            fake = generator(noise.normal(len(real), generator.latent))
        on_real, on_fake = discriminator(real), discriminator(fake)
        return {"loss": losses.discriminator(on_real, on_fake), "D(x)": on_real.sigmoid().mean(),
                "D(G(z))": on_fake.sigmoid().mean()}  # fmt: skip

    def generator_loss(batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
        return {"loss": losses.generator(discriminator(generator(noise.normal(len(batch[0]), generator.latent))))}

    return [
        Player("discriminator", discriminator, discriminator_loss, _adam(discriminator, effort, beta1=0.5)),
        Player("generator", generator, generator_loss, _adam(generator, effort, beta1=0.5)),
    ]


# ---------------------------------------------------------------- quality


def sample_quality(model: nn.Module, judge: Judge, *, n: int = 10_000, seed: int = 0) -> Quality:
    """FID and KID of n samples against the 10,000 test digits, through the judge's features."""
    noise = Noise(seed)
    samples = torch.cat([model.sample(min(500, n - i), noise) for i in range(0, n, 500)])  # type: ignore[operator]
    real = metrics.in_batches(judge, load("mnist", "test").x)
    made = metrics.in_batches(judge, samples)
    return {"fid": metrics.fid(made, real), "kid": metrics.kid(made, real)}


def _samples_only(model: nn.Module, judge: Judge | None) -> Quality:
    return sample_quality(model, judge) if judge is not None else {}


def _vae_quality(model: nn.Module, judge: Judge | None) -> Quality:
    assert isinstance(model, VAE)
    x = load("mnist", "test").x
    return {"elbo": metrics.mean_elbo(model, x)} | _samples_only(model, judge)


def binarised_test_digits() -> Tensor:
    """The 10,000 test digits, each pixel drawn once as 0 or 1 with seed `BINARISATION_SEED`: (10000, 1, 28, 28)."""
    return binarise(load("mnist", "test").x, Noise(BINARISATION_SEED))


def _conv_vae_quality(model: nn.Module, judge: Judge | None) -> Quality:
    assert isinstance(model, VAE)
    binary = binarised_test_digits()
    fifth = binary[::5]  # 500 decoded draws a digit: a fifth of the digits takes minutes, all of them half an hour
    return _vae_quality(model, judge) | {
        "elbo, binarised": metrics.mean_elbo(model, binary),
        "elbo, binarised, every fifth digit": metrics.mean_elbo(model, fifth),
        "iwae k=500, binarised, every fifth digit": metrics.mean_iwae_bound(model, fifth, k=500),
    }


def _autoencoder_quality(model: nn.Module, judge: Judge | None) -> Quality:
    assert isinstance(model, Autoencoder)
    x = load("mnist", "test").x
    error = (metrics.in_batches(model.reconstruct, x) - x).square().mean().item()
    return {"squared error": error}


def _classifier_quality(model: nn.Module, judge: Judge | None) -> Quality:
    return {"accuracy": metrics.accuracy(model, *load("mnist", "test"))}


def _fit_mixture(model: nn.Module, x: Tensor, noise: Noise, rounds: int) -> list[float]:
    assert isinstance(model, PictureMixture)
    return model.fit(x, noise, steps=rounds)


def _generator(model: nn.Module) -> nn.Module:
    assert isinstance(model, GAN)
    return model.generator


BINARISATION_SEED = 2014

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "classifier", "Digit classifier, the judge of the course", Classifier,
            minute=Effort(epochs=1, batch_size=128, lr=4e-3),
            shipped=Effort(epochs=8, batch_size=128, lr=4e-3, precision="bf16"),
            quality=_classifier_quality, players=_classifier_players,
        ),
        Recipe(
            "mixture", "100 Gaussians on 50 principal components, the baseline without a network", PictureMixture,
            minute=Effort(epochs=20), shipped=Effort(epochs=50), quality=_samples_only, fit=_fit_mixture,
        ),
        Recipe(
            "autoencoder", "Fully connected autoencoder, 20 numbers a digit", mlp_autoencoder,
            minute=Effort(epochs=3, lr=5e-3), shipped=Effort(epochs=20, lr=5e-3),
            quality=_autoencoder_quality, players=_autoencoder_players,
        ),
        Recipe(
            "vae-mlp", "Fully connected VAE 784-400-20", mlp_vae,
            minute=Effort(epochs=5, batch_size=128, lr=6e-3, beta2=0.99), shipped=Effort(epochs=50, lr=4e-3),
            quality=_vae_quality, players=_vae_players,
        ),
        Recipe(
            "vae-map", "VAE whose latent space is a plane", map_vae,
            minute=Effort(epochs=8, lr=2e-3), shipped=Effort(epochs=50, lr=2e-3),
            quality=_vae_quality, players=_vae_players,
        ),
        Recipe(
            "vae-conv", "Convolutional VAE", conv_vae,
            minute=Effort(epochs=2, batch_size=128, lr=2e-3),
            shipped=Effort(
                epochs=20, batch_size=128, lr=2e-3, precision="bf16",
                then=Effort(epochs=4, batch_size=256, lr=3e-4, precision="bf16"),
            ),
            quality=_conv_vae_quality, players=_vae_players,
        ),
        Recipe(
            "gan-mlp", "Fully connected GAN of article A", mlp_gan,
            minute=Effort(epochs=2, batch_size=64, lr=2e-4, ema=0.995),
            shipped=Effort(epochs=2, batch_size=64, lr=2e-4, ema=0.995),  # longer is worse: see chapter 04, section 4.7
            quality=_samples_only, players=_gan_players, product=_generator,
        ),
        Recipe(
            "dcgan", "Deep convolutional GAN", dcgan,
            minute=Effort(epochs=1, batch_size=128, lr=5e-4, precision="bf16", ema=0.99),
            shipped=Effort(epochs=10, batch_size=128, lr=5e-4, precision="bf16", ema=0.999),
            quality=_samples_only, players=_gan_players, product=_generator,
        ),
    )
}  # fmt: skip


def get(name: str) -> Recipe:
    """Look up a recipe by name."""
    if name not in RECIPES:
        raise ValueError(f"there is no recipe named {name!r}. The recipes are: {', '.join(RECIPES)}.")
    return RECIPES[name]
