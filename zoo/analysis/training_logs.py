"""Logs of trainings: the history of each scalar, and estimated training times."""

from __future__ import annotations

import fnmatch
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...deprecated_paths import renamed_names
from ...names import unknown_name
from ..evaluation.lookup import find_metric_info
from ..work_dir import SCALARS, read_scalars

_NEITHER_GOOD_NOR_BAD = ("lr", "time", "memory", "grad_norm", "loss_scale")
_POSITIONS = ("mode", "epoch", "iter")


@dataclass
class ScalarHistory:
    """Logged values of a scalar.

    Attributes:
        validation: Whether the values were logged in validation rather than in training.
        epochs: Positions in epochs, ascending.
        iterations: Positions in iterations, ascending.
        values: Values; those that are not finite are omitted.
    """

    validation: bool
    epochs: list[float] = field(default_factory=list)
    iterations: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass
class TrainingLog:
    """Log of a training.

    Attributes:
        name: Name of the training.
        scalars: Histories by name. "val/NAME" is a validation scalar that training logs as well.
        seconds_per_iteration: Mean of the logged times, weighted by the iterations that each one covers; None if no
            time was logged.
        data_share: Share of this time spent waiting for data, 0 to 1; None if not logged.
        hours: Estimated time of the training so far, without evaluations.
    """

    name: str
    scalars: dict[str, ScalarHistory]
    seconds_per_iteration: float | None = None
    data_share: float | None = None
    hours: float | None = None


@dataclass
class LearningCurve:
    """Loss, learning rate and validation metrics of a training.

    Attributes:
        epochs: Positions of the training records in epochs, ascending.
        losses: Training loss at these positions; NaN where it was not finite.
        learning_rates: Learning rate at these positions; NaN where it was not logged.
        metrics: Points (epochs, value) of each validation metric, ascending.
    """

    epochs: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    metrics: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def _read_records(
    work_dir: str | os.PathLike[str],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], float]:
    """Reads all records of a log, its training records, and the number of iterations per epoch."""
    records = read_scalars(work_dir)
    training = [record for record in records if record["mode"] == "train"]
    if not training:
        raise ValueError(f"There is no training log in {os.fspath(work_dir)!r} ({SCALARS}).")
    # Records do not contain the length of an epoch; the last record of an epoch reveals it.
    return records, training, max(record["iter"] / record["epoch"] for record in training)


def read_learning_curve(work_dir: str | os.PathLike[str]) -> LearningCurve:
    """Reads the learning curve of a training.

    Args:
        work_dir: Work dir of the training.

    Raises:
        ValueError: There is no log with a training record.
    """
    records, training, epoch_length = _read_records(work_dir)
    curve = LearningCurve()
    for record in training:
        curve.epochs.append(record["iter"] / epoch_length)
        curve.losses.append(_number(record.get("loss")))
        curve.learning_rates.append(_number(record.get("lr")))
    for record in records:
        if record["mode"] == "val":
            for name, value in record.items():
                if name not in _POSITIONS and math.isfinite(_number(value)):
                    curve.metrics.setdefault(name, []).append((record["iter"] / epoch_length, float(value)))
    return curve


def read_training_log(work_dir: str | os.PathLike[str], name: str | None = None) -> TrainingLog:
    """Reads all scalars of a training.

    Args:
        work_dir: Work dir of the training.
        name: Name of the training; by default the name of the folder.

    Raises:
        ValueError: There is no log with a training record.
    """
    records, training, epoch_length = _read_records(work_dir)
    training_names = {key for record in training for key in record}
    log = TrainingLog(name or Path(work_dir).resolve().name, {})
    for record in records:
        validation = record["mode"] == "val"
        for key, value in record.items():
            if key in _POSITIONS or not math.isfinite(_number(value)):
                continue
            scalar = f"val/{key}" if validation and key in training_names else key
            history = log.scalars.setdefault(scalar, ScalarHistory(validation=validation))
            history.epochs.append(record["iter"] / epoch_length)
            history.iterations.append(record["iter"])
            history.values.append(float(value))
    _estimate_times(log, training)
    return log


