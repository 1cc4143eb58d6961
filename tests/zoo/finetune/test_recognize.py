"""Recognition of users' data sets: format, splits that are made, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from attnzoo.zoo.data.formats import FORMATS, AnnotatedImages, LabeledImages
from attnzoo.zoo.finetune.recognize import recognize
from support.own_data import class_folders, coco, coco_content, label_maps, write_image


def test_formats(tmp_path: Path):
    write_image(tmp_path / "yolo" / "images" / "a.jpg")
    (tmp_path / "yolo" / "data.yaml").write_text("names: [fish]\ntrain: images\n")
    write_image(tmp_path / "voc" / "a.jpg")
    (tmp_path / "voc" / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename><size><width>32</width><height>24</height></size><object><name>fish"
        "</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )
    write_image(tmp_path / "labelme" / "a.jpg")
    shape = {"label": "fish", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}
    (tmp_path / "labelme" / "a.json").write_text(
        json.dumps({"shapes": [shape], "imagePath": "a.jpg", "imageHeight": 24, "imageWidth": 32})
    )
    class_folders(tmp_path / "list")
    (tmp_path / "list" / "labels.csv").write_text("path,label\nblue/0.png,x\nred/0.png,y\n")
    made = {
        "COCO JSON": coco(tmp_path / "coco"),
        "YOLO": tmp_path / "yolo",
        "Pascal VOC XML": tmp_path / "voc",
        "LabelMe": tmp_path / "labelme",
        "image list": tmp_path / "list",
        "label images": label_maps(tmp_path / "maps"),
        "class folders": class_folders(tmp_path / "folders"),
    }
    assert list(made) == list(FORMATS)
    for name, root in made.items():
        assert recognize(root).format == name
    assert recognize(made["image list"], "class folders").content.classes == ("blue", "red")


def test_a_split_is_held_out_with_the_same_share_of_each_class(tmp_path: Path):
    class_folders(tmp_path, 10)
    own = recognize(tmp_path, val_fraction=0.3, seed=1)
    assert own.made_split
    labels = [label for _, label in own.content.splits["val"]]
    assert labels == [0, 0, 0, 1, 1, 1]
    paths = [path for split in ("train", "val") for path, _ in own.content.splits[split]]
    assert len(set(paths)) == 20
    assert recognize(tmp_path, val_fraction=0.3, seed=1).content.splits == own.content.splits
    assert recognize(tmp_path, val_fraction=0.3, seed=2).content.splits != own.content.splits
    assert own.summary() == [
        "data: class folders, classification, 2 classes (blue, red); images: 14 train, 6 val",
        "there is no validation split: 6 of 20 images are held out (seed 1)",
    ]


def test_a_test_split_serves_for_validation(tmp_path: Path):
    own = recognize(class_folders(tmp_path, 2, ["train", "test"]))
    assert isinstance(own.content, LabeledImages)
    assert own.content.folders["val"] == "test"
    assert "the test split is used for validation" in own.summary()[1]


def test_few_images_are_not_divided(tmp_path: Path):
    own = recognize(class_folders(tmp_path, 3))
    assert own.content.splits["val"] == own.content.splits["train"]
    assert "with 6 images nothing is held out" in own.summary()[1]


def test_detection_and_segmentation_are_divided(tmp_path: Path):
    for root in (coco(tmp_path / "coco", ["train"], 10), label_maps(tmp_path / "maps", count=10)):
        own = recognize(root)
        assert own.sizes == {"train": 8, "val": 2}


def test_orientations_are_reported(tmp_path: Path):
    class_folders(tmp_path, 6)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (50, 21)).save(tmp_path / "red" / "turned.jpg", exif=exif)
    own = recognize(tmp_path)
    assert own.side == 24
    assert own.remarks[0].startswith("1 of 13 images that were looked at have an EXIF orientation")


@pytest.mark.parametrize(("without", "has_masks"), [(3, True), (7, False)])
def test_objects_without_masks_are_reported(tmp_path: Path, without: int, has_masks: bool):
    names = [write_image(tmp_path / "photos" / f"{index}.jpg").name for index in range(10)]
    content = coco_content(names)
    for annotation in content["annotations"][:without]:
        annotation["segmentation"] = []
    (tmp_path / "fish.json").write_text(json.dumps(content))
    own = recognize(tmp_path)
    assert isinstance(own.content, AnnotatedImages)
    assert own.content.has_masks == has_masks
    assert own.remarks[0].startswith(f"{without} of 10 objects" if has_masks else "only 3 of 10 objects")


def test_files_that_are_left_out_are_counted(tmp_path: Path):
    class_folders(tmp_path, 6)
    (tmp_path / "red" / "film.mp4").write_bytes(b"")
    assert "left out, because they are not images that can be read: 1 .mp4" in recognize(tmp_path).summary()


def test_what_cannot_be_used_is_refused(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match=r"data: there is no .*phtos.* Did you mean .*photos"):
        recognize(tmp_path / "phtos")
    with pytest.raises(ValueError, match=r"it contains nothing. Known formats:\n  COCO JSON: "):
        recognize(tmp_path / "photos")
    with pytest.raises(ValueError, match=r"Unknown data format 'coco'. Did you mean 'COCO JSON'"):
        recognize(tmp_path / "photos", "coco")
    with pytest.raises(ValueError, match=r"All images in .* have the class red: a classifier needs at least two"):
        recognize(class_folders(tmp_path / "one", classes=["red"]))
    with pytest.raises(ValueError, match=r"has the splits val, but none for training"):
        recognize(class_folders(tmp_path / "val only", splits=["val"]))


def test_an_annotation_file_alone(tmp_path: Path):
    names = [write_image(tmp_path / "photos" / f"{index}.jpg").name for index in range(10)]
    (tmp_path / "fish.json").write_text(json.dumps(coco_content(names)))
    assert recognize(tmp_path / "fish.json").sizes == {"train": 8, "val": 2}
