from __future__ import annotations

import functools
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from genai_lib import Noise, data, metrics, recipes
from genai_lib.callbacks import EMA
from genai_lib.models.gan import GAN
from genai_lib.recipes import RECIPES, Effort, core
from genai_lib.training import Callback

PLAYED = [name for name, recipe in RECIPES.items() if recipe.players is not None]
GANS = [name for name in PLAYED if isinstance(RECIPES[name].build(), GAN)]
FITTED = [name for name in RECIPES if name not in PLAYED]
WRITING = [name for name, recipe in RECIPES.items() if recipe.text is not None or recipe.music is not None]
JUDGING = ["classifier", "autoencoder", "clip"]  # they look at pictures, and draw none
DRAWING = [name for name in RECIPES if name not in WRITING and name not in JUDGING]
OF_DIGITS = [name for name in RECIPES if name not in WRITING and RECIPES[name].judge == "classifier" and name != "clip"]


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch):
    """Unpack the digits once for all runs of this file."""
    monkeypatch.setattr(recipes.core, "load", digits)


@functools.cache
def digits(name, split, device="cpu"):
    return data.load(name, split, device=device)


@functools.cache
def rows(name):
    """What the recipe's batches are cut from."""
    return RECIPES[name].data(torch.device("cpu"))


def some(name, n):
    """The first n rows as one batch."""
    return tuple(t[:n] for t in rows(name))


