"""Plot logged scalars of one or several training runs, and print their best and last values and their times."""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import sys
from pathlib import Path

from attnzoo.tools.arguments import UserError, user_errors


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="analyze_logs",
        description="Plot scalars that training runs have logged to scalars.jsonl in their work dirs, and print their "
        "best and last values and estimated times.",
    )
    parser.add_argument("work_dirs", metavar="WORK_DIR", nargs="+", help="work dir of a training run")
    parser.add_argument(
        "--keys",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="names or patterns of scalars, such as loss 'loss_*' lr bbox_mAP (default: the loss and the main "
        "validation metrics)",
    )
    parser.add_argument("--list", action="store_true", help="only print the names of all scalars")
    parser.add_argument(
        "--out", help="PNG to write (default: scalars.png in the work dir, or in the current folder for several)"
    )
    parser.add_argument("--by", choices=["epoch", "iter"], default="epoch", help="horizontal axis (default: epoch)")
    parser.add_argument(
        "--smooth",
        type=int,
        metavar="N",
        help="smooth training curves with a running mean over N values on either side; 0 disables it (default: 1/60 of "
        "the values of long curves)",
    )
    parser.add_argument("--title", help="title of the plot")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    from attnzoo.zoo.analysis.training_logs import choose_scalars, read_training_logs
    from attnzoo.zoo.files import write_bytes
    from attnzoo.zoo.plots.curves import draw_scalars
    from attnzoo.zoo.plots.tables import scalar_table

    with user_errors() as outcome:
        if args.smooth is not None and args.smooth < 0:
            raise UserError(f"--smooth must be >= 0, got {args.smooth}.")
        runs = read_training_logs(args.work_dirs)
        if args.list:
            print("\n".join(choose_scalars(runs, ["*"])))
            return outcome.code
        keys = choose_scalars(runs, args.keys)
        title = args.title or (runs[0].name if len(runs) == 1 else None)
        content = draw_scalars(runs, keys, args.smooth, args.by, title)
        folder = Path(args.work_dirs[0] if len(runs) == 1 else ".")
        path = write_bytes(args.out or folder / "scalars.png", content)
        print(scalar_table(runs, keys))
        print(f"\n{path}: {len(keys)} scalars of {len(runs)} training runs")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
