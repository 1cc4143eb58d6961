"""Writes the predicted classes to a JSON file."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process

from ..files import write_json
from ..registry import METRICS
from ..work_dir import PREDICTIONS
from .base import ResultWriter


@METRICS.register_module()
class PredictionWriter(ResultWriter):
    """Writes the classes with the highest scores of every image to a JSON file.

    Images are in the order of the data set, and predictions are sorted by score. Unknown labels and classes are null:
    `[{"index": 0, "path": "val/cat/1.jpg", "label": 3, "class": "cat",
    "predictions": [{"label": 3, "class": "cat", "score": 0.98}, ...]}, ...]`.

    Args:
        out_file: Path of the file.
        topk: Maximum number of classes per image.

    Raises:
        ValueError: `topk` is not a positive integer.
    """

    def __init__(self, out_file: str = "predictions.json", topk: int = 5) -> None:
        super().__init__()
        if not isinstance(topk, int) or topk < 1:
            raise ValueError(f"topk must be an integer >= 1, got {topk!r}.")
        self.out_file = out_file
        self.topk = topk

    @classmethod
    def result_configs(
        cls, config: dict[str, Any], work_dir: str | os.PathLike[str], extras: Collection[str] = ()
    ) -> list[dict[str, Any]]:
        """Moves the output into the work dir."""
        return [{**config, "out_file": str(Path(work_dir) / PREDICTIONS)}]

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Processes the predictions of a batch.

        Args:
            data_batch: Unused.
            data_samples: One prediction per image with `index`, `path`, `label` and `scores` (num_classes,). Scores
                that are not finite are written as 0.
        """
        for sample in data_samples:
            scores = torch.nan_to_num(sample["scores"], 0.0, 0.0, 0.0)
            best = torch.topk(scores, min(self.topk, len(scores)))
            self.results.append(
                (sample["index"], sample["path"], sample["label"], best.indices.tolist(), best.values.tolist())
            )

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Writes the file on the main process.

        Args:
            results: (index, path, label, predicted labels, scores) of each sample.

        Returns:
            An empty dict.
        """
        if is_main_process():
            write_json(self.out_file, [self._entry(*result) for result in results], indent=None)
        return {}

    def _entry(
        self, index: int, path: str | None, label: int | None, best: list[int], scores: list[float]
    ) -> dict[str, Any]:
        predictions = [
            {"label": place, "class": self._name(place), "score": score}
            for place, score in zip(best, scores, strict=True)
        ]
        return {"index": index, "path": path, "label": label, "class": self._name(label), "predictions": predictions}

    def _name(self, label: int | None) -> str | None:
        return self.classes[label] if label is not None and label < len(self.classes) else None
