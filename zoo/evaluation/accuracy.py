"""Top-k accuracy, per-class accuracy and the confusion matrix."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process

from ..files import write_json
from ..registry import METRICS
from ..work_dir import CONFUSION, PREDICTIONS
from .base import Metric, MetricInfo


def rank_of_label(scores: torch.Tensor, label: int) -> int:
    """Returns the rank of the true class among the scores; classes with equal scores rank by their index.

    Args:
        scores: (num_classes,), in any scale.
        label: The true class.

    Returns:
        0 if the true class has the highest score. If a score is not finite, the number of classes, which no top-k
        includes.
    """
    if not torch.isfinite(scores).all():
        return len(scores)
    own = scores[label]
    return int((scores > own).sum() + (scores[:label] == own).sum())


@METRICS.register_module()
class Accuracy(Metric):
    """Top-k accuracy over all images in percent: `top1`, `top5` and so on.

    If a data set has at most k classes, its top-k accuracy is 100 by definition. An image with a score that is not
    finite counts as wrong.

    Args:
        topk: Values of k.
        per_class: Also report `mean_class_top1`, the mean over classes of the top-1 accuracy of their images. Classes
            without images are left out.
        out_file: JSON file to write with the name, number of images and top-1 accuracy of each class, and the confusion
            matrix (rows: true classes, columns: predicted classes).
        prefix: See `Metric`.

    Raises:
        ValueError: A k is not a positive integer.
    """

    def __init__(
        self,
        topk: Sequence[int] = (1, 5),
        per_class: bool = False,
        out_file: str | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prefix=prefix)
        if not topk or not all(isinstance(k, int) and k > 0 for k in topk):
            raise ValueError(f"topk must be one or more integers >= 1, got {topk!r}.")
        self.topk = tuple(topk)
        self.per_class = per_class
        self.out_file = out_file

    @classmethod
    def metric_infos(
        cls,
        classes: Sequence[str] | None = (),
        topk: Sequence[int] = (1, 5),
        per_class: bool = False,
        **arguments: Any,
    ) -> list[MetricInfo]:
        """Describes `top1`, `top5` and so on, and `mean_class_top1` if it is reported."""
        infos = [MetricInfo(f"top{k}", main=k == 1, unit="%") for k in topk]
        return [*infos, MetricInfo("mean_class_top1", unit="%")] if per_class else infos

    @classmethod
    def find_info(cls, name: str) -> MetricInfo | None:
        """Describes top-k accuracy for any k, and `mean_class_top1`."""
        k = re.fullmatch(r"top(\d+)", name)
        infos = cls.metric_infos(topk=(int(k[1]),) if k else (), per_class=True)
        return next((info for info in infos if info.name == name), None)

    @classmethod
    def result_configs(
        cls, config: dict[str, Any], work_dir: str | os.PathLike[str], extras: Collection[str] = ()
    ) -> list[dict[str, Any]]:
        """Adds a `PredictionWriter`; with the extra "confusion" also writes the confusion matrix."""
        out = {"out_file": str(Path(work_dir) / CONFUSION)} if "confusion" in extras else {}
        return [{**config, **out}, {"type": "PredictionWriter", "out_file": str(Path(work_dir) / PREDICTIONS)}]

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Processes the predictions of a batch.

        Args:
            data_batch: Unused.
            data_samples: One prediction per image with `index`, `label` and `scores` (num_classes,).

        Raises:
            ValueError: A label is missing or out of range.
        """
        for sample in data_samples:
            scores, label = sample["scores"], sample["label"]
            if label is None or not 0 <= label < len(scores):
                raise ValueError(f"{sample['path']} has the label {label}, but the model has {len(scores)} classes.")
            self.results.append(
                (sample["index"], label, rank_of_label(scores, label), int(scores.argmax()), len(scores))
            )

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Computes the accuracies.

        Args:
            results: (index, label, rank of the label, predicted class, number of classes) of each sample.

        Returns:
            `top1`, `top5` and so on in percent.
        """
        table = np.array(results, dtype=np.int64)
        label, rank, predicted = table[:, 1], table[:, 2], table[:, 3]
        count = int(table[0, 4])
        metrics = {f"top{k}": float((rank < k).mean() * 100) for k in self.topk}
        if not self.per_class and self.out_file is None:
            return metrics
        images = np.bincount(label, minlength=count)
        right = np.bincount(label[rank == 0], minlength=count)
        accuracy = [
            100 * float(hits) / int(total) if total else None for hits, total in zip(right, images, strict=True)
        ]
        if self.per_class:
            metrics["mean_class_top1"] = float(np.mean([value for value in accuracy if value is not None]))
        if self.out_file is not None and is_main_process():
            matrix = np.zeros((count, count), dtype=np.int64)
            np.add.at(matrix, (label, predicted), 1)
            names = self.classes or tuple(map(str, range(count)))
            classes = [
                {"name": name, "images": int(total), "top1": value}
                for name, total, value in zip(names, images, accuracy, strict=True)
            ]
            write_json(self.out_file, {"classes": classes, "confusion": matrix.tolist()})
        return metrics
