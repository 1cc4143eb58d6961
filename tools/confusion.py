"""Draw a confusion matrix and list the worst pairs, for classifiers, segmentors and detectors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from attnzoo.tools.arguments import UserError, user_errors
from attnzoo.zoo.analysis.confusion import ConfusionMatrix, most_confused_pairs, read_confusion
from attnzoo.zoo.files import write_bytes, write_json
from attnzoo.zoo.plots.confusion import draw_confusion
from attnzoo.zoo.plots.tables import confused_pair_table


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="confusion",
        description="Draw which classes are taken for which, each row as shares of the right class, and list the worst "
        "pairs.",
        epilog="With --annotations, a detector's results are matched with the annotated objects; what is found where "
        "nothing is, and what is not found, is counted as background.",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="confusion.json of an evaluation, or the work dir that holds it; or, with --annotations, a detector's "
        "results in COCO's format (<out_file>.bbox.json or <out_file>.segm.json)",
    )
    parser.add_argument("--annotations", metavar="FILE", help="COCO's annotation file of a detector's results")
    parser.add_argument("--out", help="PNG to write (default: confusion.png beside SOURCE)")
    parser.add_argument("--json", metavar="FILE", help="also write the matrix to a JSON file, as evaluations write it")
    parser.add_argument("--classes", type=int, default=40, help="how many classes the picture shows (default: 40)")
    parser.add_argument("--pairs", type=int, default=20, help="how many pairs are listed (default: 20)")
    parser.add_argument(
        "--by", choices=["count", "share"], default="count", help="worst by number, or by share of the right class"
    )
    parser.add_argument("--iou", type=float, default=0.5, help="least IoU of a detection and its object (default: 0.5)")
    parser.add_argument("--score", type=float, default=0.3, help="least score of a detection (default: 0.3)")
    parser.add_argument("--title", help="heading of the picture")
    return parser.parse_args(argv)


def load(args: argparse.Namespace) -> ConfusionMatrix:
    """Reads or computes the matrix.

    Raises:
        ValueError: a file is missing, or none of its kind.
    """
    if args.annotations is None:
        return read_confusion(args.source)
    from attnzoo.zoo.analysis.detection_confusion import detection_confusion

    return detection_confusion(args.source, args.annotations, args.iou, args.score)


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    with user_errors() as outcome:
        for name, least in (("classes", 2), ("pairs", 0)):
            if getattr(args, name) < least:
                raise UserError(f"--{name} is {getattr(args, name)}; it must be at least {least}.")
        confusion = load(args)
        right, total = int(confusion.counts.trace()), int(confusion.counts.sum())
        title = args.title or f"{100 * right / max(1, total):.1f} % right"
        content = draw_confusion(confusion, args.classes, title)
        source = Path(args.source)
        folder = source if source.is_dir() else source.parent
        path = write_bytes(args.out or folder / "confusion.png", content)
        if args.json is not None:
            classes = [{"name": name} for name in confusion.names]
            write_json(args.json, {"classes": classes, "confusion": confusion.counts.tolist()})
        if args.pairs:
            print(confused_pair_table(most_confused_pairs(confusion, args.pairs, args.by)))
        print(f"{path}: {len(confusion.names)} classes, {right} of {total} right")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
