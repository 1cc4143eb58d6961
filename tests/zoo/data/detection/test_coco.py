import json
import multiprocessing

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo.zoo.data import BrokenImageError, CocoDetection, DetectionTest, SampleKey
from attnzoo.zoo.data.detection import coco_classes
from attnzoo.zoo.registry import DATASETS
from attnzoo.zoo.training.loaders import build_dataloader
from support import painted_coco


class Plain(DetectionTest):
    """Returns images as they are, with annotations."""

    training = True

    def apply(self, sample):
        pass


@pytest.fixture
def root(tmp_path):
    return painted_coco.save(tmp_path / "coco")


def train(root, **changes):
    return CocoDetection(str(root), "train2017", **{"transform": Plain(), **changes})


def changed(tmp_path, change):
    """Writes a set whose annotation file was changed; returns its root."""
    made = painted_coco.content()
    root = painted_coco.save(tmp_path / "changed", made)
    change(made)
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(made))
    return root


def test_samples_match_pycocotools(root):
    made = painted_coco.content()
    sizes = {image["id"]: (image["height"], image["width"]) for image in made["images"]}
    labels = {3: 0, 7: 1, 42: 2}
    dataset = train(root)
    assert dataset.classes == painted_coco.CLASSES
    assert dataset.categories == (3, 7, 42)
    assert dataset.metainfo["ann_file"] == str(root / "annotations" / "instances_train2017.json")
    assert [dataset[index]["image_id"] for index in range(len(dataset))] == [11, 5, 30]
    for index in range(3):
        sample = dataset[SampleKey(4, index, 1)]
        assert (sample["index"], sample["epoch"], sample["repeat"], sample["broken"]) == (index, 4, 1, [])
        every = painted_coco.instances(made, sample["image_id"])
        kept = [one for one in every if not one["iscrowd"]]
        height, width = sizes[sample["image_id"]]
        expected = np.stack([painted_coco.bitmap(one["segmentation"], height, width) for one in kept])
        target = sample["target"]
        assert target.masks.dtype == torch.uint8
        np.testing.assert_array_equal(target.masks.numpy(), expected)
        assert target.labels.tolist() == [labels[one["category_id"]] for one in kept]
        boxes = np.array([one["bbox"] for one in every])
        boxes[:, 2:] += boxes[:, :2]
        crowd = np.array([one["iscrowd"] for one in every], dtype=bool)
        np.testing.assert_allclose(target.boxes.numpy(), boxes[~crowd])
        np.testing.assert_allclose(target.ignored_boxes.numpy().reshape(-1, 4), boxes[crowd])
        pixels = np.asarray(Image.open(sample["path"]))
        np.testing.assert_array_equal(sample["image"].permute(1, 2, 0).numpy(), pixels)
        assert sample["info"].image_size == sample["info"].original_size == (height, width)


def test_evaluation_uses_every_image_without_annotations(root):
    dataset = CocoDetection(str(root), "train2017", transform={"type": "DetectionTest", "scale": (160, 120)})
    assert [dataset[index]["image_id"] for index in range(len(dataset))] == [11, 5, 30, 2]
    assert dataset[0]["target"] is None
    np.testing.assert_allclose(dataset.aspect_ratios, [160 / 120, 110 / 150, 130 / 90, 1])
    boxes = dataset.load(0).boxes
    assert boxes is not None
    assert len(boxes) == 3
    assert len(CocoDetection(str(root), "train2017", transform=DetectionTest(), filter_empty=True)) == 3


def test_images_that_training_drops(root):
    assert len(train(root)) == 3
    assert len(train(root, filter_empty=False)) == 4
    assert train(root, min_size=100).image_ids.tolist() == [11, 5]
    empty = train(root, filter_empty=False)[3]["target"]
    assert empty.boxes.shape == (0, 4)
    assert empty.masks.shape == (0, 64, 64)
    assert empty.labels.shape == (0,)


def test_classes_select_categories(root):
    dataset = train(root, classes=["ring", "disc"])
    assert dataset.classes == ("disc", "ring")
    assert dataset.categories == (7, 42)
    assert dataset[0]["target"].labels.tolist() == [1]
    assert dataset[1]["target"].labels.tolist() == [0, 1]
    # A crowd alone keeps an image, as in mmdet.
    assert train(root, classes=["disc"]).image_ids.tolist() == [5, 30]
    with pytest.raises(ValueError, match=r"Unknown category 'rings'. Did you mean 'ring'"):
        train(root, classes=["rings"])
    with pytest.raises(ValueError, match="has 2 classes, not num_classes=3"):
        train(root, classes=["ring", "disc"], num_classes=3)


def test_boxes_without_masks(root):
    target = train(root, with_masks=False)[0]["target"]
    assert target.masks is None
    assert len(target) == 3


def test_instances_that_mmdet_drops(tmp_path):
    def change(made):
        first = made["annotations"][0]
        extra = [
            {"bbox": [10, 10, 0.5, 20]},  # thinner than a pixel
            {"bbox": [200, 10, 20, 20]},  # outside
            {"area": 0},
            {"ignore": True},
            {"bbox": [150, 100, 40, 50]},  # clipped
            {"segmentation": [[1, 2, 3, 4]]},  # not a polygon: neither object nor background
        ]
        made["annotations"] += [{**first, **one, "id": 200 + number} for number, one in enumerate(extra)]

    dataset = train(changed(tmp_path, change))
    target = dataset[0]["target"]
    assert len(target) == 3 + 1
    assert target.boxes[-1].tolist() == [150, 100, 160, 120]
    assert len(target.ignored_boxes) == 1
    assert len(train(changed(tmp_path, change), with_masks=False)[0]["target"]) == 3 + 2


