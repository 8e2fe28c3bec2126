"""The library from the command line: ``python -m genai_lib train | sample | evaluate | export | bench | list``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from genai_lib import pretrained, progress, recipes, setup
from genai_lib.callbacks import Samples, TensorBoard
from genai_lib.checkpoint import CheckpointError
from genai_lib.data import DataError
from genai_lib.data.music import save_midi
from genai_lib.data.pictures import save_png
from genai_lib.export import OPSET, ExportError, draw, export
from genai_lib.noise import Noise
from genai_lib.pretrained import WeightsError
from genai_lib.speed import step_cost
from genai_lib.training import Callback

MOST = 10_000  # pictures, characters or quarter notes at once
ENDINGS = {"pictures": ".png", "text": ".txt", "music": ".mid"}  # of the file that samples go into
SECONDS = 4.0  # of training that `bench` times in each precision


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the status: 0 done, 1 a figure is off, 2 wrong argument or damaged file, 130 Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except (CheckpointError, DataError, ExportError, FloatingPointError, WeightsError, ValueError, OSError) as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
        print(f"error: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        if progress.speaks():
            print(f"\n{str(stop) or 'stopped'}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m genai_lib", description="Train, draw from and measure the models.")
    commands = parser.add_subparsers(required=True, metavar="command")

    train = commands.add_parser("train", help="train a recipe; write weights, card, checkpoints, logs")
    train.set_defaults(command=_train)
    train.add_argument("recipe", choices=list(recipes.RECIPES), metavar="recipe", help=", ".join(recipes.RECIPES))
    train.add_argument("--version", choices=["minute", "shipped"], default="minute")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--epochs", type=float, help="passes over the data, instead of the recipe's own")
    train.add_argument("--precision", choices=["fp32", "bf16"], help="instead of the recipe's own")
    train.add_argument("--folder", type=Path, help="default: runs/RECIPE-VERSION-SEED; if it holds this run, the run goes on")
    train.add_argument("--save-every", type=int, default=500, metavar="STEPS")

    sample = commands.add_parser("sample", help="draw pictures from a recipe's weights, write text or levels, or compose")
    sample.set_defaults(command=_sample)
    sample.add_argument("recipe", nargs="?", choices=list(recipes.RECIPES), metavar="recipe", help="a recipe with weights")
    sample.add_argument("--from", type=Path, dest="file", metavar="FILE.onnx", help="an exported model, instead of a recipe")
    sample.add_argument("--weights", type=Path, default=pretrained.FOLDER, help="a recipe's; default: the shipped ones")
    sample.add_argument("-n", type=int, default=64, help=f"pictures, characters, levels or quarter notes, at most {MOST:,}")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--out", type=Path, metavar="FILE", help=".png, .mid or .txt; else samples.png or .mid, or the screen")

    evaluate = commands.add_parser("evaluate", help="measure a recipe's weights; status 1 if they are off their card")
    evaluate.set_defaults(command=_evaluate)
    evaluate.add_argument("recipe", choices=list(recipes.RECIPES), metavar="recipe", help="a recipe with weights")
    evaluate.add_argument("--weights", type=Path, default=pretrained.FOLDER, help="their folder; default: the shipped ones")
    evaluate.add_argument("--write", action="store_true", help="write the figures on the card instead")

    exporting = commands.add_parser("export", help=f"write a decoder, generator or GPT into one ONNX file, opset {OPSET}")
    exporting.set_defaults(command=_export)
    exporting.add_argument("recipe", choices=list(recipes.RECIPES), metavar="recipe", help="a recipe with weights")
    exporting.add_argument("--weights", type=Path, default=pretrained.FOLDER, help="their folder; default: the shipped ones")
    exporting.add_argument("--out", type=Path, metavar="FILE.onnx", help=f"of opset {OPSET}; default: RECIPE.onnx")

    bench = commands.add_parser("bench", help="measure how fast a recipe trains on this machine")
    bench.set_defaults(command=_bench)
    bench.add_argument("recipe", choices=list(recipes.RECIPES), metavar="recipe", help=", ".join(recipes.RECIPES))

    listing = commands.add_parser("list", help="list the recipes: quality, seconds of training and size of the shipped weights")
    listing.set_defaults(command=_list)
    return parser


def _train(options: argparse.Namespace) -> None:
    if options.save_every < 1:
        raise ValueError(f"--save-every must be 1 step or more, got {options.save_every}")
    folder = options.folder or Path("runs") / f"{options.recipe}-{options.version}-{options.seed}"
    changes = {k: v for k in ("epochs", "precision") if (v := getattr(options, k)) is not None}
    recipe = recipes.get(options.recipe)
    setup(seed=options.seed)

    def callbacks(model: torch.nn.Module) -> list[Callback]:
        if not hasattr(model, "sample") or recipe.text is not None or recipe.music is not None:
            return [TensorBoard(folder / "logs")]

        def draw() -> torch.Tensor:
            noise = Noise(options.seed, device=next(model.parameters()).device)
            return model.sample(64, noise)  # type: ignore[operator]

        return [TensorBoard(folder / "logs", draw=draw), Samples(draw, folder / "samples")]

    first = progress.speaks()  # of several processes one speaks, measures and writes
    if first:
        kept = "checkpoints, logs, pictures" if recipe.fit is None else "weights (a fit has no checkpoints)"
        print(f"{options.recipe}, {options.version} version, seed {options.seed}; {kept} go to {folder}")
    run = recipes.run(
        options.recipe, options.version, seed=options.seed, folder=folder / "checkpoints",
        callbacks=callbacks, save_every=options.save_every, **changes,
    )  # fmt: skip
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if not first:
        return
    print(f"trained in {run.seconds:.0f} s; measuring on the test set …")
    card = pretrained.save(run, version=options.version, seed=options.seed, folder=folder)
    _print_figures(card["figures"])
    print(f"weights: {folder / options.recipe}.safetensors" if recipe.keep else f"card: {folder / options.recipe}.json")


def _sample(options: argparse.Namespace) -> None:
    if not 1 <= options.n <= MOST:
        raise ValueError(f"-n must lie between 1 and {MOST:,}, got {options.n}")
    if (options.recipe is None) == (options.file is None):
        raise ValueError(f"give either a recipe ({', '.join(recipes.RECIPES)}) or --from FILE.onnx")
    noise = Noise(options.seed)
    drawn: Any
    if options.file is not None:
        drawn = draw(options.file, options.n, noise)
        kind = "text" if isinstance(drawn, str) else "pictures"
        place, drawn = _place(options.out, kind), drawn if kind == "text" else torch.from_numpy(drawn)
    else:
        recipe = recipes.get(options.recipe)
        kind = "text" if recipe.text else "music" if recipe.music else "pictures"
        place, model = _place(options.out, kind), pretrained.load(options.recipe, folder=options.weights)
        if kind == "pictures" and not hasattr(model, "sample"):
            raise ValueError(f"{options.recipe} is no generative model: it has no way to draw samples")
        drawn = (recipe.text or recipe.music or type(model).sample)(model, options.n, noise)
    if place is None:
        print(drawn)
        return
    if kind == "text":
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{drawn}\n", encoding="utf-8")
    elif kind == "music":
        save_midi(drawn, place, steps=2)
    else:
        save_png(drawn, place)
    print(place)


def _place(out: Path | None, kind: str) -> Path | None:
    """The file that samples of a kind go into, or None: the screen."""
    if out is None:
        return None if kind == "text" else Path(f"samples{ENDINGS[kind]}")
    if out.suffix.lower() != ENDINGS[kind]:
        raise ValueError(f"--out must end in {ENDINGS[kind]} for {kind}, got {out}")
    return out


def _export(options: argparse.Namespace) -> None:
    path = export(options.recipe, options.out or f"{options.recipe}.onnx", folder=options.weights)
    print(f"{path}: {path.stat().st_size:,} bytes. Draw from it: python -m genai_lib sample --from {path}")


def _evaluate(options: argparse.Namespace) -> int:
    before = pretrained.card(options.recipe, folder=options.weights)["figures"]
    model = pretrained.load(options.recipe, folder=options.weights)
    print("measuring on the test set …")
    if options.write:
        _print_figures(pretrained.measure_again(options.recipe, folder=options.weights)["figures"], before)
        return 0
    figures = pretrained.measure(options.recipe, model)
    _print_figures(figures, before)
    off = pretrained.off(figures, before)
    for figure in off:
        print(f"off: {figure}", file=sys.stderr)
    return 1 if off else 0


def _bench(options: argparse.Namespace) -> None:
    recipe = recipes.get(options.recipe)
    for number, precision in enumerate(("fp32", "bf16")):
        cost = step_cost(recipe, precision=precision, seconds=SECONDS)
        if not number:
            print(f"{recipe.name}, batches of {recipe.minute.batch_size}, on {pretrained.machine()}")
        print(f"  {precision}: " + (
            "this processor has no bfloat16 instructions" if cost is None else
            f"{cost['ms a step']:.2f} ms a step, {cost['examples a second']:,.0f} examples a second, "
            f"{cost['data']:.1%} of the time spent on loading"
        ))  # fmt: skip


def _list(options: argparse.Namespace) -> None:
    rows = [["recipe", "quality", "seconds", "parameters", "kB", ""]]
    for recipe in recipes.RECIPES.values():
        row = ["no weights shipped", "", "", ""]
        if recipe.name in pretrained.names():
            card, weights = pretrained.card(recipe.name), pretrained.FOLDER / f"{recipe.name}.safetensors"
            size = weights.stat().st_size if weights.is_file() else 0
            quality = ", ".join(f"{name} {value:.4g}" for name, value in list(card["figures"].items())[:3])
            row = [quality, f"{card['seconds']:,.0f}", f"{card['parameters']:,}", f"{size / 1000:,.0f}"]
        rows.append([recipe.name, *row, recipe.title])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:{'>' if 1 < i < 5 else '<'}{widths[i]}}" for i, cell in enumerate(row)]
        print("  ".join(cells).rstrip())


def _print_figures(figures: recipes.Quality, card: recipes.Quality | None = None) -> None:
    for name, value in figures.items():
        print(f"  {name:24} {value:10.4f}" + (f"   card: {card[name]:.4f}" if card and name in card else ""))


if __name__ == "__main__":
    sys.exit(main())
