"""Is data the key (claims K1 to K4)? How much, how clean, how labelled, how augmented.

The plan, written before any row; m = log 1.25 and the rule are the ledger's. An effect is a mean over ten seeds with its
bootstrap interval. A seed fixes the subset, the first weights, the batches and all noise; both sides of a comparison share it.

Models  A fully connected VAE, a GAN (the pair of chapter 9) and a GRU on the plays, each at one learning rate, chosen on a
        seed of its own with all data (`--tune`), with averaged weights. The number of updates is fixed: as many for 1 % of the
        data as for all of it. VAE and GRU have a validation loss: every so many updates it is taken on data kept back, and the
        averaged weights of the best look are kept (early stopping). A GAN has none: its last averaged weights are kept.
Metric  Pictures: KID of 2,000 drawn digits against 2,000 test digits, on the features of the shipped classifier; FID beside
        it. Text: bits per character of the test plays. A quarter more bits is a far higher bar than a quarter more KID: bits
        have a floor that is not 0, and KID has not.
K1      log(metric with 10 % / metric with 100 %). Families: VAE, GAN, autoregressive. The other sizes draw the curve, with
        three seeds. Beside the claim: four times as many updates for VAE and GRU (two seeds), and the VAE at a quarter of its
        width and at four times it (one seed).
K2      10 % of the data are clean; half as many faulty items are added, a third of the whole. Noise: items of the set once
        more, a fifth of their pixels, or characters, replaced by random ones. Duplicates: a hundredth of the items, 50 times
        each. log(metric with faults / without), for each seed the mean over VAE and GRU. Families: noise, duplicates.
K3      600 digits for the GAN, 600 updates with batches of 32. Naive: each digit nine more times, moved by up to two pixels
        each way. Differentiable: all that the discriminator sees, real and drawn, is moved so, each time anew. log(KID without
        / KID with). Beside it the gap: the discriminator's mean logit on its 600 digits less that on 1,000 digits kept back.
K4      log(KID without labels / KID with), all data. Families: VAE, GAN, and a diffusion model (ten DDIM steps).
        With labels each model is told the digit, and draws digits asked for at random. (A first try with 200 updates of the
        diffusion model was thrown away: with labels or without it drew no digits, KID above 70.)

    python benchmarks/data_is_key.py --out genai_lib/data

writes k1_quantity.json (and k1_samples.json: what seed 0 drew and wrote), k2_faults.json, k3_augmentation.json and
k4_labels.json, a row at a time; files that have some rows are completed. `--part K3` runs one part, `--tune` prints the
learning rates' figures and writes nothing.
"""

from __future__ import annotations

import base64
import copy
import io
import math
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

import genai_lib
from genai_lib import metrics, optimisers, pretrained, sweep
from genai_lib.callbacks import EMA, Every
from genai_lib.data import Batches, Split, load
from genai_lib.data.pipeline import augment
from genai_lib.data.steps import disturb
from genai_lib.data.texts import load_text
from genai_lib.models.diffusion import Diffusion, Schedule
from genai_lib.models.gan import dcgan
from genai_lib.models.mixture import PictureMixture
from genai_lib.models.recurrent import GRU
from genai_lib.models.unet import UNet
from genai_lib.models.vae import ConditionalVAE, conditional_vae, mlp_vae
from genai_lib.noise import Noise
from genai_lib.objectives import denoising_loss, elbo, next_token_nll
from genai_lib.recipes.core import Effort, one_cycle
from genai_lib.recipes.gan import game
from genai_lib.recipes.text import characters, plays
from genai_lib.training import Player, Trainer