def few(name, steps, *, seed=0, **changes):
    """A minute version of `steps` steps of at most 32 rows, in single precision wherever it runs."""
    batch_size = min(32, RECIPES[name].minute.batch_size)
    epochs = steps * RECIPES[name].turns / (len(rows(name)[0]) // batch_size)
    return recipes.run(name, seed=seed, **{"epochs": epochs, "batch_size": batch_size, "precision": "fp32"} | changes)


@pytest.fixture
def fewer_digits(monkeypatch):
    """The first 2,000 digits of a split are enough to see a hundred Gaussians fitted, or a distance measured."""

    def load(name, split, device="cpu"):
        return data.Split(*(t[:2_000] for t in digits(name, split)))

    monkeypatch.setattr(recipes.core, "load", load)


def weights(module):
    return torch.cat([t.detach().double().flatten() for t in module.state_dict().values()])


# ---------------------------------------------------------------- every recipe


def test_each_recipe_is_filed_under_its_own_name():
    assert all(name == recipe.name and recipe.title for name, recipe in RECIPES.items())
    assert {"classifier", "mixture", "autoencoder", "vae-mlp", "vae-map", "vae-conv", "gan-mlp", "dcgan"} <= set(RECIPES)
    assert all((recipe.players is None) != (recipe.fit is None) for recipe in RECIPES.values())


@pytest.mark.parametrize("name", RECIPES)
def test_the_minute_version_is_never_the_longer_one(name):
    recipe = recipes.get(name)
    assert recipe.effort("minute") is recipe.minute
    assert recipe.effort("shipped") is recipe.shipped
    assert recipe.minute.epochs <= recipe.shipped.epochs


@pytest.mark.parametrize("name", [n for n in PLAYED if n not in GANS])
def test_a_minute_version_learns(name):
    run = few(name, 60)
    (losses,) = (column for key, column in run.history.items() if key.endswith("/loss"))
    assert run.history["step"] == [20, 40, 60]
    assert all(math.isfinite(value) for column in run.history.values() for value in column)
    assert losses[2] < losses[1] < losses[0]
    assert run.product is run.model
    assert not any(module.training for module in run.model.modules())
    assert run.seconds > 0


@pytest.mark.parametrize("name", GANS)
def test_a_minute_gan_plays(name):
    run = few(name, 40)
    assert run.history["step"] == [20, 40]
    scalars = {"step", "discriminator/loss", "discriminator/D(x)", "discriminator/D(G(z))", "generator/loss"}
    assert set(run.history) == scalars
    assert all(math.isfinite(value) for column in run.history.values() for value in column)
    undecided = 0 if name == "wgan-gp" else math.log(4)  # the loss of one who says the same to everything
    assert run.history["discriminator/loss"][-1] < undecided
    assert run.history["discriminator/D(x)"][-1] > run.history["discriminator/D(G(z))"][-1]
    assert not any(module.training for part in (run.model, run.product) for module in part.modules())


@pytest.fixture
def fewer_plays(monkeypatch):
    """The first 200,000 characters are enough to see what a model of text does."""
    whole = recipes.text.load_text

    def load_text(name, split="train"):
        return whole(name, split)[:200_000] if split == "train" else whole(name, split)[:5_000]

    monkeypatch.setattr(recipes.text, "load_text", load_text)


@pytest.mark.parametrize("name", FITTED)
def test_what_is_fitted_climbs(name, fewer_digits, fewer_plays):
    run = recipes.run(name, epochs=3)
    assert run.history["step"] == ([0] if name == "ngram" else [0, 1, 2])  # counting is done at once
    assert run.history["log-likelihood"] == sorted(run.history["log-likelihood"])
    assert run.product is run.model


@pytest.mark.parametrize("name", DRAWING)
def test_a_product_draws_pictures(name, fewer_digits):
    run = recipes.run(name, epochs=2) if name in FITTED else None
    product = run.product if run else RECIPES[name].product(RECIPES[name].build()).eval()
    drawn = product.sample(7, Noise(0))
    shape = (7, 1, 28, 28) if name in OF_DIGITS else (7, 3, 32, 32)
    assert (drawn.shape, drawn.dtype) == (shape, torch.float32)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert not drawn.requires_grad
    assert torch.equal(drawn, product.sample(7, Noise(0)))
    assert not torch.equal(drawn, product.sample(7, Noise(1)))


@pytest.mark.parametrize("name", PLAYED)
def test_a_run_repeats_bit_for_bit(name):
    first, second, other = (few(name, 3, seed=seed) for seed in (0, 0, 1))
    for part in ("model", "product"):
        assert torch.equal(weights(getattr(first, part)), weights(getattr(second, part)))
        assert not torch.equal(weights(getattr(first, part)), weights(getattr(other, part)))
    assert first.history == second.history


@pytest.mark.parametrize("name", FITTED)
def test_a_fit_repeats_bit_for_bit(name, fewer_digits, fewer_plays):
    first, second, other = (recipes.run(name, epochs=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(weights(first.model), weights(second.model))
    assert torch.equal(weights(first.model), weights(other.model)) == (name == "ngram")  # counting needs no chance


def test_what_is_drawn_before_a_run_does_not_matter():
    first = few("autoencoder", 3)
    torch.rand(7)
    Noise(3).normal(7)
    assert torch.equal(weights(few("autoencoder", 3).model), weights(first.model))


@pytest.mark.parametrize("name", ["gpt", "gru"])
def test_a_network_writes_and_is_measured_in_bits(name, monkeypatch):
    text, recipe = recipes.text, recipes.get(name)
    model = recipe.build().eval()
    written = recipe.text(model, text.CONTEXT + 6, Noise(0))
    assert len(written) == text.CONTEXT + 6
    assert set(written) <= set(text.characters().characters)
    assert written == recipe.text(model, text.CONTEXT + 6, Noise(0)) != recipe.text(model, text.CONTEXT + 6, Noise(1))
    line = "All the world's a stage, and all the men and women merely players."
    monkeypatch.setattr(text, "load_text", lambda name, split: line)
    found = recipe.quality(model, None)["bits per character"]
    assert found == pytest.approx(math.log2(text.characters().size), abs=0.3)  # a model that knows nothing


@pytest.mark.parametrize("name", ["ngram", "hmm"])
def test_what_is_counted_writes_and_is_measured_in_bits(name, fewer_plays):
    recipe = recipes.get(name)
    knows_nothing = recipe.build()
    size = recipes.text.characters().size
    assert recipe.quality(knows_nothing, None)["bits per character"] == pytest.approx(math.log2(size), abs=1e-9)
    model = recipes.run(name, epochs=3).product
    assert recipe.quality(model, None)["bits per character"] < 4.9  # single letters need about 4.7, equal ones 6
    written = recipe.text(model, 70, Noise(0))
    assert len(written) == 70
    assert set(written) <= set(recipes.text.characters().characters)
    assert written == recipe.text(model, 70, Noise(0)) != recipe.text(model, 70, Noise(1))


def test_the_pieces_of_the_plays_make_the_whole_text_again():
    """An n-gram counts the text, not the pieces that networks are shown: nothing twice, and nothing is lost but the end."""
    pieces, counted = rows("ngram")[0], recipes.run("ngram").product
    text = recipes.text.load_text("shakespeare", "train")[: len(pieces) * recipes.text.CONTEXT + 1]
    assert counted.total[0] == len(text)
    letters = recipes.text.characters()
    assert counted.count[1 : letters.size + 1].tolist() == [text.count(c) for c in letters.characters]


def test_poems_have_a_form_and_are_measured_by_it(monkeypatch):
    text, recipe = recipes.text, recipes.get("gpt-poems")
    model = recipe.build().eval()
    two = recipe.text(model, 2, Noise(0))
    assert two == recipe.text(model, 2, Noise(0)) != recipe.text(model, 2, Noise(1))
    assert set(two) <= set(text.poem_characters().characters)
    poem = "床前明月光\n疑是地上霜\n舉頭望明月\n低頭思故鄉"
    monkeypatch.setattr(text, "write_poems", lambda model, n, noise: poem)
    assert recipe.quality(model, None)["four lines of five"] == 1
    monkeypatch.setattr(text, "write_poems", lambda model, n, noise: poem[:-1])
    found = recipe.quality(model, None)
    assert found["four lines of five"] == 0
    assert found["bits per character"] == pytest.approx(math.log2(text.poem_characters().size), abs=0.5)


# ---------------------------------------------------------------- how fast, when


@pytest.mark.parametrize(("climb", "sink"), [(0.3, "cos"), (0.1, "linear"), (0.5, "linear")])
def test_the_learning_rate_climbs_for_its_share_and_then_sinks_to_nothing(climb, sink):
    layer, steps = torch.nn.Linear(2, 3), 101
    optimiser, schedule = core.one_cycle(layer, Effort(1, lr=0.02, climb=climb, sink=sink), steps)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if len(rates) < steps:
            schedule.step()
    top = round(climb * steps) - 1
    assert abs(rates.index(max(rates)) - top) <= 1
    assert 0.0195 < max(rates) <= 0.02  # a step may miss the top
    assert rates[-1] == pytest.approx(0.02 / 25 / 1e3)
    assert all(a < b for a, b in pairwise(rates[:top]))
    falls = [a - b for a, b in pairwise(rates[top + 1 :])]
    assert all(fall > 0 for fall in falls)
    assert (max(falls) < 1.001 * min(falls)) == (sink == "linear")


# ---------------------------------------------------------------- every player


@pytest.mark.parametrize("name", PLAYED)
def test_every_player_moves_on_the_meta_device(name):
    """A meta tensor has a shape and no numbers: what runs on it creates nothing on another device, and looks at no value."""
    with torch.device("meta"):
        model = RECIPES[name].build()
    batch = tuple(t.to("meta") for t in some(name, 7))
    for number, player in enumerate(RECIPES[name].players(model, Effort(epochs=1), 10)):
        scalars = player.loss(batch, Noise(0, 0, number, 0, device="meta"))
        assert all(value.shape == () and value.device.type == "meta" for value in scalars.values())
        player.optimizer.zero_grad()
        scalars["loss"].backward()
        assert all(p.grad is not None and p.grad.device.type == "meta" for p in player.module.parameters())


@pytest.mark.parametrize("name", PLAYED)
def test_every_player_touches_all_his_parameters(name):
    torch.manual_seed(0)
    model = RECIPES[name].build().train()
    for number, player in enumerate(RECIPES[name].players(model, Effort(epochs=1), 10)):
        player.optimizer.zero_grad()
        player.loss(some(name, 31), Noise(0, number))["loss"].backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in player.module.parameters())


@pytest.mark.parametrize("name", [name for name in GANS if name in OF_DIGITS])
def test_the_discriminator_sees_real_and_made_digits_in_one_range(name):
    torch.manual_seed(0)
    model, (x, y) = RECIPES[name].build().train(), digits("mnist", "test")
    shown = []
    model.discriminator.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]))
    discriminator, generator = RECIPES[name].players(model, Effort(epochs=1), 10)
    discriminator.loss((x[:31], y[:31]), Noise(0))
    real, made = shown[:2]  # the third, where there is a gradient penalty, lies between them
    assert torch.equal(real, 2 * x[:31] - 1)  # in [−1, 1], as tanh makes them
    torch.testing.assert_close(made, model.generator(Noise(0).normal(31, model.generator.latent), y[:31]))
    assert not made.requires_grad  # the generator does not move in the other's turn
    shown.clear()
    generator.loss((x[:31], y[:31]), Noise(0))
    assert len(shown) == 1
    assert shown[0].requires_grad


