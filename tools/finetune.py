"""Fine-tune a model on your own data: the format is recognized, and the settings are chosen and printed."""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import sys
from pathlib import Path

from attnzoo.tools.arguments import user_errors


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="finetune",
        description="Fine-tune a model on your own data: recognize the format, choose and print the settings, train, "
        "evaluate and plot.",
        epilog="The work dir gets config.py, which tools/train.py takes as well. Exit codes: 0 done; 2 a mistake in "
        "the command or data; 75 stopped by a signal with the state saved: run the same command with --resume.",
    )
    parser.add_argument("model", metavar="MODEL", help="name of a model, such as nat_mini")
    parser.add_argument("--data", required=True, help="folder or file of the data set")
    parser.add_argument("--format", help="name of the data format, if it is not recognized")
    parser.add_argument("--work-dir", help="output folder (default: work_dirs/<model>_<data>)")
    parser.add_argument(
        "--weights", help="'none', or a checkpoint in any published format (default: the published one)"
    )
    parser.add_argument("--epochs", type=int, help="number of epochs")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="side of the images that the model sees")
    parser.add_argument("--batch-size", type=int, help="images per step")
    parser.add_argument("--lr", type=float, help="learning rate of the head")
    parser.add_argument("--layer-decay", type=float, help="learning rate of a layer relative to the next one")
    parser.add_argument("--ema", action=argparse.BooleanOptionalAction, help="average the weights")
    parser.add_argument("--amp", action=argparse.BooleanOptionalAction, help="train in mixed precision")
    parser.add_argument("--patience", type=int, help="evaluations without improvement before stopping; 0 never stops")
    parser.add_argument("--probe", choices=["linear", "efficient"], help="freeze the backbone, train a probe on it")
    parser.add_argument("--freeze", type=int, default=-1, metavar="STAGES", help="freeze the stem and so many stages")
    parser.add_argument("--val-fraction", type=float, default=0.2, help="share to hold out (default: 0.2)")
    parser.add_argument("--workers", type=int, help="processes that read images")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split and the training (default: 0)")
    parser.add_argument("--resume", action="store_true", help="continue in the work dir")
    parser.add_argument("--dry-run", action="store_true", help="check everything, run one step, train nothing")
    parser.add_argument(
        "--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="changes to the config"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = vars(parse_args(argv))
    prepared = False
    with user_errors(over=lambda: prepared) as outcome:
        from attnzoo.zoo.finetune.report import report
        from attnzoo.zoo.finetune.run import default_work_dir, prepare, train
        from attnzoo.zoo.training import EXIT_PREEMPTED, Preempted

        model, data, dry_run = (args.pop(name) for name in ("model", "data", "dry_run"))
        folder = Path(args.pop("work_dir") or default_work_dir(model, data))
        cfg = prepare(model, data, folder, dry_run=dry_run, **args)
        if dry_run:
            return outcome.code
        try:
            train(cfg)
        except Preempted as stop:
            outcome.code = int(stop.code or EXIT_PREEMPTED)
            return outcome.code
        prepared = True
        report(folder)
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
