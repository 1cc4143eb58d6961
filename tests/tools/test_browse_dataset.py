"""tools/browse_dataset.py: samples with what is known of them, as training sees them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo.tools import browse_dataset
from attnzoo.zoo.data.detection.coco import CocoDetection
from attnzoo.zoo.data.segmentation.folders import SegmentationFolders
from attnzoo.zoo.plots.browsing import choose_samples, draw_original, draw_sample, draw_samples, get_sample
from attnzoo.zoo.plots.colors import class_color
from support import painted, painted_coco, tiny_classifier


def has_colour(image: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(np.asarray(image).astype(int) - np.array(colour)).max(-1) <= 2).any())


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return painted_coco.save(tmp_path / "coco")


def detection(root: Path, transform: dict[str, Any]) -> CocoDetection:
    return CocoDetection(str(root), "train2017", transform=transform, min_size=1)


@pytest.fixture(scope="module")
def classification(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier.write_config(tmp_path_factory.mktemp("tiny"))


# -- The tool ----------------------------------------------------------------------------------------------------------


def test_a_classifiers_samples(classification: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "samples.png"
    arguments = [str(classification), "--out", str(out), "--columns", "3", "--side", "320"]
    assert browse_dataset.main([*arguments, "--count", "5"]) == 0
    assert "5 of 12 samples" in capsys.readouterr().out
    with Image.open(out) as image:
        small = image.size
        assert image.format == "PNG"
        assert 3 * 250 < small[0] < 3 * 340
        assert small[1] > 2 * 320
    assert browse_dataset.main([*arguments, "--count", "100", "--original", "--split", "val"]) == 0
    assert "9 of 9 samples" in capsys.readouterr().out
    with Image.open(out) as image:
        assert image.width > 1.8 * small[0]


def test_the_seed_chooses_samples_and_augmentation(classification: Path, tmp_path: Path):
    def drawn(*options: str) -> bytes:
        out = tmp_path / "samples.png"
        assert browse_dataset.main([str(classification), "--out", str(out), "--count", "4", *options]) == 0
        return out.read_bytes()

    assert drawn("--seed", "1") == drawn("--seed", "1")
    assert drawn("--seed", "1") != drawn("--seed", "2")
    assert drawn("--seed", "1") != drawn("--seed", "1", "--epoch", "2")
    assert choose_samples(10, 4, 1) == choose_samples(10, 4, 1)
    assert sorted(choose_samples(10, 20)) == list(range(10))


def test_pictures_go_into_the_work_dir(classification: Path, tmp_path: Path):
    work_dir = tmp_path / "work"
    assert browse_dataset.main([str(classification), "--work-dir", str(work_dir), "--split", "test"]) == 0
    assert (work_dir / "samples_test.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "--count is 0"),
        (["--side", "5"], "under 100 pixels"),
        (["--cfg-options", "train_dataloader.dataset.root=nowhere"], "There is no folder"),
        (["--cfg-options", "val_dataloader=None", "--split", "val"], "there is data for train, test"),
    ],
)
def test_mistakes_end_with_a_message(
    arguments: list[str], message: str, classification: Path, capsys: pytest.CaptureFixture[str]
):
    assert browse_dataset.main([str(classification), *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said


# -- What is drawn -----------------------------------------------------------------------------------------------------


def test_objects_are_drawn_where_the_transform_put_them(coco: Path):
    dataset = detection(coco, {"type": "DetectionTrain", "scales": [(200, 200)], "flip": 1.0})
    index = next(index for index in range(len(dataset)) if len(dataset[index]["target"]))
    sample = dataset[index]
    drawn = np.asarray(draw_sample(dataset, sample, side=4000)).astype(int)
    target = sample["target"]
    factor = -(-320 // max(sample["image"].shape[1:]))
    x1, y1, _, y2 = (int(side * factor) for side in target.boxes[-1].clamp(min=0).tolist())
    colour = np.array(class_color(int(target.labels[-1])))
    middle = (y1 + y2) // 2
    on_the_line = np.abs(drawn[middle, max(0, x1) : x1 + 3] - colour).max(-1) <= 2
    assert on_the_line.any()
    assert has_colour(Image.fromarray(drawn.astype(np.uint8)), class_color(int(target.labels[0])))


def test_an_evaluations_samples_show_their_objects_too(coco: Path):
    dataset = detection(coco, {"type": "DetectionTest", "scale": (200, 200)})
    assert dataset[0]["target"] is None
    shown = [get_sample(dataset, index) for index in range(len(dataset))]
    index = next(index for index, sample in enumerate(shown) if len(sample["target"]))
    label = int(shown[index]["target"].labels[0])
    assert has_colour(draw_sample(dataset, shown[index], 4000), class_color(label))
    assert has_colour(draw_original(dataset, index, 4000), class_color(label))


def test_regions_that_do_not_count_are_dashed(coco: Path):
    dataset = detection(coco, {"type": "DetectionTrain", "scales": [(300, 300)], "flip": 0.0})
    samples = [dataset[index] for index in range(len(dataset))]
    crowded = next(sample for sample in samples if len(sample["target"].ignored_boxes))
    with_them = np.asarray(draw_sample(dataset, crowded))
    crowded["target"].ignored_boxes = None
    assert not np.array_equal(with_them, np.asarray(draw_sample(dataset, crowded)))


def test_views_show_the_first(coco: Path):
    dataset = detection(coco, {"type": "DetectionViews", "scales": [(120, 120)]})
    with Image.open(io.BytesIO(draw_samples(dataset, [0, 1]))) as image:
        assert image.width > 400


@pytest.mark.parametrize("kind", ["SegmentationTrain", "SegmentationTest"])
def test_label_maps_are_drawn_over_their_images(kind: str, tmp_path: Path):
    root = painted.save(tmp_path / "painted", image_suffix=".png")
    transform: dict[str, Any] = {"type": kind, "scale": (80, 60)}
    if kind == "SegmentationTrain":
        transform |= {"crop_size": (20, 30), "photometric": False}
    dataset = SegmentationFolders(str(root), "images", "labels", classes=list("abcd"), transform=transform)
    sample = dataset[0]
    drawn = draw_sample(dataset, sample, 4000)
    for label in torch.unique(sample["label_map"]).tolist():
        if label != 255:
            tint = 0.4 * painted.COLOURS[label] + 0.6 * np.array(class_color(label))
            assert has_colour(drawn, tuple(tint.round().astype(int).tolist()))
    assert draw_original(dataset, 0).width <= 400
    own = SegmentationFolders(
        str(root), "images", "labels", classes=list("abcd"), transform=transform, palette=[[9, 9, 9]] * 4
    )
    assert np.any(np.asarray(draw_sample(own, sample)) != np.asarray(draw_sample(dataset, sample)))


def test_what_cannot_be_drawn():
    class Nothing:
        classes = ("a",)

        def __str__(self) -> str:
            return "The data set nowhere"

    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="A sample with image, path is of no kind"):
        draw_sample(Nothing(), {"image": image, "path": "a"})
    with pytest.raises(ValueError, match="The data set nowhere has no samples"):
        draw_samples(Nothing(), [])
    with pytest.raises(ValueError, match="does not tell what its files hold"):
        draw_original(Nothing(), 0)
