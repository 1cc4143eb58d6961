"""Guard against losses and gradients that are not finite: skips and records a few of them, then stops training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ...deprecated_paths import renamed_names
from ..files import write_json
from ..registry import HOOKS
from ..work_dir import NONFINITE_BATCHES
from .checkpoint_structure import fail
from .distributed import gather_objects

_ID_KEYS = ("index", "epoch", "path")


class TrainingDiverged(RuntimeError):
    """Raised when losses or gradients were not finite more often than allowed."""


@HOOKS.register_module()
class NonFiniteGuardHook(Hook):
    """Counts the steps that were skipped because a loss or gradient was not finite, and stops training at a limit.

    Each one is recorded in `nonfinite_batches.json`, with the ids of the samples of all processes.

    Args:
        max_skips: Maximum number of skipped steps in the training. The next one stops it.
    """

    priority = "HIGH"

    def __init__(self, max_skips: int = 10) -> None:
        if max_skips < 0:
            raise ValueError(f"NonFiniteGuardHook: max_skips must be >= 0, got {max_skips}.")
        self.max_skips = max_skips
        self.records: list[dict[str, Any]] = []
        self._window: list[dict[str, Any]] = []
        self._reason: str | None = None

    def state_dict(self) -> dict[str, Any]:
        """Returns the records so far, as plain types."""
        return {"records": self.records}

    def check_state_dict(self, state: Mapping[str, Any], iteration: int) -> None:
        """Checks a state before it is restored.

        Args:
            state: The state.
            iteration: Iteration at which it was saved.

        Raises:
            CheckpointError: It is not one that `state_dict` returned.
        """
        records = state.get("records")
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            fail("hooks.NonFiniteGuardHook.records", "a list of dicts", records)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the records."""
        self.records = list(state["records"])

    def before_train_epoch(self, runner: Any) -> None:
        """Starts a window of accumulated batches."""
        self._window, self._reason = [], None

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Records and counts skipped steps at the end of a window of accumulated batches.

        Raises:
            TrainingDiverged: More than `max_skips` steps were skipped.
        """
        loss = outputs.get("loss") if outputs is not None else None
        self._window.append({"loss": repr(float(loss)) if loss is not None else None, **batch_ids(data_batch)})
        self._reason = self._reason or runner.optim_wrapper.nonfinite
        if not runner.optim_wrapper.at_boundary:
            return
        if self._reason is not None:
            self._record(runner)
        self._window, self._reason = [], None

    def _record(self, runner: Any) -> None:
        # All processes agree on the reason, so all of them call this.
        record = {
            "what": self._reason,
            "epoch": runner.epoch,
            "iteration": runner.iter,
            "batches": {str(rank): window for rank, window in enumerate(gather_objects(self._window))},
        }
        self.records.append(record)
        path = Path(runner.work_dir) / NONFINITE_BATCHES
        if runner.rank == 0:
            write_json(path, self.records)
        count = len(self.records)
        problem = f"The {self._reason} is not finite at epoch {runner.epoch + 1}, iteration {runner.iter + 1}"
        if count > self.max_skips:
            raise TrainingDiverged(
                f"{problem}, after {self.max_skips} step(s) were already skipped: training has diverged. The "
                f"samples of these batches are listed in {path}. Try a lower learning rate, a longer warm-up, "
                f"clip_grad or float32, or allow more with NonFiniteGuardHook(max_skips=...)."
            )
        runner.logger.warning(f"{problem}: step skipped ({count} of at most {self.max_skips}), samples in {path}.")


class RunningStatsSnapshot:
    """Snapshot of the running statistics of normalization layers, restored if a batch was not finite.

    Otherwise a single infinite activation would remain in them although its step is skipped.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = [layer for layer in model.modules() if isinstance(layer, _NormBase)]
        self._saved: list[tuple[torch.Tensor, torch.Tensor]] = []

    def save(self) -> None:
        """Saves the current values."""
        buffers = [buffer for layer in self._layers for buffer in layer.buffers(recurse=False)]
        self._saved = [(buffer, buffer.clone()) for buffer in buffers]

    def restore(self) -> None:
        """Restores the saved values."""
        for buffer, value in self._saved:
            buffer.copy_(value)


def batch_ids(batch: Any) -> dict[str, list]:
    """Returns the ids of a batch's samples, as lists of plain types; empty if the batch has none."""
    ids = {}
    if isinstance(batch, Mapping):
        for key in _ID_KEYS:
            if key in batch:
                value = batch[key]
                ids[key] = value.tolist() if isinstance(value, torch.Tensor) else list(value)
    return ids


__getattr__ = renamed_names(__name__, {"RunningStatistics": "RunningStatsSnapshot"})
