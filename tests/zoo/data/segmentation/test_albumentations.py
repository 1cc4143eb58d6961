import collections
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from attnzoo.zoo.data import AlbumentationsSegmentation, SegmentationFolders
from attnzoo.zoo.data.common.albumentations import RESIZING, build_transforms
from attnzoo.zoo.registry import TRANSFORMS
from attnzoo.zoo.seeding import isolated_randomness
from support import painted

CROP = {"type": "RandomResizedCrop", "size": (24, 32)}
FLIPS = [{"type": "HorizontalFlip", "p": 0.5}, {"type": "VerticalFlip", "p": 0.5}]


def run(transforms, seed=0, training=True, labels=None):
    labels = painted.labels(seed) if labels is None else labels
    made = TRANSFORMS.build({"type": "AlbumentationsSegmentation", "transforms": transforms, "training": training})
    with isolated_randomness(seed):
        return made(painted.paint(labels), labels)


def test_images_and_labels_move_together():
    steps = [
        CROP,
        *FLIPS,
        {"type": "OneOf", "transforms": [{"type": "Transpose"}, {"type": "RandomRotate90"}], "p": 1.0},
    ]
    for seed in range(20):
        sample = run(steps, seed)
        labels = sample["label_map"].numpy()
        assert sample["image"].shape[1:] == labels.shape == sample["info"].image_size
        assert sample["image"].dtype == sample["label_map"].dtype == torch.uint8
        assert painted.agreement(sample["image"].permute(1, 2, 0).numpy(), labels) > 0.85
        assert sample["info"].original_size == (30, 40)


@pytest.mark.parametrize(
    "transform",
    [
        {"type": "CropAndPad", "percent": 0.07, "sample_independently": False},
        {"type": "LongestMaxSize", "max_size": 140},
        {"type": "RandomResizedCrop", "size": (100, 110), "scale": (0.5, 0.5)},
        {"type": "RandomScale", "scale_limit": (0.1, 0.1), "p": 1.0},
        {"type": "RandomSizedBBoxSafeCrop", "height": 140, "width": 140},
        {"type": "RandomSizedCrop", "min_max_height": (100, 110), "size": (128, 128)},
        {"type": "Resize", "height": 115, "width": 140},
        {"type": "SmallestMaxSize", "max_size": 140},
    ],
    ids=lambda transform: transform["type"],
)
def test_resized_labels_lie_where_the_image_does(transform):
    down, right = np.mgrid[:128, :128]
    disc = ((down - 60) ** 2 + (right - 64) ** 2 < 30**2).astype(np.uint8)
    made = build_transforms([transform])[0]
    resized = made(image=np.repeat(disc[..., None] * 255, 3, 2), mask=disc, bboxes=np.zeros((0, 4)))
    shown, labelled = resized["image"][..., 0] > 127, resized["mask"] > 0
    assert shown.shape != disc.shape or not np.array_equal(shown, disc > 0)
    assert (shown & labelled).sum() / (shown | labelled).sum() > 0.99
    assert transform["type"] in RESIZING


def test_transforms_of_a_pipeline_draw_independently():
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    seen = collections.Counter(
        tuple(run(FLIPS, seed, labels=labels)["label_map"].flatten().tolist()) for seed in range(80)
    )
    assert len(seen) == 4
    assert min(seen.values()) > 8


def test_samples_depend_on_their_seed_alone(tmp_path):
    root = str(painted.save(tmp_path))
    transform = {"type": "AlbumentationsSegmentation", "transforms": [CROP, *FLIPS, {"type": "ColorJitter"}]}
    sets = [SegmentationFolders(root, classes=list("abcd"), transform=transform) for _ in range(2)]
    sets[0][3]
    for index in range(4):
        first, second = sets[0][index], sets[1][index]
        assert torch.equal(first["image"], second["image"])
        assert torch.equal(first["label_map"], second["label_map"])
    assert not torch.equal(sets[0][0]["image"], sets[0][1]["image"])


def test_what_lies_beyond_the_border_does_not_count():
    whole = np.ones((30, 40), np.uint8)
    turned = {"type": "Rotate", "limit": (30, 30), "border_mode": 0, "p": 1.0}
    for steps in ([turned], [{"type": "OneOf", "transforms": [turned], "p": 1.0}]):
        assert set(run(steps, labels=whole)["label_map"].unique().tolist()) == {1, 255}
    assert set(run([{**turned, "fill_mask": 3}], labels=whole)["label_map"].unique().tolist()) == {1, 3}
    # A transform that leaves labels alone still does.
    hidden = {"type": "CoarseDropout", "p": 1.0}
    assert run([hidden], labels=whole)["label_map"].unique().tolist() == [1]


def test_in_evaluation_the_labels_stay():
    sample = run([{"type": "Resize", "height": 15, "width": 20}], training=False)
    assert sample["image"].shape == (3, 15, 20)
    np.testing.assert_array_equal(sample["label_map"], painted.labels(0))
    assert sample["info"].scale_factor == (0.5, 0.5)
    assert AlbumentationsSegmentation([], training=False)(painted.paint(painted.labels(0)), None)["label_map"] is None


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        (
            [{"type": "HorizontalFlp"}],
            r"no transform of albumentations 'HorizontalFlp'\. Did you mean 'HorizontalFlip'",
        ),
        ([{"type": "HorizontalFlip", "prob": 1}], r"no argument of albumentations' HorizontalFlip 'prob'"),
        ([{"type": "OneOf", "transforms": [{"type": "Rotate", "limt": 3}]}], r"Rotate 'limt'\. Did you mean 'limit'"),
        ([{"type": "RandomCrop", "height": "a", "width": 3}], "RandomCrop cannot be built"),
        ([{"type": "RandomCrop"}], "RandomCrop cannot be built"),
        ([{"p": 1}], "is a dict with 'type'"),
        (["HorizontalFlip"], "is a dict with 'type'"),
    ],
)
def test_impossible_transforms_raise(transforms, message):
    with pytest.raises(ValueError, match=message):
        AlbumentationsSegmentation(transforms)


def test_impossible_results_raise():
    with pytest.raises(ValueError, match=r"give float32 of shape \(30, 40, 3\).*leave out Normalize"):
        run([{"type": "Normalize"}])
    with pytest.raises(ValueError, match="need labels"):
        AlbumentationsSegmentation([CROP])(np.zeros((3, 3, 3), np.uint8), None)


@pytest.mark.slow
def test_the_library_is_imported_when_it_is_needed_and_without_the_network():
    code = (
        "import os, sys, attnzoo.zoo.data as data; assert 'albumentations' not in sys.modules; "
        "data.AlbumentationsSegmentation([]); assert 'albumentations' in sys.modules; "
        "assert sys.modules['albumentations.check_version'].opener is None; "
        "assert 'NO_ALBUMENTATIONS_UPDATE' not in os.environ"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