@pytest.mark.parametrize("name", PLAYED)
def test_bf16_stays_close_to_fp32(name):
    """Eight bits: 0.4 % a number. Every scalar agrees within 5 %, or 0.02 where it is near 0; the KL within 5 % always."""
    found = {}
    for enabled in (False, True):
        torch.manual_seed(0)
        model = RECIPES[name].build().train()
        for number, player in enumerate(RECIPES[name].players(model, Effort(epochs=1), 10)):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                scalars = player.loss(some(name, 67), Noise(0, number))
            for key, value in scalars.items():
                found[enabled, player.name, key] = value.item()
    for (enabled, *place), rough in found.items():
        if enabled:
            assert rough == pytest.approx(found[(False, *place)], rel=0.05, abs=0 if "kl" in place else 0.02), place


@pytest.mark.filterwarnings("ignore:this processor has no bfloat16 instructions")  # then it trains in fp32, and says so
def test_a_run_in_bf16_learns():
    run = few("vae-mlp", 40, precision="bf16")
    assert run.history["vae/loss"][-1] < run.history["vae/loss"][0]
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}


# ---------------------------------------------------------------- the product


def test_a_gans_product_is_its_generator():
    run = few("gan-mlp", 3, ema=None)
    assert isinstance(run.model, GAN)
    assert run.product is run.model.generator


