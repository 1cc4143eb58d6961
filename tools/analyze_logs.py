"""Draw any logged scalars of one or several trainings, and print their best and last values and their time."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from attnzoo.tools.arguments import UserError, user_errors
from attnzoo.zoo.analysis.training_logs import choose_scalars, read_training_logs
from attnzoo.zoo.files import write_bytes
from attnzoo.zoo.plots.curves import draw_scalars
from attnzoo.zoo.plots.tables import scalar_table


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="analyze_logs",
        description="Draw curves of scalars that trainings logged (scalars.jsonl in their work dirs), and print their "
        "best and last values, and estimated times.",
    )
    parser.add_argument("work_dirs", metavar="WORK_DIR", nargs="+", help="work dir of a training")
    parser.add_argument(
        "--keys",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="scalars, also by pattern: loss 'loss_*' lr bbox_mAP (default: the loss and the main validation figures)",
    )
    parser.add_argument("--list", action="store_true", help="print the names of all scalars, and do nothing else")
    parser.add_argument(
        "--out", help="PNG to write (default: scalars.png in the work dir, or in the current folder for several)"
    )
    parser.add_argument("--by", choices=["epoch", "iter"], default="epoch", help="positions (default: epoch)")
    parser.add_argument(
        "--smooth",
        type=int,
        metavar="N",
        help="running mean of training curves over N values on either side, 0 for none (default: a sixtieth of a long "
        "curve)",
    )
    parser.add_argument("--title", help="heading of the picture")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    with user_errors() as outcome:
        if args.smooth is not None and args.smooth < 0:
            raise UserError(f"--smooth is {args.smooth}; it must be at least 0.")
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
        print(f"\n{path}: {len(keys)} scalars of {len(runs)} trainings")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
