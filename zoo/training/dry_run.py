"""Dry runs: everything that a training does before its second step, and a summary of it."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from ..analysis.summary import count_macs, count_parameters, describe_device
from ..config.consistency import check_built
from ..config.parts import backbone_of
from ..plots.tables import align_pairs
from ..registry import MODELS
from .model_setup import unwrap_model
from .runner import build_runner


class DryRunDone(Exception):
    """Ends the training of a dry run."""


class DryRunHook(Hook):
    """Runs one training step and one evaluation batch with the built training, and prints a summary."""

    priority = "LOWEST"

    def before_train(self, runner: Any) -> None:
        """Runs the steps and prints the summary.

        Raises:
            DryRunDone: Always.
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
            print(training_summary(runner, batch, losses))
        raise DryRunDone


def dry_run(cfg: Config) -> None:
    """Runs one training step and one evaluation batch of a config in a temporary work dir.

    Args:
        cfg: The config; its work dir, resume point, number of workers and visualizer are changed.

    Raises:
        ValueError: If parts of the config do not fit together.
    """
    if cfg.get("resume") is True:
        cfg.resume = cfg.work_dir if Path(cfg.work_dir).is_dir() else False
    for name in ("train_dataloader", "val_dataloader"):
        if cfg.get(name):
            cfg[name].num_workers = 0  # a single batch is not worth starting workers
    cfg.visualizer = None  # nothing is logged
    with tempfile.TemporaryDirectory(prefix="attnzoo_dry_run_") as folder:
        cfg.work_dir = folder
        runner = build_runner(cfg)
        runner.register_hook(DryRunHook())
        try:
            runner.train()
        except DryRunDone:
            return


def training_summary(runner: Any, batch: dict[str, Any], losses: dict[str, Any]) -> str:
    """Formats a table of the model, data, schedule and first losses of a training.

    Args:
        runner: A Runner whose loops are built.
        batch: A training batch.
        losses: Losses of the first step.
    """
    loop, data = runner.train_loop, runner.train_loop.dataloader
    total, trained = count_parameters(unwrap_model(runner.model))
    per_process, processes = len(batch["image"]), runner.world_size
    accumulated = (runner.cfg.optim_wrapper or {}).get("accumulative_counts", 1)
    rows = [("device", describe_device())]
    backbone = backbone_of(runner.cfg.to_dict())
    if backbone is not None:
        channels, *size = max((tuple(image.shape) for image in batch["image"]), key=lambda shape: shape[1] * shape[2])
        with torch.device("meta"):
            model = MODELS.build({**backbone[1], "pretrained": False, "checkpoint_path": None})
        macs = count_macs(model, (size[0], size[1]), channels)
        rows.append(("model", f"{backbone[1]['type']}, {macs / 1e9:.3g} G multiply-accumulates at {size[0]}x{size[1]}"))
    rows.append(("parameters", f"{total:,}, {trained:,} of them trainable"))
    rows.append(("training", f"{len(data.dataset):,} images, {loop.epoch_length:,} iterations per epoch"))
    if runner.val_loop is not None:
        rows.append(("validation", f"{len(runner.val_loop.dataloader.dataset):,} images"))
    batch_size = per_process * processes * accumulated
    rows.append(("batch", f"{batch_size} ({processes} process(es) x {per_process} x {accumulated} accumulated)"))
    rows.append(("length", f"{loop.max_epochs:,} epochs, {loop.max_iters:,} iterations"))
    rows += [("schedule", describe_schedule(schedule, loop.max_iters)) for schedule in runner.param_schedulers or ()]
    values = {name: float(torch.as_tensor(value).detach()) for name, value in losses.items()}
    rows.append(("first step", ", ".join(f"{name} {value:.4g}" for name, value in values.items())))
    return align_pairs(rows)


def describe_schedule(schedule: Any, iterations: int) -> str:
    """Describes a schedule by its first, highest and last learning rate."""
    name = type(schedule).__name__
    if not hasattr(schedule, "rate"):
        return name
    base = max(schedule.base_values)
    first, last = (schedule.rate(iteration, base) for iteration in (0, iterations - 1))
    peak = max(schedule.rate(math.floor(iterations * part / 200), base) for part in range(200))
    return f"{name}: learning rate {first:.3g} at first, {peak:.3g} at most, {last:.3g} at last"
