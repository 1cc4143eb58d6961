import copy
import json

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.data import CocoDetection, DetectionTest, DetectionTrain, check_coco
from support import painted_coco


@pytest.fixture
def build(tmp_path):
    """Writes a set, with a change to its annotation file, and builds it."""

    def make(change=None, training=True, **options):
        made = painted_coco.content()
        painted_coco.save(tmp_path, made)
        made["categories"] = copy.deepcopy(made["categories"])
        if change is not None:
            change(made)
        (tmp_path / "annotations" / "instances_train2017.json").write_text(json.dumps(made))
        transform = DetectionTrain() if training else DetectionTest()
        return CocoDetection(str(tmp_path), "train2017", transform=transform, **options)

    return make


def test_a_correct_data_set_has_no_errors(build, tmp_path):
    (finding,) = build().check()
    file = tmp_path / "annotations" / "instances_train2017.json"
    assert finding.startswith(f"The data set {file}: 1 of 4 images is left out")
    assert build(training=False).check() == []


def test_missing_files_are_named(build, tmp_path):
    dataset = build()
    (tmp_path / "train2017" / "000005.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 image files is missing: .*train2017/000005.png \(image 5\). Correct"):
        dataset.check()
    (tmp_path / "train2017").rename(tmp_path / "train")
    with pytest.raises(ValueError, match="3 of 3 image files are missing"):
        dataset.check()


def test_image_sizes_are_compared(build, tmp_path):
    dataset = build()
    Image.new("RGB", (50, 40)).save(tmp_path / "train2017" / "000005.png")
    with pytest.raises(
        ValueError, match=r"1 of 3 checked images has another.*000005.png \(image 5: 40x50, not 150x110\)"
    ):
        dataset.check()
    assert check_coco(dataset, most=0)
    (tmp_path / "train2017" / "000005.png").write_bytes(b"nothing")
    assert any("000005.png (UnidentifiedImageError: cannot identify" in finding for finding in dataset.check())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda made: [one.pop("segmentation") for one in made["annotations"]],
            "none of the 7 instances has a mask .*with_masks=False",
        ),
        (lambda made: [one.update(iscrowd=1) for one in made["annotations"]], "no instance of kite, disc, ring"),
    ],
)
def test_errors_name_the_ids_and_the_remedy(build, tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(change).check()
    assert f"The data set {tmp_path / 'annotations' / 'instances_train2017.json'} has errors:\n- " in str(caught.value)


def test_all_errors_are_reported_at_once(build, tmp_path):
    dataset = build(lambda made: [one.update(iscrowd=1) for one in made["annotations"]])
    (tmp_path / "train2017" / "000005.png").unlink()
    with pytest.raises(ValueError, match="has errors") as caught:
        dataset.check()
    assert str(caught.value).count("\n- ") == 2


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (
            lambda made: made["annotations"][0].update(bbox=[-5, 10, 40, 50]),
            "1 box extends beyond the image and is clipped: annotation 100.",
        ),
        (
            lambda made: [one.update(bbox=[1, 1, 0.5, 3]) for one in made["annotations"][:2]],
            "2 instances are left out, with a box thinner than a pixel",
        ),
        (lambda made: made["annotations"][0].update(area=0), "1 instance is left out"),
        (lambda made: made["annotations"][0].update(segmentation=[]), "1 instance has no mask"),
        (
            lambda made: made["images"].append({**made["images"][0], "id": 12}),
            "1 file is listed as several images: 00001",
        ),
        (lambda made: made["categories"].append({"id": 9, "name": "star"}), "1 of 4 classes have no instance: star."),
    ],
)
def test_findings_in_the_annotation_file(build, change, finding):
    assert any(finding in found for found in build(change).check())


def test_masks_are_not_checked_if_they_are_not_wanted(build):
    def change(made):
        made["annotations"][1]["segmentation"].update(size=[160, 120])
        made["annotations"][0].pop("segmentation")

    assert len(build(change, with_masks=False).check()) == 1


def test_a_data_set_without_annotations_can_be_used_for_prediction(build):
    dataset = build(lambda made: made.pop("annotations"), training=False)
    assert len(dataset) == 4
    assert any("3 of 3 classes have no instance" in finding for finding in dataset.check())
    assert np.array_equal(dataset.image_ids, [11, 5, 30, 2])
