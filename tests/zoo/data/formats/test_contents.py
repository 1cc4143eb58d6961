"""The contents of data sets: counts, paths, copies of splits and splits that are held out."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnzoo.zoo.data.formats import AnnotatedImages, Content, LabeledImages, LabelMaps
from support.own_data import coco_content, label_maps, write_image


@pytest.fixture
def contents(tmp_path: Path) -> dict[str, Content]:
    names = [write_image(tmp_path / "photos" / f"{index}.jpg").name for index in range(10)]
    label_maps(tmp_path, count=10)
    return {
        "classification": LabeledImages(
            tmp_path, ("a", "b"), {"train": [(f"photos/{name}", index % 2) for index, name in enumerate(names)]}
        ),
        "detection": AnnotatedImages(
            tmp_path, ("crab", "fish"), {"train": coco_content(names)}, {"train": "photos"}, has_masks=True
        ),
        "segmentation": LabelMaps(
            tmp_path,
            ("a", "b"),
            {"train": [str(index) for index in range(10)]},
            {"train": "images"},
            {"train": "masks"},
        ),
    }


@pytest.mark.parametrize("kind", ["classification", "detection", "segmentation"])
def test_parts_are_disjoint_and_complete(contents: dict[str, Content], kind: str):
    content = contents[kind]
    paths = content.image_paths("train")
    assert content.kind == kind
    assert len(paths) == content.count("train") == 10
    assert all(path.is_file() for path in paths)
    content.copy_split("train", "test")
    content.hold_out(0.2, 0)
    assert (content.count("train"), content.count("val"), content.count("test")) == (8, 2, 10)
    assert content.image_paths("test") == paths
    assert sorted([*content.image_paths("train"), *content.image_paths("val")]) == sorted(paths)
