"""Train the model of a config, from the beginning or from a checkpoint."""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import sys
from typing import TYPE_CHECKING

from attnzoo.tools.arguments import (
    add_check_argument,
    add_config_arguments,
    check_from_arguments,
    is_first_process,
    load_from_arguments,
    user_errors,
)

if TYPE_CHECKING:
    from mmengine.config import Config

    from attnzoo.zoo.training import Runner


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="train",
        description="Train the model of a config.",
        epilog="Exit codes: 0 done; 2 a mistake in the command or config; 75 stopped by SIGTERM or SIGHUP with the "
        "state saved, 130 the same by Ctrl-C: run the same command with --resume to continue.",
    )
    add_config_arguments(parser)
    add_check_argument(parser)
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=None,
        metavar="PATH",
        help="continue from a checkpoint or another work dir; without PATH from the newest valid one in the work dir",
    )
    parser.add_argument(
        "--amp", action="store_true", help="mixed precision: bfloat16 or float16 on GPUs, bfloat16 on CPUs"
    )
    parser.add_argument("--seed", type=int, help="seed of weights, data order, augmentation and drop path")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="build everything, run one training step and one evaluation batch, print a summary, write nothing",
    )
    return parser.parse_args(argv)


def load_training_config(args: argparse.Namespace) -> Config:
    """Loads the config with the settings of the command line.

    Raises:
        ConfigError: If there is no such config, or an option does not fit.
    """
    cfg = load_from_arguments(args)
    if args.resume is not None:
        cfg.resume = args.resume
    if args.seed is not None:
        cfg.randomness = {**(cfg.get("randomness") or {}), "seed": args.seed}
    if args.amp and cfg.get("optim_wrapper"):
        cfg.optim_wrapper.type = "AmpOptimWrapper"
    return cfg


def plot_learning_curve(runner: Runner) -> None:
    """Plots the learning curve. A plot that fails does not make the training fail."""
    from attnzoo.zoo.plots.curves import draw_learning_curve

    if not is_first_process():
        return
    try:
        path = draw_learning_curve(runner.work_dir)
        runner.logger.info(f"Learning curve: {path}")
    except Exception as error:
        runner.logger.warning(f"The learning curve could not be plotted: {error!r}")


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    from attnzoo.zoo.config.consistency import BuiltCheckHook
    from attnzoo.zoo.training import EXIT_PREEMPTED, Preempted, build_runner
    from attnzoo.zoo.training.dry_run import dry_run

    check = BuiltCheckHook()
    with user_errors(over=lambda: check.passed) as outcome:
        cfg = load_training_config(args)
        check_from_arguments(args, cfg)
        if args.dry_run:
            dry_run(cfg)
            return outcome.code
        runner = build_runner(cfg)
        runner.register_hook(check)
        try:
            runner.train()
        except Preempted as stop:
            outcome.code = int(stop.code or EXIT_PREEMPTED)
        finally:
            if check.passed:
                plot_learning_curve(runner)
        if outcome.code == 0 and is_first_process():
            best = runner.results()["best"]
            lines = [
                f"best {name}: {entry['value']:.2f} (epoch {entry['epoch']}, {entry['file']})"
                for name, entry in best.items()
            ]
            runner.logger.info("; ".join(["Done", *lines, f"work dir {runner.work_dir}"]))
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
