"""Every image's prediction, in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import is_main_process

from ..registry import METRICS
from .gathering import GatheredMetric


@METRICS.register_module()
class PredictionWriter(GatheredMetric):
    """Writes the best classes of every image to a JSON file, as `zoo.reports.predictions` reads it; adds no figures.

    Args:
        out_file: the file; a relative path starts at the current folder.
        topk: how many classes an image; all where there are fewer.

    Raises:
        ValueError: topk is no whole number over 0.
    """

    def __init__(self, out_file: str = "predictions.json", topk: int = 5) -> None:
        super().__init__()
        if not isinstance(topk, int) or topk < 1:
            raise ValueError(f"topk is a whole number from 1 on, not {topk!r}.")
        self.out_file = out_file
        self.topk = topk
        self._num_classes = 0

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Takes note of a batch.

        Args:
            data_batch: not used.
            data_samples: a prediction an image, with `index`, `path`, `label` and `scores` (classes,). Scores that are
                not finite are written as 0.
        """
        for sample in data_samples:
            scores = torch.nan_to_num(sample["scores"], 0.0, 0.0, 0.0)
            best = torch.topk(scores, min(self.topk, len(scores)))
            label = -1 if sample["label"] is None else sample["label"]
            self._num_classes = len(scores)
            self.results.append(
                (sample["index"], sample["path"] or "", label, best.indices.tolist(), best.values.tolist())
            )

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Writes the file, on the main process.

        Args:
            results: (index, path, label, best labels, their scores) of each sample.

        Returns:
            Nothing.
        """
        if is_main_process():
            from ..reports.predictions import Prediction, write_predictions

            classes = self.classes or tuple(map(str, range(self._num_classes)))
            write_predictions(self.out_file, [Prediction(*result) for result in results], classes)
        return {}
