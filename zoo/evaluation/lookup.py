"""Looks up what metrics report, by their configs or by the names of the values."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..registry import METRICS
from .base import Metric, MetricInfo, ResultWriter

EvaluatorConfig = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
"""The config of an evaluator: one metric's config, or a list of them."""


def evaluator_infos(evaluator: EvaluatorConfig, classes: Sequence[str] | None = None) -> list[MetricInfo] | None:
    """Describes the values that an evaluator reports, with their prefixes.

    Args:
        evaluator: The evaluator's config.
        classes: Class names of the data set; None if they are not known yet.

    Returns:
        None if one of the metrics does not know its names before an evaluation.
    """
    infos: list[MetricInfo] = []
    for config in _as_list(evaluator):
        metric = METRICS.get(config["type"])
        arguments = {key: value for key, value in config.items() if key not in ("type", "_scope_")}
        found = metric.metric_infos(classes, **arguments) if _is_metric(metric) else None
        if found is None:
            return None
        prefix = f"{arguments['prefix']}/" if arguments.get("prefix") else ""
        infos += [dataclasses.replace(info, name=f"{prefix}{info.name}") for info in found]
    return infos


def find_metric_info(name: str) -> MetricInfo | None:
    """Describes a logged value by its name, with or without a prefix; None if no registered metric reports it."""
    parts = name.split("/")  # a prefix ends with a slash, and the name of a class may contain one
    names = ["/".join(parts[start:]) for start in range(len(parts))]
    found = (metric.find_info(one) for one in names for metric in _registered_metrics())
    return next((info for info in found if info is not None), None)


def result_configs(
    evaluator: EvaluatorConfig, work_dir: str | os.PathLike[str], extras: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Returns an evaluator's config with which all its metrics write their result files into a work dir.

    Args:
        evaluator: The evaluator's config.
        work_dir: Folder for the files.
        extras: See `Metric.result_configs`.
    """
    configs: list[dict[str, Any]] = []
    for config in map(dict, _as_list(evaluator)):
        metric = METRICS.get(config["type"])
        configs += metric.result_configs(config, work_dir, extras) if _is_metric(metric) else [config]
    unique: list[dict[str, Any]] = []
    for config in configs:
        # A config may name a writer that a metric brings along as well.
        written = {one["type"] for one in unique}
        metric = METRICS.get(config["type"])
        if not (config["type"] in written and _is_metric(metric) and issubclass(metric, ResultWriter)):
            unique.append(config)
    return unique


def _as_list(evaluator: EvaluatorConfig) -> Sequence[Mapping[str, Any]]:
    return [evaluator] if isinstance(evaluator, Mapping) else evaluator or []


def _is_metric(metric: Any) -> bool:
    return isinstance(metric, type) and issubclass(metric, Metric)


def _registered_metrics() -> Iterator[type[Metric]]:
    for name in METRICS.names():
        metric = METRICS.get(name)
        if _is_metric(metric):
            yield metric
