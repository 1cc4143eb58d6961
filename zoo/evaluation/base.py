"""Base classes of metrics: what a metric reports, the files it writes, and results that count every sample once."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric

from ...deprecated_paths import renamed_names


@dataclass(frozen=True)
class MetricInfo:
    """What is known about a reported value before it is computed.

    Attributes:
        name: Its name, without the evaluator's prefix.
        higher_is_better: Whether the best checkpoint has the highest value, not the lowest.
        main: Models are compared by this value. Plots mark its best epoch.
        headline: Shown in summaries and learning curves. Other values appear in result files and logs only.
        unit: Unit for labels, such as "%".
    """

    name: str
    higher_is_better: bool = True
    main: bool = False
    headline: bool = True
    unit: str = ""


class Metric(BaseMetric):
    """A metric over samples that are identified by their index in the data set.

    mmengine gathers results by their order and cuts off the last samples when processes have different numbers of
    them. Here results are merged by index: a sample that several processes have seen counts once, and a missing one is
    an error.

    Subclasses append one tuple per sample to `results`, with the index first, and implement `process` and
    `compute_metrics` as for mmengine's `BaseMetric`. They describe what they report in `metric_infos`; config checks,
    the choice of the best checkpoint, summaries and plots rely on it.

    Args:
        prefix: Prepended to the names of all values: "prefix/top1".
    """

    default_prefix = ""

    def __init__(self, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)

    @classmethod
    def metric_infos(cls, classes: Sequence[str] | None = (), **arguments: Any) -> list[MetricInfo] | None:
        """Describes the values that the metric reports, in order.

        Args:
            classes: Class names of the data set; None if they are not known yet.
            **arguments: The constructor's arguments, as in a config.

        Returns:
            None if the names are only known after an evaluation.
        """
        return None

    @classmethod
    def find_info(cls, name: str) -> MetricInfo | None:
        """Describes a value by its name, whatever the arguments of the metric that reported it.

        The default knows the values that the metric reports with default arguments.
        """
        return next((info for info in cls.metric_infos() or () if info.name == name), None)

    @classmethod
    def result_configs(
        cls, config: dict[str, Any], work_dir: str | os.PathLike[str], extras: Collection[str] = ()
    ) -> list[dict[str, Any]]:
        """Returns the configs with which an evaluation writes this metric's result files into a work dir.

        Args:
            config: The metric's config.
            work_dir: Folder for the files.
            extras: Large files that are written on request: "confusion" (the confusion matrix), "label_maps".

        Returns:
            The metric's config with its output path, and those of the writers that belong to it.
        """
        return [config]

    def evaluate(self, size: int) -> dict[str, Any]:
        """Computes the values from the results of all processes.

        Args:
            size: Number of samples in the data set.

        Returns:
            Values by name, the same on every process.

        Raises:
            ValueError: The results do not cover the data set.
        """
        gathered = all_gather_object(list(self.results))
        self.results.clear()
        by_index = {result[0]: result for results in gathered for result in results}
        if len(by_index) != size:
            raise ValueError(
                f"{type(self).__name__} got {len(by_index)} of the data set's {size} samples, but an evaluation must "
                "include all of them. Use EvaluationSampler, and remove drop_last from the data loader."
            )
        values = self.compute_metrics([by_index[index] for index in sorted(by_index)])
        return {f"{self.prefix}/{name}" if self.prefix else name: value for name, value in values.items()}

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the data set; empty if it has none."""
        return tuple((self.dataset_meta or {}).get("classes") or ())


class ResultWriter(Metric):
    """Writes predictions to files and reports no values."""

    @classmethod
    def metric_infos(cls, classes: Sequence[str] | None = (), **arguments: Any) -> list[MetricInfo] | None:
        """Returns an empty list."""
        return []


__getattr__ = renamed_names(__name__, {"GatheredMetric": "Metric"})
