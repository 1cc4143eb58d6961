"""Results of a predictor, as drawings and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo.zoo.evaluation.masks import decode_mask
from attnzoo.zoo.inference import (
    ClassificationResult,
    ClassPrediction,
    Detection,
    DetectionResult,
    SegmentationResult,
)
from attnzoo.zoo.inference.inputs import FileSource
from attnzoo.zoo.plots.canvas import Canvas
from attnzoo.zoo.plots.colors import class_color

GRAY = (120, 120, 120)
SIZES = [(640, 480), (60, 40), (1, 1), (900, 5), (4, 700), (1600, 1200)]  # width and height in pixels


def gray_image(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), GRAY)


def detection(width: int = 640, height: int = 480) -> DetectionResult:
    boxes = torch.tensor([[0.1, 0.2, 0.6, 0.8], [0.5, 0.1, 0.9, 0.5], [0.0, 0.0, 1.0, 1.0]])
    boxes = boxes * torch.tensor([width, height, width, height])
    masks = torch.zeros(3, height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    masks[2] = False
    return DetectionResult(
        path="a.jpg",
        size=(height, width),
        classes=("cat", "dog"),
        kept_image=gray_image(width, height),
        boxes=boxes,
        labels=torch.tensor([0, 1, 5]),
        scores=torch.tensor([0.9, 0.6, 0.1]),
        masks=masks,
    )


def segmentation(width: int = 640, height: int = 480, classes: int = 3) -> SegmentationResult:
    label_map = torch.arange(classes).repeat_interleave(-(-width // classes))[:width].expand(height, width)
    names = tuple(f"class {label}" for label in range(classes))
    return SegmentationResult(
        size=(height, width), classes=names, kept_image=gray_image(width, height), label_map=label_map
    )


def has_color(image: Image.Image, color: tuple[int, int, int]) -> bool:
    return bool((np.asarray(image) == np.array(color)).all(-1).any())


def test_classes_are_in_descending_order():
    result = ClassificationResult(classes=("a", "b", "c"), scores=torch.tensor([0.1, 0.7, 0.2]), topk=2)
    assert (result.label, result.name, result.score) == (1, "b", pytest.approx(0.7))
    assert [prediction.name for prediction in result.best] == ["b", "c"]
    assert len(result.top(9)) == 3
    assert str(result) == "b 70.0 %, c 20.0 %"
    expected = {"label": 1, "class": "b", "score": pytest.approx(0.7)}
    assert json.loads(json.dumps(result.to_dict()))["predictions"][0] == expected


def test_scores_that_are_not_finite_count_as_zero():
    result = ClassificationResult(scores=torch.tensor([torch.nan, 0.2, torch.inf]))
    assert result.label == 1
    json.dumps(result.to_dict(), allow_nan=False)


def test_iterating_yields_objects():
    result = detection()
    first, second, third = result
    assert (first.name, second.name, third.name) == ("cat", "dog", "5")
    assert result.names == ["cat", "dog", "5"]
    assert first.mask is not None
    assert first.mask.sum() == 320 * 288
    assert len(result.above(0.5)) == 2
    assert len(result.above(0.6)) == 2
    assert str(result.above(0.95)) == "no objects"


def test_objects_are_converted_to_json():
    given = json.loads(json.dumps(detection().to_dict(), allow_nan=False))
    assert (given["width"], given["height"], given["path"]) == (640, 480, "a.jpg")
    first, _, third = given["detections"]
    assert first["box"] == pytest.approx([64, 96, 384, 384])
    (expected, *_) = detection()
    assert expected.mask is not None
    assert np.array_equal(decode_mask(first["mask"]), expected.mask)
    assert decode_mask(third["mask"]).sum() == 0
    without = DetectionResult(boxes=torch.zeros(0, 4), labels=torch.zeros(0).long(), scores=torch.zeros(0))
    assert without.to_dict()["detections"] == []


def test_masks_boxes_and_names_are_drawn_in_place():
    result = detection()
    drawn = np.asarray(result.draw(names=False)).astype(int)
    assert tuple(drawn[300, 64]) == class_color(0)  # the left line
    assert tuple(drawn[96, 200]) == class_color(0)
    assert tuple(drawn[60, 575]) == class_color(1)  # the right line, inside of the box
    inside, outside = drawn[300, 200], drawn[470, 20]
    assert np.abs(inside - (0.55 * np.array(GRAY) + 0.45 * np.array(class_color(0)))).max() <= 1
    assert tuple(outside) == GRAY
    assert tuple(np.asarray(result.draw(masks=False, names=False))[300, 200]) == GRAY
    named = np.asarray(result.draw())
    assert tuple(named[90, 70]) != GRAY  # above the box
    everything = result.draw(score_threshold=0.05)
    assert has_color(everything, class_color(5))
    assert not has_color(result.draw(), class_color(5))


def test_objects_with_higher_scores_are_on_top():
    result = detection(100, 100)
    result.boxes[1] = result.boxes[0]
    drawn = np.asarray(result.draw(names=False, masks=False))
    canvas = Canvas(result.image)
    x, y = (int(side * canvas.factor) for side in result.boxes[0, :2].tolist())
    assert tuple(drawn[y + 20, x]) == class_color(0)


def test_label_maps_are_converted_to_json_and_to_an_image():
    result = segmentation(600, 10)
    assert result.shares() == [(0, pytest.approx(1 / 3)), (1, pytest.approx(1 / 3)), (2, pytest.approx(1 / 3))]
    regions = json.loads(json.dumps(result.to_dict()))["regions"]
    assert [region["class"] for region in regions] == ["class 0", "class 1", "class 2"]
    assert np.array_equal(decode_mask(regions[1]["mask"]), result.label_map.numpy() == 1)
    image = result.to_image()
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), result.label_map.numpy())
    assert image.convert("RGB").getpixel((0, 0)) == class_color(0)
    result.palette = ((1, 2, 3),)
    assert result.to_image().convert("RGB").getpixel((0, 0)) == (1, 2, 3)
    with pytest.raises(ValueError, match="has 299"):
        segmentation(600, 2, 300).to_image()


def test_label_maps_are_blended_and_listed():
    result = segmentation()
    drawn = result.draw(strength=1.0)
    assert drawn.height > 480
    for label in range(3):
        assert drawn.getpixel((100 + 213 * label, 240)) == class_color(label)
    assert result.draw(strength=1.0, legend=False).size == (640, 480)
    many = segmentation(640, 480, 60).draw()
    assert many.height < 2 * 480


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_everything_is_drawn_at_any_size(size: tuple[int, int]):
    width, height = size
    scores = torch.rand(10).softmax(0)
    classification = ClassificationResult(classes=("a name",) * 10, kept_image=gray_image(width, height), scores=scores)
    for result in (detection(width, height), segmentation(width, height), classification):
        drawn = result.draw()
        assert drawn.mode == "RGB"
        assert drawn.width >= max(96, width)
        assert drawn.height >= max(96, height)
        assert max(drawn.size) >= 320
        assert len(drawn.getcolors(1 << 24) or []) > 3


def test_images_are_read_again_for_drawing(tmp_path: Path):
    path = tmp_path / "a.png"
    gray_image(8, 6).save(path)
    result = ClassificationResult(path=str(path), source=FileSource(str(path)), scores=torch.ones(1))
    assert result.image.size == (8, 6)
    path.unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        result.draw()
    result.source = None
    with pytest.raises(ValueError, match="has no image: set `kept_image`"):
        result.draw()


def test_old_names_warn_and_work():
    result = detection()
    with pytest.warns(DeprecationWarning, match="kept_image"):
        assert result.kept is result.kept_image
    with pytest.warns(DeprecationWarning, match="now called color"):
        assert segmentation().colour(1) == class_color(1)
    with pytest.warns(DeprecationWarning, match="Detection"):
        from attnzoo.zoo.inference import Found
    assert Found is Detection
    with pytest.warns(DeprecationWarning, match="ClassPrediction"):
        from attnzoo.zoo.inference.results import Guess
    assert Guess is ClassPrediction
