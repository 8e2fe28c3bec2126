"""How long a person waits in the creation studio (system S20): the first picture, each variation, the better quality.

    python benchmarks/studio.py

For each model of the studio, in a process of its own that has imported the library: seconds from asking for the first
picture, weights to load included, to having it; then the median of eight variations, mixtures and moves. Each is given twice:
by the clock, and in processor time, which is what the clock shows on a machine that does nothing else, since the studio
draws on one thread. And for the model that reads: how well its drawings fit 107 training names (CLIP score) in how many steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = 4, 8, 24, 50


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def wait(name: str) -> dict[str, float]:
    """What a person waits for with one model; to be called in a fresh process."""
    from genai_lib import studio

    def first() -> studio.Piece:
        usual = studio.kinds()[name].usual
        piece = studio.Piece(name, **({"prompt": "smiling face"} if "prompt" in usual else {}))
        studio.make(piece)
        return piece

    def median(pieces: list[studio.Piece]) -> tuple[float, float]:
        seconds = [timed(lambda piece=piece: studio.make(piece)) for piece in pieces]  # type: ignore[misc]
        return statistics.median(wall for wall, _ in seconds), statistics.median(cpu for _, cpu in seconds)

    row = dict(zip(("first, s", "first, processor s"), timed(first), strict=True))
    piece = first()
    ways = {"variation": studio.variations(piece, n=8)}
    ways["mixture"] = [studio.mix(piece, other, amount=0.5) for other in studio.variations(piece, n=8, start=8)]
    if piece.steps:
        better = studio.replace(piece, steps=3 * piece.steps)
        ways["better variation"] = studio.variations(better, n=4)
    else:
        directions = timed(lambda: studio.directions(name, piece.label))
        row |= dict(zip(("directions, s", "directions, processor s"), directions, strict=True))
        ways["move"] = [studio.move(other, "bold", 1.0) for other in ways["variation"]]
    for way, pieces in ways.items():
        row |= dict(zip((f"{way}, s", f"{way}, processor s"), median(pieces), strict=True))
    return row


def fit() -> dict[str, dict[str, float]]:
    """CLIP score of drawings of every 14th training name, mean and standard error, by the number of steps."""
    from genai_lib import Noise, pretrained
    from genai_lib.data import emoji_names
    from genai_lib.models.clip import encode_text

    model, judge = pretrained.load("emoji-diffusion"), pretrained.load("clip")
    names = [emoji.english for emoji in emoji_names()[::14]]
    told, rows = judge.texts(encode_text(names)), {}
    for steps in STEPS:
        score = (judge.pictures(model.sample(len(names), Noise(0), prompt=names, steps=steps)) * told).sum(dim=1)
        rows[str(steps)] = {"clip score": score.mean().item(), "standard error": score.std().item() / len(names) ** 0.5}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--one", metavar="MODEL", help="measure this model alone, in this process, and print its row")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(wait(options.one)))
        return
    from genai_lib import setup, studio, sweep

    setup(seed=0)
    figures: dict[str, Any] = {**sweep.head("studio", folder="benchmarks/results"), "models": {}}
    for name in studio.kinds():
        done = subprocess.run([sys.executable, __file__, "--one", name], capture_output=True, text=True, check=True)
        figures["models"][name] = row = json.loads(done.stdout)
        print(f"{name}:", {key: round(value, 4) for key, value in row.items()}, flush=True)
    figures["emoji-diffusion, steps"] = fit()
    print(figures["emoji-diffusion, steps"], flush=True)
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
