"""Every generator of digits on one table: likelihood, distances, precision and recall, copies, time, size.

    python benchmarks/big_table.py --out genai_lib/data/big_table.json

Each row is a shipped model; besides them an autoencoder with a mixture on its codes, and real digits, which no model beats
but by chance: 10,000 training digits in the place of samples. Every figure is of the same 10,000 samples, drawn with the
seed, the steps and the batches of the model's card. Where the card has the figure too, both must agree, or the script stops.

The columns, with the pictures they are taken of, are told in COLUMNS. Intervals (95 %) come from resampling pictures:

    fid, kid          `metrics.jackknife` over 100 groups of 100 pictures, left out one at a time on either side. `check` in the
                      report holds the standard error to the scatter of independent sets: six of real digits, twenty of a
                      mixture's.
    closer            the standard error of the Mann-Whitney statistic (DeLong, DeLong & Clarke-Pearson 1988)
    everything else   bootstrap over pictures; for precision, recall, density and coverage the balls stay as they are

Finished rows are kept in the report: run again, it goes on with those that are missing. About ten minutes of one core.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import genai_lib
from genai_lib import metrics, pretrained, recipes, sweep
from genai_lib.data import load
from genai_lib.data.steps import binarise
from genai_lib.metrics import Interval
from genai_lib.models.mixture import GaussianMixture
from genai_lib.models.pca import PCA
from genai_lib.noise import Noise
from genai_lib.objectives import iwae_bound
from genai_lib.recipes.simple import TRAINING_SEED

SAMPLES, BATCH = 10_000, 500
GROUP = 100  # pictures left out at a time
NEIGHBOURS = 5_000  # pictures on each side of precision, recall, density and coverage
NEAREST = 2_000  # pictures whose nearest training digit is looked for
DRAWS = 500  # of z, for the bounds of VAEs
ROUGH = 20  # of z, where only a bound's scatter from digit to digit is wanted
FAMILIES = {
    "real digits": "real", "real digits, binarised": "real",
    "mixture": "mixture", "mixture-binary": "mixture", "autoencoder + mixture": "autoencoder",
    "vae-mlp": "VAE", "vae-map": "VAE", "vae-conv": "VAE", "vae-conditional": "VAE",
    "gan-mlp": "GAN", "dcgan": "GAN", "dcgan-conditional": "GAN", "wgan-gp": "GAN",
    "gpt-pixels": "autoregressive", "diffusion": "diffusion", "flow": "flow matching",
}  # fmt: skip
BINARY = ["real digits, binarised", "mixture-binary", "gpt-pixels"]  # their pixels are 0 or 1
IN_FLOWS = ["diffusion", "flow"]  # told the digit, in 10 steps, without guidance
COLUMNS = {
    "nats": "log-likelihood of the binarised test digits, every fifth of them: exact, or a bound from below "
    f"(importance-weighted, {DRAWS} draws of z; told the digit, {DRAWS // 10} for each of ten equally likely labels). Higher "
    "is better. None for GANs, which name no probability; for the mixture of Gaussians, diffusion and flow, whose densities or "
    "bounds are of grey pixels, another scale; for the autoencoder, which draws no pixels",
    "nats, all digits": "the same of all 10,000, where it is exact",
    "fid": "10,000 samples against the 10,000 test digits, which are grey; classifier's features. Lower is better",
    "kid": "the same pictures and features. Lower is better",
    "fid, 50 principal components": "the same pictures, other features",
    "fid, black and white": "of samples without grey: against binarised test digits, so that the missing grey does not count",
    "precision": f"{NEIGHBOURS:,} samples and every second test digit, classifier's features, 3 neighbours. Higher is better",
    "recall": "the same",
    "density": "the same, 5 neighbours",
    "coverage": "the same, 5 neighbours",
    "closer": f"chance that one of {NEAREST:,} samples lies closer to its nearest training digit than a test digit to its "
    "own, in pixels: 1/2 for new digits, 1 for copies, less for pictures with flaws. Black-and-white samples are held to "
    "binarised digits on both sides; real digits, the last 10,000 training digits, to the other 50,000",
    "copies": "share of them closer than all but 1 % of the test digits: 0.01 for new digits",
    "closer, features": "as closer, by the classifier's features in place of pixels",
    "seconds to train": "from the card, on the machine named beside it, while other jobs ran there: read it as a size",
    "seconds per sample": f"CPU seconds on one core, {BATCH} samples at a time",
    "parameters": "all numbers that are shipped",
    "kB": "the file of the weights: 16 bits a number, in tables of probabilities 32",
}

# ---------------------------------------------------------------- intervals


def symmetric(estimate: float, error: float) -> Interval:
    """Estimate ± 1.96 standard errors."""
    return Interval(estimate, estimate - 1.96 * error, estimate + 1.96 * error)


def sums(features: Tensor) -> Tensor:
    """Of each group of features (N, F) the number, the sums and the sums of products: (groups, F + 1, F + 1)."""
    x = nn.functional.pad(features.double(), (1, 0), value=1.0).view(-1, GROUP, features.shape[1] + 1)
    return x.mT @ x


def fid_of_sums(*sets: Tensor) -> float:
    """As `metrics.fid`, from the `sums` of two sets: nothing is added up anew for each group that is left out."""

    def statistics(of_groups: Tensor) -> metrics.Statistics:
        total = of_groups.sum(dim=0)
        n, mean = total[0, 0], total[0, 1:] / total[0, 0]
        return metrics.Statistics(mean, (total[1:, 1:] - n * torch.outer(mean, mean)) / (n - 1))

    return metrics.frechet_distance(*map(statistics, sets))


def fid_interval(made: Tensor, real: Tensor) -> Interval:
    """FID with its interval."""
    return metrics.jackknife(fid_of_sums, sums(made), sums(real), groups=len(made) // GROUP)


def kernel_sums(x: Tensor, y: Tensor) -> Tensor:
    """KID's kernel, summed over each pair of groups: (groups of x, groups of y)."""
    x, y = x.double(), y.double()
    rows = [((part @ y.T).div_(y.shape[1]).add_(1) ** 3).sum(dim=0).view(-1, GROUP).sum(dim=1) for part in x.split(GROUP)]
    return torch.stack(rows)


