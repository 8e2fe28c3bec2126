"""The library from the command line: ``python -m genai_lib train | sample | evaluate | list``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from genai_lib import pretrained, recipes, setup
from genai_lib.callbacks import Samples, TensorBoard
from genai_lib.checkpoint import CheckpointError
from genai_lib.data import DataError
from genai_lib.data.pictures import save_png
from genai_lib.noise import Noise
from genai_lib.pretrained import WeightsError
from genai_lib.training import Callback


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 2 wrong argument or damaged file, 130 stopped by Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (CheckpointError, DataError, WeightsError, ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\n{stop or 'stopped'}", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m genai_lib", description="Train, sample and evaluate the course's models.")
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

    sample = commands.add_parser("sample", help="draw pictures from a recipe's weights into a PNG, or write text")
    sample.set_defaults(command=_sample)
    sample.add_argument("recipe", choices=list(recipes.RECIPES), metavar="recipe", help="a recipe with weights")
    sample.add_argument("--weights", type=Path, default=pretrained.FOLDER, help="their folder; default: the shipped ones")
    sample.add_argument("-n", type=int, default=64, help="how many pictures, or characters of text")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--out", type=Path, default=Path("samples.png"), help="of pictures; text goes to the screen")

    evaluate = commands.add_parser("evaluate", help="measure a recipe's weights and hold them to their card")
    evaluate.set_defaults(command=_evaluate)
    evaluate.add_argument("recipe", choices=list(recipes.RECIPES), metavar="recipe", help="a recipe with weights")
    evaluate.add_argument("--weights", type=Path, default=pretrained.FOLDER, help="their folder; default: the shipped ones")

    evaluate.add_argument("--write", action="store_true", help="write the figures on the card")

    listing = commands.add_parser("list", help="list the recipes and their shipped weights")
    listing.set_defaults(command=_list)
    return parser


def _train(options: argparse.Namespace) -> None:
    folder = options.folder or Path("runs") / f"{options.recipe}-{options.version}-{options.seed}"
    changes = {k: v for k in ("epochs", "precision") if (v := getattr(options, k)) is not None}
    setup(seed=options.seed)

    def callbacks(model: torch.nn.Module) -> list[Callback]:
        if not hasattr(model, "sample") or recipes.get(options.recipe).text is not None:
            return [TensorBoard(folder / "logs")]

        def draw() -> torch.Tensor:
            noise = Noise(options.seed, device=next(model.parameters()).device)
            return model.sample(64, noise)  # type: ignore[operator]

        return [TensorBoard(folder / "logs", draw=draw), Samples(draw, folder / "samples")]

    print(f"{options.recipe}, {options.version} version, seed {options.seed}; checkpoints, logs and pictures go to {folder}")
    run = recipes.run(
        options.recipe, options.version, seed=options.seed, folder=folder / "checkpoints",
        callbacks=callbacks, save_every=options.save_every, **changes,
    )  # fmt: skip
    print(f"trained in {run.seconds:.0f} s; measuring on the test set …")
    card = pretrained.save(run, version=options.version, seed=options.seed, folder=folder)
    _print_figures(card["figures"])
    print(f"weights: {folder / options.recipe}.safetensors")


def _sample(options: argparse.Namespace) -> None:
    if options.n < 1:
        raise ValueError(f"-n must be 1 or more, got {options.n}")
    model, text = pretrained.load(options.recipe, folder=options.weights), recipes.get(options.recipe).text
    if text is not None:
        print(text(model, options.n, Noise(options.seed)))
        return
    if not hasattr(model, "sample"):
        raise ValueError(f"{options.recipe} is no generative model: it has no way to draw samples")
    print(save_png(model.sample(options.n, Noise(options.seed)), options.out))


def _evaluate(options: argparse.Namespace) -> None:
    before = pretrained.card(options.recipe, folder=options.weights)["figures"]
    model = pretrained.load(options.recipe, folder=options.weights)
    print("measuring on the test set …")
    if options.write:
        _print_figures(pretrained.measure_again(options.recipe, folder=options.weights)["figures"], before)
    else:
        _print_figures(pretrained.measure(options.recipe, model), before)


def _list(options: argparse.Namespace) -> None:
    shipped = pretrained.names()
    for recipe in recipes.RECIPES.values():
        print(f"{recipe.name:18} {recipe.title}{'' if recipe.name in shipped else '  (no weights shipped)'}")


def _print_figures(figures: recipes.Quality, card: recipes.Quality | None = None) -> None:
    for name, value in figures.items():
        print(f"  {name:24} {value:10.4f}" + (f"   card: {card[name]:.4f}" if card and name in card else ""))


if __name__ == "__main__":
    sys.exit(main())
