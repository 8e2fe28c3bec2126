"""How soon does a GPT predict Shakespeare's characters as well as the usual small recipe, and how well in the same time?

    python benchmarks/gpt_training.py --out benchmarks/results/gpt_training.json      a quarter of an hour

The usual recipe for a machine without a GPU: 4 layers, 4 heads, width 128, 64 characters at a time, 12 such windows a
batch, 2,000 steps of AdamW (largest rate 1e-3, cosine, 100 steps of warm-up, weight decay 0.1, gradients clipped at 1, no
dropout). Here it is run by the package transformers: its GPT-2 and its own Trainer. The library's side is a network of the
same size with the recipe of "gpt", 16 windows a batch: once with a third of that time and once with all of it. A few steps
tell its pace, and so how many it may take. All are in single precision, and judged on the same held-out text, in nats per
character. The clock counts training only. One after the other on one machine; then again with other random numbers, as many
turns as there are --pairs.

Runs are written as they come; a file that has some is completed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from genai_lib import metrics, recipes, sweep
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


def usual(turn: int, done: Mapping[str, Any]) -> dict[str, float]:
    """The usual recipe."""
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    torch.manual_seed(turn)
    size = characters().size
    config = GPT2Config(
        vocab_size=size, n_positions=WINDOW, n_embd=128, n_layer=4, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=0, eos_token_id=0, use_cache=False,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, max_steps=STEPS, per_device_train_batch_size=BATCH, learning_rate=1e-3, weight_decay=0.1,
            adam_beta2=0.99, max_grad_norm=1.0, warmup_steps=STEPS // 20, lr_scheduler_type="cosine", use_cpu=True,
            report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, seed=turn,
        )  # fmt: skip
        trainer = Trainer(model, settings, train_dataset=Windows())
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    model.eval()
    return {"seconds": seconds, "steps": STEPS, "nats": nats(lambda tokens: model(tokens).logits, WINDOW)}


def library(share: float) -> sweep.Side:
    """Train for about such a share of the usual recipe's time: first a few steps to learn the pace, then the run."""

    def run(turn: int, done: Mapping[str, Any]) -> dict[str, float]:
        recipe = replace(
            recipes.get("gpt"), build=lambda: GPT(GPTConfig(size=characters().size, context=WINDOW)),
            data=lambda device: plays(device, context=WINDOW),
        )  # fmt: skip
        steps_an_epoch = len(recipe.data(torch.device("cpu"))[0]) // 16
        pace = min(recipes.run_recipe(recipe, epochs=25 / steps_an_epoch, batch_size=16).seconds / 25 for _ in range(2))
        steps = share * done["transformers"]["seconds"] / pace
        made = recipes.run_recipe(recipe, seed=turn, epochs=steps / steps_an_epoch, batch_size=16)
        return {"seconds": made.seconds, "steps": made.history["step"][-1], "nats": nats(made.product, WINDOW)}

    return run


SIDES = {"transformers": usual, "library, a third of the time": library(0.27), "library, the same time": library(0.82)}
RATIOS = {f"{figure}, transformers / {own}": (figure, "transformers", own)
          for own in list(SIDES)[1:] for figure in ("seconds", "nats")}  # fmt: skip


def main() -> None:
    sweep.compare("gpt_training", __doc__.split("\n")[0], SIDES, RATIOS)


if __name__ == "__main__":
    main()
