"""Writes detections to a JSON file, for visualization."""

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
from .masks import encode_mask


@METRICS.register_module()
class DetectionWriter(ResultWriter):
    """Writes the detections in every image to a JSON file.

    Images are in the order of the data set, and detections are sorted by score. `names` has null for classes without a
    name, and `masks` is null if the model predicts none:
    `[{"index": 0, "image_id": 139, "path": "val2017/000000000139.jpg", "boxes": [[x1, y1, x2, y2], ...],
    "labels": [0, ...], "names": ["person", ...], "scores": [0.98, ...],
    "masks": [{"size": [height, width], "counts": "..."}, ...]}, ...]`. Boxes are in pixels of the original image.
    Masks have its size and are encoded as COCO's run lengths. `CocoMetric` writes files in COCO's results format.

    Args:
        out_file: Path of the file.
        score_thr: Detections with a lower score are left out.
        max_per_img: Maximum number of detections per image.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, out_file: str = "predictions.json", score_thr: float = 0.3, max_per_img: int = 100) -> None:
        super().__init__()
        if not 0 <= score_thr <= 1:
            raise ValueError(f"score_thr must be between 0 and 1, got {score_thr!r}.")
        if not isinstance(max_per_img, int) or max_per_img < 1:
            raise ValueError(f"max_per_img must be an integer >= 1, got {max_per_img!r}.")
        self.out_file = out_file
        self.score_thr = score_thr
        self.max_per_img = max_per_img

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
            data_samples: One prediction per image with `index`, `image_id`, `path` and `detections` in pixels of the
                original image. Detections whose box or score is not finite are left out.
        """
        for sample in data_samples:
            found = sample["detections"]
            valid = torch.isfinite(found.boxes).all(dim=1) & (found.scores >= self.score_thr)
            places = valid.nonzero().flatten()[: self.max_per_img]
            masks = None if found.masks is None else [encode_mask(found.masks[place]) for place in places]
            boxes = found.boxes[places].double().numpy().round(2).tolist()  # hundredths of a pixel
            scores = found.scores[places].double().numpy().round(4).tolist()
            labels = found.labels[places].tolist()
            facts = (sample["index"], sample.get("image_id"), sample["path"])
            self.results.append((*facts, boxes, labels, scores, masks))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Writes the file on the main process.

        Args:
            results: (index, image id, path, boxes, labels, scores, masks) of each sample.

        Returns:
            An empty dict.
        """
        if is_main_process():
            write_json(self.out_file, [self._entry(*result) for result in results], indent=None)
        return {}

    def _entry(
        self,
        index: int,
        image_id: int | None,
        path: str | None,
        boxes: list[list[float]],
        labels: list[int],
        scores: list[float],
        masks: list[dict[str, Any]] | None,
    ) -> dict[str, Any]:
        names = [self.classes[label] if label < len(self.classes) else None for label in labels]
        return {
            "index": index,
            "image_id": image_id,
            "path": path,
            "boxes": boxes,
            "labels": labels,
            "names": names,
            "scores": scores,
            "masks": masks,
        }
