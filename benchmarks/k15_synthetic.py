"""Can generated digits enlarge or replace real ones as training data (claim K15)?

The plan, written before any row of the ten seeds; m and the rule are the ledger's. A seed fixes the subset, the first weights,
the batches and all noise; the sides of a comparison share it.

Data      A subset of the MNIST training digits, n/10 of each digit, nested in n. The *generator* is trained on this subset and
          on nothing else, with labels; so is the classifier. Accuracy on the 10,000 real test digits judges.
Classifier  That of the course with half its width; for every side 400 updates with 32 digits, one-cycle learning rate.
Sides     real: as they are. real, moved: by up to two pixels each time a digit is seen. This is ordinary augmentation, and the
          baseline of all effects. enlarge: three quarters of each batch real, one quarter generated, all of them moved.
          replace: generated ones alone, moved. Beside them, enlarge without moving anything.
Generators  A conditional GAN (differentiable augmentation, averaged weights) gives the verdict. Beside it a conditional VAE
          (three seeds), and without a network one Gaussian for each digit on principal components. Each draws a pool of 6,000.
Tuning    On a seed of its own (100), n = 600, by accuracy on 2,000 training digits outside its subset. Every kind of side:
          the better of two learning rates (the same for all). enlarge also: the better of two shares, a half or a quarter.
          replace also: of two lengths for the VAE; of the two networks the better gives the verdict. The GAN had one length.
Effect    Accuracy less that of the baseline, n = 600, ten seeds. For replace 2 m is added, because only equality is claimed: it
          is supported if less than m is lost. Other sizes draw the curve, with three seeds.
Rare      Of one digit (seed modulo ten) a tenth of the 60 is left. They stay as they are; or are repeated ten times; or are
          filled up with digits from a GAN that saw the same rare few. Accuracy on this digit and on all.
Privacy   For each pool `closer` and `copies` of chapter 13, and a membership attack, "the nearer a digit is to the pool, the
          likelier it was in the subset": the area under the curve (AUC), members against as many test digits, at most 600.

    python benchmarks/k15_synthetic.py --out genai_lib/data/k15_synthetic.json

A file that has some rows is completed. `--tune` prints the tuning's figures and writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor
from tqdm import tqdm

import genai_lib
from genai_lib import metrics, pretrained, sweep
from genai_lib.callbacks import EMA
from genai_lib.data import Batches, Split, load
from genai_lib.data.steps import disturb, shift
from genai_lib.models.classifier import Classifier
from genai_lib.models.gan import dcgan
from genai_lib.models.pca import PCA
from genai_lib.models.vae import conditional_vae
from genai_lib.noise import Noise
from genai_lib.objectives import elbo
from genai_lib.recipes.core import Effort, one_cycle
from genai_lib.recipes.gan import game
from genai_lib.training import Player, Trainer

SEEDS, FEW, TUNING_SEED = range(10), range(3), 100
SIZES, SIZE, POOL, TESTED = (100, 600, 3000), 600, 6000, 600
UPDATES, BATCH, WIDTH = 400, 32, 8  # of the classifier
RATE, RATES = 6e-3, (2e-3, 6e-3)  # the better one for real, enlarge and replace
MADE, PARTS = 8, (8, 16)  # generated digits in a batch of enlarge
LENGTHS, VAE_LENGTHS = {"VAE": 1500, "GAN": 600}, (600, 1500)
CHOSEN = "GAN"  # gives the verdict

Generator = Callable[[Tensor, Noise], Tensor]  # digits (N,) → pictures (N, 1, 28, 28)

# ---------------------------------------------------------------- data


@cache
def digits(part: str) -> Split:
    """The 60,000 training digits or the 10,000 test digits."""
    return load("mnist", part)


def subset(seed: int, n: int) -> tuple[Split, Split]:
    """n/10 of each digit, nested in n; and 2,000 digits outside it, for the tuning."""
    x, y = digits("train")
    order = Noise(seed, 18).permutation(len(x))
    held, order = order[:2000], order[2000:]
    rows = torch.cat([order[y[order] == digit][: n // 10] for digit in range(10)])
    return Split(x[rows], y[rows]), Split(x[held], y[held])


def with_rare(data: Split, digit: int) -> Split:
    """Leave a tenth of one digit."""
    few = (data.y == digit).nonzero().flatten()
    keep = torch.ones(len(data.y), dtype=torch.bool)
    keep[few[len(few) // 10 :]] = False
    return Split(data.x[keep], data.y[keep])


# ---------------------------------------------------------------- generators


def gaussians(data: Split, seed: int) -> Generator:
    """One Gaussian for each digit on 30 principal components of the subset."""
    pca = PCA(30).fit(data.x)
    codes = pca.encode(data.x)
    means = torch.stack([codes[data.y == digit].mean(dim=0) for digit in range(10)])
    floor = 0.05 * torch.eye(30)
    factors = [torch.linalg.cholesky(torch.cov(codes[data.y == digit].T) + floor) for digit in range(10)]

    def draw(y: Tensor, noise: Noise) -> Tensor:
        eps = noise.normal(len(y), 30)
        return pca.decode(means[y] + torch.einsum("nij,nj->ni", torch.stack(factors)[y], eps)).clamp(0, 1)

    return draw


def vae(data: Split, seed: int, *, updates: int = 0) -> Generator:
    """A conditional VAE, trained on the subset alone."""
    updates = updates or LENGTHS["VAE"]
    torch.manual_seed(seed)
    model = conditional_vae(latent=20, width=200)

    def loss(batch: tuple[Tensor, ...], noise: Noise) -> dict[str, Tensor]:
        return {"loss": elbo(model.given(batch[1]), batch[0], noise).loss()}

    player = Player("vae", model, loss, *one_cycle(model, Effort(epochs=1, lr=4e-3, beta2=0.99), updates))
    Trainer([player], Batches(*data, batch_size=min(64, len(data.y)), seed=seed), seed=seed).run(updates)
    return lambda y, noise: model.sample(len(y), noise, y=y)


def gan(data: Split, seed: int, *, updates: int = 0) -> Generator:
    """A conditional GAN whose discriminator sees everything moved; its averaged weights."""
    updates = updates or LENGTHS["GAN"]
    torch.manual_seed(seed)
    model = dcgan(width=16, classes=10)
    average = EMA(model.generator, decay=0.98)
    players = game(augment=partial(disturb, pixels=2, colour=0.0, mirror=False))(model, Effort(epochs=1, lr=2e-3), updates)
    batches = Batches(*data, batch_size=BATCH, seed=seed)
    Trainer(players, batches, seed=seed, precision="bf16", callbacks=[average]).run(updates)
    generator: Any = average.module.eval()
    return lambda y, noise: generator.sample(len(y), noise, y=y)


GENERATORS: dict[str, Callable[[Split, int], Generator]] = {"Gaussians": gaussians, "VAE": vae, "GAN": gan}


def pool(generator: Generator, seed: int, asked: Tensor | None = None) -> Split:
    """Generated digits with the labels that were asked for: as many of each, or those given."""
    y = torch.arange(10).repeat(POOL // 10) if asked is None else asked
    noise = Noise(seed, 19)
    return Split(torch.cat([generator(part, noise) for part in y.split(1000)]), y)


# ---------------------------------------------------------------- the classifier


def classifier(sources: list[tuple[Split, int]], seed: int, *, moved: bool = True, rate: float = RATE) -> Classifier:
    """Train on batches made up of so many rows from each source."""
    torch.manual_seed(seed)
    model = Classifier(width=WIDTH)
    batches = [Batches(*rows, batch_size=size, seed=seed) for rows, size in sources]
    optimizer, schedule = one_cycle(model, Effort(epochs=1, lr=rate), UPDATES)
    for number in range(UPDATES):
        x, y = map(torch.cat, zip(*[b[number] for b in batches], strict=True))
        loss = F.cross_entropy(model(shift(x, Noise(seed, 20, number)) if moved else x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def sources(kind: str, real: Split, made: Split, *, part: int = MADE) -> list[tuple[Split, int]]:
    """What the batches of enlarge or replace are made of."""
    return [(real, BATCH - part), (made, part)] if kind == "enlarge" else [(made, BATCH)]


def read(model: Classifier, tested: Split) -> tuple[float, Tensor]:
    """Accuracy, and for each digit the share of it that is recognised."""
    right = (metrics.in_batches(model, tested.x).argmax(dim=1) == tested.y).double()
    return round(right.mean().item(), 4), torch.stack([right[tested.y == digit].mean() for digit in range(10)])


# ---------------------------------------------------------------- privacy


def privacy(made: Split, data: Split, tested: Split) -> dict[str, float]:
    """Distances of 1,000 generated digits, and the membership attack on as many members as there are, at most 600."""
    half = made.x[:1000]
    found = metrics.memorisation(half, data.x, tested.x[:1000])
    members = data.x[Noise(0, 21).permutation(len(data.x))[:TESTED]]
    inside, outside = (-metrics.nearest(x, made.x)[0] for x in (members, tested.x[1000 : 1000 + len(members)]))
    area = roc_auc_score([1] * len(inside) + [0] * len(outside), torch.cat([inside, outside]))  # under the attack's curve
    return {"closer": round(found.closer, 4), "copies": round(found.copies, 4), "auc": round(float(area), 4)}


# ---------------------------------------------------------------- the rows


def of_size(seed: int, n: int) -> dict[str, Any]:
    """One subset: every side. The size of the verdict has the other generators, too, and the controls."""
    real, tested, judge = subset(seed, n)[0], digits("test"), pretrained.load("classifier")
    found: dict[str, Any] = {"real, moved": read(classifier([(real, BATCH)], seed), tested)[0]}
    if n == SIZE:
        found["real"] = read(classifier([(real, BATCH)], seed, moved=False), tested)[0]
    for name in (CHOSEN,) if n != SIZE else GENERATORS if seed in FEW else ("Gaussians", CHOSEN):
        start = time.process_time()
        made = pool(GENERATORS[name](real, seed), seed)
        found[f"{name}, seconds"] = round(time.process_time() - start, 1)
        found[f"{name}, asked digit seen"] = round(metrics.accuracy(judge, made.x[:1000], made.y[:1000]), 4)
        found |= {f"{name}, {key}": value for key, value in privacy(made, real, tested).items()}
        for kind in ("enlarge", "replace"):
            found[f"{name}, {kind}"] = read(classifier(sources(kind, real, made), seed), tested)[0]
        if name == CHOSEN and n == SIZE:
            still = classifier(sources("enlarge", real, made), seed, moved=False)
            found[f"{name}, enlarge, not moved"] = read(still, tested)[0]
    return found


def of_rare(seed: int) -> dict[str, Any]:
    """One digit with few examples: as they are, repeated, filled up with generated ones."""
    digit, tested = seed % 10, digits("test")
    data = with_rare(subset(seed, SIZE)[0], digit)
    few = data.y == digit
    missing, ten = SIZE // 10 - int(few.sum()), Split(data.x.repeat(10, 1, 1, 1), data.y.repeat(10))
    made = pool(GENERATORS[CHOSEN](data, seed), seed, torch.full((10 * missing,), digit))
    again = Split(data.x[few].repeat(10 * missing // int(few.sum()), 1, 1, 1), made.y)
    found: dict[str, Any] = {"digit": digit}
    for name, more in {"as it is": None, "repeated": again, "generated": made}.items():
        rows = ten if more is None else Split(torch.cat([ten.x, more.x]), torch.cat([ten.y, more.y]))
        accuracy, each = read(classifier([(rows, BATCH)], seed), tested)
        found |= {name: accuracy, f"{name}, rare digit": round(each[digit].item(), 4)}
    return found


def jobs() -> Iterator[dict[str, Any]]:
    """What is to be run: one seed after the other."""
    for seed in SEEDS:
        yield {"part": "size", "n": SIZE, "seed": seed}
        yield {"part": "rare", "n": SIZE, "seed": seed}
        if seed in FEW:
            for n in SIZES:
                if n != SIZE:
                    yield {"part": "size", "n": n, "seed": seed}


def tune() -> None:
    """The figures by which rate, share, length and network were chosen: accuracy on digits kept back, on the tuning seed."""
    real, held = subset(TUNING_SEED, SIZE)
    drawn = {("GAN", LENGTHS["GAN"]): gan(real, TUNING_SEED), ("Gaussians", 0): gaussians(real, TUNING_SEED)}
    drawn |= {("VAE", length): vae(real, TUNING_SEED, updates=length) for length in VAE_LENGTHS}
    for rate in RATES:
        print("real, moved", rate, read(classifier([(real, BATCH)], TUNING_SEED, rate=rate), held)[0], flush=True)
    for (name, length), generator in drawn.items():
        made = pool(generator, TUNING_SEED)
        for kind, part in (("replace", BATCH), *(("enlarge", part) for part in PARTS)):
            for rate in RATES:
                model = classifier(sources(kind, real, made, part=part), TUNING_SEED, rate=rate)
                print(name, length, kind, part, rate, read(model, held)[0], flush=True)


def main() -> None:
    """Run what is missing."""
    options = sweep.options(
        (__doc__ or "").splitlines()[0],
        tune="print the tuning's figures and stop",
        own={"--rows": {"type": int, "default": 1_000_000, "help": "stop after so many rows"}},
    )
    genai_lib.setup(seed=0)
    if options.tune:
        tune()
        return
    report = sweep.reopen(options.out, lambda: {
        "claim": "K15",
        **sweep.head("k15_synthetic", options.note),
        "settings": {
            "updates": UPDATES, "batch size": BATCH, "generated in a batch": MADE, "width": WIDTH, "rate": RATE,
            "pool": POOL, "lengths": LENGTHS, "verdict by": CHOSEN, "attacked": TESTED,
        },
        "rows": [],
    })  # fmt: skip
    done = [{key: row[key] for key in ("part", "n", "seed")} for row in report["rows"]]
    for job in tqdm([job for job in jobs() if job not in done][: options.rows], unit="row"):
        start = time.process_time()
        row = of_size(job["seed"], job["n"]) if job["part"] == "size" else of_rare(job["seed"])
        sweep.keep(job | row | {"seconds": round(time.process_time() - start, 1)}, report, options.out)


if __name__ == "__main__":
    main()
