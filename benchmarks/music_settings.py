"""Which settings make the chorale writer lead its voices as Bach does, and what do they cost (chapter 17)?

The shipped GPT and counting (`VoiceCounts`, of the order that a held-out part of the training tunes chooses) write 20 pieces of
64 steps a seed, at three temperatures, with three strengths of the rule against parallels; beside them, without rule, counts of
shorter and longer sequences. Kept of each run are means over its 20 pieces:

    faults  of `genai_lib.recipes.music.faults`, in its order
    nats    per token of the pieces, by the shipped GPT as trained
    run     steps of the longest run that stands in a training chorale

    python benchmarks/music_settings.py --out genai_lib/data/music_settings.json

The chorales are read with music21, two minutes at first. Rows are written as they come; a file that has some is completed.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

import genai_lib
from genai_lib import pretrained, sweep
from genai_lib.data.music import load_chorales
from genai_lib.models.gpt import LanguageModel
from genai_lib.noise import Noise
from genai_lib.objectives import next_token_nll
from genai_lib.recipes import music

SEEDS, PIECES, STEPS, ORDER = range(10), 20, 64, 7
TEMPERATURES, RULES = (1.0, 0.8, 0.6), (1.0, 0.05, 0.0)
GRID = [(name, tau, rule) for name in ("GPT", f"{ORDER}-gram") for tau in TEMPERATURES for rule in RULES]
CELLS = [*GRID, ("4-gram", 1.0, 1.0), ("12-gram", 1.0, 1.0)]


def judged(drawn: Tensor, gpt: LanguageModel, known: list[Tensor]) -> dict[str, Any]:
    """Measure the pieces (20, 64, 4) of a seed, beside the training chorales."""
    counted = [list(music.faults(piece).values()) for piece in drawn]
    read = torch.cat([torch.full((PIECES, 4), music.EDGE), music.encode(drawn).flatten(1)], dim=1)[:, : music.CONTEXT + 1]
    with torch.no_grad():
        nats = next_token_nll(gpt, read).mean().item() / (read.shape[1] - 1)
    return {
        "faults": [round(sum(column) / PIECES, 5) for column in zip(*counted, strict=True)],
        "nats": round(nats, 4),
        "run": round(music.longest_runs(list(drawn), known).double().mean().item(), 2),
    }


def main() -> None:
    """Run all cells and write one file."""
    options = sweep.options("Temperature and rule of the chorale writer, ten seeds.")
    genai_lib.setup(seed=0, threads=1)
    report = sweep.reopen(options.out, lambda: {
        **sweep.head("music_settings", options.note),
        "settings": {"pieces": PIECES, "steps": STEPS, "order": ORDER, "seeds": len(SEEDS)},
        "seconds of drawing": 0.0,
        "rows": [],
    })  # fmt: skip
    gpt = pretrained.load("chorales").double()
    writers = {"GPT": gpt} | {f"{n}-gram": music.VoiceCounts(n, music.row("train")) for n in (4, ORDER, 12)}
    known = [chorale.voices for chorale in load_chorales("train", steps=music.STEPS)]
    done = {(row["writer"], row["temperature"], row["rule"], row["seed"]) for row in report["rows"]}
    for seed in SEEDS:
        for name, tau, rule in CELLS:
            if (name, tau, rule, seed) not in done:
                start = time.process_time()
                drawn = music.draw(writers[name], PIECES, STEPS, Noise(seed, 17), temperature=tau, rule=rule)
                report["seconds of drawing"] = round(report["seconds of drawing"] + time.process_time() - start, 1)
                row = {"writer": name, "temperature": tau, "rule": rule, "seed": seed}
                sweep.keep(row | judged(drawn, gpt, known), report, options.out)


if __name__ == "__main__":
    main()
