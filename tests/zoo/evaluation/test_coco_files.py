"""Ground truth for the evaluated images, from complete and incomplete annotation files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnzoo.zoo.evaluation.coco_files import (
    category_ids_of,
    ground_truth,
    read_annotation_file,
    read_coco_json,
    write_results,
)

CONTENT = {
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
    assert read_coco_json(path) == entries
    with pytest.raises(ValueError, match="is not an annotation file in COCO's format"):
        read_annotation_file(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        read_coco_json(path)
    with pytest.raises(ValueError, match=r"Cannot read .*none\.json"):
        read_coco_json(tmp_path / "none.json")
