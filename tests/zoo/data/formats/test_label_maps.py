"""Pairs of images and label images: layouts, classes, binary masks, and wrong label images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.data.formats.label_maps import LabelMapPairs
from support.own_data import label_maps, write_image


def test_two_folders(tmp_path: Path):
    assert LabelMapPairs.recognizes(label_maps(tmp_path, count=2))
    content = LabelMapPairs.read(tmp_path)
    assert content.splits == {"train": ["0", "1"]}
    assert (content.images, content.labels) == ({"train": "images"}, {"train": "masks"})
    assert content.classes == ("0", "1")


def test_folders_of_splits_inside_and_outside(tmp_path: Path):
    content = LabelMapPairs.read(label_maps(tmp_path / "a", ["train", "val"], 1))
    assert content.images == {"train": "images/train", "val": "images/val"}
    for split in ("train", "valid"):
        label_maps(tmp_path / "b" / split, count=1)
    content = LabelMapPairs.read(tmp_path / "b")
    assert content.labels == {"train": "train/masks", "val": "valid/masks"}
    assert content.splits["val"] == ["0"]


def test_class_names(tmp_path: Path):
    label_maps(tmp_path)
    (tmp_path / "classes.txt").write_text("ground\nfish\n")
    assert LabelMapPairs.read(tmp_path).classes == ("ground", "fish")
    (tmp_path / "classes.txt").write_text("ground\n")
    with pytest.raises(ValueError, match=r"has 1 classes, but the label images have the value 1"):
        LabelMapPairs.read(tmp_path)


def test_binary_masks(tmp_path: Path):
    write_image(tmp_path / "images" / "a.jpg")
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.eye(24, 32, dtype=np.uint8) * 255).save(tmp_path / "masks" / "a.png")
    content = LabelMapPairs.read(tmp_path)
    assert (content.classes, content.arguments) == (("background", "foreground"), {"label_values": {0: 0, 255: 1}})


def test_missing_and_colored_label_images_are_named(tmp_path: Path):
    label_maps(tmp_path, count=2)
    (tmp_path / "masks" / "1.png").unlink()
    with pytest.raises(
        ValueError, match=r"1 of 2 images in .*images have no label image of the same name in .*masks, such as 1"
    ):
        LabelMapPairs.read(tmp_path)
    write_image(tmp_path / "masks" / "1.png")
    with pytest.raises(ValueError, match=r"1.png has the mode RGB: label images need one channel"):
        LabelMapPairs.read(tmp_path)


def test_images_alone_are_not_pairs(tmp_path: Path):
    write_image(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    assert not LabelMapPairs.recognizes(tmp_path)
