"""Hooks that log a run: log lines, progress bar, scalars.jsonl, TensorBoard."""

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
from .vis_backends import VisBackends

HISTORY_LENGTH = 10_000
"""Number of values of a scalar kept in memory for means in log lines. The complete history is in scalars.jsonl."""


@HOOKS.register_module()
class RuntimeInfoHook(_RuntimeInfoHook):
    """mmengine's hook with histories of bounded length and without values that are not finite."""

    def before_run(self, runner: Any) -> None:
        """Stores the seed. mmengine also stores the text of the config, which is slow to format and not used."""
        runner.message_hub.update_info("seed", runner.seed)
        self.last_loop_stage = None

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Adds the outputs of the model to the histories."""
        for key, value in (outputs or {}).items():
            if math.isfinite(value):
                runner.message_hub.update_scalar(f"train/{key}", value)
        for buffer in runner.message_hub.log_scalars.values():
            buffer.max_length = HISTORY_LENGTH


@HOOKS.register_module()
class LoggerHook(Hook):
    """Logs every `interval` iterations and after evaluations: log lines, scalars.jsonl, TensorBoard, `visualizer`.

    The backends of the config's `visualizer` get the same scalars. A log that cannot be written, because the disk is
    full for example, is reported and does not end the training.

    A resumed run appends to scalars.jsonl, after removing the records that follow the iteration it resumes from.

    Args:
        interval: Interval in iterations of an epoch; the last iteration of an epoch is always logged.
        tensorboard: Write event files to `tensorboard/` in the work dir.
    """

    priority = "BELOW_NORMAL"

    def __init__(self, interval: int = 50, tensorboard: bool = True) -> None:
        if interval < 1:
            raise ValueError(f"LoggerHook: interval must be >= 1, got {interval}.")
        self.interval = interval
        self.tensorboard = tensorboard
        self._writer: Any = None
        self._path: Path | None = None
        self._backends: VisBackends | None = None
        self._logger: logging.Logger | None = None

    def before_train(self, runner: Any) -> None:
        """Opens the logs at the iteration from which training starts."""
        if runner.rank != 0:
            return
        self._backends, self._logger = runner.vis_backends, runner.logger
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
        """Logs at the end of an interval or an epoch."""
        if (batch_idx + 1) % self.interval and batch_idx + 1 != runner.train_loop.epoch_length:
            return
        values, line = runner.log_processor.get_log_after_iter(runner, batch_idx, "train")
        runner.logger.info(line)
        self._record("train", runner.epoch + 1, runner.iter + 1, values)

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Logs the metrics of an evaluation."""
        _, line = runner.log_processor.get_log_after_epoch(runner, len(runner.val_dataloader), "val")
        runner.logger.info(line)
        if runner.is_training:
            self._record("val", runner.epoch, runner.iter, metrics or {})

    def after_test_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Logs the metrics of an evaluation."""
        _, line = runner.log_processor.get_log_after_epoch(runner, len(runner.test_dataloader), "test")
        runner.logger.info(line)

    def leave(self, runner: Any) -> None:
        """Closes the logs, even after an exception."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._backends is not None:
            self._backends.close()
            self._backends = None

    def _record(self, mode: str, epoch: int, iteration: int, values: dict[str, Any]) -> None:
        if self._path is None:
            return
        record: dict[str, Any] = {"mode": mode, "epoch": epoch, "iter": iteration}
        for name, value in values.items():
            if name not in record and isinstance(value, (int, float)):
                # JSON has no NaN.
                record[name] = value if math.isfinite(value) else None
        scalars = {f"{mode}/{name}": value for name, value in list(record.items())[3:] if value is not None}
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            if self._writer is not None:
                for name, value in scalars.items():
                    self._writer.add_scalar(name, value, iteration)
                self._writer.flush()
        except OSError as error:
            assert self._logger is not None
            self._logger.warning(f"The scalars of iteration {iteration} could not be written: {error}")
        if self._backends is not None:
            self._backends.add_scalars({**scalars, "epoch": epoch, "iter": iteration}, iteration)


class _TqdmStream:
    """Stream that writes above a progress bar."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        tqdm.write(text, file=self._stream, end="")

    def flush(self) -> None:
        self._stream.flush()


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Shows a progress bar per epoch and evaluation if standard error is a terminal, with log lines above it."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def before_run(self, runner: Any) -> None:
        """Redirects log lines above the bar."""
        self._shown = runner.rank == 0 and sys.stderr.isatty()
        if self._shown:
            for handler in runner.logger.handlers:
                if type(handler) is logging.StreamHandler and not isinstance(handler.stream, _TqdmStream):
                    handler.setStream(_TqdmStream(handler.stream))

    def _open(self, title: str, total: int, initial: int = 0) -> None:
        if self._shown:
            self._bar = tqdm(desc=title, total=total, initial=initial, leave=False, dynamic_ncols=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def before_train_epoch(self, runner: Any) -> None:
        """Opens the progress bar of an epoch."""
        loop = runner.train_loop
        self._open(f"Epoch {runner.epoch + 1}/{runner.max_epochs}", loop.epoch_length, loop.step_in_epoch)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Advances the bar."""
        if self._bar is not None:
            if outputs and "loss" in outputs:
                self._bar.set_postfix(loss=f"{float(outputs['loss']):.4f}", refresh=False)
            self._bar.update()

    def after_train_epoch(self, runner: Any) -> None:
        """Closes the bar."""
        self._close()

    def before_val_epoch(self, runner: Any) -> None:
        """Replaces the bar of an epoch with that of an evaluation."""
        self._close()
        self._open("Evaluation", len(runner.val_dataloader))

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advances the bar."""
        if self._bar is not None:
            self._bar.update()

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Closes the bar."""
        self._close()

    def before_test_epoch(self, runner: Any) -> None:
        """Opens the progress bar of an evaluation."""
        self._open("Evaluation", len(runner.test_dataloader))

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advances the bar."""
        if self._bar is not None:
            self._bar.update()

    def after_test_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Closes the bar."""
        self._close()

    def leave(self, runner: Any) -> None:
        """Closes the bar, even after an exception."""
        self._close()
