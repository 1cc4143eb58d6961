"""What a run tells: log lines, a progress bar on a terminal, scalars.jsonl, TensorBoard."""

from __future__ import annotations

import json
import logging
import math
import sys
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.hooks import RuntimeInfoHook as _RuntimeInfoHook
from tqdm import tqdm

from ..files import write_text
from ..registry import HOOKS
from ..work_dir import SCALARS, TENSORBOARD, read_scalars

HISTORY_LENGTH = 10_000
"""How many values of a scalar stay in memory, for means in log lines; the whole history is in scalars.jsonl."""


@HOOKS.register_module()
class RuntimeInfoHook(_RuntimeInfoHook):
    """mmengine's hook, for runs of any length: histories are bounded, and values that are not finite stay out."""

    def before_run(self, runner: Any) -> None:
        """Notes the seed; the config's text, which mmengine notes too, takes time to format and nobody reads it."""
        runner.message_hub.update_info("seed", runner.seed)
        self.last_loop_stage = None

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Takes what the model reports into the histories."""
        for key, value in (outputs or {}).items():
            if math.isfinite(value):
                runner.message_hub.update_scalar(f"train/{key}", value)
        for buffer in runner.message_hub.log_scalars.values():
            buffer.max_length = HISTORY_LENGTH


@HOOKS.register_module()
class LoggerHook(Hook):
    """Log lines every `interval` iterations and after evaluations; the same values go to scalars.jsonl and TensorBoard.

    A resumed run goes on with the same scalars.jsonl; lines after the iteration that it resumes from are removed first.

    Args:
        interval: every how many iterations of an epoch; the last of an epoch is always logged.
        tensorboard: write event files to `tensorboard/` in the work dir.
    """

    priority = "BELOW_NORMAL"

    def __init__(self, interval: int = 50, tensorboard: bool = True) -> None:
        if interval < 1:
            raise ValueError(f"LoggerHook: interval counts iterations, from 1 on, not {interval}.")
        self.interval = interval
        self.tensorboard = tensorboard
        self._writer: Any = None
        self._path: Path | None = None

    def before_train(self, runner: Any) -> None:
        """Opens the logs at the iteration that training starts from."""
        if runner.rank != 0:
            return
        self._path = Path(runner.work_dir) / SCALARS
        again = runner.train_loop.validation_pending
        lines = []
        for record in read_scalars(runner.work_dir):
            here = record["iter"] == runner.iter and not (again and record["mode"] == "val")
            if record["iter"] < runner.iter or here:
                lines.append(json.dumps(record) + "\n")
        write_text(self._path, "".join(lines))
        if self.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(Path(runner.work_dir) / TENSORBOARD), purge_step=runner.iter + 1)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Logs where the interval is over, or the epoch."""
        if (batch_idx + 1) % self.interval and batch_idx + 1 != runner.train_loop.epoch_length:
            return
        values, line = runner.log_processor.get_log_after_iter(runner, batch_idx, "train")
        runner.logger.info(line)
        self._record("train", runner.epoch + 1, runner.iter + 1, values)

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Logs an evaluation's metrics."""
        _, line = runner.log_processor.get_log_after_epoch(runner, len(runner.val_dataloader), "val")
        runner.logger.info(line)
        if runner.is_training:
            self._record("val", runner.epoch, runner.iter, metrics or {})

    def after_test_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Logs an evaluation's metrics."""
        _, line = runner.log_processor.get_log_after_epoch(runner, len(runner.test_dataloader), "test")
        runner.logger.info(line)

    def leave(self, runner: Any) -> None:
        """Closes the logs, however training ended."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _record(self, mode: str, epoch: int, iteration: int, values: dict[str, Any]) -> None:
        if self._path is None:
            return
        record: dict[str, Any] = {"mode": mode, "epoch": epoch, "iter": iteration}
        for name, value in values.items():
            if name not in record and isinstance(value, (int, float)):
                # JSON has no NaN.
                record[name] = value if math.isfinite(value) else None
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self._writer is not None:
            for name, value in record.items():
                if name not in ("mode", "epoch", "iter") and value is not None:
                    self._writer.add_scalar(f"{mode}/{name}", value, iteration)
            self._writer.flush()


class _AboveBar:
    """A stream that writes above a progress bar."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        tqdm.write(text, file=self._stream, end="")

    def flush(self) -> None:
        self._stream.flush()


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """A progress bar an epoch and an evaluation, where standard error is a terminal; log lines go above it."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def before_run(self, runner: Any) -> None:
        """Sends log lines above the bar."""
        self._shown = runner.rank == 0 and sys.stderr.isatty()
        if self._shown:
            for handler in runner.logger.handlers:
                if type(handler) is logging.StreamHandler and not isinstance(handler.stream, _AboveBar):
                    handler.setStream(_AboveBar(handler.stream))

    def _open(self, title: str, total: int, initial: int = 0) -> None:
        if self._shown:
            self._bar = tqdm(desc=title, total=total, initial=initial, leave=False, dynamic_ncols=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def before_train_epoch(self, runner: Any) -> None:
        """Opens the bar of an epoch."""
        loop = runner.train_loop
        self._open(f"Epoch {runner.epoch + 1}/{runner.max_epochs}", loop.epoch_length, loop.step_in_epoch)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Moves the bar."""
        if self._bar is not None:
            if outputs and "loss" in outputs:
                self._bar.set_postfix(loss=f"{float(outputs['loss']):.4f}", refresh=False)
            self._bar.update()

    def after_train_epoch(self, runner: Any) -> None:
        """Closes the bar."""
        self._close()

    def before_val_epoch(self, runner: Any) -> None:
        """Opens the bar of an evaluation, in place of an epoch's."""
        self._close()
        self._open("Evaluation", len(runner.val_dataloader))

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update()

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Closes the bar."""
        self._close()

    def before_test_epoch(self, runner: Any) -> None:
        """Opens the bar of an evaluation."""
        self._open("Evaluation", len(runner.test_dataloader))

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update()

    def after_test_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Closes the bar."""
        self._close()

    def leave(self, runner: Any) -> None:
        """Closes the bar, however training ended."""
        self._close()