@pytest.mark.parametrize("name", GANS)
def test_with_ema_the_product_is_the_averaged_generator(name):
    seen = []

    class Watch(Callback):
        def __init__(self, model):
            self.model = model

        def after_step(self, trainer):
            seen.append({key: p.detach().clone() for key, p in self.model.generator.named_parameters()})

    run = few(name, 4, ema=0.5, callbacks=lambda model: [Watch(model)])
    assert run.product is not run.model.generator
    average = seen[0]
    for later in seen[1:]:
        average = {key: 0.5 * average[key] + 0.5 * later[key] for key in later}
    for key, p in run.product.named_parameters():
        torch.testing.assert_close(p.detach(), average[key], msg=key)
    assert not torch.equal(weights(run.product), weights(run.model.generator))


def test_callbacks_may_be_a_sequence_or_made_for_the_model():
    class Count(Callback):
        def __init__(self):
            self.steps = 0

        def after_step(self, trainer):
            self.steps += 1

    count, models = Count(), []
    few("autoencoder", 3, callbacks=[count])
    assert count.steps == 3
    run = few("autoencoder", 3, callbacks=lambda model: models.append(model) or [count])
    assert count.steps == 6
    assert models == [run.model]


def test_a_run_in_a_folder_goes_on_where_it_was(tmp_path):
    class Stop(Callback):
        def after_step(self, trainer):
            if trainer.step == 3:
                raise KeyboardInterrupt

    whole = few("dcgan", 5, ema=0.9, folder=tmp_path / "whole", callbacks=[Callback()])
    Stop.__name__ = "Callback"  # a run's callbacks are part of what it is
    with pytest.raises(KeyboardInterrupt):
        few("dcgan", 5, ema=0.9, folder=tmp_path / "cut", save_every=2, callbacks=[Stop()])
    resumed = few("dcgan", 5, ema=0.9, folder=tmp_path / "cut", save_every=2, callbacks=[Callback()])
    assert torch.equal(weights(resumed.model), weights(whole.model))
    assert torch.equal(weights(resumed.product), weights(whole.product))
    assert resumed.history == whole.history


# ---------------------------------------------------------------- quality


class Pooled:
    """A judge without training: the picture in 7 × 7 blocks, ten of them as logits."""

    def features(self, x):
        return torch.nn.functional.avg_pool2d(x, 4).flatten(1)

    def __call__(self, x):
        return self.features(x)[:, 20:30]


pooled = Pooled()


def test_sample_quality_compares_with_the_test_digits(fewer_digits):
    model = RECIPES["vae-mlp"].build().eval()
    found = recipes.sample_quality(model, pooled, n=1_000, seed=3)
    noise = Noise(3)
    made = pooled.features(torch.cat([model.sample(500, noise), model.sample(500, noise)]))
    real = pooled.features(digits("mnist", "test").x[:2_000])
    assert found["fid"] == pytest.approx(metrics.fid(made, real), rel=1e-6)
    assert found["kid"] == pytest.approx(metrics.kid(made, real), rel=1e-6)
    assert set(found) == {"fid", "kid"}


