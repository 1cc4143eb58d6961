"""YOLO's format: boxes, polygons, splits in folders and lists, and wrong lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnzoo.zoo.data.formats.yolo import Yolo
from support.own_data import write_image


def yolo(root: Path, lines: str = "1 0.5 0.5 0.25 0.5\n", data: str = "") -> Path:
    """Writes a training image of 24x32 pixels with labels, and a validation image without."""
    write_image(root / "images" / "train" / "a.jpg")
    write_image(root / "images" / "val" / "b.jpg")
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "a.txt").write_text(lines)
    (root / "data.yaml").write_text(data or "train: images/train\nval: images/val\nnames: [crab, fish]\n")
    return root


def test_boxes_and_images_without_objects(tmp_path: Path):
    assert Yolo.recognizes(yolo(tmp_path))
    content = Yolo.read(tmp_path)
    (annotation,) = content.splits["train"]["annotations"]
    assert annotation["bbox"] == [12.0, 6.0, 8.0, 12.0]
    assert (annotation["category_id"], annotation["area"]) == (2, 96.0)
    assert content.splits["train"]["images"] == [
        {"id": 1, "file_name": "images/train/a.jpg", "height": 24, "width": 32}
    ]
    assert content.splits["val"]["annotations"] == []
    assert (content.classes, content.has_masks, content.folders["val"]) == (("crab", "fish"), False, ".")


def test_polygons(tmp_path: Path):
    content = Yolo.read(yolo(tmp_path, "0 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.75\n\n"))
    (annotation,) = content.splits["train"]["annotations"]
    assert annotation["segmentation"] == [[8.0, 6.0, 16.0, 6.0, 16.0, 18.0, 8.0, 18.0]]
    assert (annotation["bbox"], annotation["area"], content.has_masks) == ([8.0, 6.0, 8.0, 12.0], 96.0, True)


@pytest.mark.parametrize(
    "data",
    [
        "path: /somewhere/else\ntrain: [images/train]\nval: images/val\nnames: {0: crab, 1: fish}\n",
        "train: ../images/train\nval: ../images/val\nnames: [crab, fish]\n",
        "train: train.txt\nvalid: images/val\nnames: [crab, fish]\n",
    ],
)
def test_ways_to_name_the_splits(tmp_path: Path, data: str):
    yolo(tmp_path, data=data)
    (tmp_path / "train.txt").write_text("./images/train/a.jpg\n")
    content = Yolo.read(tmp_path / "data.yaml")
    assert (content.count("train"), content.count("val"), content.classes) == (1, 1, ("crab", "fish"))
    assert len(content.splits["train"]["annotations"]) == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("0 0.5 0.5 0.25 0.5\n2 0.5 0.5 0.2 0.2\n", r"a.txt, line 2: the class must be 0 to 1, got 2"),
        ("crab 0.5 0.5 0.25 0.5", r"line 1: expected a class and numbers, got 'crab 0.5"),
        ("0 0.5 0.5 0.25", r"expected a box \(4 numbers\) or a polygon \(6 or more, even\), got 3 numbers"),
        ("0 16 12 8 12", r"coordinates must be shares of the image's sides, 0 to 1"),
        ("0 nan 0.5 0.1 0.1", r"coordinates must be shares"),
        ("inf 0.5 0.5 0.1 0.1", r"expected a class and numbers"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, lines: str, message: str):
    with pytest.raises(ValueError, match=message):
        Yolo.read(yolo(tmp_path, lines))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("train: images/trian\nnames: [a]\n", r"names 'images/trian', which does not exist"),
        ("train: images/train\nnames: {1: a}\n", r"the keys of `names` must be 0 to 0, got \[1\]"),
        ("train: images/train\nnames: 3\n", r"`names` must list the class names, got 3"),
    ],
)
def test_wrong_data_files_are_named(tmp_path: Path, data: str, message: str):
    with pytest.raises(ValueError, match=message):
        Yolo.read(yolo(tmp_path, data=data))


def test_yaml_runs_no_code(tmp_path: Path):
    yolo(tmp_path, data=f"names: [a]\ntrain: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n")
    assert not Yolo.recognizes(tmp_path)
    assert not (tmp_path / "made").exists()
