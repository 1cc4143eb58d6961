import json

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo.zoo.data import CocoPanopticSemantic
from attnzoo.zoo.registry import DATASETS

TEST = {"type": "SegmentationTest", "scale": (60, 30)}
CATEGORIES = [
    {"id": 900, "name": "sky", "isthing": 0},
    {"id": 3, "name": "cat", "isthing": 1},
    {"id": 41, "name": "wall", "isthing": 0},
    {"id": 17, "name": "dog", "isthing": 1},
]
SEGMENTS = {70_000: 17, 5: 900, 300: 3, 16_777_215: 17}
"""The category of each segment of the image."""
IDS = np.array([[70_000, 70_000, 5], [0, 300, 16_777_215]])


def content():
    segments = [{"id": one, "category_id": category, "iscrowd": 0} for one, category in SEGMENTS.items()]
    return {
        "images": [{"id": 8, "file_name": "8.jpg", "height": 2, "width": 3}],
        "annotations": [{"image_id": 8, "file_name": "8.png", "segments_info": segments}],
        "categories": [dict(category) for category in CATEGORIES],
    }


def write(root, annotations, ids=IDS):
    for folder in ("images", "panoptic_train"):
        (root / folder).mkdir(exist_ok=True)
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    Image.fromarray(colors).save(root / "panoptic_train/8.png")
    Image.new("RGB", (3, 2)).save(root / "images/8.jpg")
    (root / "panoptic_train.json").write_text(json.dumps(annotations))
    return {"ann_file": str(root / "panoptic_train.json"), "images": str(root / "images"), "transform": TEST}


@pytest.mark.parametrize(
    ("things", "classes", "expected"),
    [
        ("separate", ("cat", "dog", "wall", "sky"), [[1, 1, 3], [255, 0, 1]]),
        ("merged", ("things", "wall", "sky"), [[0, 0, 2], [255, 0, 0]]),
        ("ignored", ("wall", "sky"), [[255, 255, 1], [255, 255, 255]]),
    ],
)
def test_segments_become_the_labels_of_their_categories(tmp_path, things, classes, expected):
    arguments = write(tmp_path, content())
    dataset = DATASETS.build({"type": "CocoPanopticSemantic", **arguments, "things": things})
    assert dataset.classes == classes
    sample = dataset[0]
    assert sample["label_map"].tolist() == expected
    assert sample["label_map"].dtype == torch.uint8
    assert sample["path"] == str(tmp_path / "images/8.jpg")
    assert dataset.category_ids[-1] == (900,)
    assert dataset.category_ids[0] == {"separate": (3,), "merged": (3, 17), "ignored": (41,)}[things]


def test_annotations_are_in_the_order_of_their_images(tmp_path):
    annotations = content()
    for number in (10, 9):
        annotations["images"].append({"id": number, "file_name": f"{number}.jpg"})
        annotations["annotations"].append({"image_id": number, "file_name": f"{number}.png", "segments_info": []})
    arguments = write(tmp_path, annotations)
    for number in (10, 9):
        Image.new("RGB", (3, 2)).save(tmp_path / f"images/{number}.jpg")
        Image.new("RGB", (3, 2)).save(tmp_path / f"panoptic_train/{number}.png")
    dataset = CocoPanopticSemantic(**arguments)
    assert [pair.image.rsplit("/", 1)[1] for pair in dataset.pairs] == ["8.jpg", "9.jpg", "10.jpg"]
    assert (dataset[1]["label_map"] == 255).all()
    assert len(np.unique(dataset[0]["label_map"])) == 4


def test_images_without_annotation_are_reported(tmp_path):
    annotations = content()
    annotations["images"].append({"id": 9, "file_name": "9.jpg"})
    dataset = CocoPanopticSemantic(**write(tmp_path, annotations))
    assert len(dataset) == 1
    findings = dataset.check()
    assert "1 images in" in findings[0]
    assert "1 of 4 classes do not occur in the labels of all 1 samples: wall." in findings[1]


def _change(key, value):
    def change(annotations):
        annotations["annotations"][0][key] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_change("file_name", "9.png"), r"panoptic_train has no file 9\.png: add it, or correct panoptic"),
        (_change("image_id", 9), "annotation must be in the file: annotation has image_id 9"),
        (lambda annotations: annotations["annotations"].clear(), "is empty"),
    ],
)
def test_impossible_annotation_files_raise(tmp_path, change, message):
    annotations = content()
    change(annotations)
    with pytest.raises(ValueError, match=message):
        CocoPanopticSemantic(**write(tmp_path, annotations))


def test_other_impossible_arguments_raise(tmp_path):
    annotations = content()
    del annotations["categories"][1]["isthing"]
    arguments = write(tmp_path, annotations)
    with pytest.raises(ValueError, match=r"things has no value 'seperate'\. Did you mean 'separate'"):
        CocoPanopticSemantic(**arguments, things="seperate")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="the category 'cat' has no `isthing`"):
        CocoPanopticSemantic(**arguments, things="merged")
    with pytest.raises(ValueError, match="There is no folder nowhere: correct panoptic"):
        CocoPanopticSemantic(**arguments, panoptic="nowhere")
    with pytest.raises(ValueError, match=r"nothing\.json cannot be read"):
        CocoPanopticSemantic(**{**arguments, "ann_file": "nothing.json"})


@pytest.mark.parametrize("strange", [1, 4, 6, 70_001, 16_777_214])
def test_segments_that_are_not_listed_raise(tmp_path, strange):
    ids = IDS.copy()
    ids[0, 0] = strange
    dataset = CocoPanopticSemantic(**write(tmp_path, content(), ids))
    with pytest.raises(ValueError, match=rf"8\.png has the segment {strange}, which .*json does not list"):
        dataset[0]


def test_a_segment_above_all_listed_ids_raises(tmp_path):
    annotations = content()
    segments = annotations["annotations"][0]["segments_info"]
    segments[:] = [one for one in segments if one["id"] < 16_777_215]
    dataset = CocoPanopticSemantic(**write(tmp_path, annotations))
    with pytest.raises(ValueError, match=r"8\.png has the segment 16777215"):
        dataset[0]


def test_a_png_of_labels_is_not_a_panoptic_png(tmp_path):
    arguments = write(tmp_path, content())
    Image.new("L", (3, 2)).save(tmp_path / "panoptic_train/8.png")
    with pytest.raises(ValueError, match=r"8\.png has the mode L.*SegmentationFolders"):
        CocoPanopticSemantic(**arguments)[0]


def test_colors_of_categories_are_the_palette(tmp_path):
    annotations = content()
    for number, category in enumerate(annotations["categories"]):
        category["color"] = [number, 2, 3]
    dataset = CocoPanopticSemantic(**write(tmp_path, annotations))
    assert dataset.metainfo["palette"] == [[1, 2, 3], [3, 2, 3], [2, 2, 3], [0, 2, 3]]


def test_missing_files_are_named_by_their_argument(tmp_path):
    arguments = write(tmp_path, content())
    check = CocoPanopticSemantic.check_paths
    assert list(check(**arguments)) == []
    problems = list(check(**{**arguments, "images": "nowhere", "panoptic": "neither"}))
    assert [problem.split(" (from")[0] for problem in problems] == [
        "images: there is no nowhere",
        "panoptic: there is no neither",
    ]
    (problem,) = check(**{**arguments, "ann_file": str(tmp_path / "panoptic_train.jso")})
    assert f"Did you mean {tmp_path / 'panoptic_train.json'}" in problem
    assert CocoPanopticSemantic.kind == "segmentation"
