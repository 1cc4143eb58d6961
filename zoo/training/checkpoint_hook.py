"""Hook that writes checkpoints, removes old ones, and keeps the best."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from ...names import unknown_name
from ..config.parts import reported_metrics
from ..evaluation.lookup import find_metric_info
from ..files import write_text
from ..registry import HOOKS
from ..work_dir import BEST_PREFIX, LAST_CHECKPOINT, list_checkpoints
from .checkpoint import CheckpointWriteError, write_checkpoint
from .checkpoint_structure import fail
from .distributed import any_process
from .ema import RAW_PREFIX

_LESS = {"loss", "error", "err", "mae", "mse", "rmse", "nll", "perplexity"}
_GREATER = {
    "top", "acc", "accuracy", "macc", "aacc", "map", "ap", "ar", "iou", "miou", "recall", "precision", "dice", "f",
    "pq", "auc", "auroc",
}  # fmt: skip
_RULES = ("greater", "less")


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Saves the complete training state at regular intervals, and after the best evaluation.

    Files: `epoch_N.pth` after N epochs, `iter_N.pth` in the middle of an epoch, `best_METRIC.pth`, and the text file
    `last_checkpoint` with the name of the newest one. Older checkpoints are removed only after a newer one has been
    verified. A checkpoint that is due during gradient accumulation is saved after the next step.

    Args:
        interval: Interval in epochs or iterations; -1 saves at the end of training only, see `save_last`.
        by_epoch: Whether `interval` counts epochs.
        max_keep_ckpts: Number of newest `epoch_*` and `iter_*` checkpoints to keep; -1 keeps all.
        save_last: Save at the end of training in any case.
        save_best: Metric, or metrics, whose best checkpoint is kept.
        rule: "greater" or "less", whichever is better, for all metrics or one per metric. By default the metrics
            define it.

    Raises:
        ValueError: An argument is out of range.
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
            raise ValueError(f"CheckpointHook: interval must be >= 1, or -1 for never, got {interval}.")
        if max_keep_ckpts == 0 or max_keep_ckpts < -1:
            raise ValueError(f"CheckpointHook: max_keep_ckpts must be >= 1, or -1 for all, got {max_keep_ckpts}.")
        metrics = [save_best] if isinstance(save_best, str) else list(save_best or ())
        rules = [rule] * len(metrics) if rule is None or isinstance(rule, str) else list(rule)
        if len(rules) != len(metrics):
            raise ValueError(
                f"CheckpointHook: save_best and rule must have the same length, got {len(metrics)} and {len(rules)}."
            )
        self.interval = interval
        self.by_epoch = by_epoch
        self.max_keep = max_keep_ckpts
        self.save_last = save_last
        for given in rules:
            if given is not None and given not in _RULES:
                raise ValueError(unknown_name("rule of CheckpointHook", given, _RULES))
        self.rules: dict[str, str | None] = dict(zip(metrics, rules, strict=True))
        self.best: dict[str, dict[str, Any]] = {}
        self.saved_at = 0

    def state_dict(self) -> dict[str, Any]:
        """Returns the best values so far and the last saved iteration, as plain types."""
        return {"best": self.best, "saved_at": self.saved_at}

    def check_state_dict(self, state: Mapping[str, Any], iteration: int) -> None:
        """Checks a state before it is restored.

        Args:
            state: The state.
            iteration: Iteration at which it was saved.

        Raises:
            CheckpointError: It is not one that `state_dict` returned.
        """
        saved_at, best = state.get("saved_at"), state.get("best")
        if type(saved_at) is not int or not 0 <= saved_at <= iteration:
            fail("hooks.CheckpointHook.saved_at", f"an integer from 0 to {iteration}", saved_at)
        if not isinstance(best, dict):
            fail("hooks.CheckpointHook.best", "a dict", best)
        for name, entry in best.items():
            types = {key: type(value) for key, value in entry.items()} if isinstance(entry, dict) else None
            if types != {"value": float, "epoch": int, "iter": int, "file": str}:
                fail(f"hooks.CheckpointHook.best.{name}", "a value with its epoch, iter and file", entry)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the best values and the last saved iteration."""
        self.best = dict(state["best"])
        self.saved_at = state["saved_at"]

    def before_train(self, runner: Any) -> None:
        """Asks the metrics of the run whether greater or less values are better, unless `rule` tells.

        Raises:
            ValueError: It is unknown for a metric of `save_best`.
        """
        if None not in self.rules.values():
            return
        dataset = getattr(getattr(runner.val_loop, "dataloader", None), "dataset", None)
        reported = reported_metrics(runner.cfg, getattr(dataset, "classes", None)) or ()
        known = {info.name: "greater" if info.higher_is_better else "less" for info in reported}
        self.rules = {metric: rule or known.get(metric) or infer_rule(metric) for metric, rule in self.rules.items()}

    def at_step_boundary(self, runner: Any) -> None:
        """Saves in the middle of an epoch if an interval in iterations has ended."""
        if self._iterations_due(runner):
            self.save(runner)

    def at_epoch_boundary(self, runner: Any) -> None:
        """Saves after an epoch if an interval or the training has ended."""
        due = self.by_epoch and self.interval > 0 and runner.epoch % self.interval == 0
        if due or self._iterations_due(runner) or (self.save_last and runner.train_loop.finished):
            self.save(runner)

    def _iterations_due(self, runner: Any) -> bool:
        if self.by_epoch or self.interval < 0:
            return False
        return runner.iter // self.interval > self.saved_at // self.interval

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Saves if a metric is the best so far.

        Raises:
            ValueError: The evaluation does not report a metric of `save_best`.
        """
        # There is nothing to save in an evaluation outside of training.
        if not runner.is_training:
            return
        better = []
        for metric, rule in self.rules.items():
            if metric not in (metrics or {}):
                raise ValueError(unknown_name("metric for CheckpointHook.save_best", metric, metrics or {}))
            assert metrics is not None
            assert rule is not None
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
        """Saves a checkpoint now; all processes must call this.

        Returns:
            The path of the file.

        Raises:
            CheckpointWriteError: The file cannot be written.
        """
        loop = runner.train_loop
        name = f"iter_{runner.iter}.pth" if loop.step_in_epoch else f"epoch_{runner.epoch}.pth"
        self.saved_at = runner.iter
        path = self._write(runner, name, newest=True)
        if runner.rank == 0:
            self._prune(runner, path.parent)
        return path

    def _write(self, runner: Any, name: str, newest: bool = False) -> Path:
        state = runner.training_state()
        path = Path(runner.work_dir) / name
        error = None
        if runner.rank == 0:
            try:
                write_checkpoint(state, path)
                if newest:
                    write_text(path.with_name(LAST_CHECKPOINT), f"{name}\n")
            except OSError as caught:  # CheckpointWriteError is one
                error = caught
        # Otherwise the other processes would wait for process 0 forever.
        if any_process(error is not None):
            raise CheckpointWriteError(
                f"{error or f'Process 0 could not write {path}'}. {_last_good(path.parent)} Training stops; when the "
                f"cause is corrected, continue with --resume."
            ) from error
        return path

    def _prune(self, runner: Any, folder: Path) -> None:
        if self.max_keep < 0:
            return
        try:
            found, _ = list_checkpoints(folder)
            regular = [path for path, _ in found if not path.name.startswith(BEST_PREFIX)]
            for path in regular[self.max_keep :]:
                path.unlink(missing_ok=True)
        except OSError as error:  # the new checkpoint is complete, so this is no reason to stop
            runner.logger.warning(f"Older checkpoints in {folder} could not be removed: {error}")


def _last_good(folder: Path) -> str:
    try:
        found, _ = list_checkpoints(folder)
    except OSError:
        return "Earlier checkpoints are unchanged."
    return f"The last good checkpoint is {found[0][0]}." if found else "There is no earlier checkpoint."


def _is_better(value: float, best: float, rule: str) -> bool:
    return value > best if rule == "greater" else value < best


def infer_rule(metric: str) -> str:
    """Returns whether greater or less values of a metric are better.

    Raises:
        ValueError: No registered metric reports this name, and the name does not imply a rule.
    """
    info = find_metric_info(metric) or find_metric_info(metric.removeprefix(RAW_PREFIX))
    if info is not None:
        return "greater" if info.higher_is_better else "less"
    # Metrics that do not derive from `evaluation.Metric` do not describe themselves; common words do.
    words = {word.rstrip("0123456789") for word in re.findall("[a-z0-9]+", metric.lower())}
    if words & _LESS:
        return "less"
    if words & _GREATER:
        return "greater"
    raise ValueError(f"CheckpointHook: save_best={metric!r} is an unknown metric and needs rule='greater' or 'less'.")
