"""Images of samples: annotations are drawn where the transform put them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo.zoo.analysis.samples import get_sample
from attnzoo.zoo.data.detection.coco import CocoDetection
from attnzoo.zoo.data.segmentation.folders import SegmentationFolders
from attnzoo.zoo.plots.colors import class_color
from attnzoo.zoo.plots.samples import draw_original, draw_sample, draw_samples
from support import painted, painted_coco


def has_color(image: Image.Image, color: tuple[int, int, int]) -> bool:
    return bool((np.abs(np.asarray(image).astype(int) - np.array(color)).max(-1) <= 2).any())


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return painted_coco.save(tmp_path / "coco")


def detection(root: Path, transform: dict[str, Any]) -> CocoDetection:
    return CocoDetection(str(root), "train2017", transform=transform, min_size=1)


def test_objects_are_drawn_where_the_transform_put_them(coco: Path):
    dataset = detection(coco, {"type": "DetectionTrain", "scales": [(200, 200)], "flip": 1.0})
    index = next(index for index in range(len(dataset)) if len(dataset[index]["target"]))
    sample = dataset[index]
    drawn = np.asarray(draw_sample(dataset, sample, side=4000)).astype(int)
    target = sample["target"]
    factor = -(-320 // max(sample["image"].shape[1:]))
    x1, y1, _, y2 = (int(side * factor) for side in target.boxes[-1].clamp(min=0).tolist())
    color = np.array(class_color(int(target.labels[-1])))
    middle = (y1 + y2) // 2
    on_the_line = np.abs(drawn[middle, max(0, x1) : x1 + 3] - color).max(-1) <= 2
    assert on_the_line.any()
    assert has_color(Image.fromarray(drawn.astype(np.uint8)), class_color(int(target.labels[0])))


def test_an_evaluations_samples_show_their_objects_too(coco: Path):
    dataset = detection(coco, {"type": "DetectionTest", "scale": (200, 200)})
    assert dataset[0]["target"] is None
    shown = [get_sample(dataset, index) for index in range(len(dataset))]
    index = next(index for index, sample in enumerate(shown) if len(sample["target"]))
    label = int(shown[index]["target"].labels[0])
    assert has_color(draw_sample(dataset, shown[index], 4000), class_color(label))
    assert has_color(draw_original(dataset, index, 4000), class_color(label))


def test_regions_that_do_not_count_are_dashed(coco: Path):
    dataset = detection(coco, {"type": "DetectionTrain", "scales": [(300, 300)], "flip": 0.0})
    samples = [dataset[index] for index in range(len(dataset))]
    crowded = next(sample for sample in samples if len(sample["target"].ignored_boxes))
    with_them = np.asarray(draw_sample(dataset, crowded))
    crowded["target"].ignored_boxes = None
    assert not np.array_equal(with_them, np.asarray(draw_sample(dataset, crowded)))


def test_views_show_the_first(coco: Path):
    dataset = detection(coco, {"type": "DetectionViews", "scales": [(120, 120)]})
    with Image.open(io.BytesIO(draw_samples(dataset, [0, 1]))) as image:
        assert image.width > 400


@pytest.mark.parametrize("kind", ["SegmentationTrain", "SegmentationTest"])
def test_label_maps_are_drawn_over_their_images(kind: str, tmp_path: Path):
    root = painted.save(tmp_path / "painted", image_suffix=".png")
    transform: dict[str, Any] = {"type": kind, "scale": (80, 60)}
    if kind == "SegmentationTrain":
        transform |= {"crop_size": (20, 30), "photometric": False}
    dataset = SegmentationFolders(str(root), "images", "labels", classes=list("abcd"), transform=transform)
    sample = dataset[0]
    drawn = draw_sample(dataset, sample, 4000)
    for label in torch.unique(sample["label_map"]).tolist():
        if label != 255:
            tint = 0.4 * painted.COLORS[label] + 0.6 * np.array(class_color(label))
            assert has_color(drawn, tuple(tint.round().astype(int).tolist()))
    assert draw_original(dataset, 0).width <= 400
    own = SegmentationFolders(
        str(root), "images", "labels", classes=list("abcd"), transform=transform, palette=[[9, 9, 9]] * 4
    )
    assert np.any(np.asarray(draw_sample(own, sample)) != np.asarray(draw_sample(dataset, sample)))


def test_unknown_samples_and_data_sets_raise():
    class Unknown:
        classes = ("a",)
        kind = "depth"

        def path(self, index: int) -> str:
            return "a"

        def load(self, index: int) -> tuple[Any, Any]:
            return None, None

        def __str__(self) -> str:
            return "The data set nowhere"

    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="A sample needs a label, a target or a label map, got the keys image, path"):
        draw_sample(Unknown(), {"image": image, "path": "a"})
    with pytest.raises(ValueError, match="The data set nowhere has no samples"):
        draw_samples(Unknown(), [])
    with pytest.raises(ValueError, match="data set of kind 'depth'"):
        draw_original(Unknown(), 0)
