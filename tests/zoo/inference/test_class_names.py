"""Class names and colors are found in configs, without the data."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from timm.data.imagenet_info import ImageNetInfo

from attnzoo.zoo.data.detection.coco_classes import CLASSES as COCO_CLASSES
from attnzoo.zoo.inference.class_names import (
    chooses_classes,
    dataset_class_names,
    imagenet_class_names,
    parse_class_names,
    readable_names,
    work_dir_class_names,
)


def names_of(dataset: dict[str, Any], num_classes: int) -> tuple[str, ...]:
    return dataset_class_names(dataset, num_classes)[0]


def test_known_data_sets_have_names_and_colors():
    names, palette = dataset_class_names({"type": "ADE20K"}, 150)
    assert (names[0], len(names)) == ("wall", 150)
    assert palette is not None
    assert palette[0] == (120, 120, 120)
    names, palette = dataset_class_names({"type": "PascalVOC", "root": "gone"}, 21)
    assert names[:2] == ("background", "aeroplane")
    assert palette is not None
    assert len(palette) == 21
    coco = {"type": "CocoDetection", "root": "data/coco", "split": "val2017"}
    assert names_of(coco, 80) == COCO_CLASSES
    assert len(set(COCO_CLASSES)) == 80
    assert dataset_class_names({"type": "attnzoo.ADE20K"}, 150)[0][0] == "wall"


def test_chosen_classes_are_used_if_their_number_fits():
    dataset = {"type": "CocoDetection", "root": "data/own", "split": "val"}
    assert names_of(dataset, 80) == ()
    chosen = {**dataset, "classes": ["cat", "dog"]}
    assert names_of(chosen, 2) == ("cat", "dog")
    assert names_of(chosen, 3) == ()
    assert names_of(chosen, 1) == ()


def test_data_sets_outside_the_zoo_can_name_their_classes(tmp_path: Path):
    assert names_of({"type": "BaseDataset", "metainfo": {"classes": ["a", "b"]}}, 2) == ("a", "b")
    assert names_of({"type": "NoSuchDataset", "metainfo": {"classes": ["a", "b"]}}, 2) == ("a", "b")
    assert names_of({}, 2) == ()
    assert names_of({"type": "SegmentationFolders", "root": str(tmp_path), "classes": "gone.txt"}, 2) == ()

    class OwnDataset:
        @classmethod
        def class_names(cls, **arguments: Any) -> tuple[str, ...]:
            return ("x", arguments["second"])

        @classmethod
        def class_palette(cls, **arguments: Any) -> list[list[int]]:
            return [[1, 2, 3], [4, 5, 6]]

    assert dataset_class_names({"type": OwnDataset, "second": "y"}, 2) == (("x", "y"), ((1, 2, 3), (4, 5, 6)))


def test_wordnet_ids_become_words():
    assert readable_names(("n01440764", "n01484850")) == ("tench", "great white shark")
    assert readable_names(("n01440764", "cat")) == ("n01440764", "cat")
    assert readable_names(("n01440764", "n99999999")) == ("tench", "n99999999")
    names = readable_names(tuple(ImageNetInfo("imagenet-22k").label_names()))
    assert any("," in name for name in names)  # all synonyms, if several classes have the same first word
    first_words = Counter(name.split(",")[0] for name in names)
    repeated = sum(count > 1 for count in Counter(names).values())
    assert repeated < sum(count > 1 for count in first_words.values()) / 2


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ({"type": "ImageClassificationDataset", "root": "a"}, False),
        ({"type": "ImageClassificationDataset", "root": "a", "class_map": ["a"]}, True),
        ({"type": "CocoDetection", "classes": ["a"]}, True),
        ({"type": "BaseDataset", "metainfo": {"classes": ["a"]}}, True),
        ({}, False),
    ],
)
def test_a_config_may_choose_the_classes(dataset: dict[str, Any], expected: bool):
    assert chooses_classes(dataset) is expected


@pytest.mark.parametrize(("num_classes", "known"), [(1000, True), (21841, True), (10, False)])
def test_subsets_of_imagenet_are_known_by_their_size(num_classes: int, known: bool):
    assert len(imagenet_class_names(num_classes)) == (num_classes if known else 0)


def test_names_are_read_from_files_and_work_dirs(tmp_path: Path):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    assert parse_class_names(tmp_path / "names.txt") == ("cat", "dog")
    assert parse_class_names({"dog": 1, "cat": 0}) == ("cat", "dog")
    assert parse_class_names("imagenet-1k")[0] == "tench"
    assert work_dir_class_names(tmp_path) == ()
    (tmp_path / "classes.json").write_text(json.dumps(["n01440764"]))
    assert work_dir_class_names(tmp_path) == ("tench",)
