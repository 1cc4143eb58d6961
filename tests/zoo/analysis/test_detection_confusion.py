"""Detections matched with objects, counted by class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnzoo.zoo.analysis.confusion import BACKGROUND
from attnzoo.zoo.analysis.detection_confusion import detection_confusion
from attnzoo.zoo.evaluation.masks import encode_mask


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two images of 100 x 100; category ids 9 (dog) and 4 (cat)."""
    objects = [
        (1, 4, [0, 0, 20, 20], 0),  # found as a cat
        (1, 9, [30, 0, 20, 20], 0),  # found as a cat only
        (1, 9, [60, 0, 20, 20], 0),  # found as a cat, more exactly, and as a dog
        (1, 4, [0, 50, 100, 50], 1),  # a crowd of cats
        (2, 4, [0, 0, 20, 20], 0),  # not found
    ]
    found = [
        (1, 4, [0, 0, 20, 20], 0.9),
        (1, 4, [0, 0, 20, 19], 0.8),  # the same cat again
        (1, 4, [30, 0, 20, 18], 0.7),
        (1, 9, [60, 0, 20, 15], 0.6),
        (1, 4, [60, 0, 20, 20], 0.95),
        (1, 4, [10, 60, 20, 20], 0.5),  # in the crowd
        (1, 9, [50, 60, 20, 20], 0.5),  # a dog in a crowd of cats
        (1, 9, [0, 25, 20, 20], 0.2),  # not certain enough
    ]
    truth = {
        "images": [{"id": number, "height": 100, "width": 100} for number in (1, 2)],
        "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
        "annotations": [
            {"image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd, "segmentation": mask(box)}
            for image, category, box, crowd in objects
        ],
    }
    results = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in found
    ]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.bbox.json").write_text(json.dumps(results))
    for entry in results:
        entry["segmentation"] = mask(entry.pop("bbox"))
    (tmp_path / "found.segm.json").write_text(json.dumps(results))
    return tmp_path / "found.bbox.json", tmp_path / "truth.json"


def mask(box: list[int]) -> dict[str, Any]:
    shape = np.zeros((100, 100), dtype=bool)
    left, top, width, height = box
    shape[top : top + height, left : left + width] = True
    return encode_mask(shape)


#                  cat, dog, background
EXPECTED = [[1, 0, 1], [1, 1, 0], [2, 1, 0]]


def test_detections_are_matched_with_their_own_class_first(files: tuple[Path, Path]):
    confusion = detection_confusion(*files)
    assert confusion.names == ("cat", "dog", BACKGROUND)
    assert confusion.counts.tolist() == EXPECTED
    masks = files[0].with_name("found.segm.json")
    assert detection_confusion(masks, files[1]).counts.tolist() == EXPECTED


def test_thresholds_of_overlap_and_score(files: tuple[Path, Path]):
    # The dog of 0.75 is no longer found as a dog: the cat of 0.95 takes it.
    assert detection_confusion(*files, iou_thr=0.8).counts.tolist() == [[1, 0, 1], [2, 0, 0], [1, 2, 0]]
    assert detection_confusion(*files, score_thr=0.1).counts.tolist() == [[1, 0, 1], [1, 1, 0], [2, 2, 0]]
    assert detection_confusion(*files, score_thr=1.0).counts.tolist() == [[0, 0, 2], [0, 0, 2], [0, 0, 0]]
    with pytest.raises(ValueError, match=r"iou_thr must be between 0 and 1, got 1\.5"):
        detection_confusion(*files, iou_thr=1.5)


def test_results_and_annotations_must_fit(files: tuple[Path, Path], tmp_path: Path):
    other = tmp_path / "other.json"
    entry = {"image_id": 1, "category_id": 4, "bbox": [0, 0, 1, 1], "score": 0.5}
    for change, message in [
        ({"category_id": 5}, "has the category id 5, which is not in"),
        ({"image_id": 7}, "has detections in the image 7, which is not in"),
        ({"score": None}, r"other\.json has errors:\n- score must be .*: detection number 0 \(image 1\) has none"),
        ({"score": "0.5"}, "score must be a finite number: detection .* has '0.5'"),
        ({"image_id": [1]}, r"image_id must be .*: detection number 0 has \[1\]"),
        ({"bbox": [0, 0, 1]}, r"bbox must be .*: detection .* has \[0, 0, 1\]"),
        ({"bbox": None}, "all detections must have a bbox, or all a segmentation: detection .* has no segmentation"),
        ({"bbox": None, "segmentation": [[1, 2]]}, "segmentation must have run lengths or a polygon of .*: detection"),
        ({"bbox": None, "segmentation": {}}, "segmentation must be a list of polygons"),
        (
            {"bbox": None, "segmentation": {"size": [1, 1], "counts": "~"}},
            "size of run lengths must be|run lengths must",
        ),
    ]:
        changed = {key: value for key, value in {**entry, **change}.items() if value is not None}
        other.write_text(json.dumps([changed]))
        with pytest.raises(ValueError, match=message):
            detection_confusion(other, files[1])
    other.write_text("[]")
    assert detection_confusion(other, files[1]).counts.tolist() == [[0, 0, 2], [0, 0, 2], [0, 0, 0]]
    with pytest.raises(ValueError, match="not a results file in COCO's format"):
        detection_confusion(files[1], files[1])
