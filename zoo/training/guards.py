"""What happens when a loss or gradient is not finite: skipped a few times, recorded, then an end with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..files import write_json
from ..registry import HOOKS
from ..work_dir import NONFINITE_BATCHES
from .distributed import gather_objects

_IDS = ("index", "epoch", "path")


class TrainingDiverged(RuntimeError):
    """Losses or gradients were not finite more often than allowed."""


@HOOKS.register_module()
class NonFiniteGuardHook(Hook):
    """Counts the steps that were skipped because a loss or gradient was not finite, and stops where they are too many.

    Every one is recorded in `nonfinite_batches.json`, with the ids of the samples of all processes.

    Args:
        max_skips: how many skipped steps a whole training may have. The next one stops it.
    """

    priority = "HIGH"

    def __init__(self, max_skips: int = 10) -> None:
        if max_skips < 0:
            raise ValueError(f"NonFiniteGuardHook: max_skips counts steps, from 0 on, not {max_skips}.")
        self.max_skips = max_skips
        self.records: list[dict[str, Any]] = []
        self._window: list[dict[str, Any]] = []
        self._reason: str | None = None

    def state_dict(self) -> dict[str, Any]:
        """What was recorded so far, as plain types."""
        return {"records": self.records}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what was recorded."""
        self.records = list(state["records"])

    def before_train_epoch(self, runner: Any) -> None:
        """Begins a window of batches."""
        self._window, self._reason = [], None

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Records and counts at the end of a window of batches.

        Raises:
            TrainingDiverged: more than `max_skips` steps were skipped.
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
        # The reason is agreed on, so that all processes are here.
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
        seen = f"The {self._reason} is not finite at epoch {runner.epoch + 1}, iteration {runner.iter + 1}"
        if count > self.max_skips:
            raise TrainingDiverged(
                f"{seen}, and {self.max_skips} step(s) were skipped for that already: training has diverged. The "
                f"samples of these batches are in {path}. Try a lower learning rate, a longer warm-up, clip_grad or "
                f"float32, or allow more with NonFiniteGuardHook(max_skips=...)."
            )
        runner.logger.warning(f"{seen}: step skipped ({count} of at most {self.max_skips}); samples in {path}.")


class RunningStatistics:
    """Normalisation layers' running statistics, kept while a batch goes through that may not be finite.

    One infinite activation would otherwise stay in them for good, although no step is made.

    Args:
        model: the model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = [layer for layer in model.modules() if isinstance(layer, _NormBase)]
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(self) -> None:
        """Notes the present values."""
        buffers = [buffer for layer in self._layers for buffer in layer.buffers(recurse=False)]
        self._kept = [(buffer, buffer.clone()) for buffer in buffers]

    def restore(self) -> None:
        """Puts the noted values back."""
        for buffer, value in self._kept:
            buffer.copy_(value)


def batch_ids(batch: Any) -> dict[str, list]:
    """The ids of a batch's samples, as lists of plain types; empty where the batch names none."""
    ids = {}
    if isinstance(batch, Mapping):
        for key in _IDS:
            if key in batch:
                value = batch[key]
                ids[key] = value.tolist() if isinstance(value, torch.Tensor) else list(value)
    return ids