def own_sums(x: Tensor) -> Tensor:
    """The same of a set with itself, without the pairs of a picture and itself."""
    diagonal = (x.double().square().sum(dim=1) / x.shape[1] + 1).pow(3).view(-1, GROUP).sum(dim=1)
    return kernel_sums(x, x) - diagonal.diag()


def kid_interval(made: Tensor, real: Tensor, within_real: Tensor) -> Interval:
    """KID with its interval; `within_real` is `own_sums(real)`, the same for every row."""
    within_made, between = own_sums(made), kernel_sums(made, real)

    def kid(i: Tensor, j: Tensor) -> float:  # of these groups of the samples and of the real pictures
        m, n = GROUP * len(i), GROUP * len(j)
        within = within_made[i][:, i].sum() / (m * (m - 1)) + within_real[j][:, j].sum() / (n * (n - 1))
        return (within - 2 * between[i][:, j].sum() / (m * n)).item()

    return metrics.jackknife(kid, *map(torch.arange, between.shape), groups=len(between))


def mean_of(values: Tensor) -> Interval:
    """Mean of a value for each picture, bootstrap."""
    return metrics.bootstrap(values.double().cpu(), draws=1_000)


def closer_and_copies(d: Tensor, reference: Tensor) -> tuple[Interval, Interval]:
    """As `metrics.memorisation`, from distances (M,) of samples and (N,) of test digits; a tie counts half."""
    further = (d[:, None] < reference).double() + 0.5 * (d[:, None] == reference).double()  # (M, N)
    by_sample, by_test = further.mean(dim=1), further.mean(dim=0)
    error = math.sqrt(by_sample.var().item() / len(d) + by_test.var().item() / len(reference))
    copies = (reference < d[:, None]).sum(dim=1) < 0.01 * len(reference)
    return symmetric(further.mean().item(), error), mean_of(copies)


# ---------------------------------------------------------------- what is judged