@pytest.mark.parametrize("n", [503, 1_201])
def test_quality_uses_as_many_samples_as_asked(n, fewer_digits):
    class Counting:
        drawn = 0

        def sample(self, n, noise):
            self.drawn += n
            return noise.uniform(n, 1, 28, 28)

    model = Counting()
    recipes.sample_quality(model, pooled, n=n)
    assert model.drawn == n


def test_the_real_digits_are_the_floor(fewer_digits):
    """Real against real, here the training digits against the test digits, is far below what noise gets."""

    class Digits:
        def sample(self, n, noise):
            return digits("mnist", "train").x[noise.integers(60_000, n)]

    class Fog:
        def sample(self, n, noise):
            return noise.uniform(n, 1, 28, 28)

    floor, fog = (recipes.sample_quality(model, pooled, n=2_000) for model in (Digits(), Fog()))
    assert 0 < floor["fid"] < 0.05 * fog["fid"]
    assert abs(floor["kid"]) < 0.05 * fog["kid"]


@pytest.mark.parametrize("name", [n for n in OF_DIGITS if n != "vae-conv"])
def test_without_a_judge_only_what_needs_none_is_measured(name, fewer_digits):
    product = RECIPES[name].product(RECIPES[name].build()).eval()
    keys = {"classifier": {"accuracy"}, "autoencoder": {"squared error"}, "vae-mlp": {"elbo"}, "vae-map": {"elbo"},
            "mixture-binary": {"log-likelihood, binarised"}, "gpt-pixels": {"log-likelihood, binarised"}}  # fmt: skip
    found = RECIPES[name].quality(product, None)
    assert set(found) == keys.get(name, set())
    assert all(math.isfinite(value) for value in found.values())


# ---------------------------------------------------------------- errors


def test_an_unknown_recipe_is_refused():
    message = f"there is no recipe named 'vae'. The recipes are: {', '.join(RECIPES)}."
    for ask in (recipes.get, recipes.run):
        with pytest.raises(ValueError) as error:
            ask("vae")
        assert str(error.value) == message


def test_an_unknown_version_is_refused():
    for ask in (lambda: RECIPES["dcgan"].effort("hour"), lambda: recipes.run("dcgan", "hour")):
        with pytest.raises(ValueError) as error:
            ask()
        assert str(error.value) == "a recipe has the versions 'minute' and 'shipped', not 'hour'"


@pytest.mark.parametrize("name", ["gan-mlp", "vae-mlp"])
def test_a_run_without_a_step_is_refused(name):
    for epochs in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"^epochs must be a finite number above 0, got {epochs}$"):
            recipes.run(name, epochs=epochs)
    with pytest.raises(ValueError, match=r"^epochs=1e-06 makes no step: an epoch has "):
        recipes.run(name, epochs=1e-6)


@pytest.mark.parametrize("name", FITTED)
def test_a_fit_without_a_round_is_refused(name):
    with pytest.raises(ValueError, match=f"^epochs=0.5 makes no round: {name} is fitted in whole rounds, 1 or more$"):
        recipes.run(name, epochs=0.5)


def test_another_precision_and_an_impossible_decay_are_refused():
    with pytest.raises(ValueError, match="precision must be 'fp32' or 'bf16', got 'fp8'"):
        few("autoencoder", 1, precision="fp8")
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\), got 1.5"):
        EMA(torch.nn.Linear(1, 1), decay=1.5)


def test_a_next_stage_goes_on_from_the_one_before(monkeypatch, tmp_path):
    """Each effort starts from the weights that the one before it reached; finished stages are not played again."""
    first, *others = (steps * 512 / 60_000 for steps in (5, 3, 2))
    third = Effort(epochs=others[1], batch_size=512, lr=1e-4)
    second = Effort(epochs=others[0], batch_size=512, lr=1e-4, then=third)
    effort = Effort(epochs=first, batch_size=512, then=second)
    assert [stage is one for stage, one in zip(effort.stages, (effort, second, third), strict=True)] == [True] * 3
    monkeypatch.setitem(RECIPES, "vae-map", replace(RECIPES["vae-map"], minute=effort))
    whole = recipes.run("vae-map", folder=tmp_path / "whole")
    assert whole.history["step"][-1] == 10
    again = recipes.run("vae-map", folder=tmp_path / "whole")  # all stages are found finished
    alone = recipes.run("vae-map", epochs=first)  # other epochs: one stage
    assert alone.history["step"][-1] == 5
    weights = [torch.cat([p.flatten() for p in run.model.parameters()]) for run in (whole, again, alone)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
