"""Put the benchmarks' figures, and those of the weights' cards, into the page "How fast, how good".

    python -m tools.write_how_fast         rewrite what stands between the marks of book/how_fast.md, and its picture
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genai_lib import plotting, pretrained, recipes
from tools.parts import fill, table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book" / "how_fast.md"
PICTURE = ROOT / "book" / "assets" / "how_fast.svg"
RESULTS = ROOT / "benchmarks" / "results"
FIGURES = {  # how a card's figures are called in the table, most telling first
    "accuracy": "{:.2%} right", "squared error": "squared error {:.4f}", "fid": "FID {:.2f}",
    "asked digit seen": "asked digit seen {:.1%}", "elbo": "ELBO {:.1f} nats",
    "log-likelihood, binarised": "{:.1f} nats (binarised)",
    "iwae k=500, binarised, every fifth digit": "{:.1f} nats (binarised, IWAE)",
    "bits per character": "{:.2f} bits per character", "four lines of five": "form kept {:.0%}",
    "recall@10, English name": "name among ten found {:.0%}", "recall@10, one synonym": "synonym {:.0%}",
    "clip score": "CLIP score {:.2f}", "diversity": "{:.1f} different pictures in effect",
    "nats per token": "{:.2f} nats per token",
    "solvable": "{:.0%} solvable (rooms sized as in training, up to five boxes, rules kept while writing)",
    "solvable, full rooms": "{:.0%} of full rooms", "new": "{:.0%} new",
}  # fmt: skip


def read(name: str) -> dict[str, Any]:
    """The results of one benchmark."""
    results: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return results


def told(report: Mapping[str, Any], side: str, how: str) -> str:
    """A side's figures, medians over the turns, in a sentence with places for them: ``{nats:.2f} nats``."""
    runs = [run for run in report["runs"] if run["side"] == side]
    return how.format_map({name: statistics.median(run[name] for run in runs) for name in runs[0] if name != "side"})


def ratio(report: Mapping[str, Any], name: str) -> tuple[float, float, float]:
    """Median, least and greatest of a ratio over the turns."""
    found = report["ratios"][name]
    return found["median"], found["low"], found["high"]


def machines(where: Mapping[str, str]) -> str:
    """A sentence that tells which was measured on what."""
    grouped: dict[str, list[str]] = {}
    for name, machine in where.items():
        grouped.setdefault(machine, []).append(f"`{name}`")
    return "; ".join(f"{machine}: {', '.join(names)}" for machine, names in grouped.items()) + "."


def where() -> str:
    """The machine of each report."""
    return machines({path.stem: read(path.stem)["machine"] for path in sorted(RESULTS.glob("*.json"))})


def peers() -> tuple[str, dict[str, tuple[float, float, float]]]:
    """The table of the library beside others; and how many times sooner or faster it is: median, least and greatest."""
    vae, gan, gpt, diffusion, classical = map(
        read, ("vae_training", "gan_quality", "gpt_training", "diffusion_training", "classical")
    )
    rows, sooner, turns = [], {}, set[int]()

    def row(what: str, theirs: str, ours: str, report: Mapping[str, Any], name: str, bar: str = "") -> None:
        median, low, high = ratio(report, name)
        middle, least, most = (f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in (median, low, high))
        rows.append([what, theirs, ours, f"{middle} ({least} to {most})"])
        turns.add(report["ratios"][name]["turns"])
        if bar:
            sooner[bar] = median, low, high

    race, others = "{seconds:.1f} s, {passes:g} passes, {nats:.2f} nats", ("usual script", "plain loader", "pythae")
    for other in others:
        for way in ("fp32", "bf16"):
            row(f"VAE to {vae['goal, nats']} nats, seconds", told(vae, other, f"{other}, fp32: {race}"),
                told(vae, f"library, {way}", f"{way}: {race}"), vae, f"seconds, {other} / library, {way}",
                f"VAE, beside {other}" if way == "fp32" else "")  # fmt: skip
    equal = "fp32: {seconds, equal time:.1f} s, {nats, equal time:.1f} nats, FID {fid, equal time:.1f}"
    for other in others:
        row("VAE, same time, FID", told(vae, other, f"{other}, {equal}"), told(vae, "library, fp32", equal), vae,
            f"fid, equal time, {other} / library, fp32")  # fmt: skip
    game = "{seconds:.0f} s, {steps:.0f} steps, FID {fid:.1f}, KID {kid:.2f}"
    row("DCGAN, same time, FID", told(gan, "plain loader", f"plain loader, fp32: {game}"),
        told(gan, "library", f"bf16: {game}"), gan, "fid, plain loader / library")  # fmt: skip
    text = "fp32: {seconds:.0f} s, {steps:,.0f} steps, {nats:.3f} nats"
    usual = told(gpt, "transformers", f"transformers, {text}")
    for what, share, figure, bar in (
        ("GPT, as good as the usual recipe, seconds", "a third of the time", "seconds", "GPT, beside transformers"),
        ("GPT, same time, nats per character", "the same time", "nats", ""),
    ):
        own = f"library, {share}"
        row(what, usual, told(gpt, own, text), gpt, f"{figure}, transformers / {own}", bar)
    drawn = "bf16: {seconds:.0f} s, {steps:.0f} steps, KID {kid:.2f}; asked digit seen {asked digit seen, guidance 1:.0%}, "
    drawn += "with guidance 2 {asked digit seen, guidance 2:.0%}"
    ours = told(diffusion, "library", drawn + ", 3 {asked digit seen, guidance 3:.0%}")
    for other in ("diffusers", "diffusers, on patches"):
        theirs = told(diffusion, other, f"{other}, {drawn}")
        row("Diffusion, same time, KID", theirs, ours, diffusion, f"kid, {other} / library")
    climb = "{seconds a round:.2f} s, {nats:.4f} nats"
    for name in classical["ratios"]:
        side = name.removesuffix(" / library")
        model, peer = side.split(", ")
        row(f"{model}, seconds a round", told(classical, side, f"{peer}: {climb}"), told(classical, f"{model}, library", climb),
            classical, name, f"{model}, beside {peer}")  # fmt: skip
    written = table(["What", "What you would otherwise use", "This library", "Ratio (least to greatest)"], rows)
    return f"{written}\n\nTurns of each row: {' to '.join(map(str, sorted({min(turns), max(turns)})))}.", sooner


