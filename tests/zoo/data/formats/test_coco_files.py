"""COCO's format: layouts, splits, folders of images, and damaged files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnzoo.zoo.data.formats.coco_files import CocoFiles
from support.own_data import coco, coco_content, write_image


def test_cocos_own_layout(tmp_path: Path):
    coco(tmp_path, ["train2017", "val2017"], 3)
    (tmp_path / "annotations" / "captions_train2017.json").write_text(json.dumps(coco_content(["0.jpg"])))
    assert CocoFiles.recognizes(tmp_path)
    content = CocoFiles.read(tmp_path)
    assert content.classes == ("crab", "fish")  # in the order of the ids
    assert content.folders == {"train": "train2017", "val": "val2017"}
    assert {split: file.name for split, file in content.files.items()} == {
        "train": "instances_train2017.json",
        "val": "instances_val2017.json",
    }
    assert content.has_masks
    assert (content.count("train"), content.image_paths("val")[2]) == (3, tmp_path / "val2017" / "2.jpg")


def test_files_beside_the_images(tmp_path: Path):
    for split in ("train", "valid"):
        names = [write_image(tmp_path / split / f"{index}.jpg").name for index in range(2)]
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(coco_content(names)))
    assert CocoFiles.read(tmp_path).folders == {"train": "train", "val": "valid"}


@pytest.mark.parametrize("folder", ["", "images", "photos"])
def test_one_file(tmp_path: Path, folder: str):
    write_image(tmp_path / folder / "a.jpg")
    content = coco_content(["a.jpg"])
    del content["annotations"][0]["segmentation"]
    (tmp_path / "fish.json").write_text(json.dumps(content))
    for root in (tmp_path, tmp_path / "fish.json"):
        found = CocoFiles.read(root)
        assert (found.folders, found.has_masks) == ({"train": folder or "."}, False)


def test_other_json_files_are_not_cocos(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"shapes": []}')
    (tmp_path / "b.json").write_text('["images", "categories"]')
    assert not CocoFiles.recognizes(tmp_path)


def test_holding_out_keeps_the_share_of_each_class(tmp_path: Path):
    coco(tmp_path, ["train"], 20)
    content = CocoFiles.read(tmp_path)
    content.hold_out(0.2, 0)
    assert (content.count("train"), content.count("val")) == (16, 4)
    assert not content.files
    for split in ("train", "val"):
        images = {image["id"] for image in content.splits[split]["images"]}
        annotations = content.splits[split]["annotations"]
        assert {one["image_id"] for one in annotations} == images
        assert sum(one["category_id"] == 3 for one in annotations) == len(images) / 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(annotations={}), r"has no list 'annotations'"),
        (lambda content: content["images"].append(3), r"images\[2\] must be an object, got 3"),
        (lambda content: content["categories"].append({"id": "x"}), r"every category needs a number 'id' and a 'name'"),
        (lambda content: content["images"][0].update(file_name="b.jpg"), r"names the image b.jpg, which is neither"),
        (lambda content: content["images"].clear(), r"has no images"),
    ],
)
def test_damage_is_named(tmp_path: Path, change, message: str):
    names = [write_image(tmp_path / f"{index}.jpg").name for index in range(2)]
    content = coco_content(names)
    change(content)
    (tmp_path / "fish.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        CocoFiles.read(tmp_path)
    assert "fish.json" in str(error.value)


def test_ambiguous_files_and_other_categories_are_refused(tmp_path: Path):
    write_image(tmp_path / "a.jpg")
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_text(json.dumps(coco_content(["a.jpg"])))
    with pytest.raises(ValueError, match=r"one.json and .*two.json are both annotation files for the split 'train'"):
        CocoFiles.read(tmp_path)
    (tmp_path / "two.json").unlink()
    other = coco_content(["a.jpg"])
    other["categories"][0]["name"] = "whale"
    (tmp_path / "val.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match=r"val.json has the categories crab, whale, but .* has crab, fish"):
        CocoFiles.read(tmp_path)