def test_the_order_of_annotations_does_not_matter(tmp_path):
    # Annotations may be in any order in the file.
    expected = [train(painted_coco.save(tmp_path / "a"))[index]["target"].boxes for index in range(3)]
    root = changed(tmp_path, lambda made: made["annotations"].sort(key=lambda one: one["bbox"]))
    for index, boxes in enumerate(expected):
        found = train(root)[index]["target"].boxes
        assert sorted(found.tolist()) == sorted(boxes.tolist())


def test_paths_of_the_annotation_file(root, tmp_path):
    own = root / "my.json"
    own.write_text((root / "annotations" / "instances_train2017.json").read_text())
    assert len(train(root, annotations="my.json")) == 3
    assert len(train(root, annotations=str(own))) == 3
    inside = CocoDetection(str(root / "train2017"), annotations=str(own), transform=Plain())
    assert inside[0]["path"] == str(root / "train2017" / "000011.png")
    with pytest.raises(ValueError, match=r"no annotation file .*instances_val2017.json"):
        CocoDetection(str(root), "val2017", transform=Plain())
    with pytest.raises(ValueError, match="Set split, or the annotation file"):
        CocoDetection(str(root), transform=Plain())
    with pytest.raises(ValueError, match="needs a transform"):
        CocoDetection(str(root), "train2017")


def test_a_data_set_without_annotations_is_empty_in_training(tmp_path):
    with pytest.raises(ValueError, match=r"is empty: none of the 4 images in the file.*filter_empty=False"):
        train(changed(tmp_path, lambda made: made.update(annotations=[])))


def test_broken_images_are_replaced_only_in_training(root):
    path = root / "train2017" / "000005.png"
    path.write_bytes(path.read_bytes()[:200])
    dataset = train(root)
    sample = dataset[1]
    assert sample["index"] == 1
    assert sample["broken"] == [str(path)]
    assert sample["image_id"] in (11, 30)
    assert sample["path"].endswith(f"{sample['image_id']:06}.png")
    assert dataset[1]["image_id"] == sample["image_id"]
    with pytest.raises(BrokenImageError, match=r"000005.png cannot be read"):
        CocoDetection(str(root), "train2017", transform=DetectionTest())[1]
    path.unlink()
    assert dataset[1]["broken"] == [str(path)]
    with pytest.raises(IndexError, match="no sample 3: its 3"):
        dataset[3]


def test_an_image_of_another_size_is_broken(root):
    Image.new("RGB", (50, 40)).save(root / "train2017" / "000005.png")
    with pytest.raises(BrokenImageError, match="40x50 pixels, its annotation file says 150x110"):
        CocoDetection(str(root), "train2017", transform=DetectionTest())[1]


def test_samples_depend_on_their_key_alone(root):
    dataset = DATASETS.build(
        {
            "type": "CocoDetection",
            "root": str(root),
            "split": "train2017",
            "transform": {"type": "DetectionTrain", "mode": "detr", "scales": [(160, 90), (200, 120)]},
            "seed": 5,
        }
    )

    def facts(sample):
        return sample["image"].sum().item(), sample["target"].boxes.sum().item(), sample["info"]

    keys = [SampleKey(epoch, index) for epoch in range(3) for index in range(3)]
    samples = {key: facts(dataset[key]) for key in keys}
    assert {key: facts(dataset[key]) for key in reversed(keys)} == samples
    assert len({samples[SampleKey(epoch, 0)] for epoch in range(3)}) == 3
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(dataset.__getitem__, keys[:1])[0]["info"] == samples[keys[0]][2]


class Threads(Plain):
    """Returns the number of OpenCV's threads."""

    def __call__(self, sample):
        return {"threads": cv2.getNumThreads()}


def test_workers_resize_with_one_thread(root):
    loader = {"dataset": train(root, transform=Threads()), "sampler": {"type": "EpochSampler"}, "batch_size": 3}
    here = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        (batch,) = build_dataloader({**loader, "num_workers": 1, "collate_fn": {"type": "dense_collate"}})
    finally:
        cv2.setNumThreads(here)
    assert batch["threads"] == [1] * 3


def test_class_names_are_known_before_the_file_is_read(root):
    names = CocoDetection.class_names
    assert names(root="data/coco", split="val2017") == coco_classes.CLASSES
    assert names(root="data/coco", annotations="annotations/instances_train2014.json") == coco_classes.CLASSES
    assert len(set(coco_classes.CLASSES)) == 80
    # Labels follow the ids, not the order in which the classes are chosen.
    assert names(root="data/coco", split="val2017", classes=["dog", "cat", "person"]) == ("person", "cat", "dog")
    assert names(root="fish", split="val", classes=["eel", "cod"]) == ("eel", "cod")
    # A file with the name of COCO's may hold other categories.
    assert names(root=str(root), split="train2017") == ("kite", "disc", "ring")
    assert names(root=str(root), split="train2017", classes=["ring", "disc"]) == ("disc", "ring")
    assert names(root=str(root)) is None
    assert names(root="fish", split="val") is None
    assert CocoDetection.kind == "detection"


def test_missing_files_are_named_by_their_argument(root):
    check = CocoDetection.check_paths
    assert list(check(root=str(root), split="train2017")) == []
    assert list(check(root=str(root), annotations="annotations/instances_train2017.json")) == []
    problems = list(check(root=str(root), split="val2017"))
    assert [problem.split(" (from")[0] for problem in problems] == [
        f"split: there is no {root / 'val2017'}",
        f"annotations: there is no {root / 'annotations/instances_val2017.json'}",
    ]
    (problem,) = check(root=str(root / "nothing"), split="train2017")
    assert problem.startswith(f"root: there is no {root / 'nothing'} (from")
