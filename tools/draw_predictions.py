"""Plot validation images with their predicted classes from the predictions.json of an evaluation."""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attnzoo.tools.arguments import UserError, user_errors

if TYPE_CHECKING:
    from PIL import Image

    from attnzoo.zoo.analysis.predictions import Prediction


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="draw_predictions",
        description="Plot a grid of images with their predicted classes. Wrong predictions come first, in red frames.",
    )
    parser.add_argument("predictions", metavar="PREDICTIONS", help="predictions.json, or the work dir that contains it")
    parser.add_argument("--out", help="PNG to write (default: predictions.png next to PREDICTIONS)")
    parser.add_argument("--count", type=int, default=32, help="number of images (default: 32)")
    parser.add_argument("--columns", type=int, default=8, help="images per row (default: 8)")
    parser.add_argument("--wrong", type=int, help="maximum number of wrong predictions (default: a quarter of --count)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the selection (default: 0)")
    parser.add_argument("--root", help="folder that image paths are relative to (default: the current folder)")
    return parser.parse_args(argv)


def model_name(folder: Path) -> str:
    """Returns a prefix such as "nat_mini: " for titles, or "" if the folder's results.json does not name the model."""
    from attnzoo.zoo.work_dir import read_results

    model = read_results(folder).get("model")
    return f"{model}: " if model else ""


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    from PIL import Image

    from attnzoo.zoo.analysis.predictions import choose_predictions, read_predictions
    from attnzoo.zoo.files import write_bytes
    from attnzoo.zoo.plots.predictions import draw_predictions

    with user_errors() as outcome:
        for name in ("count", "columns"):
            if getattr(args, name) < 1:
                raise UserError(f"--{name} must be >= 1, got {getattr(args, name)}.")
        source = Path(args.predictions)
        predictions = read_predictions(source)
        folder = source if source.is_dir() else source.parent
        root = Path(args.root or ".")

        def load_image(prediction: Prediction) -> Image.Image:
            path = root / prediction.path
            if not path.is_file():
                raise UserError(
                    f"There is no image {path}. Pass the folder that image paths are relative to as --root. Images "
                    "in archives cannot be plotted."
                )
            with Image.open(path) as image:
                return image.convert("RGB")

        correct = sum(prediction.correct for prediction in predictions)
        title = f"{model_name(folder)}{correct} of {len(predictions)} images correct"
        if predictions:
            title += f" ({100 * correct / len(predictions):.2f} %)"
        chosen = choose_predictions(predictions, args.count, seed=args.seed, wrong=args.wrong)
        content = draw_predictions(
            [predictions[index] for index in chosen], load_image, columns=args.columns, title=title
        )
        path = write_bytes(args.out or folder / "predictions.png", content)
        print(f"{path}: {len(chosen)} images")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
