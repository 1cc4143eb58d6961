import collections

import numpy as np
import pytest
import torch

from attnzoo.zoo.data import AlbumentationsSegmentation, SegmentationFolders
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


def test_pixels_beyond_the_border_are_ignored():
    whole = np.ones((30, 40), np.uint8)
    turned = {"type": "Rotate", "limit": (30, 30), "border_mode": 0, "p": 1.0}
    for steps in ([turned], [{"type": "OneOf", "transforms": [turned], "p": 1.0}]):
        assert set(run(steps, labels=whole)["label_map"].unique().tolist()) == {1, 255}
    assert set(run([{**turned, "fill_mask": 3}], labels=whole)["label_map"].unique().tolist()) == {1, 3}
    # A transform that does not change labels still does not.
    hidden = {"type": "CoarseDropout", "p": 1.0}
    assert run([hidden], labels=whole)["label_map"].unique().tolist() == [1]


def test_evaluation_keeps_the_labels():
    sample = run([{"type": "Resize", "height": 15, "width": 20}], training=False)
    assert sample["image"].shape == (3, 15, 20)
    np.testing.assert_array_equal(sample["label_map"], painted.labels(0))
    assert sample["info"].scale_factor == (0.5, 0.5)
    assert AlbumentationsSegmentation([], training=False)(painted.paint(painted.labels(0)), None)["label_map"] is None


def test_impossible_results_raise():
    with pytest.raises(ValueError, match=r"got float32 of shape \(30, 40, 3\).*leave out Normalize"):
        run([{"type": "Normalize"}])
    with pytest.raises(ValueError, match="need labels"):
        AlbumentationsSegmentation([CROP])(np.zeros((3, 3, 3), np.uint8), None)
