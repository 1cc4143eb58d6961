"""Confusion matrices: read, drawn, worst pairs; and detections matched with objects."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo.zoo.evaluation import Accuracy
from attnzoo.zoo.evaluation.masks import encode_mask
from attnzoo.zoo.evaluation.mean_iou import MeanIoU
from attnzoo.zoo.plots.confusion import (
    BACKGROUND,
    Confusion,
    WorstPair,
    draw_confusion,
    format_pairs,
    read_confusion,
    worst_classes,
    worst_pairs,
)
from attnzoo.zoo.plots.detection_confusion import detection_confusion

ANIMALS = Confusion(("cat", "dog", "bird"), np.array([[6, 3, 1], [0, 40, 10], [0, 0, 0]]))


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_what_an_evaluation_writes_is_read(tmp_path: Path):
    metric = Accuracy(topk=(1,), out_file=str(tmp_path / "confusion.json"))
    metric.dataset_meta = {"classes": ("cat", "dog", "bird")}
    for index, (label, guess) in enumerate([(0, 0), (0, 1), (1, 1), (1, 2), (1, 2)]):
        scores = torch.eye(3)[guess]
        metric.process(None, [{"index": index, "path": "", "label": label, "scores": scores}])
    metric.evaluate(5)
    for given in (tmp_path, tmp_path / "confusion.json"):
        confusion = read_confusion(given)
        assert confusion.names == ("cat", "dog", "bird")
        assert confusion.counts.tolist() == [[1, 1, 0], [0, 1, 2], [0, 0, 0]]
    (tmp_path / "plain.json").write_text('{"classes": ["a", "b"], "confusion": [[1, 2], [3, 4]]}')
    assert read_confusion(tmp_path / "plain.json").names == ("a", "b")


def test_what_an_evaluation_of_a_segmentor_writes_is_read(tmp_path: Path):
    metric = MeanIoU(out_file=str(tmp_path / "pixels.json"))
    metric.dataset_meta = {"classes": ("sky", "sea")}
    truth, guess = torch.tensor([[0, 0, 1, 255]]), torch.tensor([[0, 1, 1, 0]])
    metric.process(None, [{"index": 0, "path": "", "label_map": guess, "truth": truth}])
    metric.evaluate(1)
    confusion = read_confusion(tmp_path / "pixels.json")
    assert confusion.names == ("sky", "sea")
    assert confusion.counts.tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"classes": ["a"], "confusion": [[1, 2]]}',
        '{"classes": ["a"], "confusion": [["x"]]}',
        '{"classes": ["a"], "confusion": [[-1]]}',
        '{"classes": [], "confusion": []}',
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str):
    (tmp_path / "confusion.json").write_text(text)
    with pytest.raises(ValueError, match=r"confusion\.json (does not hold|holds) a"):
        read_confusion(tmp_path)


def test_shares_are_of_the_right_class():
    assert ANIMALS.shares.tolist() == [[0.6, 0.3, 0.1], [0, 0.8, 0.2], [0, 0, 0]]


def test_the_worst_pairs_come_first():
    assert worst_pairs(ANIMALS) == [
        WorstPair("dog", "bird", 10, 0.2),
        WorstPair("cat", "dog", 3, 0.3),
        WorstPair("cat", "bird", 1, 0.1),
    ]
    assert [pair.count for pair in worst_pairs(ANIMALS, by="share")] == [3, 10, 1]
    assert len(worst_pairs(ANIMALS, most=2)) == 2
    assert worst_pairs(Confusion(("a", "b"), np.eye(2, dtype=int))) == []
    lines = format_pairs(worst_pairs(ANIMALS)).splitlines()
    assert lines[1].split() == ["dog", "bird", "10", "20.0", "%"]
    assert len(lines) == 4
    assert format_pairs([]) == "Nothing was confused."


def test_of_many_classes_those_that_are_confused_are_shown():
    counts = 10 * np.eye(500, dtype=np.int64)
    counts[7, 300] = 5  # a third
    counts[12, 13] = 2  # a sixth
    counts[:, 499] += 20
    names = (*map(str, range(499)), BACKGROUND)
    confusion = Confusion(names, counts)
    assert worst_classes(confusion, 3) == [7, 300, 499]
    assert worst_classes(confusion, 5) == [7, 12, 13, 300, 499]
    assert worst_classes(confusion, 500) == list(range(500))
    # A pair that does not fit whole is left out; what is right least often fills up.
    assert worst_classes(confusion, 4) == [7, 12, 300, 499]
    picture = pixels(draw_confusion(confusion, most=40))
    assert max(picture.shape) < 2500


def test_the_picture_is_as_dark_as_the_shares():
    def dark(counts: list[list[int]]) -> np.ndarray:
        picture = pixels(draw_confusion(Confusion(("a", "b"), np.array(counts)), title="a title"))
        return np.abs(picture - np.array([8, 48, 107])).sum(-1) < 12

    scale = dark([[0, 0], [0, 0]])
    one, two = dark([[10, 0], [0, 0]]) & ~scale, dark([[10, 0], [0, 10]]) & ~scale
    assert one.mean() > 0.05
    assert two.sum() == pytest.approx(2 * one.sum(), rel=0.02)
    for axis in (0, 1):  # the second class stands below and to the right
        assert np.nonzero(one)[axis].max() < np.nonzero(two & ~one)[axis].min() + 2


def test_a_single_class_is_no_matrix():
    with pytest.raises(ValueError, match="at least 2 classes, not 1"):
        draw_confusion(ANIMALS, most=1)


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
    with pytest.raises(ValueError, match=r"iou_thr lies between 0 and 1, not at 1\.5"):
        detection_confusion(*files, iou_thr=1.5)


def test_results_and_annotations_must_fit(files: tuple[Path, Path], tmp_path: Path):
    other = tmp_path / "other.json"
    entry = {"image_id": 1, "category_id": 4, "bbox": [0, 0, 1, 1], "score": 0.5}
    for change, message in [
        ({"category_id": 5}, "has the category id 5, which is not in"),
        ({"image_id": 7}, "has detections in the image 7, which is not in"),
        ({"score": None}, "no results file of COCO's form"),
        ({"bbox": None}, "neither bbox nor segmentation"),
    ]:
        changed = {key: value for key, value in {**entry, **change}.items() if value is not None}
        other.write_text(json.dumps([changed]))
        with pytest.raises(ValueError, match=message):
            detection_confusion(other, files[1])
    other.write_text("[]")
    assert detection_confusion(other, files[1]).counts.tolist() == [[0, 0, 2], [0, 0, 2], [0, 0, 0]]
    with pytest.raises(ValueError, match="no results file of COCO's form"):
        detection_confusion(files[1], files[1])