SEEDS, FEW, TUNING_SEED = range(10), range(3), 100
SIZES = (1, 3, 10, 30, 100)  # per cent of the data
HELD = 5_000  # digits kept back for validation
FEWEST = 600  # digits of K3
DRAWN, DECAY, CONTEXT = 2_000, 0.99, 64
WIDTHS = {"VAE": 200, "GAN": 16, "GRU": 128}
STEPS = {"VAE": 1_000, "GAN": 300, "GRU": 300, "diffusion": 500}
LOOKS = {"VAE": 50, "GRU": 15}  # updates between two looks at the validation loss
BATCH = {"VAE": 64, "GAN": 64, "GRU": 16, "diffusion": 32}
RATES = {"VAE": 4e-3, "GAN": 1e-2, "GRU": 8e-3, "diffusion": 5e-3}
GRID = {"VAE": (1e-3, 2e-3, 4e-3), "GRU": (4e-3, 8e-3, 1.6e-2)}  # by validation loss; the GAN's is the best of chapter 9
FAULTS = ("noise", "duplicates")
ARMS = ("none", "naive", "differentiable")
COMMAND = "python benchmarks/data_is_key.py --out genai_lib/data"
FILES = {
    "K1": "k1_quantity",
    "more": "k1_quantity",
    "K2": "k2_faults",
    "K3": "k3_augmentation",
    "K4": "k4_labels",
}

# ---------------------------------------------------------------- data


def nested(seed: int, total: int, held: int) -> tuple[Tensor, Tensor]:
    """A seed's order of all rows: those kept back, and the rest, whose first n rows are its set of size n."""
    order = Noise(seed, 13).permutation(total)
    return order[:held], order[held:]


def some_digits(seed: int, share: float) -> tuple[Split, Split]:
    """So many per cent of the digits, and those kept back."""
    x, y = load("mnist", "train")
    held, rest = nested(seed, len(x), HELD)
    rows = rest[: round(len(rest) * share / 100)]
    return Split(x[rows], y[rows]), Split(x[held], y[held])