def read_training_logs(work_dirs: Sequence[str | os.PathLike[str]]) -> list[TrainingLog]:
    """Reads several logs, named after their folders, or after their paths if the folders have the same name."""
    names = [Path(work_dir).resolve().name for work_dir in work_dirs]
    return [
        read_training_log(work_dir, os.fspath(work_dir) if names.count(name) > 1 else name)
        for work_dir, name in zip(work_dirs, names, strict=True)
    ]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _estimate_times(log: TrainingLog, training: Sequence[Mapping[str, object]]) -> None:
    """Sums up logged mean times, each weighted by the iterations since the previous record."""
    seconds = waiting = 0.0
    iterations = previous = 0
    has_data_time = False
    for record in training:
        iteration, time, data_time = record["iter"], record.get("time"), record.get("data_time")
        assert isinstance(iteration, int)
        if isinstance(time, int | float):
            iterations += iteration - previous
            seconds += (iteration - previous) * time
            if isinstance(data_time, int | float):
                waiting += (iteration - previous) * data_time
                has_data_time = True
        previous = iteration
    if iterations and seconds > 0:
        log.seconds_per_iteration = seconds / iterations
        log.hours = previous * log.seconds_per_iteration / 3600
        log.data_share = waiting / seconds if has_data_time else None


def choose_scalars(logs: Sequence[TrainingLog], patterns: Sequence[str] = ()) -> list[str]:
    """Returns the names of the scalars that match patterns, in the order of the patterns.

    Args:
        logs: Logs of trainings.
        patterns: Names, or patterns such as "loss_*"; by default the loss and the main validation metrics.

    Raises:
        ValueError: No log has a scalar that matches a pattern.
    """
    known = list(dict.fromkeys(name for log in logs for name in log.scalars))
    if not patterns:
        validated = [name for name in known if is_validation(logs, name)]
        main = [name for name in validated if (info := find_metric_info(name)) is not None and info.main]
        return [name for name in known if name == "loss"] + (main or validated[:3]) or known[:1]
    chosen: list[str] = []
    for pattern in patterns:
        matches = [pattern] if pattern in known else [name for name in known if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            raise ValueError(unknown_name("scalar", pattern, known, max_listed=40))
        chosen += [name for name in matches if name not in chosen]
    return chosen


def is_validation(logs: Sequence[TrainingLog], name: str) -> bool:
    """Returns whether a scalar was logged in validation in any of the trainings."""
    return any(name in log.scalars and log.scalars[name].validation for log in logs)


def metric_name(scalar: str) -> str:
    """Returns the name of a metric without the prefix of its evaluator."""
    return scalar.rpartition("/")[2]


def higher_is_better(scalar: str) -> bool | None:
    """Returns whether higher values of a scalar are better; None if neither is, as for a learning rate."""
    name = metric_name(scalar)
    if any(name == other or name.endswith(f"_{other}") for other in _NEITHER_GOOD_NOR_BAD):
        return None
    info = find_metric_info(scalar)
    return "loss" not in name if info is None else info.higher_is_better


def best_index(scalar: str, history: ScalarHistory) -> int | None:
    """Returns the index of the (first) best value of a scalar; None if no value is better than another."""
    higher = higher_is_better(scalar)
    if higher is None:
        return None
    choose = max if higher else min
    return choose(range(len(history.values)), key=history.values.__getitem__)


def running_mean(values: Sequence[float], radius: int | None = None) -> list[float]:
    """Computes the centered running mean of a curve; its window is narrower at both ends.

    Args:
        values: Values of the curve.
        radius: Number of values on either side; by default a sixtieth of the length of the curve.
    """
    radius = max(1, len(values) // 60) if radius is None else radius
    means = []
    for index in range(len(values)):
        reach = min(radius, index, len(values) - 1 - index)
        window = values[index - reach : index + reach + 1]
        means.append(sum(window) / len(window))
    return means


__getattr__ = renamed_names(
    __name__,
    {
        "Run": "TrainingLog",
        "Series": "ScalarHistory",
        "best_of": "best_index",
        "choose_keys": "choose_scalars",
        "own_name": "metric_name",
        "read_run": "read_training_log",
        "read_runs": "read_training_logs",
        "smoothed": "running_mean",
    },
)
