"""What a model costs and is worth when it is made smaller: bytes, milliseconds a sample, quality (system S19).

    python benchmarks/compression.py

A VAE and a GPT, as shipped, in each variant of `genai_lib.compression`; and the GPT with and without its cache. One
machine, one variant after the other; a time is the median of five. The quality is that of the recipe's card, measured again
on the test set.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from genai_lib import compression, pretrained, setup, sweep

NAMES = "vae-mlp", "gpt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    setup(seed=0)
    figures: dict[str, Any] = {
        **sweep.head("compression", folder="benchmarks/results"), "cache": compression.cache_row(pretrained.load("gpt")),
    }  # fmt: skip
    print("gpt:", {k: round(v, 3) for k, v in figures["cache"].items()}, "ms a character", flush=True)
    for name in NAMES:
        figures[name] = {}
        for variant in compression.VARIANTS:
            figures[name][variant] = found = compression.row(name, variant)
            print(f"{name}, {variant}:", {k: round(v, 4) for k, v in found.items()}, flush=True)
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
