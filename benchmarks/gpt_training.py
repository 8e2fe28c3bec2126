"""How soon does a GPT predict Shakespeare's characters as well as the usual small recipe, and how well in the same time?

    python benchmarks/gpt_training.py

The usual recipe for a machine without a GPU: 4 layers, 4 heads, width 128, 64 characters at a time, 12 such windows a
batch, 2,000 steps of AdamW (largest rate 1e-3, cosine, 100 steps of warm-up, weight decay 0.1, gradients clipped at 1, no
dropout). Here it is run by the package transformers: its GPT-2 and its own Trainer. The library's side is a network of the
same size with the recipe of "gpt", 16 windows a batch: once with a third of that time and once with all of it. Both are
judged on the same held-out text, in nats per character. The clock counts training only. One run, one machine, one after
the other.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from genai_lib import metrics, pretrained, recipes, setup
from genai_lib.data import load_text
from genai_lib.models.gpt import GPT, GPTConfig
from genai_lib.recipes.text import characters, plays

STEPS, WINDOW, BATCH = 2_000, 64, 12


class Windows(Dataset[dict[str, Tensor]]):
    """Every window of 64 neighbours in the training text; the model shifts the labels by one itself."""

    def __init__(self) -> None:
        self.tokens = characters().encode(load_text("shakespeare", "train"))

    def __len__(self) -> int:
        return len(self.tokens) - WINDOW

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        window = self.tokens[i : i + WINDOW]
        return {"input_ids": window, "labels": window}


def nats(model: Callable[[Tensor], Tensor], context: int) -> float:
    """Of the test text, per character, each predicted from 1 to `context` before it."""
    tokens = characters().encode(load_text("shakespeare", "test"))
    return metrics.text_nll(model, tokens, context=context) / (len(tokens) - 1)


def usual(steps: int) -> tuple[float, float]:
    """(seconds of training, nats per character)."""
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    torch.manual_seed(0)
    size = characters().size
    config = GPT2Config(
        vocab_size=size, n_positions=WINDOW, n_embd=128, n_layer=4, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=0, eos_token_id=0, use_cache=False,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, max_steps=steps, per_device_train_batch_size=BATCH, learning_rate=1e-3, weight_decay=0.1,
            adam_beta2=0.99, max_grad_norm=1.0, warmup_steps=min(100, steps // 10), lr_scheduler_type="cosine", use_cpu=True,
            report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, seed=0,
        )  # fmt: skip
        trainer = Trainer(model, settings, train_dataset=Windows())
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    model.eval()
    return seconds, nats(lambda tokens: model(tokens).logits, WINDOW)


def library(seconds: float, seed: int) -> dict[str, float]:
    """Train for about so many seconds: first a few steps to learn the pace, then the run."""
    recipe = replace(
        recipes.get("gpt"), build=lambda: GPT(GPTConfig(size=characters().size, context=WINDOW)),
        data=lambda device: plays(device, context=WINDOW),
    )  # fmt: skip
    steps_an_epoch = len(recipe.data(torch.device("cpu"))[0]) // 16
    pace = min(recipes.run_recipe(recipe, epochs=25 / steps_an_epoch, batch_size=16).seconds / 25 for _ in range(2))
    run = recipes.run_recipe(recipe, seed=seed, epochs=seconds / pace / steps_an_epoch, batch_size=16)
    return {"seconds": run.seconds, "nats": nats(run.product, WINDOW), "steps": run.history["step"][-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=STEPS, help="of the usual recipe")
    parser.add_argument("--seeds", type=int, default=3, help="runs of the library in a third of the time")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    setup(seed=0)
    seconds, reached = usual(options.steps)
    print(f"transformers, {options.steps} steps: {seconds:.0f} s, {reached:.3f} nats", flush=True)
    figures: dict[str, Any] = {
        "machine": pretrained.machine(), "transformers": {"seconds": seconds, "nats": reached, "steps": options.steps},
        "library, a third of the time": [], "library, the same time": [],
    }  # fmt: skip
    for what, share, seeds in (("a third of the time", 0.27, options.seeds), ("the same time", 0.82, 1)):
        for seed in range(seeds):
            found = library(share * seconds, seed)
            figures[f"library, {what}"].append(found)
            print(f"library, {what}, seed {seed}:", {k: round(v, 3) for k, v in found.items()}, flush=True)
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
