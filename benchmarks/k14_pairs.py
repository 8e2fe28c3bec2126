"""Does it help to learn from text and picture together (claim K14)? True pairs against shuffled pairs and pictures alone.

The plan, written before any row; m = 0.05 and the rule are the ledger's. A seed fixes the split, the first weights, the
batches and all noise; the sides share it. The shipped weights play no part.

Split      All 1,644 emoji, by concept and anew for each seed: 150 concepts are kept back, one picture of each is asked for;
           trained on is every picture of the other concepts, with all its texts (English and Chinese names and tags).
Retrieval  The question is a text, the English name and tags of a picture kept back; is this picture among the ten most
           similar of the 150? Chance: 1 in 15. Three sides, as many steps each, with the same picture tower:
           `pairs`     two towers, as in the recipe "clip", with a narrower picture tower;
           `shuffled`  the same, but each picture has the texts of another one, drawn once;
           `alone`     the picture tower by itself: the contrastive loss between two disturbed views of each picture. It cannot
                       read. So the words are looked up first: which training emoji have the most similar words (tf-idf of the
                       pieces, nothing is learned)? Their pictures are the question, in the tower's space.
Drawing    A diffusion model of pictures of 16 × 16, told the directions of texts by the text tower of `pairs` or of `shuffled`
           (frozen), with as many steps; and the same network that is told nothing, `alone`. Each draws two pictures for each of
           the 150 texts, with guidance 3. The judge is the picture tower of the side `alone`: it has never seen a text, nor a
           picture kept back. Is the real picture of the text among the ten of the 150 that are most similar to the drawn one?
Effect     Recall with true pairs less that of the better one of the two controls, the better one by its mean over the seeds.
Beside it  Recall with English names alone and Chinese names, and from picture to text; a judge that learns nothing (the
           colours of 4 × 4 places); KID on the judge's features; `copy`, which draws nothing and shows the training picture
           that the look-up finds; and `real`, the real picture itself, moved by a pixel: a ceiling, no text tells all of it.
Tuning     On seed 100: the learning rate of each kind of training, for `pairs` alone where two sides share it, and the number
           of pictures that the look-up takes. The best recall decides, and the lower KID between equals (the painter's).
Mended     After four rows a reader found that the look-up read one tag of most pictures that the towers are not told (the tag
           that the recipe keeps back). It reads what they are told now; these rows have its figures anew, all else stayed.
           On seed 100 thirty pictures are still the best number.

    python benchmarks/k14_pairs.py --out genai_lib/data/k14_pairs.json

A row is written as it comes, and a file that has some rows is completed. `--tune` prints the figures of seed 100.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import genai_lib
from genai_lib import metrics, sweep
from genai_lib.data import Batches, load
from genai_lib.data.steps import disturb
from genai_lib.data.texts import Emoji, emoji_names
from genai_lib.models.clip import CLIP, encode_text, pieces
from genai_lib.models.diffusion import Diffusion, Schedule
from genai_lib.models.unet import UNet
from genai_lib.noise import Noise
from genai_lib.objectives import contrastive_loss, denoising_loss
from genai_lib.recipes.core import Effort, one_cycle
from genai_lib.recipes.emoji import numbered, one_text, texts, whole_text
from genai_lib.training import Player, Trainer

SEEDS, TUNING_SEED = range(10), 100
KEPT, K = 150, 10  # concepts kept back; recall@K
SIDES = ("pairs", "shuffled", "alone")
SIDE, WIDTH, PAINTER = 16, 16, 32  # pixels of a drawn picture; width of the picture tower; width of the U-Net
STEPS = {"towers": 300, "painter": 800}
BATCH = {"towers": 256, "painter": 32}
RATES = {"pairs": 1.6e-2, "alone": 8e-3, "painter": 8e-3}
GRID = {"pairs": (4e-3, 8e-3, 1.6e-2, 3.2e-2), "alone": (2e-3, 4e-3, 8e-3, 1.6e-2), "painter": (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)}
FOUND, LOOKS_UP = 30, (1, 3, 10, 30, 100)  # training pictures that the look-up takes
TEMPERATURE = 0.1  # of the look-up's weights
DRAWS, GUIDANCE, DDIM = 2, 3.0, 10
PRECISION = "fp32"


class World(NamedTuple):
    """What one seed has to learn from, and what it is asked."""

    x: Tensor  # (N, 3, 32, 32)
    emoji: list[Emoji]  # N
    tokens: Tensor  # (V + 1, L): row 0 is no text
    numbers: Tensor  # (N, K): the texts of each picture, filled up with 0
    x_kept: Tensor  # (150, 3, 32, 32)
    kept: list[Emoji]  # 150


def world(seed: int) -> World:
    """Split all emoji by concept."""
    x, emoji = torch.cat([load("emoji").x, load("emoji", "test").x]), emoji_names() + emoji_names("test")
    concepts = sorted({e.concept for e in emoji})
    held = {concepts[i] for i in Noise(seed, 14).permutation(len(concepts))[:KEPT].tolist()}
    first = {e.concept: i for i, e in reversed(list(enumerate(emoji))) if e.concept in held}
    kept, rest = sorted(first.values()), [i for i, e in enumerate(emoji) if e.concept not in held]
    known = [emoji[i] for i in rest]
    stock, numbers = numbered(known)
    tokens = F.pad(encode_text(list(stock)), (0, 0, 1, 0))
    return World(x[rest], known, tokens, numbers, x[kept], [emoji[i] for i in kept])


# ---------------------------------------------------------------- training


def play(model: Any, loss: Callable[..., Tensor], data: tuple[Tensor, ...], kind: str, seed: int, rate: float) -> Any:
    """Train a model for as many steps as its kind of training has."""
    effort = Effort(epochs=1, lr=rate, beta2=0.99 if kind == "painter" else 0.999)
    player = Player(
        "model", model, lambda batch, noise: {"loss": loss(batch, noise)}, *one_cycle(model, effort, STEPS[kind]),
        clip=1.0 if kind == "painter" else None,
    )  # fmt: skip
    Trainer([player], Batches(*data, batch_size=BATCH[kind], seed=seed), seed=seed, precision=PRECISION).run(STEPS[kind])
    return model.eval().requires_grad_(False)


def towers(side: str, w: World, seed: int, rate: float | None = None) -> CLIP:
    """Train one side of the retrieval."""
    torch.manual_seed(seed)
    model = CLIP(width=WIDTH)
    if side == "alone":

        def views(batch: tuple[Tensor, ...], noise: Noise) -> Tensor:
            x = torch.cat([disturb(batch[0], noise), disturb(batch[0], noise)])  # one batch for the normalisation
            a, b = model.pictures(x).chunk(2)
            return contrastive_loss(a @ b.T * model.log_scale.exp().clamp(max=100.0)).mean()

        model.text.requires_grad_(False)
        return play(model, views, (w.x,), "towers", seed, rate or RATES["alone"])

    def pairs(batch: tuple[Tensor, ...], noise: Noise) -> Tensor:
        x, numbers = batch
        chosen = one_text(numbers, noise)
        known = (chosen[..., None] == numbers).any(dim=2)
        return contrastive_loss(model(disturb(x, noise), w.tokens[chosen[:, 0]]), known=known).mean()

    return play(model, pairs, (w.x, said(side, w, seed)), "towers", seed, rate or RATES["pairs"])


def said(side: str, w: World, seed: int) -> Tensor:
    """The numbers of the texts that each picture is paired with."""
    return w.numbers[Noise(seed, 15).permutation(len(w.x))] if side == "shuffled" else w.numbers


@torch.no_grad()
def told(clip: CLIP, tokens: Tensor) -> Tensor:
    """What a painter is told of texts: their directions, √F long (as `TextToPicture.tell`)."""
    directions = clip.texts(tokens)
    return directions * math.sqrt(directions.shape[1])


def painter(side: str, w: World, seed: int, clip: CLIP | None, rate: float | None = None) -> Diffusion:
    """Train one side of the drawing."""
    torch.manual_seed(seed)
    model = Diffusion(UNet(channels=3, width=PAINTER, depth=2, features=64), Schedule(), predicts="v", shape=(3, SIDE, SIDE))
    y = None if clip is None else told(clip, w.tokens)  # (V + 1, F)

    def loss(batch: tuple[Tensor, ...], noise: Noise) -> Tensor:
        x, numbers = batch
        condition = None if y is None else y[one_text(numbers, noise)[:, 0]]
        x = disturb(x, noise, pixels=1, colour=0.0, mirror=False)
        return denoising_loss(model, x, noise, y=condition).mean() / x[0].numel()

    return play(model, loss, (small(w.x), said(side, w, seed)), "painter", seed, rate or RATES["painter"])


def small(x: Tensor) -> Tensor:
    """(N, 3, 32, 32) → (N, 3, 16, 16)."""
    return F.avg_pool2d(x, 32 // SIDE)


def large(x: Tensor) -> Tensor:
    """(N, 3, 16, 16) → (N, 3, 32, 32), for the judge."""
    return F.interpolate(x, scale_factor=32 // SIDE, mode="bilinear")


# ---------------------------------------------------------------- judging


def look_up(w: World, asked: list[str]) -> Tensor:
    """How similar the words of each text are to those of each training emoji: cosines of tf-idf of the pieces, (n, N)."""
    stock = [{piece for text in texts(e) for piece in pieces(text)} for e in w.emoji]  # what the towers are told, no more
    place = {piece: i for i, piece in enumerate(sorted(set().union(*stock)))}

    def counted(sets: list[set[str]]) -> Tensor:
        table = torch.zeros(len(sets), len(place))
        for row, found in zip(table, sets, strict=True):
            row[[place[piece] for piece in sorted(found) if piece in place]] = 1.0
        return table

    known = counted(stock)  # (N, P)
    rare = torch.log(len(stock) / known.sum(dim=0))  # (P,)
    return F.normalize(counted([set(pieces(text)) for text in asked]) * rare, dim=1) @ F.normalize(known * rare, dim=1).T


def recall(similarity: Tensor) -> float:
    """Share of the rows (n · 150, 150) whose own column, in turn, is among the ten most similar."""
    right = torch.eye(KEPT).bool().repeat(len(similarity) // KEPT, 1)
    return round(metrics.recall_at(similarity, right, k=K), 4)


def directions(clip: CLIP, x: Tensor) -> Tensor:
    """The directions of pictures, in parts."""
    return metrics.in_batches(clip.pictures, x)


def through_words(alone: CLIP, w: World, asked: list[str], found: int = FOUND) -> Tensor:
    """Similarity of texts with the pictures kept back, for a tower that cannot read: (150, 150)."""
    best = look_up(w, asked).topk(found, dim=1)
    pull = (best.values / TEMPERATURE).softmax(dim=1)  # (150, found)
    question = (directions(alone, w.x)[best.indices] * pull[..., None]).sum(dim=1)  # (150, F)
    return question @ directions(alone, w.x_kept).T


def retrieval(side: str, clip: CLIP, w: World) -> dict[str, float]:
    """The figures of one side."""
    asked = {"name and tags": [whole_text(e) for e in w.kept], "English name": [e.english for e in w.kept],
             "Chinese name": [e.chinese for e in w.kept]}  # fmt: skip
    if side == "alone":
        return {name: recall(through_words(clip, w, text)) for name, text in asked.items()}
    x = directions(clip, w.x_kept)
    found = {name: recall(clip.texts(encode_text(text)) @ x.T) for name, text in asked.items()}
    return found | {"picture to text": recall(x @ clip.texts(encode_text(asked["name and tags"])).T)}


def colours(x: Tensor) -> Tensor:
    """The mean colours of 4 × 4 places: (N, 48)."""
    return F.avg_pool2d(x, SIDE // 4).flatten(1)


def judged(drawn: Tensor, judge: CLIP, w: World) -> dict[str, float]:
    """The figures of pictures (n · 150, 3, 16, 16), the i-th drawn for text i modulo 150."""
    real = small(w.x_kept)
    seen, among = (metrics.in_batches(judge.features, large(x)) for x in (drawn, small(w.x[::2])))
    return {
        "recall": recall(seen @ directions(judge, large(real)).T),
        "recall by colours": recall(-torch.cdist(colours(drawn), colours(real))),
        "kid": round(metrics.kid(seen, among), 4),
    }


def draw(model: Diffusion, w: World, clip: CLIP | None, seed: int) -> Tensor:
    """Two pictures for each text kept back: (300, 3, 16, 16)."""
    y = None if clip is None else told(clip, encode_text([whole_text(e) for e in w.kept])).repeat(DRAWS, 1)
    guidance = {} if y is None else {"y": y, "guidance": GUIDANCE}
    return model.sample(DRAWS * KEPT, Noise(seed, 16), steps=DDIM, **guidance)


# ---------------------------------------------------------------- rows


def one_row(seed: int) -> dict[str, Any]:
    """All sides of one seed."""
    w, seconds, clips = world(seed), {}, {}
    row: dict[str, Any] = {"seed": seed, "trained on": len(w.x), "retrieval": {}, "drawing": {}}
    for side in SIDES:
        start = time.process_time()
        clips[side] = towers(side, w, seed)
        seconds[f"towers, {side}"] = round(time.process_time() - start, 1)
        row["retrieval"][side] = retrieval(side, clips[side], w)
    judge = clips["alone"]
    for side in SIDES:
        start, clip = time.process_time(), None if side == "alone" else clips[side]
        drawn = draw(painter(side, w, seed, clip), w, clip, seed)
        seconds[f"painter, {side}"] = round(time.process_time() - start, 1)
        row["drawing"][side] = judged(drawn, judge, w)
    copied = w.x[look_up(w, [whole_text(e) for e in w.kept]).argmax(dim=1)]
    moved = disturb(w.x_kept, Noise(seed, 17), pixels=1, colour=0.0, mirror=False)
    row["drawing"] |= {"copy": judged(small(copied), judge, w), "real": judged(small(moved), judge, w)}
    return row | {"seconds": seconds}


def tune() -> None:
    """Print the figures of the learning rates and of the look-up on the seed of their own."""
    w, seed = world(TUNING_SEED), TUNING_SEED
    best: dict[str, tuple[float, CLIP]] = {}
    for kind in ("pairs", "alone"):
        for rate in GRID[kind]:
            start = time.process_time()
            clip = towers(kind, w, seed, rate)
            spent = time.process_time() - start
            figures = {n: recall(through_words(clip, w, [whole_text(e) for e in w.kept], n)) for n in LOOKS_UP}
            value = retrieval(kind, clip, w)["name and tags"] if kind == "pairs" else max(figures.values())
            print(kind, rate, figures if kind == "alone" else retrieval(kind, clip, w), f"{spent:.1f} s", flush=True)
            best[kind] = max(best.get(kind, (-1.0, clip)), (value, clip), key=lambda pair: pair[0])
    for rate in GRID["painter"]:
        start = time.process_time()
        drawn = draw(painter("pairs", w, seed, best["pairs"][1], rate), w, best["pairs"][1], seed)
        print("painter", rate, judged(drawn, best["alone"][1], w), f"{time.process_time() - start:.1f} s", flush=True)


def main() -> None:
    """Run what is missing."""
    options = sweep.options(
        "Ten paired seeds for claim K14.",
        tune="print the figures of the learning rates, and write nothing",
        own={"--seeds": {"type": int, "nargs": "*", "default": list(SEEDS), "help": "which seeds to run (default: all)"}},
    )
    genai_lib.setup(seed=0)
    if options.tune:
        tune()
        return

    def begin() -> sweep.Report:
        settings = {"kept back": KEPT, "steps": STEPS, "batch": BATCH, "learning rates": RATES, "pixels": SIDE,
                    "width of the picture tower": WIDTH, "width of the painter": PAINTER, "look-up": FOUND,
                    "guidance": GUIDANCE, "DDIM steps": DDIM, "drawn for a text": DRAWS, "precision": PRECISION}  # fmt: skip
        return {"claim": "K14", **sweep.head("k14_pairs", options.note), "settings": settings, "rows": []}

    report = sweep.reopen(options.out, begin)
    for seed in sweep.missing(options.seeds, report):
        sweep.keep(one_row(seed), report, options.out)


if __name__ == "__main__":
    main()
