import os
import subprocess
import sys

import numpy as np
import pytest

from attnzoo.zoo.data import AlbumentationsSegmentation
from attnzoo.zoo.data.common.albumentations import RESIZING, build_transforms


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
def test_resized_labels_are_aligned_with_the_image(transform):
    down, right = np.mgrid[:128, :128]
    disc = ((down - 60) ** 2 + (right - 64) ** 2 < 30**2).astype(np.uint8)
    made = build_transforms([transform])[0]
    resized = made(image=np.repeat(disc[..., None] * 255, 3, 2), mask=disc, bboxes=np.zeros((0, 4)))
    shown, labelled = resized["image"][..., 0] > 127, resized["mask"] > 0
    assert shown.shape != disc.shape or not np.array_equal(shown, disc > 0)
    assert (shown & labelled).sum() / (shown | labelled).sum() > 0.99
    assert transform["type"] in RESIZING


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        (
            [{"type": "HorizontalFlp"}],
            r"Unknown Albumentations transform 'HorizontalFlp'\. Did you mean 'HorizontalFlip'",
        ),
        ([{"type": "HorizontalFlip", "prob": 1}], r"Albumentations' HorizontalFlip has no argument 'prob'"),
        (
            [{"type": "OneOf", "transforms": [{"type": "Rotate", "limt": 3}]}],
            r"Rotate has no argument 'limt'\. Did you mean 'limit'",
        ),
        ([{"type": "RandomCrop", "height": "a", "width": 3}], "RandomCrop cannot be built"),
        ([{"type": "RandomCrop"}], "RandomCrop cannot be built"),
        ([{"p": 1}], "must be a dict with 'type'"),
        (["HorizontalFlip"], "must be a dict with 'type'"),
    ],
)
def test_impossible_transforms_raise(transforms, message):
    with pytest.raises(ValueError, match=message):
        AlbumentationsSegmentation(transforms)


@pytest.mark.slow
def test_the_library_is_imported_on_demand_and_without_the_network():
    code = (
        "import os, sys, attnzoo.zoo.data as data; assert 'albumentations' not in sys.modules; "
        "data.AlbumentationsSegmentation([]); assert 'albumentations' in sys.modules; "
        "assert sys.modules['albumentations.check_version'].opener is None; "
        "assert 'NO_ALBUMENTATIONS_UPDATE' not in os.environ"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
