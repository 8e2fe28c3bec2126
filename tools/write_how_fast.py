"""Put the benchmarks' figures, and those of the weights' cards, into the page "How fast, how good".

    python -m tools.write_how_fast         rewrite what stands between the marks of book/how_fast.md, and its picture
"""

from __future__ import annotations

import json
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
    "nats per token": "{:.2f} nats per token", "solvable": "{:.0%} solvable", "new": "{:.0%} new",
}  # fmt: skip


def read(name: str) -> dict[str, Any]:
    """The results of one benchmark."""
    results: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return results


def middle(values: list[float]) -> float:
    """The median, the lower of two."""
    return sorted(values)[(len(values) - 1) // 2]


def peers() -> tuple[str, dict[str, float]]:
    """The table of the library beside others, and how many times sooner or faster it is."""
    vae, gan, gpt, diffusion, classical = map(
        read, ("vae_training", "gan_quality", "gpt_training", "diffusion_training", "classical")
    )
    usual, pythae, ours = vae["usual script"], vae["pythae"], vae["library, bf16"]
    third, whole, transformers = gpt["library, a third of the time"], gpt["library, the same time"][0], gpt["transformers"]
    drawn, diffusers = diffusion["library, guidance 2"], diffusion["diffusers"]
    rows = [
        ["VAE 784-400-20 to 105.6 nats", f"usual script {usual['seconds']:.0f} s",
         f"{ours['seconds, median']:.1f} s (median of {ours['seeds']} seeds)"],
        ["the same", f"pythae {pythae['seconds']:.0f} s to {pythae['nats']:.2f} nats",
         f"{ours['seconds, median']:.1f} s to {ours['nats, worst']:.2f} nats (worst of {ours['seeds']} seeds)"],
        ["GAN for digits, same time", f"fully connected, {gan['gan-mlp']['seconds']:.0f} s: FID {gan['gan-mlp']['fid']:.0f}",
         f"convolutional, {gan['dcgan']['seconds']:.0f} s: FID {gan['dcgan']['fid']:.1f}"],
        ["GPT on Shakespeare, a third of the time",
         f"transformers, {transformers['seconds']:.0f} s: {transformers['nats']:.3f} nats per character",
         f"{middle([run['seconds'] for run in third]):.0f} s: {max(run['nats'] for run in third):.3f} nats "
         f"(worst of {len(third)} seeds)"],
        ["GPT on Shakespeare, at most the same time", f"the same: {transformers['nats']:.3f} nats",
         f"{whole['seconds']:.0f} s: {whole['nats']:.3f} nats"],
        ["Diffusion on digits, same time",
         f"diffusers, {diffusers['seconds']:.0f} s: KID {diffusers['kid']:.2f}, "
         f"asked digit seen {diffusers['asked digit seen']:.0%}",
         f"{diffusion['library']['seconds']:.0f} s: KID {diffusion['library']['kid']:.2f}; with guidance asked digit seen "
         f"{drawn['asked digit seen']:.0%}"],
    ]  # fmt: skip
    sooner = {
        "VAE to 105.6 nats, beside the usual script": usual["seconds"] / ours["seconds, median"],
        "VAE, beside pythae's trainer": pythae["seconds"] / ours["seconds, median"],
    }
    for name, (peer, unit) in {
        "100 Gaussians": ("scikit-learn", "nats an example"), "hidden Markov model": ("hmmlearn", "nats a character"),
    }.items():  # fmt: skip
        found = classical[name]
        theirs, own = (f"{found[side]['seconds a round']:.2f} s ({found[side][unit]:.2f} {unit})" for side in (peer, "library"))
        rows.append([f"{name}, a round of expectation-maximisation", f"{peer} {theirs}", own])
        sooner[f"{name}, a round, beside {peer}"] = found[peer]["seconds a round"] / found["library"]["seconds a round"]
    return table(["What", "What you would otherwise use", "This library"], rows), sooner


def cards() -> str:
    """The table of all recipes: what their shipped weights reach, and what that took."""
    rows = []
    for name, recipe in recipes.RECIPES.items():
        card = pretrained.card(name)
        reached = ", ".join(how.format(card["figures"][key]) for key, how in FIGURES.items() if key in card["figures"])
        rows.append([f"`{name}`", recipe.title, reached, f"{card['seconds']:,.0f} s", f"{card['parameters'] / 1000:,.0f} k"])
    return table(["Recipe", "Model", "Shipped weights reach", "Time", "Size"], rows)


def steps() -> str:
    """The table of training steps: each in three ways, and what the minute version's way makes of it."""
    rows = []
    for name, found in read("step")["steps"].items():
        minute = recipes.get(name).minute
        own = found[minute.precision]
        seconds = minute.epochs * own["steps a pass"] * own["ms a step"] / 1000
        ways = [f"{found[way]['ms a step']:.0f}" if way in found else "–" for way in ("fp32", "bf16", "bf16, channels last")]
        rows.append([f"`{name}`", *ways, minute.precision, f"{seconds:.0f}", f"{own['examples a second']:,.0f}",
                     f"{own['data']:.2%}"])  # fmt: skip
    head = ["Recipe", "fp32, ms", "bf16, ms", "bf16 channels last, ms", "Minute version in", "takes, s", "Examples a second"]
    return table([*head, "Share for data"], rows)


def rate() -> str:
    """The GPT's step beside its matrix products alone."""
    gpt = read("step")["GPT"]
    rows = [[f"{gpt['products alone, GFLOP/s']:.0f}", f"{gpt['step, GFLOP/s']:.0f}", f"{gpt['share']:.0%}"]]
    return table(["Products alone, GFLOP/s", "In the training step, GFLOP/s", "Share"], rows)


def smaller() -> str:
    """The table of compressed models: size, time, quality."""
    found, rows = read("compression"), []
    qualities = {"vae-mlp": ("elbo", "ELBO {:.2f} nats"), "gpt": ("bits per character", "{:.3f} bits per character")}
    for name, (metric, how) in qualities.items():
        for variant, cost in found[name].items():
            rows.append([f"`{name}`", variant, f"{cost['bytes'] / 1e6:.2f}", f"{cost['bytes zipped'] / 1e6:.2f}",
                         f"{1000 * cost['ms a sample']:,.0f}", how.format(cost[metric])])  # fmt: skip
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
    made = {"peers": peers()[0], "cards": cards(), "steps": steps(), "rate": rate(), "smaller": smaller(), "cache": cache()}
    return fill(text, made)


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    ax = plotting.bars(peers()[1], xlabel="times faster than what you would otherwise use", log=True)
    ax.axvline(1, color=plotting.REAL, linestyle="--", linewidth=1.2)
    ax.figure.savefig(PICTURE, metadata={"Date": None}, bbox_inches="tight")
    print(f"written: {PAGE.relative_to(ROOT)}, {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
