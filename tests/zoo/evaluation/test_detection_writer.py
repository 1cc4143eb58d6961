"""Detections in a file to be drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from attnzoo.heads.structures import Detections
from attnzoo.zoo.evaluation import DetectionWriter
from attnzoo.zoo.evaluation.masks import decode_mask


def sample(index: int, masks: bool = True) -> dict[str, Any]:
    boxes = torch.tensor([[1.0, 2.0, 5.126, 6.0], [0.0, 0.0, 8.0, 4.0], [3.0, 3.0, 4.0, 4.0]])
    shapes = torch.zeros(3, 10, 12, dtype=torch.bool)
    for shape, (left, top, right, bottom) in zip(shapes, boxes.int().tolist(), strict=True):
        shape[top:bottom, left:right] = True
    scores = torch.tensor([0.912345, 0.5, 0.2])
    found = Detections(boxes, scores, torch.tensor([1, 0, 2]), shapes if masks else None)
    return {"index": index, "image_id": 100 + index, "path": f"{index}.jpg", "detections": found}


def written(path: Path, samples: list[dict[str, Any]], classes: tuple[str, ...] = (), **options: Any) -> list[Any]:
    metric = DetectionWriter(str(path / "new" / "predictions.json"), **options)
    metric.dataset_meta = {"classes": classes}
    for one in samples:
        metric.process({}, [one])
    assert metric.evaluate(len(samples)) == {}
    return json.loads((path / "new" / "predictions.json").read_text())


def test_what_is_certain_enough_is_written(tmp_path: Path):
    second, first = written(tmp_path, [sample(1), sample(0)], ("cat", "dog", "bird"))[::-1]
    assert (first["index"], first["image_id"], first["path"]) == (0, 100, "0.jpg")
    assert second["index"] == 1
    assert first["boxes"] == [[1.0, 2.0, 5.13, 6.0], [0.0, 0.0, 8.0, 4.0]]
    assert (first["labels"], first["names"]) == ([1, 0], ["dog", "cat"])
    assert first["scores"] == [0.9123, 0.5]
    for mask, expected in zip(first["masks"], sample(0)["detections"].masks[:2], strict=True):
        assert (decode_mask(mask) == expected.numpy()).all()


def test_thresholds_and_what_is_not_known(tmp_path: Path):
    (entry,) = written(tmp_path, [sample(0, masks=False)], score_thr=0.0, max_per_img=2)
    assert entry["masks"] is None
    assert entry["names"] == [None, None]
    assert len(entry["boxes"]) == 2
    (entry,) = written(tmp_path, [sample(0)], score_thr=1.0)
    assert entry["boxes"] == entry["labels"] == entry["masks"] == []


def test_what_is_not_finite_is_left_out(tmp_path: Path):
    broken = sample(0)
    broken["detections"].boxes[0, 2] = float("nan")
    broken["detections"].scores[1] = float("nan")
    (entry,) = written(tmp_path, [broken], score_thr=0.0)
    assert entry["labels"] == [2]


def test_arguments_out_of_range_raise():
    with pytest.raises(ValueError, match=r"score_thr must be between 0 and 1, got 1\.5"):
        DetectionWriter(score_thr=1.5)
    with pytest.raises(ValueError, match="max_per_img must be an integer >= 1, got 0"):
        DetectionWriter(max_per_img=0)
