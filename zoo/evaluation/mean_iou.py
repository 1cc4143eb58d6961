"""Figures of semantic segmentation: how labels and predictions overlap, pixel by pixel."""

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
    """Intersection over union and accuracy in percent, from pixels counted over the whole data set.

    `mIoU`: the mean over classes of the pixels that have a class and are predicted so, over those that have it or are
    predicted so. `mAcc`: the mean over classes of the part of a class's pixels that is predicted right. `aAcc`: the
    part of all pixels that is predicted right. A class that neither occurs nor is predicted counts in no mean, one that
    does not occur does not count in mAcc. Pixels of the label 255 count nowhere.

    Args:
        per_class: also give each class's own, as `IoU.<name>` and `Acc.<name>`.
        out_file: a JSON file for each class's name, IoU, accuracy and number of pixels (null where there is no figure),
            and the confusion matrix (rows: the right class, columns: the one predicted; pixels).
        prefix: of the results' names.
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
        """Takes note of a batch.

        Args:
            data_batch: not used.
            data_samples: a prediction an image: `label_map` (H, W) predicted, `truth` (H, W), both of whole numbers;
                `index`, `path`.

        Raises:
            ValueError: there are no class names or no labels, sizes differ, or a label or a prediction is none of the
                classes.
        """
        count = len(self.classes)
        if not count:
            raise ValueError("MeanIoU needs the data set's class names: its metainfo must have `classes`.")
        for sample in data_samples:
            pairs, pixels = confusion_of(sample["label_map"], sample["truth"], count, str(sample["path"]))
            self.results.append((sample["index"], pairs, pixels))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Computes the figures.

        Args:
            results: (index, pairs, pixels) of each image, as `confusion_of` gives them.

        Returns:
            `mIoU`, `mAcc`, `aAcc` in percent. Where no pixel of the data set counts, they are 0.
        """
        count = len(self.classes)
        matrix = np.zeros(count * count, np.int64)
        for _, pairs, pixels in results:
            matrix[pairs] += pixels
        matrix = matrix.reshape(count, count)
        right, true, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        iou = _percent(right, true + predicted - right)
        accuracy = _percent(right, true)
        figures = {"mIoU": _mean(iou), "mAcc": _mean(accuracy), "aAcc": _mean(_percent(right.sum(), true.sum()))}
        if self.per_class:
            for name, values in (("IoU", iou), ("Acc", accuracy)):
                figures |= {
                    f"{name}.{label}": float(value)
                    for label, value in zip(self.classes, values, strict=True)
                    if np.isfinite(value)
                }
        if self.out_file is not None and is_main_process():
            classes = [
                {"name": name, "IoU": _or_none(one), "Acc": _or_none(other), "pixels": int(total)}
                for name, one, other, total in zip(self.classes, iou, accuracy, true, strict=True)
            ]
            content = {"figures": {name: figures[name] for name in ("mIoU", "mAcc", "aAcc")}, "classes": classes}
            write_json(self.out_file, {**content, "confusion": matrix.tolist()})
        return figures


def confusion_of(
    predicted: torch.Tensor, truth: torch.Tensor | None, num_classes: int, path: str
) -> tuple[np.ndarray, np.ndarray]:
    """Counts an image's pixels by (right class, predicted class), where there are any.

    Args:
        predicted: (H, W), 0 to num_classes - 1.
        truth: (H, W), 0 to num_classes - 1, or 255.
        num_classes: of the data set.
        path: of the image, for errors.

    Returns:
        Pairs (n,) int64, right class x num_classes + predicted class, ascending, and pixels (n,) int64. An image has
        few pairs, so that a large data set's do not fill the memory as whole matrices would.

    Raises:
        ValueError: see `MeanIoU.process`.
    """
    if truth is None:
        raise ValueError(
            f"{path} has no labels, and so no figures: leave MeanIoU out, and write the predictions with "
            "SegmentationWriter."
        )
    if predicted.shape != truth.shape:
        raise ValueError(
            f"{path}: the prediction is {tuple(predicted.shape)}, the label map {tuple(truth.shape)}; predictions must "
            "be as large as the original image."
        )
    right = truth.detach().cpu().numpy().ravel().astype(np.int64)
    guess = predicted.detach().cpu().numpy().ravel().astype(np.int64)
    counts = right != IGNORE_INDEX
    right, guess = right[counts], guess[counts]
    for kind, values, remedy in (
        ("label", right, "correct the labels or the class names (and reduce_zero_label or label_values)"),
        ("prediction", guess, "the model's num_classes must be the data set's"),
    ):
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            wrong = values.min() if values.min() < 0 else values.max()
            raise ValueError(f"{path} has the {kind} {wrong}, the data set has {num_classes} classes: {remedy}.")
    matrix = np.bincount(right * num_classes + guess, minlength=num_classes * num_classes)
    pairs = np.flatnonzero(matrix)
    return pairs, matrix[pairs]


def _percent(part: Any, whole: Any) -> np.ndarray:
    """100 part / whole; NaN where the whole is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * np.asarray(part, np.float64) / np.asarray(whole, np.float64)


def _mean(values: np.ndarray) -> float:
    """The mean of the numbers among the values; 0 where there are none."""
    numbers = values[np.isfinite(values)]
    return float(numbers.mean()) if numbers.size else 0.0


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
