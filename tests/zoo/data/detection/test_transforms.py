from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from attnzoo.zoo.config import ConfigError, check_config, load_config
from attnzoo.zoo.data import (
    AlbumentationsDetection,
    CocoDetection,
    DetectionSteps,
    DetectionTest,
    DetectionTrain,
    LargeScaleJitter,
    PhotometricDistortion,
    SampleKey,
)
from attnzoo.zoo.data.common.resizing import fitted_size
from attnzoo.zoo.data.detection.annotated_image import AnnotatedImage
from attnzoo.zoo.data.detection.transforms import MULTI_SCALE
from attnzoo.zoo.registry import TRANSFORMS
from attnzoo.zoo.seeding import isolated_randomness
from support import painted_coco
from support.parity import load_pack, relative_error


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return painted_coco.save(tmp_path_factory.mktemp("coco"))


def dataset(root, transform, **options):
    return CocoDetection(str(root), "train2017", transform=transform, **options)


SMALL: Any = [(200, short) for short in range(72, 161, 8)]
TRANSFORMS_OF_TRAINING: dict[str, dict[str, Any]] = {
    "single": {"type": "DetectionTrain", "scales": [(200, 140)]},
    "shrinking": {"type": "DetectionTrain", "scales": [(110, 70)]},
    "multi-scale": {"type": "DetectionTrain", "mode": "multi-scale", "scales": SMALL},
    "range": {"type": "DetectionTrain", "mode": "range", "scales": [(200, 90), (200, 150)]},
    "detr": {"type": "DetectionTrain", "mode": "detr", "scales": SMALL},
    "jitter": {"type": "LargeScaleJitter", "size": 150, "scale": (0.5, 2.0)},
    "jitter of boxes": {"type": "LargeScaleJitter", "size": 150, "scale": (0.5, 2.0), "boxes_from_masks": False},
    "steps": {
        "type": "DetectionSteps",
        "steps": [
            {"type": "LargeScaleJitter", "size": 150, "scale": (1.0, 2.0)},
            {"type": "DetectionTrain", "scales": [(170, 130)]},
        ],
    },
    "albumentations": {
        "type": "AlbumentationsDetection",
        "transforms": [
            {"type": "OneOf", "transforms": [{"type": "HorizontalFlip", "p": 1}, {"type": "VerticalFlip", "p": 1}]},
            {"type": "RandomCrop", "height": 60, "width": 60, "p": 0.5},
            {"type": "Resize", "height": 140, "width": 120, "p": 0.5},
        ],
    },
    "rotation": {
        "type": "AlbumentationsDetection",
        "transforms": [{"type": "Affine", "rotate": (-40, 40), "fill": 128, "p": 1}],
        "boxes_from_masks": True,
    },
    "both": {
        "type": "DetectionSteps",
        "steps": [
            {"type": "DetectionTrain", "scales": [(170, 130)]},
            {"type": "AlbumentationsDetection", "transforms": [{"type": "HorizontalFlip"}]},
            {"type": "LargeScaleJitter", "size": 150, "scale": (1.0, 2.0)},
        ],
    },
}


@pytest.fixture(scope="module")
def pack():
    return load_pack("heads", "preprocess")


