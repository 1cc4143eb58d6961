import cv2
import numpy as np
import pytest
import torch

from attnzoo.zoo.data import SegmentationTest, SegmentationTrain, SegmentationViews
from attnzoo.zoo.data.common.resizing import fitted_size, resize_image
from attnzoo.zoo.data.segmentation import transforms as segmentation_transforms
from attnzoo.zoo.registry import TRANSFORMS
from attnzoo.zoo.seeding import isolated_randomness
from support import head_packs, painted

PACK, STORED = head_packs.load("preprocess")


def hwc(image):
    return image.permute(1, 2, 0).numpy()


def test_evaluation_sizes_match_openmmlab():
    case = head_packs.case_of(PACK, "seg_2048x512")
    plain = SegmentationTest(tuple(case["inputs"]["scale"]))
    rounded = SegmentationTest(tuple(case["inputs"]["scale"]), resize_to_multiple=32)
    for (height, width), row in zip(case["inputs"]["ori_shapes"], case["rows"], strict=True):
        image = np.zeros((height, width, 3), np.uint8)
        sizes = []
        for transform in (plain, rounded):
            sample = transform(image, None)
            info = sample["info"]
            assert sample["image"].shape == (3, *info.image_size)
            assert info.original_size == (height, width)
            assert info.scale_factor == (info.image_size[1] / width, info.image_size[0] / height)
            sizes += info.image_size
        assert sizes == row


@pytest.mark.parametrize("name", ["resize_up", "resize_down"])
def test_resized_images_match_openmmlab(name):
    case = head_packs.case_of(PACK, name)
    for number, image in enumerate(head_packs.images(case)):
        sample = SegmentationTest(tuple(case["inputs"]["scale"]))(image[..., ::-1], None)
        assert list(hwc(sample["image"]).shape) == case["outputs"][f"resized_{number}"]
        bgr = torch.from_numpy(np.ascontiguousarray(hwc(sample["image"])[..., ::-1]))
        head_packs.check_equal(bgr.float(), case, STORED, f"resized_{number}")


def test_evaluation_keeps_the_labels_as_they_are():
    labels = painted.labels(0)
    for multiple, size in ((None, (45, 60)), (32, (64, 64))):
        sample = SegmentationTest((60, 60), resize_to_multiple=multiple)(painted.paint(labels), labels)
        np.testing.assert_array_equal(sample["label_map"], labels)
        assert sample["info"].image_size == size
    assert SegmentationTest((60, 20), keep_ratio=False)(painted.paint(labels), None)["image"].shape == (3, 20, 60)
    assert SegmentationTest()(painted.paint(labels), None)["label_map"] is None


def test_the_second_resize_starts_from_the_first():
    image = np.random.default_rng(0).integers(0, 256, (33, 50, 3)).astype(np.uint8)
    first = resize_image(image, fitted_size(33, 50, (70, 70)))
    expected = cv2.resize(first, (96, 64), interpolation=cv2.INTER_LINEAR)
    got = SegmentationTest((70, 70), resize_to_multiple=32)(image, None)["image"]
    np.testing.assert_array_equal(hwc(got), expected)


def test_views_are_every_scale_and_its_flip():
    labels = painted.labels(1)
    image = painted.paint(labels)
    sample = SegmentationViews(ratios=(0.5, 1.0, 1.5), scale=(80, 41))(image, labels)
    assert set(sample) == {"views", "label_map"}
    np.testing.assert_array_equal(sample["label_map"], labels)
    views = sample["views"]
    # 41 x 0.5 and x 1.5 are rounded down before the image is fitted.
    assert [view["info"].image_size for view in views[::2]] == [(20, 27), (41, 55), (61, 81)]
    assert [view["info"].flip for view in views] == [False, True] * 3
    for plain, mirrored, ratio in zip(views[::2], views[1::2], (0.5, 1.0, 1.5), strict=True):
        assert torch.equal(mirrored["image"], plain["image"].flip(-1))
        scaled = SegmentationTest((int(80 * ratio), int(41 * ratio)))(image, None)
        assert torch.equal(plain["image"], scaled["image"])
        assert plain["info"] == scaled["info"]
    assert len(SegmentationViews(ratios=(1.0,), flip=False)(image, None)["views"]) == 1
    whole = SegmentationViews(ratios=(1.0,), scale=(80, 40), resize_to_multiple=32)(image, None)["views"]
    assert whole[0]["image"].shape == (3, 64, 64)


def train(seed, height=60, width=80, **arguments):
    labels = painted.labels(seed, height, width)
    arguments = {"scale": (120, 60), "crop_size": (32, 40), "photometric": False, **arguments}
    transform = TRANSFORMS.build({"type": "SegmentationTrain", **arguments})
    with isolated_randomness(seed):
        return transform(painted.paint(labels), labels)


