"""What a recipe is, and how one is run: data + model + players + schedule + the quality to expect.

Each recipe has a *minute* version, which trains while one reads on, and a *shipped* version, whose weights travel
with the package. Both are the same code with another `Effort`. The recipes themselves are in the files beside this one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from genai_lib import metrics, optimisers
from genai_lib.callbacks import EMA
from genai_lib.data import Batches, Split, load
from genai_lib.data.steps import binarise
from genai_lib.noise import Noise
from genai_lib.objectives import next_token_nll
from genai_lib.training import Callback, Player, Trainer, accelerator

Quality = dict[str, float]
BINARISATION_SEED = 2014  # of the test digits
Callbacks = Sequence[Callback] | Callable[[nn.Module], Sequence[Callback]]


def digits(device: torch.device) -> tuple[Tensor, ...]:
    """The 60,000 training digits (N, 1, 28, 28) in [0, 1] and their labels (N,)."""
    return load("mnist", "train", device=device)


def test_digits() -> Split:
    """The 10,000 test digits."""
    return load("mnist", "test")


def binarised_test_digits() -> Tensor:
    """The 10,000 test digits, each pixel drawn once as 0 or 1 with seed `BINARISATION_SEED`: (10000, 1, 28, 28)."""
    return binarise(test_digits().x, Noise(BINARISATION_SEED))


class Judge(Protocol):
    """Who looks at generated pictures: the shipped digit classifier, or anything that answers like it."""

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, 10) of the digits that pictures (B, 1, 28, 28) show."""

    def features(self, x: Tensor) -> Tensor:
        """What FID and KID compare: (B, F)."""


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
    climb : float
        Share of the steps in which the learning rate of `one_cycle` climbs.
    sink : str
        How it sinks afterwards: ``"cos"`` or ``"linear"``.
    then : Effort, optional
        A next stage from the weights reached, with a fresh optimiser and schedule, and the seed one higher.
    """

    epochs: float
    batch_size: int = 256
    lr: float = 1e-3
    precision: str = "fp32"
    beta2: float = 0.999
    ema: float | None = None
    climb: float = 0.3
    sink: Literal["cos", "linear"] = "cos"
    then: Effort | None = None

    @property
    def stages(self) -> list[Effort]:
        """The effort itself and all that follow it."""
        return [self, *(self.then.stages if self.then else [])]


@dataclass(frozen=True)
class Recipe:
    """One kind of run. Its functions name the types of model they are for: that of `build`, or of `product`.

    Parameters
    ----------
    name, title : str
    build : function () → nn.Module
        The network with fresh weights.
    players : function (model, effort, steps) → list of Player
        Who moves in the game. Empty for a model that is `fit` without gradients.
    minute, shipped : Effort
    quality : function (product, judge) → dict
        Figures on the test set, with the judge's help.
    product : function (model) → nn.Module
        The part worth keeping: of a GAN, the generator.
    fit : function (model, x, noise, rounds) → list of float, optional
        Fits a model without gradients.
    data : function (device) → tuple of tensors with equally many rows
        What batches are cut from; a model that is `fit` gets the first. Default: the 60,000 training digits and their labels.
    turns : int
        Batches a step, for the player who moves most often.
    text : function (product, characters, noise) → str, optional
        How a language model writes. Without it and `music`, a product with a `sample` method draws pictures.
    music : function (product, quarters, noise) → (2 · quarters, 4) voices, optional
        How it composes so many quarter notes, on a grid of eighths; see `genai_lib.data.music`.
    judge : str
        The recipe whose shipped weights judge this one's pictures.
    keep : bool
        False for a model that is `fit` in a second: only its card is kept, and loading it fits it again.
    """

    name: str
    title: str
    build: Callable[[], nn.Module]
    minute: Effort
    shipped: Effort
    quality: Callable[[Any, Any], Quality]
    players: Callable[[Any, Effort, int], list[Player]] | None = None
    product: Callable[[Any], nn.Module] = field(default=lambda model: model)
    fit: Callable[[Any, Tensor, Noise, int], list[float]] | None = None
    data: Callable[[torch.device], tuple[Tensor, ...]] = digits
    turns: int = 1
    text: Callable[[Any, int, Noise], str] | None = None
    music: Callable[[Any, int, Noise], Tensor] | None = None
    judge: str = "classifier"
    keep: bool = True

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


def run_recipe(
    recipe: Recipe,
    version: str = "minute",
    *,
    seed: int = 0,
    folder: Path | str | None = None,
    callbacks: Callbacks = (),
    save_every: int = 500,
    **changes: object,
) -> Run:
    """Train a recipe on its data.

    Parameters
    ----------
    recipe : Recipe
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

    Raises
    ------
    ValueError
        No such version or precision, or epochs that make no step (no whole round of a fit), or endless ones.
    CheckpointError
        The checkpoints in the folder are damaged, of another run or of another model.
    """
    alone = {"then": None} if "epochs" in changes else {}  # other epochs than the recipe's: one stage of them
    effort = replace(recipe.effort(version), **alone, **changes)  # type: ignore[arg-type]
    if not 0 < effort.epochs < math.inf:
        raise ValueError(f"epochs must be a finite number above 0, got {effort.epochs}")
    torch.manual_seed(seed)
    model = recipe.build()
    if recipe.fit is not None:
        if effort.epochs < 1:
            raise ValueError(f"epochs={effort.epochs} makes no round: {recipe.name} is fitted in whole rounds, 1 or more")
        x = recipe.data(torch.device("cpu"))[0]
        start = time.perf_counter()
        try:
            rise = recipe.fit(model, x, Noise(seed), int(effort.epochs))
        except KeyboardInterrupt:
            raise KeyboardInterrupt("stopped in the middle of a fit, which has no checkpoints: nothing is saved") from None
        record = {"step": [float(i) for i in range(len(rise))], "log-likelihood": rise}
        return Run(recipe, effort, model, model, record, time.perf_counter() - start)
    history: dict[str, list[float]] = {}
    seconds = 0.0
    for number, stage in enumerate(effort.stages):
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
    device = accelerator().device
    batches = Batches(*recipe.data(device), batch_size=effort.batch_size, seed=seed)
    steps = round(effort.epochs * batches.per_epoch / recipe.turns)
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


# ---------------------------------------------------------------- what recipes share


def one_cycle(
    module: nn.Module, effort: Effort, steps: int, *, optimiser: Callable[..., torch.optim.Optimizer] = optimisers.adam
) -> tuple[torch.optim.Optimizer, OneCycleLR]:
    """An optimiser whose learning rate climbs for a share of the run and then sinks to zero (Smith & Topin 2019).

    `optimiser` is called with the module, lr and beta2. Adam's memory of the gradient, beta1, moves the other way.
    """
    moved = optimiser(module, lr=effort.lr, beta2=effort.beta2)
    cycle = "betas" in moved.defaults
    return moved, OneCycleLR(
        moved, effort.lr, total_steps=steps, pct_start=effort.climb, anneal_strategy=effort.sink, final_div_factor=1e3,
        cycle_momentum=cycle,
    )  # fmt: skip


def one_player(
    loss: Callable[[Any, tuple[Tensor, ...], Noise], dict[str, Tensor]], *, name: str = "model", clip: float | None = None
) -> Callable[[nn.Module, Effort, int], list[Player]]:
    """The players of a game with one, on a `one_cycle`; `loss` gets the model first, `name` and `clip` are `Player`'s."""

    def players(model: nn.Module, effort: Effort, steps: int) -> list[Player]:
        return [Player(name, model, partial(loss, model), *one_cycle(model, effort, steps), clip=clip)]

    return players