def in_batches_of(draw: Callable[[int], Tensor]) -> Tensor:
    """All samples, a batch at a time."""
    return torch.cat([draw(BATCH) for _ in range(SAMPLES // BATCH)])


def autoencoder_and_mixture() -> tuple[Callable[[], Tensor], dict[str, Any]]:
    """The shipped autoencoder, its decoder fed from ten Gaussians fitted to the codes of 20,000 training digits."""
    model, start = pretrained.load("autoencoder"), time.process_time()
    codes = metrics.in_batches(model.encode, load("mnist", "train").x[:20_000])
    mixture = GaussianMixture(10, codes.shape[1])
    mixture.fit(codes, Noise(0, 1), steps=30)
    seconds, numbers = time.process_time() - start, sum(b.numel() for b in mixture.buffers())
    noise, facts = Noise(0), shipped("autoencoder")

    def draw() -> Tensor:
        return in_batches_of(lambda n: model.decode(mixture.sample(n, noise)).sigmoid())

    return draw, facts | {
        "title": "Autoencoder, its codes drawn from ten Gaussians",
        "seconds to train": round(facts["seconds to train"] + seconds, 1),
        "parameters": facts["parameters"] + numbers, "kB": round(facts["kB"] + 2 * numbers / 1000, 1),
    }  # fmt: skip


def shipped(name: str) -> dict[str, Any]:
    """What is known of shipped weights without running them."""
    card = pretrained.card(name)
    size = (pretrained.FOLDER / f"{name}.safetensors").stat().st_size
    return {
        "title": card["title"], "seconds to train": card["seconds"], "trained on": card["machine"],
        "parameters": card["parameters"], "kB": round(size / 1000, 1),
    }  # fmt: skip


def source(name: str) -> tuple[Callable[[], Tensor], dict[str, Any]]:
    """How a row's 10,000 pictures are drawn, as the card's were, and what is known of it."""
    nothing = {"seconds to train": None, "trained on": None, "parameters": None, "kB": None}
    if name.startswith("real digits"):
        title = "Training digits in the place of samples" + (", black and white" if name in BINARY else "")
        return lambda: known(name in BINARY)[-SAMPLES:], {"title": title, **nothing}
    if name == "autoencoder + mixture":
        return autoencoder_and_mixture()
    model, noise = pretrained.load(name), Noise(0)
    if name in IN_FLOWS:
        y = torch.arange(10).repeat(BATCH // 10)
        return lambda: in_batches_of(partial(model.sample, noise=noise, y=y, steps=10)), shipped(name)
    return lambda: in_batches_of(partial(model.sample, noise=noise)), shipped(name)


@cache
def known(binary: bool) -> Tensor:
    """The training digits, grey or binarised as the Bernoulli mixture saw them."""
    x = load("mnist", "train").x
    return binarise(x, Noise(TRAINING_SEED)) if binary else x


@cache
def unknown(binary: bool) -> Tensor:
    """The test digits, grey or binarised."""
    return recipes.binarised_test_digits() if binary else load("mnist", "test").x


class Jury:
    """Who looks at the pictures, and what they compare them with: computed once for all rows."""

    def __init__(self) -> None:
        self.look = {
            "classifier": pretrained.load("classifier").features,
            "50 principal components": PCA(50).fit(known(False)).encode,
        }
        self.real = {name: metrics.in_batches(look, unknown(False)) for name, look in self.look.items()}
        self.within_real = own_sums(self.real["classifier"])
        self.real_binary = metrics.in_batches(self.look["classifier"], unknown(True))
        self.train: dict[bool, Tensor] = {}
        self.distances: dict[tuple[bool, int], tuple[Tensor, Tensor]] = {}

    def of_train(self, binary: bool) -> Tensor:
        """The classifier's features of all training digits."""
        if binary not in self.train:
            self.train[binary] = metrics.in_batches(self.look["classifier"], known(binary))
        return self.train[binary]

    def reference(self, binary: bool, rows: int) -> tuple[Tensor, Tensor]:
        """Distances of test digits to the nearest of the first `rows` training digits: in pixels, and by features."""
        if (binary, rows) not in self.distances:
            x = unknown(binary)[:: SAMPLES // NEAREST]
            by_features = metrics.nearest(metrics.in_batches(self.look["classifier"], x), self.of_train(binary)[:rows])[0]
            self.distances[binary, rows] = metrics.nearest(x, known(binary)[:rows])[0], by_features
        return self.distances[binary, rows]

    def __call__(self, pictures: Tensor, *, binary: bool, rows: int) -> dict[str, Any]:
        """The figures of 10,000 pictures, to be held to the first `rows` training digits."""
        seen = {name: metrics.in_batches(look, pictures) for name, look in self.look.items()}
        made, real = seen["classifier"], self.real["classifier"]
        some, others = made[:NEIGHBOURS], real[:: SAMPLES // NEIGHBOURS]
        in_real, (in_made, _) = metrics.balls(others, some, k=3)[0] > 0, metrics.balls(some, others, k=3)
        hits, held = metrics.balls(others, some, k=5)
        pixels, features = self.reference(binary, rows)
        closer, copies = closer_and_copies(metrics.nearest(pictures[:NEAREST], known(binary)[:rows])[0], pixels)
        to_train = metrics.nearest(made[:NEAREST], self.of_train(binary)[:rows])[0]
        by_features, _ = closer_and_copies(to_train, features)
        found: dict[str, Interval | None] = {
            "fid": fid_interval(made, real),
            "kid": kid_interval(made, real, self.within_real),
            "fid, 50 principal components": fid_interval(
                seen["50 principal components"], self.real["50 principal components"]
            ),
            "fid, black and white": fid_interval(made, self.real_binary) if binary else None,
            "precision": mean_of(in_real), "recall": mean_of(in_made > 0),
            "density": mean_of(hits / 5), "coverage": mean_of(held),
            "closer": closer, "copies": copies, "closer, features": by_features,
        }  # fmt: skip
        return {key: value and rounded(value) for key, value in found.items()}


def rounded(interval: Interval) -> list[float]:
    """[estimate, low, high] to six decimals."""
    return [round(v, 6) for v in interval]


# ---------------------------------------------------------------- likelihood


@torch.no_grad()
def bound(model: Any, x: Tensor, k: int) -> Tensor:
    """Importance-weighted bound of each picture (N,); as `metrics.mean_iwae_bound` draws it."""
    parts = enumerate(x.split(100))
    if not hasattr(model, "given"):
        return torch.cat([iwae_bound(model, part, Noise(0, 100 * i), k=k) for i, part in parts])
    found = []
    for i, part in parts:  # p(x) is the mean of p(x | label) over the ten labels
        by_label = [
            iwae_bound(model.given(torch.full((len(part),), y)), part, Noise(0, 100 * i, y), k=k // 10) for y in range(10)
        ]
        found.append(torch.stack(by_label).logsumexp(dim=0) - math.log(10))
    return torch.cat(found)


def likelihood(name: str) -> dict[str, Any]:
    """The row's nats: of every fifth digit, and of all where it is exact."""
    nothing: dict[str, Any] = {"kind": None, "nats": None, "nats, all digits": None}
    if FAMILIES[name] not in ("VAE", "autoregressive") and name != "mixture-binary":
        return nothing
    x, model = recipes.binarised_test_digits(), pretrained.load(name)
    if FAMILIES[name] != "VAE":
        exact = metrics.in_batches(model.log_prob, x, batch_size=100)
        return {"kind": "exact", "nats": rounded(mean_of(exact[::5])), "nats, all digits": rounded(mean_of(exact))}
    figures = pretrained.card(name)["figures"]
    on_card = figures.get("iwae k=500, binarised, every fifth digit")  # takes minutes: the card's figure serves
    found = mean_of(bound(model, x[::5], DRAWS if on_card is None else ROUGH))
    shift = 0.0 if on_card is None else on_card - found.estimate  # the scatter from digit to digit hardly depends on k
    if shift < 0:
        raise ValueError(f"{name}: {ROUGH} draws give {found.estimate:.2f}, above the card's {on_card:.2f} for {DRAWS} draws")
    return nothing | {"kind": "bound", "nats": rounded(Interval(*(v + shift for v in found)))}


# ---------------------------------------------------------------- the table


def hold_to_card(row: dict[str, Any]) -> None:
    """Raise if the row and the model's card differ by more than another processor's rounding would make them."""
    if row["name"] not in pretrained.names():
        return
    figures = pretrained.card(row["name"])["figures"]
    for figure, column, share, amount in (
        ("fid", "fid", 0.05, 0.02), ("kid", "kid", 0.05, 0.002),
        ("log-likelihood, binarised", "nats, all digits", 0.0, 0.01),
        ("iwae k=500, binarised, every fifth digit", "nats", 0.0, 0.01),
    ):  # fmt: skip
        if figure in figures and abs(row[column][0] - figures[figure]) > max(amount, share * abs(figures[figure])):
            raise ValueError(
                f"{row['name']}: {column} is {row[column][0]:.4f} here and {figures[figure]:.4f} on the card. "
                f"Measure the card again: python -m genai_lib evaluate {row['name']} --write"
            )


def one_row(name: str, jury: Jury) -> dict[str, Any]:
    """Draw, judge, compare with the card."""
    start = time.process_time()
    draw, facts = source(name)
    before = time.process_time()
    with torch.no_grad():
        pictures = draw()
    per_sample = (time.process_time() - before) / SAMPLES
    row = {
        "name": name, "family": FAMILIES[name], **facts, "black and white": name in BINARY, **likelihood(name),
        **jury(pictures, binary=name in BINARY, rows=50_000 if FAMILIES[name] == "real" else 60_000),
        "seconds per sample": None if FAMILIES[name] == "real" else float(f"{per_sample:.3g}"),
    }  # fmt: skip
    hold_to_card(row)
    return row | {"CPU seconds": round(time.process_time() - start, 1)}


def check(jury: Jury) -> dict[str, Any]:
    """The jackknife's standard error of the FID, beside the scatter of independent sets of 10,000 pictures."""
    mixture, look, real = pretrained.load("mixture"), jury.look["classifier"], sums(jury.real["classifier"])

    def error(made: Tensor) -> float:  # from the choice of the samples alone
        found = metrics.jackknife(lambda kept: fid_of_sums(kept, real), sums(made), groups=len(made) // GROUP)
        return (found.high - found.estimate) / 1.96

    drawn = (in_batches_of(partial(mixture.sample, noise=Noise(seed, 12))) for seed in range(20))
    sets = {
        "real digits": list(jury.of_train(False).split(SAMPLES)),
        "mixture": [metrics.in_batches(look, pictures) for pictures in drawn],
    }
    report = {}
    for name, features in sets.items():
        values = torch.tensor([fid_of_sums(sums(made), real) for made in features], dtype=torch.float64)
        report[name] = {
            "fid of each set": [round(v, 4) for v in values.tolist()],
            "their standard deviation": round(values.std().item(), 5),
            "jackknife, of each": [round(error(made), 5) for made in features],
        }
    return report


def begin() -> sweep.Report:
    """The head of the report."""
    return {
        **sweep.head("big_table"), "CPU seconds": 0.0,
        "settings": {
            "samples": SAMPLES, "seed": 0, "samples at a time": BATCH, "group left out": GROUP,
            "diffusion and flow": "10 steps, no guidance, 1,000 of each digit", "told the digit": "digits asked for at random",
        },
        "columns": COLUMNS, "check": None, "rows": [],
    }  # fmt: skip


def main() -> None:
    """Make the rows that are missing, and write the file after each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write; rows it has are kept")
    parser.add_argument("--rows", nargs="*", default=list(FAMILIES), choices=list(FAMILIES), help="default: all")
    parser.add_argument("--again", nargs="*", default=[], choices=[*FAMILIES, "check"], help="what to make anew")
    options = parser.parse_args()
    genai_lib.setup(seed=0, threads=1)
    report = sweep.reopen(options.out, begin)
    kept = {row["name"]: row for row in report["rows"] if row["name"] not in options.again}
    report["columns"], before = COLUMNS, time.process_time()
    jury = Jury()
    if report["check"] is None or "check" in options.again:
        report["check"] = check(jury)
    for name in options.rows:
        if name not in kept:
            kept[name] = one_row(name, jury)
            print(f"{name}: {kept[name]['CPU seconds']} CPU seconds", flush=True)
        report["rows"] = [kept[name] for name in FAMILIES if name in kept]
        report["CPU seconds"] = round(report["CPU seconds"] + time.process_time() - before, 1)
        before = time.process_time()
        sweep.save(report, options.out)


if __name__ == "__main__":
    main()
