"""Ground truth for the evaluated images, from complete and incomplete annotation files."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from attnzoo.zoo.evaluation import coco_files
from attnzoo.zoo.evaluation.coco_files import (
    category_ids_of,
    ground_truth,
    read_annotation_file,
    read_json,
    write_results,
)

CONTENT: dict[str, list[dict[str, Any]]] = {
    "images": [{"id": 7, "width": 10, "height": 8}, {"id": 9, "width": 10, "height": 8}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
    "annotations": [
        {"id": 0, "image_id": 7, "category_id": 5, "bbox": [1, 1, 4, 2]},
        {"id": 0, "image_id": 9, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 3.0, "iscrowd": 1},
    ],
}


def test_missing_entries_are_filled_in_and_ids_are_unique():
    truth = ground_truth(CONTENT, "a.json", None, [1, 5], masks=False)
    first, second = truth["annotations"]
    assert (first["id"], first["iscrowd"], first["area"]) == (1, 0, 8.0)
    assert (second["id"], second["iscrowd"], second["area"]) == (2, 1, 3.0)
    assert CONTENT["annotations"][0]["id"] == 0


def test_only_evaluated_images_and_categories_are_kept():
    truth = ground_truth(CONTENT, "a.json", [9], [1], masks=False)
    assert [image["id"] for image in truth["images"]] == [9]
    assert [category["name"] for category in truth["categories"]] == ["cat"]
    assert [annotation["image_id"] for annotation in truth["annotations"]] == [9]


def test_what_the_file_lacks_is_named():
    with pytest.raises(ValueError, match=r"1 of the 2 images .* image with id 8"):
        ground_truth(CONTENT, "a.json", [7, 8], [1], masks=False)
    with pytest.raises(ValueError, match="no masks for 2 of 2 objects"):
        ground_truth(CONTENT, "a.json", None, [1, 5], masks=True)
    with pytest.raises(ValueError, match="Unknown category id 3"):
        ground_truth(CONTENT, "a.json", None, [3], masks=False)
    with pytest.raises(ValueError, match=r"a\.json: Unknown category 'dgo'\. Did you mean 'dog'"):
        category_ids_of(CONTENT, ["dgo"], "a.json")
    assert category_ids_of(CONTENT, ["dog", "cat"], "a.json") == [5, 1]


def test_files_are_read_and_written(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(CONTENT))
    assert read_annotation_file(path) == CONTENT
    entries = [{"image_id": 7, "category_id": 5, "score": 0.5, "bbox": [1.0, 1.0, 4.0, 2.0]}]
    assert write_results(path, entries) == path.stat().st_size
    assert read_json(path) == entries
    with pytest.raises(ValueError, match="is not an annotation file in COCO's format"):
        read_annotation_file(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        read_annotation_file(path)
    with pytest.raises(ValueError, match=r"none\.json cannot be read: No such file"):
        read_annotation_file(tmp_path / "none.json")
    with pytest.warns(DeprecationWarning, match="read_coco_json is now called read_json"):
        assert coco_files.read_coco_json == read_json


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("images", {"id": "7"}, "id must be an integer of at most 64 bits: image number 0 has '7'"),
        ("images", {"id": 9}, "ids of images must be unique: 9 is used twice"),
        ("images", {"height": -8}, "height must be a positive integer, in pixels: image 7 has -8"),
        ("categories", {"name": None}, "name must be a text: category 1 has None"),
        ("annotations", {"image_id": 6}, "the image of an annotation must be in the file: annotation 0 has image_id 6"),
        ("annotations", {"category_id": 2}, "the category of an annotation must be in the file: annotation 0 has"),
        ("annotations", {"bbox": [1, 1, float("nan"), 2]}, "bbox must be .*: annotation 0 has "),
        ("annotations", {"area": "8"}, "area must be a finite number: annotation 0 has '8'"),
        ("annotations", {"iscrowd": [0]}, "iscrowd must be 0 or 1: annotation 0 has "),
    ],
)
def test_entries_with_wrong_values_are_named(tmp_path: Path, key: str, change: dict[str, Any], message: str):
    content = copy.deepcopy(CONTENT)
    content[key][0].update(change)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        read_annotation_file(path)
    assert "a.json" in str(caught.value)


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize(
    "segmentation", [[[1, 1, 2, 2, float("nan"), 3]], [[1] * 7], "abc", {"size": [8, 10], "counts": "~"}]
)
def test_wrong_masks_raise_before_an_evaluator_gets_them(masks: bool, segmentation: Any):
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["segmentation"] = segmentation
    with pytest.raises(ValueError, match=r"a\.json has errors:\n- .*: annotation 0 has "):
        ground_truth(content, "a.json", None, [1, 5], masks)  # its area is that of the mask
    del content["images"][0]["height"]
    with pytest.raises(ValueError, match="height must be a positive integer, in pixels: image 7 has none"):
        ground_truth(content, "a.json", None, [1, 5], masks)


def test_polygons_of_less_than_three_points_are_not_masks():
    content = copy.deepcopy(CONTENT)
    content["annotations"] = [{**content["annotations"][0], "segmentation": [[1, 2], [1, 1, 5, 1, 5, 5]]}]
    (complete,) = ground_truth(content, "a.json", None, [1, 5], masks=True)["annotations"]
    assert complete["segmentation"] == [[1, 1, 5, 1, 5, 5]]
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    with pytest.raises(ValueError, match="no masks for 1 of 1 objects"):
        ground_truth(content, "a.json", None, [1, 5], masks=True)