def baselines() -> str:
    """What the GANs' figures are read against."""
    found = read("gan_quality")["baselines"]
    rows = [[name, f"{row['fid']:.2f}", f"{row['kid']:.3f}", f"{row['seconds']:.0f} s" if "seconds" in row else "–"]
            for name, row in found.items()]  # fmt: skip
    return table(["Beside them", "FID", "KID", "Trained for"], rows)


def cards() -> str:
    """The table of all recipes: what their shipped weights reach, and what that took."""
    rows = []
    for name, recipe in recipes.RECIPES.items():
        card = pretrained.card(name)
        reached = ", ".join(how.format(card["figures"][key]) for key, how in FIGURES.items() if key in card["figures"])
        rows.append([f"`{name}`", recipe.title, reached, f"{card['seconds']:,.0f} s", f"{card['parameters'] / 1000:,.0f} k"])
    trained = machines({name: pretrained.card(name)["machine"] for name in recipes.RECIPES})
    return table(["Recipe", "Model", "Shipped weights reach", "Time", "Size"], rows) + f"\n\nTrained on {trained}"


def steps() -> str:
    """The table of training steps: each in three ways, and what the minute version's way makes of it."""
    rows = []
    for row in read("step")["recipes"]:
        cells = ["–"] * 3 + [f"fitted, rounds: {row['rounds']}" if "rounds" in row else ""], ["–", "–"]
        if "rounds" not in row:
            minute = recipes.get(row["recipe"]).minute
            ways = [f"{row[way]['ms a step']:.0f}" if way in row else "–" for way in ("fp32", "bf16", "bf16, channels last")]
            own = row.get(minute.precision, row["fp32"])
            cells = [*ways, minute.precision], [f"{own['examples a second']:,.0f}", f"{row['data']:.2%}"]
        rows.append([f"`{row['recipe']}`", *cells[0], f"{row['minute, s']:.1f}", *cells[1], f"{row['memory, GB']:.2f}"])
    head = ["Recipe", "fp32, ms", "bf16, ms", "bf16 channels last, ms", "Minute version in", "takes, s", "Examples a second"]
    return table([*head, "Share for data", "Memory, GB"], rows)


def sokoban() -> str:
    """The table of levels of full size."""
    rows = [[row["orders"], f"{row['levels']}", f"{row['solvable']:.0%}", f"{row['low']:.0%} to {row['high']:.0%}",
             f"{row['pushes']:g}", f"{row['copies']}", f"{row['different']}",
             f"{1000 * row['seconds'] / (row['solvable'] * row['levels']):.0f}"]
            for row in read("sokoban_sizes")["rows"]]  # fmt: skip
    head = ["Asked for", "Levels", "Solvable", "95 % interval", "Pushes, median", "Copies", "Different"]
    return table([*head, "Processor ms for a solvable one"], rows)


def rate() -> str:
    """The GPT's step beside its matrix products alone."""
    gpt = read("step")["GPT"]
    rows = [[f"{gpt['products alone, GFLOP/s']:.0f}", f"{gpt['step, GFLOP/s']:.0f}", f"{gpt['share']:.0%}"]]
    return table(["Products alone, GFLOP/s", "In the training step, GFLOP/s", "Share"], rows)


def smaller() -> str:
    """The table of compressed models: size, time, quality."""
    found, rows = read("compression"), []
    qualities = {"vae-mlp": "ELBO {elbo:.2f} nats, FID {fid:.1f}", "gpt": "{bits per character:.3f} bits per character"}
    for name, how in qualities.items():
        for variant, cost in found[name].items():
            rows.append([f"`{name}`", variant, f"{cost['bytes'] / 1e6:.2f}", f"{cost['bytes zipped'] / 1e6:.2f}",
                         f"{1000 * cost['ms a sample']:,.0f}", how.format_map(cost)])  # fmt: skip
    return table(["Recipe", "Variant", "MB", "MB zipped", "µs a sample", "Quality"], rows)


def cache() -> str:
    """The table of a GPT with its keys and values kept, and without: size, time, quality."""
    found = read("compression")["cache"]
    rows = [
        ["kept", f"{found['bytes'] / 1000:,.0f}", f"{found['with cache']:.2f}", f"{found['same tokens']:.0%}"],
        ["none", "0", f"{found['without cache']:.2f}", "–"],
    ]
    return table(["Cache", "kB beside the weights", "ms a character", "Characters unchanged"], rows)


def page(text: str) -> str:
    """The page with its tables written anew."""
    made = {
        "where": where(), "peers": peers()[0], "baselines": baselines(), "cards": cards(), "steps": steps(), "rate": rate(),
        "sokoban": sokoban(), "smaller": smaller(), "cache": cache(),
    }  # fmt: skip
    return fill(text, made)


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    ax = plotting.bars(peers()[1], xlabel="times faster than what you would otherwise use", log=True)
    ax.axvline(1, color=plotting.REAL, linestyle="--", linewidth=1.2)
    ax.figure.savefig(PICTURE, metadata={"Date": None}, bbox_inches="tight")
    print(f"written: {PAGE.relative_to(ROOT)}, {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
