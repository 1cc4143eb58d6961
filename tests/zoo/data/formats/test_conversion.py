"""Conversion to COCO's format."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnzoo.zoo.data.detection.coco import CocoDetection
from attnzoo.zoo.data.formats import read_data
from attnzoo.zoo.data.formats.conversion import write_coco
from support.own_data import class_folders, coco, write_image


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    root = tmp_path / "yolo"
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        write_image(root / "images" / split / f"{name}.jpg")
        (root / "labels" / split).mkdir(parents=True, exist_ok=True)
        (root / "labels" / split / f"{name}.txt").write_text("1 0.5 0.5 0.25 0.5\n0 0.25 0.25 0.5 0.25 0.5 0.75\n")
    (root / "data.yaml").write_text("names: [crab, fish]\ntrain: images/train\nval: images/val\n")
    return root


@pytest.mark.parametrize("images", ["copy", "link"])
def test_the_result_is_a_data_set_of_its_own(yolo: Path, tmp_path: Path, images):
    _, content = read_data(yolo)
    out = write_coco(content, tmp_path / "out", images)
    name, again = read_data(out)
    assert (name, again.classes) == ("COCO JSON", ("crab", "fish"))
    for split, count in (("train", 2), ("val", 1)):
        dataset = CocoDetection(str(out), split, transform={"type": "DetectionTest"}, with_masks=False)
        assert len(dataset) == count
        boxes = dataset.load(0).boxes
        assert boxes is not None
        assert boxes.tolist() == [[12, 6, 20, 18], [8, 6, 16, 18]]
    assert (out / "train" / "a.jpg").is_symlink() == (images == "link")


def test_annotations_alone(yolo: Path, tmp_path: Path):
    out = write_coco(read_data(yolo)[1], tmp_path / "out", "none")
    assert sorted(path.name for path in out.rglob("*.*")) == ["instances_train.json", "instances_val.json"]


def test_what_cannot_be_converted_is_refused(yolo: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"COCO's format is for objects, but .* for classification"):
        write_coco(read_data(class_folders(tmp_path / "photos"))[1], tmp_path / "out")
    with pytest.raises(ValueError, match=r"is not an empty folder"):
        write_coco(read_data(yolo)[1], coco(tmp_path / "there"))
    with pytest.raises(ValueError, match=r"Unknown value of images 'cpy'|no value 'cpy'"):
        write_coco(read_data(yolo)[1], tmp_path / "out", "cpy")  # type: ignore[arg-type]
