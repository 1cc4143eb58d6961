"""LabelMe's format: its shapes, and wrong files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from attnzoo.zoo.data.formats.labelme import LabelMe
from support.own_data import write_image

SHAPES = [
    {"label": "fish", "points": [[4, 6], [14, 6], [14, 14]], "shape_type": "polygon"},
    {"label": "crab", "points": [[2, 3], [12, 8]], "shape_type": "rectangle"},
    {"label": "crab", "points": [[16, 12], [16, 17]], "shape_type": "circle"},
    {"label": "fish", "points": [[1, 1]], "shape_type": "point"},
]


def labelme(root: Path, shapes: Any = SHAPES, **changes: Any) -> Path:
    write_image(root / "a.jpg")
    content = {"shapes": shapes, "imagePath": "a.jpg", "imageHeight": 24, "imageWidth": 32, **changes}
    (root / "a.json").write_text(json.dumps(content))
    return root


def test_shapes(tmp_path: Path):
    assert LabelMe.recognizes(labelme(tmp_path))
    content = LabelMe.read(tmp_path)
    assert (content.classes, content.has_masks) == (("crab", "fish"), True)
    polygon, rectangle, circle = content.splits["train"]["annotations"]
    assert (polygon["segmentation"], polygon["area"]) == ([[4, 6, 14, 6, 14, 14]], 40)
    assert (rectangle["bbox"], rectangle["area"], rectangle["category_id"]) == ([2, 3, 10, 5], 50, 1)
    assert circle["bbox"] == pytest.approx([11, 7, 10, 10])
    assert circle["area"] == pytest.approx(math.pi * 25, rel=0.01)
    assert not +content.left_out


def test_rectangles_alone_are_boxes(tmp_path: Path):
    assert not LabelMe.read(labelme(tmp_path, SHAPES[1:2])).has_masks


@pytest.mark.parametrize(
    "changes",
    [
        {"shapes": 3},
        {"shapes": [{"points": [[1, 2]]}]},
        {"shapes": [{"label": "fish", "points": [[1, float("nan")]]}]},
        {"shapes": [{"label": "fish", "points": [[1, "2"]]}]},
        {"shapes": [{"label": "fish"}]},
        {"imageHeight": None},
        {"imageWidth": -3},
    ],
)
def test_wrong_files_are_named(tmp_path: Path, changes: dict[str, Any]):
    with pytest.raises(ValueError, match=r"a.json is not in LabelMe's format"):
        LabelMe.read(labelme(tmp_path, **changes))


def test_missing_images_and_empty_files_are_reported(tmp_path: Path):
    labelme(tmp_path, [])
    with pytest.raises(ValueError, match="have no shapes"):
        LabelMe.read(tmp_path)
    labelme(tmp_path)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(ValueError, match=r"a.json: there is no image 'a.jpg'"):
        LabelMe.read(tmp_path)
