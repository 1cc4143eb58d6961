"""The scenes: a true COCO data set, label maps that say the same, fixed for good, written once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from attnzoo.tools import make_scenes as tool

ARGUMENTS = ["--size", "72", "--train", "12", "--val", "5"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "scenes"
    assert tool.main(["--out", str(out), *ARGUMENTS]) == 0
    return out


@pytest.mark.parametrize(("split", "count"), [("train", 12), ("val", 5)])
def test_boxes_masks_and_label_maps_agree(made: Path, split: str, count: int):
    data = COCO(str(made / "annotations" / f"instances_{split}.json"))
    assert len(data.imgs) == count == len(list((made / split).glob("*.jpg")))
    assert [category["name"] for category in data.loadCats(data.getCatIds())] == list("0123456789")
    for image in data.imgs.values():
        picture = Image.open(made / split / image["file_name"])
        assert picture.size == (image["width"], image["height"]) == (72, 72)
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


def test_the_seed_decides_everything():
    def picture(seed: int) -> bytes:
        files = dict(tool.files(64, 2, 1, 3, seed))
        return files["train/000002.jpg"] + files["annotations/instances_val.json"]

    assert picture(0) == picture(0) != picture(1)


def test_training_and_validation_use_different_digits():
    digits = tool.load_digits()[0]
    validation = tool.stratified_split(tool.load_digits()[1], 0.2, seed=0)
    assert 0 < validation.sum() < len(digits)
    # The split is by scan; equal scans in both parts would be the same digit written twice.
    shared = {scan.tobytes() for scan in digits[validation]} & {scan.tobytes() for scan in digits[~validation]}
    assert not shared


def test_a_second_run_writes_nothing_and_a_damaged_folder_is_mended(made: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--out", str(made), *ARGUMENTS]
    annotations = made / "annotations/instances_val.json"
    before, stamp = annotations.read_text(), annotations.stat().st_mtime_ns
    assert tool.main(arguments) == 0
    assert "already there" in capsys.readouterr().out
    assert annotations.stat().st_mtime_ns == stamp
    annotations.write_text("{}")
    assert tool.main(arguments) == 0
    assert json.loads(annotations.read_text()) == json.loads(before)


def test_mistakes_are_named(made: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert tool.main(["--out", str(tmp_path / "new"), "--size", "20"]) == 2
    assert "--size is 20" in capsys.readouterr().err
    assert tool.main(["--out", str(made), *ARGUMENTS, "--most", "2"]) == 2
    assert "--force" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert tool.main(["--out", str(tmp_path / "other")]) == 2
    assert "not made by make_scenes" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