def some_text(seed: int, share: float) -> tuple[Tensor, Tensor]:
    """So many per cent of the windows of the plays (N, CONTEXT + 1), and those kept back."""
    (rows,) = plays(torch.device("cpu"), context=CONTEXT)
    held, rest = nested(seed, len(rows), len(rows) // 20)
    return rows[rest[: round(len(rest) * share / 100)]], rows[held]


def with_faults(x: Tensor, fault: str, seed: int, random_values: Callable[[Noise, Tensor], Tensor]) -> Tensor:
    """Half as many rows more: `noise` or `duplicates`; see the plan."""
    noise, n = Noise(seed, 14), len(x)
    chosen = x[noise.permutation(n)[: n // 2]]
    if fault == "duplicates":
        few = chosen[: max(1, n // 100)]
        return torch.cat([x, few.repeat(50, *[1] * (x.ndim - 1))])
    return torch.cat([x, torch.where(noise.uniform(*chosen.shape) < 0.2, random_values(noise, chosen), chosen)])


# ---------------------------------------------------------------- training


def keep_best(product: nn.Module, every: int, loss: Callable[[nn.Module], float]) -> tuple[Every, dict[str, Any]]:
    """Early stopping: a callback that looks at a loss, and the place where it puts the weights of the best look."""
    best: dict[str, Any] = {"loss": math.inf, "step": 0}

    @torch.no_grad()
    def look(trainer: Trainer) -> float:
        value = loss(product.eval())
        if value < best["loss"]:
            best.update(loss=value, step=trainer.step, weights=copy.deepcopy(product.state_dict()))
        return value

    return Every(every, look), best


def train(
    family: str, data: tuple[Tensor, ...], held: tuple[Tensor, ...], seed: int, *, labels: bool = False,
    width: int | None = None, rate: float | None = None, moved: bool = False, times: int = 1, batch: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Train once, `times` as many updates as usual.

    Returns the product, the whole model, the looks at the validation loss, the best step and the seconds.
    """
    torch.manual_seed(seed)
    start, width, rate = time.process_time(), width or WIDTHS.get(family, 16), rate or RATES[family]
    steps, model = times * STEPS[family], build(family, width, labels)
    product = model.generator if family == "GAN" else model
    average = EMA(product, decay=DECAY)
    more, best = [], {"step": steps}
    if family in LOOKS:
        watch, best = keep_best(average.module, times * LOOKS[family], partial(VALIDATION[family], held))
        more = [watch]
    batches = Batches(*data, batch_size=batch or BATCH[family], seed=seed)
    players = players_of(family, model, rate, steps, labels, moved)
    Trainer(players, batches, seed=seed, precision="fp32" if family in LOOKS else "bf16", callbacks=[average, *more]).run(steps)
    if more:
        average.module.load_state_dict(best["weights"])
    looks = [round(value, 3) for _, value in more[0].record] if more else []
    return {"product": average.module.eval(), "model": model.eval(), "looks": looks, "best": best["step"],
            "seconds": time.process_time() - start}  # fmt: skip


def build(family: str, width: int, labels: bool) -> Any:
    """The network with first weights."""
    if family == "VAE":
        return conditional_vae(latent=20, width=width) if labels else mlp_vae(latent=20, width=width)
    if family == "GAN":
        return dcgan(width=width, classes=10 if labels else 0)
    if family == "GRU":
        return GRU(characters().size, width=width)
    return Diffusion(UNet(width=width, classes=10 if labels else 0), Schedule(), predicts="v")


def players_of(family: str, model: Any, rate: float, steps: int, labels: bool, moved: bool) -> list[Player]:
    """Who moves."""
    if family == "GAN":
        see = partial(disturb, pixels=2, colour=0.0, mirror=False) if moved else lambda x, noise: x
        return game(augment=see)(model, Effort(epochs=1, lr=rate), steps)

    def loss(batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
        if family == "VAE":
            return {"loss": elbo(model.given(batch[1]) if labels else model, batch[0], noise).loss()}
        if family == "GRU":
            return {"loss": next_token_nll(model, batch[0]).mean() / CONTEXT}
        x, y = batch
        return {"loss": denoising_loss(model, x, noise, y=y if labels else None).mean() / x[0].numel()}

    if family == "diffusion":
        return [Player("model", model, loss, *one_cycle(model, Effort(epochs=1, lr=rate, beta2=0.99), steps), clip=1.0)]
    adam = optimisers.adam(model, lr=rate, beta2=0.99)
    return [Player("model", model, loss, adam, clip=1.0 if family == "GRU" else None)]


def vae_validation(held: tuple[Tensor, ...], model: nn.Module) -> float:
    """−ELBO of 1,000 digits kept back, nats a digit."""
    x, y = held[0][:1000], held[1][:1000]
    return -metrics.mean_elbo(model.given(y) if isinstance(model, ConditionalVAE) else model, x)


def gru_validation(held: tuple[Tensor, ...], model: nn.Module) -> float:
    """Bits per character of 100 windows kept back."""
    return next_token_nll(model, held[0][:100]).mean().item() / CONTEXT / math.log(2)


VALIDATION = {"VAE": vae_validation, "GRU": gru_validation}

# ---------------------------------------------------------------- judging


@cache
def judge_and_real() -> tuple[Any, Tensor]:
    """The shipped classifier, and its features of 2,000 test digits."""
    judge: Any = pretrained.load("classifier")
    return judge, metrics.in_batches(judge.features, load("mnist", "test").x[:DRAWN])


def draw(model: Any, seed: int) -> Tensor:
    """The pictures to be judged."""
    noise, options = Noise(seed, 1), {"steps": 10} if isinstance(model, Diffusion) else {}
    return torch.cat([model.sample(500, noise, **options) for _ in range(DRAWN // 500)])


def judged(x: Tensor) -> dict[str, float]:
    """KID and FID of pictures."""
    judge, real = judge_and_real()
    made = metrics.in_batches(judge.features, x)
    return {"kid": round(metrics.kid(made, real), 5), "fid": round(metrics.fid(made, real), 3)}


def gap(run: dict[str, Any], data: Tensor, held: Tensor, drawn: Tensor) -> dict[str, float]:
    """The discriminator's mean answers on training digits, on digits kept back, on drawn ones; and its gap, in logits."""
    sets = {"D train": data[:1000], "D held": held[:1000], "D drawn": drawn[:1000]}
    with torch.no_grad():
        logits = {name: run["model"].discriminator(2 * x - 1) for name, x in sets.items()}
    answers = {name: round(a.sigmoid().mean().item(), 4) for name, a in logits.items()}
    return answers | {"gap": round((logits["D train"].mean() - logits["D held"].mean()).item(), 4)}


def copied(drawn: Tensor, data: Tensor) -> dict[str, float]:
    """Is what is drawn closer to the training digits than test digits are?"""
    found = metrics.memorisation(drawn[:1000], data, load("mnist", "test").x[:1000])
    return {"closer": round(found.closer, 4), "copies": round(found.copies, 4)}


def bits(model: Any) -> dict[str, float]:
    """Bits per character of the test plays."""
    text = load_text("shakespeare", "test")
    nll = metrics.text_nll(model, characters().encode(text), context=CONTEXT)
    return {"bits": round(metrics.bits_per_character(nll, len(text)), 4)}


def strip(x: Tensor) -> str:
    """Pictures side by side in eight greys, as the base64 of a PNG file."""
    grey = (torch.cat(list(x[:, 0]), dim=1) * 7).round().to(torch.uint8).numpy()  # (28, 28 N)
    picture, file = Image.fromarray(grey, mode="P"), io.BytesIO()
    picture.putpalette([level for i in range(8) for level in [round(i * 255 / 7)] * 3])
    picture.save(file, format="png", optimize=True, bits=4)
    return base64.b64encode(file.getvalue()).decode()


# ---------------------------------------------------------------- the four parts


def quantity(family: str, width: int, size: int, times: int, seed: int) -> dict[str, Any]:
    """K1: one size, one seed."""
    if family == "GRU":
        data, held = some_text(seed, size)
        run = train(family, (data,), (held,), seed, width=width, times=times)
        row = bits(run["product"]) | {"n": len(data) * CONTEXT}
        if seed == 0 and times == 1:
            prompt = characters().encode("\n")[None]
            row["text"] = characters().decode(run["product"].sample(prompt, 150, Noise(0, 2), temperature=0.8)[0, 1:])
    else:
        data, held = some_digits(seed, size)
        if family == "mixture":
            start, model = time.process_time(), PictureMixture(components=20, dimensions=30)
            model.fit(data.x, Noise(seed), steps=10)
            run = {"product": model, "best": 10, "looks": [], "seconds": time.process_time() - start}
        else:
            run = train(family, data, held, seed, width=width, times=times)
        drawn = draw(run["product"], seed)
        row = judged(drawn) | {"n": len(data.x)}
        if family == "GAN":
            row |= gap(run, data.x, held.x, drawn)
        if family == "VAE":
            row["elbo"] = round(metrics.mean_elbo(run["product"], load("mnist", "test").x[:DRAWN]), 2)
        if seed in FEW and size <= 10:
            row |= copied(drawn, data.x)
        if seed == 0 and times == 1 and width == WIDTHS.get(family):
            row["png"] = strip(drawn[:6])
    if run["looks"]:
        row["best"] = run["best"]
        if seed in FEW and width == WIDTHS[family]:
            row["looks"] = run["looks"]
    return row | {"seconds": round(run["seconds"], 1)}


def faults(family: str, fault: str, seed: int) -> dict[str, Any]:
    """K2: one kind of fault, one model, one seed."""
    if family == "GRU":
        data, held = some_text(seed, 10)
        bad = with_faults(data, fault, seed, lambda noise, x: noise.integers(characters().size, *x.shape))
        run = train(family, (bad,), (held,), seed)
        row = bits(run["product"])
    else:
        digits, kept = some_digits(seed, 10)
        bad = with_faults(digits.x, fault, seed, lambda noise, x: noise.uniform(*x.shape))
        run = train(family, (bad, torch.zeros(len(bad), dtype=torch.long)), kept, seed)
        row = judged(draw(run["product"], seed))
    return row | {"n": len(bad), "seconds": round(run["seconds"], 1)}


def augmentation(arm: str, seed: int) -> dict[str, Any]:
    """K3: one way, one seed."""
    data, held = some_digits(seed, 100)
    data = few = Split(data.x[:FEWEST], data.y[:FEWEST])
    if arm == "naive":
        data, _ = augment(few, Noise(seed, 15), copies=9)
    run = train("GAN", data, held, seed, moved=arm == "differentiable", batch=32, times=2)
    drawn = draw(run["product"], seed)
    return judged(drawn) | gap(run, few.x, held.x, drawn) | copied(drawn, few.x) | {"seconds": round(run["seconds"], 1)}


def labels(family: str, told: bool, seed: int) -> dict[str, Any]:
    """K4: with labels or without. Those of VAE and GAN without labels are K1's."""
    data, held = some_digits(seed, 100)
    run = train(family, data, held, seed, labels=told)
    row = judged(draw(run["product"], seed)) | {"seconds": round(run["seconds"], 1)}
    if told:
        y = torch.arange(10).repeat(50)
        asked = run["product"].sample(500, Noise(seed, 3), y=y, **({"steps": 10} if family == "diffusion" else {}))
        row["asked digit seen"] = metrics.accuracy(judge_and_real()[0], asked, y)
    return row


def jobs(part: str) -> Iterator[dict[str, Any]]:
    """What is to be run, in order."""
    usual = {"times": 1}
    if part == "K1":
        for seed in SEEDS:
            for family, width in WIDTHS.items():
                for size in SIZES if seed == 0 else (10, 100):
                    yield {"family": family, "width": width, "size": size, "seed": seed} | usual
        for size in SIZES:
            yield {"family": "mixture", "width": 20, "size": size, "seed": 0} | usual
    if part == "more":
        for seed in (0, 1):
            yield from ({"family": "VAE", "width": 200, "size": size, "seed": seed, "times": 4} for size in (10, 100, 1))
        for width in (50, 800):
            yield from ({"family": "VAE", "width": width, "size": size, "seed": 0} | usual for size in (1, 10, 100))
        for seed in (0, 1):
            yield from ({"family": "GRU", "width": 128, "size": size, "seed": seed, "times": 4} for size in (10, 100))
        for seed in (1, 2):
            for size in (3, 30, 1):
                yield from (
                    {"family": family, "width": width, "size": size, "seed": seed} | usual for family, width in WIDTHS.items()
                )
    for seed in SEEDS:
        if part == "K2":
            yield from ({"family": family, "fault": fault, "seed": seed} for family in LOOKS for fault in FAULTS)
        if part == "K3":
            yield from ({"arm": arm, "seed": seed} for arm in ARMS)
        if part == "K4":
            yield from ({"family": family, "told": True, "seed": seed} for family in ("VAE", "GAN", "diffusion"))
            yield {"family": "diffusion", "told": False, "seed": seed}


ROW = {"K1": quantity, "more": quantity, "K2": faults, "K3": augmentation, "K4": labels}


def main() -> None:
    """Tune, or run all that is missing."""
    options = sweep.options(
        "Claims K1 to K4.",
        out="the folder of the four JSON files to write, or to complete",
        tune="try every learning rate on the tuning seed, write nothing",
        own={"--part": {"choices": FILES, "action": "append", "help": "one part alone (may be given several times)"}},
    )
    genai_lib.setup(seed=0, threads=1)
    if options.tune:
        for family, grid in GRID.items():
            for rate in grid:
                data, held = some_text(TUNING_SEED, 100) if family == "GRU" else some_digits(TUNING_SEED, 100)
                one = (data,), (held,)
                run = train(family, *(one if family == "GRU" else (data, held)), TUNING_SEED, rate=rate)
                found = bits(run["product"]) if family == "GRU" else judged(draw(run["product"], TUNING_SEED))
                print(family, rate, found, run["looks"], round(run["seconds"], 1), flush=True)
        return
    for part in options.part or ("K1", "K3", "K4", "K2", "more"):
        path = options.out / f"{FILES[part]}.json"
        report = sweep.reopen(path, lambda part=part: {
            "claim": "K1" if part == "more" else part,
            **sweep.head("data_is_key", options.note),
            "command": COMMAND,
            "settings": {
                "updates": STEPS, "batch size": BATCH, "learning rates": RATES, "widths": WIDTHS, "decay": DECAY,
                "updates between looks": LOOKS, "pictures drawn": DRAWN,
                "context": CONTEXT, "kept back": HELD,
            },
            "rows": [],
        })  # fmt: skip
        done = [{key: row.get(key) for key in job} for job in jobs(part) for row in report["rows"]
                if all(row.get(key) == value for key, value in job.items())]  # fmt: skip
        for job in tqdm([job for job in jobs(part) if job not in done], desc=part, unit="run", disable=False):
            row = job | ROW[part](**job)
            shown = {key: row.pop(key) for key in ("png", "text") if key in row}
            if shown:
                samples = sweep.reopen(options.out / "k1_samples.json", lambda: {"command": COMMAND, "rows": []})
                samples["rows"].append({"family": row["family"], "size": row["size"]} | shown)
                sweep.save(samples, options.out / "k1_samples.json")
            sweep.keep(row, report, path)


if __name__ == "__main__":
    main()