def token_player(
    model: nn.Module, effort: Effort, steps: int, *, optimiser: Callable[..., torch.optim.Optimizer] = optimisers.muon,
    prepare: Callable[[Tensor, Noise], Tensor] = lambda tokens, noise: tokens,
) -> list[Player]:  # fmt: skip
    """The player of a language model, whose batches `prepare` may change first: loss in nats per token."""

    def loss(batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
        tokens = prepare(batch[0], noise)
        return {"loss": next_token_nll(model, tokens).mean() / (tokens.shape[1] - 1)}

    return [Player("model", model, loss, *one_cycle(model, effort, steps, optimiser=optimiser), clip=1.0)]


def distance(samples: Tensor, judge: Judge) -> Quality:
    """FID and KID of samples (N, 1, 28, 28) against the 10,000 test digits, through the judge's features."""
    real, made = (metrics.in_batches(judge.features, x) for x in (test_digits().x, samples))
    return {"fid": metrics.fid(made, real), "kid": metrics.kid(made, real)}


def sample_quality(model: Any, judge: Judge | None, *, n: int = 10_000, seed: int = 0) -> Quality:
    """The `distance` of n samples, drawn 500 at a time, if somebody judges."""
    if judge is None:
        return {}
    noise = Noise(seed)
    return distance(torch.cat([model.sample(min(500, n - i), noise) for i in range(0, n, 500)]), judge)


def likelihood_quality(model: Any, judge: Judge | None) -> Quality:
    """Exact log-likelihood of the binarised test digits, nats; FID and KID as ever, of black-and-white against grey digits.

    Even real digits, binarised, are far from grey ones by the judge's features: hold such an FID to theirs, not to 0.
    """
    log_prob = metrics.in_batches(model.log_prob, binarised_test_digits(), batch_size=100)
    return {"log-likelihood, binarised": log_prob.double().mean().item()} | sample_quality(model, judge)


def conditional_quality(model: Any, judge: Judge | None) -> Quality:
    """Besides FID and KID over all classes: the share of drawn digits in which the judge sees the digit that was asked for."""
    if judge is None:
        return {}
    y = torch.arange(10).repeat(100)
    drawn = model.sample(len(y), Noise(0, 1), y=y)
    return sample_quality(model, judge) | {"asked digit seen": metrics.accuracy(judge, drawn, y)}
