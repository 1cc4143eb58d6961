"""The scenes: a valid COCO data set, equivalent label maps, and the same content for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from attnzoo.zoo.data.examples import scenes
from attnzoo.zoo.data.examples.digits import load_digits, stratified_split


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "scenes"
    assert scenes.make_scenes(out, size=72, train=12, val=5)
    return out


@pytest.mark.parametrize(("split", "count"), [("train", 12), ("val", 5)])
def test_boxes_masks_and_label_maps_agree(made: Path, split: str, count: int):
    data = COCO(str(made / "annotations" / f"instances_{split}.json"))
    assert len(data.imgs) == count == len(list((made / split).glob("*.jpg")))
    assert [category["name"] for category in data.loadCats(data.getCatIds())] == list("0123456789")
    for image in data.imgs.values():
        image_file = Image.open(made / split / image["file_name"])
        assert image_file.size == (image["width"], image["height"]) == (72, 72)
        label_map = np.asarray(Image.open(made / "labels" / split / Path(image["file_name"]).with_suffix(".png")))
        expected = np.zeros((72, 72), dtype=np.uint8)
        annotations = data.loadAnns(data.getAnnIds(image["id"]))
        assert annotations
        for annotation in annotations:
            mask = data.annToMask(annotation).astype(bool)
            rows, columns = np.nonzero(mask)
            x, y, width, height = annotation["bbox"]
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
            assert annotation["area"] == mask.sum() > 0
            assert not expected[mask].any(), "visible pixels belong to one object"
            expected[mask] = annotation["category_id"]
        assert np.array_equal(label_map, expected)


def test_digits_stand_out_from_the_ground(made: Path):
    for path in sorted((made / "train").glob("*.jpg")):
        pixels = np.asarray(Image.open(path), dtype=float)
        label_map = np.asarray(Image.open(made / "labels/train" / f"{path.stem}.png"))
        assert pixels[label_map == 0].std() > 4, "the ground has texture"
        for label in set(label_map.ravel().tolist()) - {0}:
            inside = pixels[label_map == label].mean(0)
            assert np.abs(inside - pixels[label_map == 0].mean(0)).max() > 20


def test_content_depends_only_on_the_seed():
    def content(seed: int) -> bytes:
        files = dict(scenes.scene_files(64, 2, 1, 3, seed))
        return files["train/000002.jpg"] + files["annotations/instances_val.json"]

    assert content(0) == content(0) != content(1)


def test_training_and_validation_use_different_digits():
    digits = load_digits()[0]
    validation = stratified_split(load_digits()[1], 0.2, seed=0)
    assert 0 < validation.sum() < len(digits)
    # The split is by scan; equal scans in both parts would be the same digit written twice.
    shared = {scan.tobytes() for scan in digits[validation]} & {scan.tobytes() for scan in digits[~validation]}
    assert not shared
