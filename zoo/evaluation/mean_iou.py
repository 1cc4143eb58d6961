"""Mean intersection over union of semantic segmentation."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process

from ...heads.segmentation.pixel_losses import IGNORE_INDEX
from ..files import write_json
from ..registry import METRICS
from ..work_dir import CONFUSION
from .base import Metric, MetricInfo


@METRICS.register_module()
class MeanIoU(Metric):
    """Intersection over union and pixel accuracy in percent, from a confusion matrix over the complete data set.

    `mIoU` is the mean IoU of the classes, `mAcc` their mean accuracy (recall), and `aAcc` the accuracy over all pixels.
    A class that neither occurs nor is predicted is left out of both means; a class that does not occur is left out of
    `mAcc`. Pixels with label 255 are ignored.

    Args:
        per_class: Also report `IoU.<name>` and `Acc.<name>` of each class.
        out_file: JSON file to write with the name, IoU, accuracy and number of pixels of each class (null for undefined
            values), and the confusion matrix in pixels (rows: true classes, columns: predicted classes).
        prefix: See `Metric`.
    """

    def __init__(self, per_class: bool = False, out_file: str | None = None, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        self.per_class = per_class
        self.out_file = out_file

    @classmethod
    def metric_infos(
        cls, classes: Sequence[str] | None = (), per_class: bool = False, **arguments: Any
    ) -> list[MetricInfo] | None:
        """Describes `mIoU`, `mAcc` and `aAcc`, and with `per_class` those of the classes."""
        infos = [MetricInfo(name, main=name == "mIoU", unit="%") for name in ("mIoU", "mAcc", "aAcc")]
        if not per_class:
            return infos
        if classes is None:
            return None
        return infos + [
            MetricInfo(f"{name}.{one}", headline=False, unit="%") for name in ("IoU", "Acc") for one in classes
        ]

    @classmethod
    def find_info(cls, name: str) -> MetricInfo | None:
        """Describes the means, and a class's own `IoU.<name>` and `Acc.<name>`."""
        if name.startswith(("IoU.", "Acc.")):
            return MetricInfo(name, headline=False, unit="%")
        return super().find_info(name)

    @classmethod
    def result_configs(
        cls, config: dict[str, Any], work_dir: str | os.PathLike[str], extras: Collection[str] = ()
    ) -> list[dict[str, Any]]:
        """Writes per-class metrics, unless the config does already; "label_maps" adds a `SegmentationWriter`."""
        folder = Path(work_dir)
        configs = [{**config, "out_file": config.get("out_file") or str(folder / CONFUSION)}]
        if "label_maps" in extras:
            configs.append({"type": "SegmentationWriter", "out_dir": str(folder / "label_maps")})
        return configs

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Processes the predictions of a batch.

        Args:
            data_batch: Unused.
            data_samples: One prediction per image with the predicted `label_map` (H, W), the labels `truth` (H, W),
                both integers, `index` and `path`.

        Raises:
            ValueError: Class names or labels are missing, sizes differ, or a label or prediction is out of range.
        """
        count = len(self.classes)
        if not count:
            raise ValueError("MeanIoU needs class names: the metainfo of the data set must have `classes`.")
        for sample in data_samples:
            pairs, pixels = confusion_of(sample["label_map"], sample["truth"], count, str(sample["path"]))
            self.results.append((sample["index"], pairs, pixels))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Computes the metrics from the confusion matrix.

        Args:
            results: (index, pairs, pixels) of each image; see `confusion_of`.

        Returns:
            `mIoU`, `mAcc` and `aAcc` in percent; 0 if no pixel of the data set has a label.
        """
        count = len(self.classes)
        matrix = np.zeros(count * count, np.int64)
        for _, pairs, pixels in results:
            matrix[pairs] += pixels
        matrix = matrix.reshape(count, count)
        right, true, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        iou = _percent(right, true + predicted - right)
        accuracy = _percent(right, true)
        metrics = {"mIoU": _mean(iou), "mAcc": _mean(accuracy), "aAcc": _mean(_percent(right.sum(), true.sum()))}
        if self.per_class:
            for name, values in (("IoU", iou), ("Acc", accuracy)):
                metrics |= {
                    f"{name}.{label}": float(value)
                    for label, value in zip(self.classes, values, strict=True)
                    if np.isfinite(value)
                }
        if self.out_file is not None and is_main_process():
            classes = [
                {"name": name, "IoU": _or_none(one), "Acc": _or_none(other), "pixels": int(total)}
                for name, one, other, total in zip(self.classes, iou, accuracy, true, strict=True)
            ]
            content = {"figures": {name: metrics[name] for name in ("mIoU", "mAcc", "aAcc")}, "classes": classes}
            write_json(self.out_file, {**content, "confusion": matrix.tolist()})
        return metrics


def confusion_of(
    predicted: torch.Tensor, truth: torch.Tensor | None, num_classes: int, path: str
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the nonzero entries of an image's confusion matrix.

    An image has few classes, so that the entries of a large data set need much less memory than dense matrices.

    Args:
        predicted: (H, W), 0 to num_classes - 1.
        truth: (H, W), 0 to num_classes - 1, or 255.
        num_classes: Number of classes of the data set.
        path: Path of the image, for error messages.

    Returns:
        Flat indices (n,) int64, true class * num_classes + predicted class, ascending; and pixel counts (n,) int64.

    Raises:
        ValueError: See `MeanIoU.process`.
    """
    if truth is None:
        raise ValueError(
            f"{path} has no labels, so no metrics can be computed. Replace MeanIoU with SegmentationWriter to write "
            "the predictions."
        )
    if predicted.shape != truth.shape:
        raise ValueError(
            f"{path}: a prediction must have the size of the label map, {tuple(truth.shape)}, got "
            f"{tuple(predicted.shape)}."
        )
    labels = truth.detach().cpu().numpy().ravel().astype(np.int64)
    predictions = predicted.detach().cpu().numpy().ravel().astype(np.int64)
    labeled = labels != IGNORE_INDEX
    labels, predictions = labels[labeled], predictions[labeled]
    for kind, values, remedy in (
        ("label", labels, "Correct the labels or the class names, or reduce_zero_label or label_values."),
        ("prediction", predictions, "Set the num_classes of the model to that of the data set."),
    ):
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            wrong = values.min() if values.min() < 0 else values.max()
            raise ValueError(f"{path} has the {kind} {wrong}, but the data set has {num_classes} classes. {remedy}")
    matrix = np.bincount(labels * num_classes + predictions, minlength=num_classes * num_classes)
    pairs = np.flatnonzero(matrix)
    return pairs, matrix[pairs]


def _percent(part: Any, total: Any) -> np.ndarray:
    """Returns 100 * part / total; NaN for a total of 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * np.asarray(part, np.float64) / np.asarray(total, np.float64)


def _mean(values: np.ndarray) -> float:
    """Returns the mean of the finite values; 0 if there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else 0.0


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
