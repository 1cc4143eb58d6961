"""Trains what a config says, from the beginning or from where an earlier run stopped."""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from attnzoo.tools.arguments import add_config_arguments, is_first_process, load_from_arguments, user_errors
from attnzoo.zoo.analysis.summary import count_macs, count_parameters, describe_device
from attnzoo.zoo.config import check_config
from attnzoo.zoo.config.consistency import BuiltCheckHook, check_built
from attnzoo.zoo.config.parts import backbone_of
from attnzoo.zoo.plots.curves import draw_learning_curve
from attnzoo.zoo.plots.tables import align_pairs
from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.training import EXIT_PREEMPTED, Preempted, Runner, build_runner
from attnzoo.zoo.training.model_setup import unwrap_model


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="train",
        description="Train what a config says.",
        epilog="Exit codes: 0 done; 2 a mistake in the command or config; 75 stopped by SIGTERM with the state saved, "
        "130 the same by Ctrl-C: the same command with --resume goes on.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=None,
        metavar="PATH",
        help="go on from a checkpoint or another work dir; without PATH from the newest whole one in the work dir",
    )
    parser.add_argument(
        "--amp", action="store_true", help="mixed precision: bfloat16 or float16 on GPUs, bfloat16 on CPUs"
    )
    parser.add_argument("--seed", type=int, help="of weights, data order, augmentation and drop path")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="build everything, run one training step and one evaluation batch, print a summary, write nothing",
    )
    return parser.parse_args(argv)


def config_from(args: argparse.Namespace) -> Config:
    """Loads the config and puts the command line's own settings on top.

    Raises:
        ConfigError: there is no such config, or an option does not fit.
    """
    cfg = load_from_arguments(args)
    if args.resume is not None:
        cfg.resume = args.resume
    if args.seed is not None:
        cfg.randomness = {**(cfg.get("randomness") or {}), "seed": args.seed}
    if args.amp and cfg.get("optim_wrapper"):
        cfg.optim_wrapper.type = "AmpOptimWrapper"
    return cfg


class DryRunDone(Exception):
    """A dry run has seen what it wanted to see."""


class DryRun(Hook):
    """Makes one step and one evaluation of a batch with everything as training has it, and prints a summary."""

    priority = "LOWEST"

    def before_train(self, runner: Any) -> None:
        """Runs the step and prints.

        Raises:
            DryRunDone: always.
        """
        check_built(runner)
        loop = runner.train_loop
        runner.model.train()
        runner.optim_wrapper.start_epoch(loop.epoch_length)
        batch = next(iter(loop.dataloader))
        losses = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        if runner.val_loop is not None:
            runner.model.eval()
            with torch.no_grad():
                runner.model.val_step(next(iter(runner.val_loop.dataloader)))
        if runner.rank == 0:
            print(summary(runner, batch, losses))
        raise DryRunDone


def summary(runner: Any, batch: dict[str, Any], losses: dict[str, Any]) -> str:
    """Says what would be trained, on what, how, and what the first step gave."""
    loop, data = runner.train_loop, runner.train_loop.dataloader
    total, trained = count_parameters(unwrap_model(runner.model))
    each, processes = len(batch["image"]), runner.world_size
    accumulated = (runner.cfg.optim_wrapper or {}).get("accumulative_counts", 1)
    rows = [("device", describe_device())]
    backbone = backbone_of(runner.cfg.to_dict())
    if backbone is not None:
        channels, *size = max((tuple(image.shape) for image in batch["image"]), key=lambda shape: shape[1] * shape[2])
        with torch.device("meta"):
            model = MODELS.build({**backbone[1], "pretrained": False, "checkpoint_path": None})
        macs = count_macs(model, (size[0], size[1]), channels)
        rows.append(("model", f"{backbone[1]['type']}, {macs / 1e9:.3g} G multiply-accumulates at {size[0]}x{size[1]}"))
    rows.append(("parameters", f"{total:,}, of which {trained:,} are trained"))
    rows.append(("training", f"{len(data.dataset):,} images, {loop.epoch_length:,} iterations an epoch"))
    if runner.val_loop is not None:
        rows.append(("validation", f"{len(runner.val_loop.dataloader.dataset):,} images"))
    rows.append(
        ("batch", f"{each * processes * accumulated} ({processes} process(es) x {each} x {accumulated} accumulated)")
    )
    rows.append(("length", f"{loop.max_epochs:,} epochs, {loop.max_iters:,} iterations"))
    rows += [("schedule", describe_schedule(schedule, loop.max_iters)) for schedule in runner.param_schedulers or ()]
    rows.append(
        (
            "first step",
            ", ".join(f"{name} {float(torch.as_tensor(value).detach()):.4g}" for name, value in losses.items()),
        )
    )
    return align_pairs(rows)


def describe_schedule(schedule: Any, iterations: int) -> str:
    """Says which learning rates a schedule goes through."""
    name = type(schedule).__name__
    if not hasattr(schedule, "rate"):
        return name
    base = max(schedule.base_values)
    rates = [schedule.rate(iteration, base) for iteration in (0, iterations - 1)]
    peak = max(schedule.rate(math.floor(iterations * part / 200), base) for part in range(200))
    return f"{name}: learning rate from {rates[0]:.3g} over {peak:.3g} to {rates[1]:.3g}"


def dry_run(cfg: Config) -> None:
    """Does everything that training does before its second step, in a work dir that is thrown away.

    Raises:
        ValueError: something does not fit.
    """
    if cfg.get("resume") is True:
        cfg.resume = cfg.work_dir if Path(cfg.work_dir).is_dir() else False
    for name in ("train_dataloader", "val_dataloader"):
        if cfg.get(name):
            cfg[name].num_workers = 0  # one batch; nobody waits for workers that start
    with tempfile.TemporaryDirectory(prefix="attnzoo_dry_run_") as folder:
        cfg.work_dir = folder
        runner = build_runner(cfg)
        runner.register_hook(DryRun())
        try:
            runner.train()
        except DryRunDone:
            return


def draw_curve(runner: Runner) -> None:
    """Draws the learning curve; a picture that fails is no reason to call a training failed."""
    if not is_first_process():
        return
    try:
        path = draw_learning_curve(runner.work_dir)
        runner.logger.info(f"Learning curve: {path}")
    except Exception as error:
        runner.logger.warning(f"The learning curve could not be drawn: {error!r}")


def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    args = parse_args(argv)
    start = BuiltCheckHook()
    with user_errors(over=lambda: start.passed) as outcome:
        cfg = config_from(args)
        check_config(cfg)
        if args.dry_run:
            dry_run(cfg)
            return outcome.code
        runner = build_runner(cfg)
        runner.register_hook(start)
        try:
            runner.train()
        except Preempted as stop:
            outcome.code = int(stop.code or EXIT_PREEMPTED)
        finally:
            if start.passed:
                draw_curve(runner)
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