def pack_image(seed, shape, block):
    """Rebuilds an image of the parity pack, (height, width, 3) uint8."""
    state = np.random.RandomState
    coarse = state(seed).randint(0, 256, (-(-shape[0] // block), -(-shape[1] // block), 3))
    image = np.kron(coarse, np.ones((block, block, 1), np.int64))[: shape[0], : shape[1]]
    return np.clip(image + state(seed + 1).randint(-20, 21, shape), 0, 255).astype(np.uint8)


def unlike(pixels, color):
    return np.abs(pixels.astype(int) - color).max(axis=-1)


def check_against_pixels(sample, made, rim=3, tight=False):
    """Compares masks, boxes and labels with the colors in the image."""
    pixels = sample["image"].permute(1, 2, 0).numpy()
    target = sample["target"]
    every = painted_coco.instances(made, sample["image_id"])
    kernel = np.ones((2 * rim - 1, 2 * rim - 1), np.uint8)
    left = list(range(len(target)))
    labels = {3: 0, 7: 1, 42: 2}
    assert target.masks.shape == (len(target), *pixels.shape[:2])
    assert (pixels.shape[0], pixels.shape[1]) == sample["info"].image_size
    for number, one in enumerate(every):
        seen = (unlike(pixels, painted_coco.COLORS[number]) < 40).astype(np.uint8)
        inner = cv2.erode(seen, np.ones((3, 3), np.uint8))
        if one["iscrowd"]:
            if inner.any():
                assert any(_covers(box, inner) for box in target.ignored_boxes.numpy())
            continue
        found = [place for place in left if (target.masks[place].numpy() & inner).any()]
        if not found:
            assert seen.sum() < 20
            continue
        (place,) = found
        left.remove(place)
        assert target.labels[place] == labels[one["category_id"]]
        mask = target.masks[place].numpy()
        # The eroded mask has only that color, and that color is only in the dilated mask.
        inside = np.asarray(cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0))
        assert not (inside > seen).any()
        assert not (seen > np.asarray(cv2.dilate(mask, kernel))).any()
        x1, y1, x2, y2 = target.boxes[place].tolist()
        assert 0 <= x1 < x2 <= pixels.shape[1]
        assert 0 <= y1 < y2 <= pixels.shape[0]
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        around = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        box = np.array([x1, y1, x2, y2])
        if tight:
            assert np.abs(around - box).max() <= 2
        else:  # a box cut by a crop may be larger than what is left of the instance
            assert (box[:2] <= around[:2] + 2).all()
            assert (box[2:] >= around[2:] - 2).all()
    for place in left:  # only a few pixels of these instances are visible
        assert target.masks[place].sum() < 60


def _covers(box, seen):
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return box[0] <= columns[0] + 2 and box[1] <= rows[0] + 2 and box[2] >= columns[-1] - 2 and box[3] >= rows[-1] - 2


@pytest.mark.parametrize("name", TRANSFORMS_OF_TRAINING)
def test_image_masks_boxes_and_labels_move_together(root, name):
    made = painted_coco.content()
    data = dataset(root, TRANSFORMS_OF_TRAINING[name])
    tight = name in ("single", "shrinking", "multi-scale", "range", "jitter", "rotation")
    for epoch in range(12):
        for index in range(3):
            check_against_pixels(data[SampleKey(epoch, index)], made, tight=tight)


def test_sizes_match_openmmlab(pack):
    facts, _ = pack
    (case,) = [case for case in facts["cases"] if case["call"] == "det_sizes"]
    transform = DetectionTest(case["inputs"]["scale"])
    for (height, width), (new_height, new_width, scale_x, scale_y) in zip(
        case["inputs"]["ori_shapes"], case["rows"], strict=True
    ):
        info = transform(AnnotatedImage(np.zeros((height, width, 3), np.uint8), (height, width)))["info"]
        assert info.image_size == (new_height, new_width)
        assert info.original_size == (height, width)
        assert info.scale_factor == pytest.approx((scale_x, scale_y), abs=1e-12)
        assert not info.flip


@pytest.mark.parametrize("name", ["resize_up", "resize_down"])
def test_resized_pixels_match_openmmlab(pack, name):
    facts, golden = pack
    (case,) = [case for case in facts["cases"] if case["name"] == name]
    for number, image in enumerate(case["inputs"]["images"]):
        pixels = pack_image(image["seed"], image["shape"], image["block"])
        sample = DetectionTest(case["inputs"]["scale"])(AnnotatedImage(pixels, (pixels.shape[0], pixels.shape[1])))
        resized = sample["image"].permute(1, 2, 0)
        assert list(resized.shape) == case["outputs"][f"resized_{number}"]
        assert relative_error(resized, golden[f"{name}/resized_{number}"]) == 0.0


def test_views_without_annotations_have_no_target():
    sample = DetectionTest((40, 30))(AnnotatedImage(np.zeros((50, 60, 3), np.uint8), (50, 60)))
    assert sample["target"] is None
    assert sample["image"].shape == (3, 30, 36)


def sizes_of(transform, height, width, count=400):
    found = []
    for seed in range(count):
        with isolated_randomness(seed):
            sample = AnnotatedImage(np.zeros((height, width, 3), np.uint8), (height, width))
            transform.apply(sample)
        found.append((sample.size, sample.flip, sample.affine))
    return found


def test_distribution_of_scales():
    drawn = sizes_of(DetectionTrain(mode="multi-scale"), 48, 64, 200)
    assert [short for _, short in MULTI_SCALE] == [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]
    assert {size for size, _, _ in drawn} == {fitted_size(48, 64, scale) for scale in MULTI_SCALE}
    assert 60 < sum(flip for _, flip, _ in drawn) < 140
    assert {size for size, _, _ in sizes_of(DetectionTrain(), 48, 64, 5)} == {(800, 1067)}
    short = {min(size) for size, _, _ in sizes_of(DetectionTrain(mode="range", flip=0.0), 48, 64, 200)}
    assert min(short) >= 640
    assert max(short) <= 800
    assert len(short) > 60
    assert not any(flip for _, flip, _ in sizes_of(DetectionTrain(flip=0.0), 48, 64, 20))
    strip = DetectionTrain(mode="range", scales=[(60, 40), (90, 50)])  # so long that only the longer side limits it
    assert {max(size) for size, _, _ in sizes_of(strip, 10, 100, 300)} == set(range(60, 91))


def test_sizes_of_detrs_crops():
    drawn = sizes_of(DetectionTrain(mode="detr", flip=0.0), 48, 64, 200)
    shorts = {short for _, short in MULTI_SCALE}
    assert {min(size) for size, _, _ in drawn} <= shorts | set(range(300, 800))
    cropped = [place for size, _, place in drawn if size != tuple(round(side * place.scale_y) for side in (48, 64))]
    assert 60 < len(cropped) < 140
    # Before it is resized again, a crop has sides of 384 to 600.
    for size, _, place in drawn:
        shown_height, shown_width = size[0] / place.scale_y, size[1] / place.scale_x
        assert shown_height <= 48.01
        assert shown_width <= 64.01
        assert shown_width / 64 * 600 / 48 * 64 >= 384 - 1


def test_sizes_of_large_scale_jitter():
    drawn = sizes_of(LargeScaleJitter(64, flip=0.0), 48, 64, 300)
    factors = np.array([place.scale_x for _, _, place in drawn])
    assert factors.min() < 0.2
    assert factors.max() > 1.9
    assert abs(factors.mean() - 1.05) < 0.1
    for size, _, place in drawn:
        assert max(size) <= 64
        if place.scale_x > 1.4:
            assert size == (64, 64)
        # Crops are rounded to pixels, which changes the aspect ratio by up to half a pixel.
        assert abs(place.scale_x / place.scale_y - 1) < 0.5 / (64 / place.scale_x - 0.5) + 0.5 / 5
        assert -place.shift_x / place.scale_x + size[1] / place.scale_x <= 64 + 1e-6


def test_boxes_from_masks_enclose_the_visible_part(root):
    # A ring is cropped so that the clipped box has only background at its right.
    data = dataset(root, LargeScaleJitter(100, (2.0, 2.0), flip=0.0))
    boxes = dataset(root, LargeScaleJitter(100, (2.0, 2.0), flip=0.0, boxes_from_masks=False))
    differing = 0
    for epoch in range(10):
        tight, cut = data[SampleKey(epoch, 0)]["target"], boxes[SampleKey(epoch, 0)]["target"]
        assert len(tight) == len(cut)
        assert (tight.boxes[:, :2] >= cut.boxes[:, :2] - 2).all()
        assert (tight.boxes[:, 2:] <= cut.boxes[:, 2:] + 2).all()
        differing += int(((tight.boxes - cut.boxes).abs() > 3).any())
    assert differing


def test_the_crop_of_detr_has_every_scale_and_place():
    """The affine map tells how an image was resized before the crop, and where the crop begins."""
    transform = DetectionTrain("detr")
    shorts, starts = set(), []
    with isolated_randomness(0):
        for _ in range(50):
            sample = AnnotatedImage(np.zeros((300, 360, 3), np.uint8), (300, 360))
            transform._crop(sample)
            shorts.add(round(300 * sample.affine.scale_y))
            for side, length, scale, shift in (
                (sample.size[0], 300, sample.affine.scale_y, sample.affine.shift_y),
                (sample.size[1], 360, sample.affine.scale_x, sample.affine.shift_x),
            ):
                resized = round(length * scale)
                assert 384 <= side <= 600
                assert 0 <= -shift <= resized - side
                if resized - side > 50:
                    starts.append(-shift / (resized - side))
    assert shorts == {400, 500, 600}
    assert min(starts) < 0.1
    assert max(starts) > 0.9
    assert np.mean(starts) == pytest.approx(0.5, abs=0.1)


def test_crops_without_instances_are_empty(root):
    for transform in (LargeScaleJitter(20, (8.0, 8.0)), DetectionTrain(scales=[(80, 60)])):
        data = dataset(root, transform, filter_empty=False)
        target = data[3]["target"]
        assert len(target) == 0
        assert target.masks.shape[1:] == data[3]["image"].shape[1:]
    counts = [
        len(dataset(root, LargeScaleJitter(20, (8.0, 8.0)))[SampleKey(epoch, 2)]["target"]) for epoch in range(20)
    ]
    assert 0 in counts
    assert 1 in counts


def test_photometric_distortion_keeps_the_annotations(root):
    plain = dataset(root, DetectionTrain(flip=0.0, scales=[(160, 120)]))
    steps = {"type": "DetectionSteps", "steps": [{"type": "DetectionTrain", "flip": 0.0, "scales": [(160, 120)]}]}
    steps["steps"].append({"type": "PhotometricDistortion"})
    distorted = dataset(root, steps)
    changed = 0
    for epoch in range(8):
        first, second = plain[SampleKey(epoch, 0)], distorted[SampleKey(epoch, 0)]
        torch.testing.assert_close(first["target"].boxes, second["target"].boxes)
        assert torch.equal(first["target"].masks, second["target"].masks)
        changed += int(not torch.equal(first["image"], second["image"]))
    assert changed >= 5
    assert PhotometricDistortion().training


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DetectionTest((800,)), "scale must be two positive integers"),
        (lambda: DetectionTrain(scales=[]), "scales must not be empty"),
        (lambda: DetectionTrain(scales=[(1333, 800), (1333, 640)]), "mode='multi-scale'"),
        (lambda: TRANSFORMS.build({"type": "DetectionTrain", "mode": "multiscale"}), "Did you mean 'multi-scale'"),
        (lambda: DetectionTrain(flip=1.5), "flip must be a probability"),
        (lambda: LargeScaleJitter(0), "size must be an integer >= 1"),
        (lambda: LargeScaleJitter(scale=(2.0, 0.1)), "minimum and maximum factor"),
        (lambda: DetectionSteps([]), "needs steps"),
        (lambda: DetectionSteps([{"type": "Evaluation"}]), "must be detection transforms, got Evaluation"),
        (lambda: AlbumentationsDetection([]), "needs transforms"),
        (lambda: AlbumentationsDetection([{"type": "HueSaturation"}]), "Did you mean 'HueSaturationValue'"),
        (lambda: AlbumentationsDetection([{"type": "HueSaturationValue", "hue": 3}]), "'hue'.*'hue_shift_limit'"),
        (lambda: AlbumentationsDetection([{"type": "OneOf", "transforms": [{"type": "Blur", "pp": 1}]}]), "'pp'"),
    ],
)
def test_impossible_arguments_raise(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def check(transform):
    dataset = {"type": "CocoDetection", "root": "coco", "split": "train", "transform": transform}
    loader = {"batch_size": 2, "sampler": {"type": "EpochSampler"}, "dataset": dataset}
    model = load_config("nat_mask-rcnn_scenes").model
    check_config(Config({"model": model, "train_dataloader": loader}), paths=False)


def test_config_checks_include_albumentations():
    for name, transform in TRANSFORMS_OF_TRAINING.items():
        check(transform)
        assert TRANSFORMS.build(transform).training, name
    assert not TRANSFORMS.build({"type": "DetectionTest"}).training
    wrong: Any = {
        "type": "DetectionSteps",
        "steps": [
            {"type": "DetectionTrian"},
            {"type": "AlbumentationsDetection", "transforms": [{"type": "OneOf", "transforms": [{"type": "Blurr"}]}]},
            {"type": "AlbumentationsDetection", "transforms": [{"type": "Blur", "blur_limits": 3}]},
        ],
    }
    with pytest.raises(ConfigError) as caught:
        check(wrong)
    first, second, third = str(caught.value).splitlines()
    assert "steps.0.type: " in first
    assert "'DetectionTrain'" in first
    assert "steps.1.transforms.0.transforms.0.type: " in second
    assert "'Blur'" in second
    assert "steps.2.transforms.0.blur_limits: " in third
    assert "'blur_limit'" in third
