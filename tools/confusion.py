"""Plot a confusion matrix and list the most confused pairs, for classifiers, segmentors and detectors."""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attnzoo.tools.arguments import UserError, user_errors

if TYPE_CHECKING:
    from attnzoo.zoo.analysis.confusion import ConfusionMatrix


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="confusion",
        description="Plot a confusion matrix, normalized per true class, and list the most confused pairs.",
        epilog="With --annotations, a detector's results are matched with the annotated objects; false positives and "
        "missed objects are counted as confused with the background.",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="confusion.json of an evaluation, or the work dir that contains it; or, with --annotations, a detector's "
        "results in COCO format (<out_file>.bbox.json or <out_file>.segm.json)",
    )
    parser.add_argument("--annotations", metavar="FILE", help="COCO annotation file for a detector's results")
    parser.add_argument("--out", help="PNG to write (default: confusion.png next to SOURCE)")
    parser.add_argument(
        "--json", metavar="FILE", help="also write the matrix to a JSON file in the format of confusion.json"
    )
    parser.add_argument("--classes", type=int, default=40, help="number of classes in the plot, >= 2 (default: 40)")
    parser.add_argument("--pairs", type=int, default=20, help="number of pairs in the list (default: 20)")
    parser.add_argument(
        "--by",
        choices=["count", "share"],
        default="count",
        help="sort pairs by count, or by share of the true class (default: count)",
    )
    parser.add_argument(
        "--iou", type=float, default=0.5, help="minimum IoU of a detection and its object (default: 0.5)"
    )
    parser.add_argument("--score", type=float, default=0.3, help="minimum score of a detection (default: 0.3)")
    parser.add_argument("--title", help="title of the plot")
    return parser.parse_args(argv)


def load(args: argparse.Namespace) -> ConfusionMatrix:
    """Reads or computes the matrix.

    Raises:
        ValueError: If a file does not exist or does not have the expected format.
    """
    if args.annotations is None:
        from attnzoo.zoo.analysis.confusion import read_confusion

        return read_confusion(args.source)
    from attnzoo.zoo.analysis.detection_confusion import detection_confusion

    return detection_confusion(args.source, args.annotations, args.iou, args.score)


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    from attnzoo.zoo.analysis.confusion import most_confused_pairs
    from attnzoo.zoo.files import write_bytes, write_json
    from attnzoo.zoo.plots.confusion import draw_confusion
    from attnzoo.zoo.plots.tables import confused_pair_table

    with user_errors() as outcome:
        for name, minimum in (("classes", 2), ("pairs", 0)):
            if getattr(args, name) < minimum:
                raise UserError(f"--{name} must be >= {minimum}, got {getattr(args, name)}.")
        confusion = load(args)
        correct, total = int(confusion.counts.trace()), int(confusion.counts.sum())
        title = args.title or f"{100 * correct / max(1, total):.1f} % correct"
        content = draw_confusion(confusion, args.classes, title)
        source = Path(args.source)
        folder = source if source.is_dir() else source.parent
        path = write_bytes(args.out or folder / "confusion.png", content)
        if args.json is not None:
            classes = [{"name": name} for name in confusion.names]
            write_json(args.json, {"classes": classes, "confusion": confusion.counts.tolist()})
        if args.pairs:
            print(confused_pair_table(most_confused_pairs(confusion, args.pairs, args.by)))
        print(f"{path}: {len(confusion.names)} classes, {correct} of {total} correct")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