def test_images_and_labels_move_together():
    sizes, flips, scales = set(), set(), []
    for seed in range(60):
        sample = train(seed)
        image, labels, info = hwc(sample["image"]), sample["label_map"].numpy(), sample["info"]
        assert image.shape[:2] == labels.shape == info.image_size
        # Resizing mixes colors along the borders of the blocks.
        assert painted.agreement(image, labels) > 0.85
        assert painted.agreement(image[:, ::-1], labels) < 0.85 or (labels == labels[:, ::-1]).mean() > 0.8
        sizes.add(labels.shape)
        flips.add(info.flip)
        scales.append(info.scale_factor[0])
        assert info.original_size == (60, 80)
    assert flips == {False, True}
    assert all(height <= 32 and width <= 40 for height, width in sizes)
    assert (32, 40) in sizes
    # The factor 1 fits 80 x 60 into 120 x 60, so that scale factors equal the drawn factors.
    assert 0.5 <= min(scales) < 0.65
    assert 1.85 < max(scales) <= 2.0


def test_images_smaller_than_the_crop_are_not_padded():
    sample = train(0, ratio_range=(0.5, 0.5), crop_size=(64, 64))
    assert sample["image"].shape == (3, 30, 40)
    assert sample["label_map"].shape == (30, 40)


def test_crops_can_be_anywhere():
    labels = np.arange(200, dtype=np.uint8).reshape(10, 20)
    image = np.repeat(labels[..., None], 3, 2)
    transform = SegmentationTrain((20, 10), (1.0, 1.0), (4, 6), photometric=False, flip=0.0)
    corners = set()
    for seed in range(2000):
        with isolated_randomness(seed):
            sample = transform(image, labels)
        corner = int(sample["label_map"][0, 0])
        corners.add(corner)
        assert torch.equal(sample["image"][0], sample["label_map"])
        top, left = divmod(corner, 20)
        np.testing.assert_array_equal(sample["label_map"], labels[top : top + 4, left : left + 6])
    assert corners == {20 * top + left for top in range(7) for left in range(15)}


def test_crops_of_mostly_one_class_are_drawn_again():
    labels = np.zeros((40, 200), np.uint8)
    labels[:, 170:] = 1
    labels[:20, :100] = 255  # ignored pixels are not a class, however many there are

    def parts(**arguments):
        found = []
        for seed in range(100):
            with isolated_randomness(seed):
                transform = SegmentationTrain((200, 40), (1.0, 1.0), (40, 40), photometric=False, **arguments)
                crop = transform(painted.paint(labels), labels)["label_map"].numpy()
            counts = np.bincount(crop.ravel(), minlength=256)[:255]
            found.append(counts.max() / counts.sum())
        return np.array(found)

    free = (parts(cat_max_ratio=1.0) <= 0.75).mean()
    held = (parts(cat_max_ratio=0.75) <= 0.75).mean()
    assert 0.02 < free < 0.25
    # A crop is good with probability p = 21 / 161 (30 columns of class 1 at the end), one of eleven with 0.78.
    assert 0.65 < held < 0.95


def test_a_crop_is_drawn_at_most_eleven_times(monkeypatch):
    draws = []
    place = SegmentationTrain._draw_window
    monkeypatch.setattr(SegmentationTrain, "_draw_window", lambda self, size: draws.append(1) or place(self, size))
    image, labels = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    SegmentationTrain((40, 40), (1.0, 1.0), (8, 8))(image, labels)
    assert len(draws) == 1 + segmentation_transforms.CROP_TRIES == 11


def test_photometric_distortion_changes_only_colors():
    plain, changed = train(3), train(3, photometric=True)
    assert torch.equal(plain["label_map"], changed["label_map"])
    assert not torch.equal(plain["image"], changed["image"])
    assert plain["info"] == changed["info"]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (SegmentationTrain, {"scale": (2048,)}, "scale must be two positive integers"),
        (SegmentationTrain, {"scale": (2048.0, 512.0)}, "scale must be two positive integers"),
        (SegmentationTrain, {"crop_size": (512, 0)}, "crop_size must be two positive integers"),
        (SegmentationTrain, {"ratio_range": (2.0, 0.5)}, "ratio_range"),
        (SegmentationTrain, {"cat_max_ratio": 0.0}, "cat_max_ratio"),
        (SegmentationTrain, {"flip": 1.5}, "flip must be a probability"),
        (SegmentationTest, {"resize_to_multiple": 0}, "resize_to_multiple"),
        (SegmentationViews, {"ratios": ()}, "ratios"),
        (SegmentationViews, {"ratios": (1.0, 0.0)}, "ratios"),
    ],
)
def test_impossible_arguments_raise(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


def test_transforms_declare_whether_they_are_for_training():
    assert SegmentationTrain().training
    assert not SegmentationTest().training
    assert not SegmentationViews().training
