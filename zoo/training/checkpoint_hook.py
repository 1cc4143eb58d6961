"""When a checkpoint is written, which are kept, and which is the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from ...names import unknown_name
from ..evaluation.lookup import find_metric_info
from ..files import write_text
from ..registry import HOOKS
from ..work_dir import BEST_PREFIX, LAST_CHECKPOINT, list_checkpoints
from .checkpoint import CheckpointWriteError, write_checkpoint
from .distributed import any_process

_LESS = ("loss", "error", "err")
_GREATER = ("top", "acc", "map", "ap", "iou", "miou", "recall", "precision", "dice", "f1")
_RULES = ("greater", "less")


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Saves the whole state of training, every so many epochs or iterations, and that of the best evaluation.

    Files: `epoch_N.pth` after N epochs, `iter_N.pth` in the middle of an epoch, `best_METRIC.pth`, and the text file
    `last_checkpoint` with the name of the newest one. Older ones are removed only after a newer one was written and
    read back. A checkpoint in the middle of gradient accumulation waits for the next step.

    Args:
        interval: every how many epochs, or iterations; -1 is never (but `save_last`).
        by_epoch: whether `interval` counts epochs.
        max_keep_ckpts: how many of the newest `epoch_*` and `iter_*` are kept; -1 keeps all.
        save_last: save at the end of training in any case.
        save_best: metric whose best evaluation is kept, or several, or None.
        rule: "greater" or "less" (is better), one for all or one each; None goes by the metrics' names.

    Raises:
        ValueError: an argument is out of range, or no rule follows from a metric's name.
    """

    priority = "VERY_LOW"

    def __init__(
        self,
        interval: int = 1,
        by_epoch: bool = True,
        max_keep_ckpts: int = 3,
        save_last: bool = True,
        save_best: str | Sequence[str] | None = None,
        rule: str | Sequence[str] | None = None,
    ) -> None:
        if interval == 0 or interval < -1:
            raise ValueError(f"CheckpointHook: interval is from 1 on, or -1 for never, not {interval}.")
        if max_keep_ckpts == 0 or max_keep_ckpts < -1:
            raise ValueError(f"CheckpointHook: max_keep_ckpts is from 1 on, or -1 for all, not {max_keep_ckpts}.")
        metrics = [save_best] if isinstance(save_best, str) else list(save_best or ())
        rules = [rule] * len(metrics) if rule is None or isinstance(rule, str) else list(rule)
        if len(rules) != len(metrics):
            raise ValueError(f"CheckpointHook: {len(metrics)} metrics in save_best, but {len(rules)} rules.")
        self.interval = interval
        self.by_epoch = by_epoch
        self.max_keep = max_keep_ckpts
        self.save_last = save_last
        self.rules = {
            metric: infer_rule(metric) if given is None else given for metric, given in zip(metrics, rules, strict=True)
        }
        for given in self.rules.values():
            if given not in _RULES:
                raise ValueError(unknown_name("rule of CheckpointHook", given, _RULES))
        self.best: dict[str, dict[str, Any]] = {}
        self.saved_at = 0

    def state_dict(self) -> dict[str, Any]:
        """Best values so far and the last saved iteration, as plain types."""
        return {"best": self.best, "saved_at": self.saved_at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the best values so far."""
        self.best = dict(state["best"])
        self.saved_at = state["saved_at"]

    def at_step_boundary(self, runner: Any) -> None:
        """Saves in the middle of an epoch where the interval in iterations is over."""
        if self._iterations_over(runner):
            self.save(runner)

    def at_epoch_boundary(self, runner: Any) -> None:
        """Saves after an epoch where the interval is over, or training is."""
        due = self.by_epoch and self.interval > 0 and runner.epoch % self.interval == 0
        if due or self._iterations_over(runner) or (self.save_last and runner.train_loop.finished):
            self.save(runner)

    def _iterations_over(self, runner: Any) -> bool:
        if self.by_epoch or self.interval < 0:
            return False
        return runner.iter // self.interval > self.saved_at // self.interval

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Saves where a metric is the best so far.

        Raises:
            ValueError: the evaluation has no metric of that name.
        """
        # Evaluation outside training has nothing to save.
        if not runner.is_training:
            return
        better = []
        for metric, rule in self.rules.items():
            if metric not in (metrics or {}):
                raise ValueError(unknown_name("metric for CheckpointHook.save_best", metric, metrics or {}))
            assert metrics is not None
            value = float(metrics[metric])
            known = self.best.get(metric)
            if math.isnan(value) or (known is not None and not _is_better(value, known["value"], rule)):
                continue
            name = f"{BEST_PREFIX}{metric.replace('/', '_')}.pth"
            self.best[metric] = {"value": value, "epoch": runner.epoch, "iter": runner.iter, "file": name}
            better.append((metric, name))
        for metric, name in better:
            self._write(runner, name)
            runner.logger.info(f"Best {metric} so far: {self.best[metric]['value']:.4f}, saved as {name}.")

    def save(self, runner: Any) -> Path:
        """Saves now; all processes must call it.

        Returns:
            The file.

        Raises:
            CheckpointWriteError: it could not be written.
        """
        loop = runner.train_loop
        name = f"iter_{runner.iter}.pth" if loop.step_in_epoch else f"epoch_{runner.epoch}.pth"
        self.saved_at = runner.iter
        path = self._write(runner, name)
        if runner.rank == 0:
            write_text(path.with_name(LAST_CHECKPOINT), f"{name}\n")
            self._prune(path.parent)
        return path

    def _write(self, runner: Any, name: str) -> Path:
        state = runner.training_state()
        path = Path(runner.work_dir) / name
        error = None
        if runner.rank == 0:
            try:
                write_checkpoint(state, path)
            except CheckpointWriteError as caught:
                error = caught
        # The other processes would wait for process 0 for ever.
        if any_process(error is not None):
            good = next((str(found) for found, _ in list_checkpoints(path.parent)[0]), "none")
            raise CheckpointWriteError(
                f"{error or f'Process 0 could not write {path}'}. The last good checkpoint is {good}; training stops "
                f"here and goes on from there with --resume."
            ) from error
        return path

    def _prune(self, folder: Path) -> None:
        if self.max_keep < 0:
            return
        found, _ = list_checkpoints(folder)
        regular = [path for path, _ in found if not path.name.startswith(BEST_PREFIX)]
        for path in regular[self.max_keep :]:
            path.unlink(missing_ok=True)


def _is_better(value: float, best: float, rule: str) -> bool:
    return value > best if rule == "greater" else value < best


def infer_rule(metric: str) -> str:
    """Tells whether greater or less is better, from a metric's name.

    Raises:
        ValueError: the name does not tell.
    """
    info = find_metric_info(metric)
    if info is not None:
        return "greater" if info.higher_is_better else "less"
    # Metrics that do not derive from `evaluation.Metric` do not describe themselves; common words do.
    words = metric.lower().replace("/", "_").replace("-", "_")
    if any(word in words for word in _LESS):
        return "less"
    if any(word in words for word in _GREATER):
        return "greater"
    raise ValueError(f"CheckpointHook: say with rule='greater' or 'less' what is better for save_best={metric!r}.")
