"""Class folders: recognition, labels, splits, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnzoo.zoo.data.formats.class_folders import ClassFolders
from support.own_data import class_folders, write_image


def test_one_folder_per_class(tmp_path: Path):
    class_folders(tmp_path, 2)
    write_image(tmp_path / "red" / "more" / "deep.png", "red")
    (tmp_path / "red" / "notes.txt").write_text("not an image")
    assert ClassFolders.recognizes(tmp_path)
    content = ClassFolders.read(tmp_path)
    assert content.classes == ("blue", "red")
    assert content.splits == {
        "train": [("blue/0.png", 0), ("blue/1.png", 0), ("red/0.png", 1), ("red/1.png", 1), ("red/more/deep.png", 1)]
    }
    assert content.left_out == {".txt": 1}
    assert not content.folders
    assert content.image_paths("train")[-1] == tmp_path / "red" / "more" / "deep.png"


def test_folders_of_splits_under_any_of_their_names(tmp_path: Path):
    class_folders(tmp_path, 1, ["Train", "valid", "test"])
    content = ClassFolders.read(tmp_path)
    assert content.folders == {"train": "Train", "val": "valid", "test": "test"}
    assert content.splits["val"] == [("valid/blue/0.png", 0), ("valid/red/0.png", 1)]


def test_classes_are_in_natural_order(tmp_path: Path):
    for name in ("10", "9", "1"):
        write_image(tmp_path / name / "a.png")
    assert ClassFolders.read(tmp_path).classes == ("1", "9", "10")


def test_what_is_not_class_folders(tmp_path: Path):
    assert not ClassFolders.recognizes(tmp_path)
    write_image(tmp_path / "a.png")
    assert not ClassFolders.recognizes(tmp_path)
    (tmp_path / "empty").mkdir()
    assert not ClassFolders.recognizes(tmp_path)


def test_contradictions_are_named(tmp_path: Path):
    class_folders(tmp_path / "a", 1, ["train", "val"])
    write_image(tmp_path / "a" / "val" / "gren" / "a.png")
    with pytest.raises(ValueError, match=r"val has the classes gren, which .*train does not have"):
        ClassFolders.read(tmp_path / "a")
    class_folders(tmp_path / "b", 1, ["val", "valid"])
    with pytest.raises(ValueError, match=r"two folders for the split 'val': val and valid"):
        ClassFolders.read(tmp_path / "b")
    class_folders(tmp_path / "c", 1)
    write_image(tmp_path / "c" / "loose.png")
    with pytest.raises(ValueError, match=r"1 images, such as loose.png, outside of the folders of the classes"):
        ClassFolders.read(tmp_path / "c")
