"""Batches of images of different sizes: normalised before they are padded, with what belongs to them."""

from __future__ import annotations

import pytest
import torch

from attnzoo.heads.segmentation.pixel_losses import IGNORE_INDEX
from attnzoo.heads.structures import ImageInfo, Instances
from attnzoo.zoo.tasks.dense_preprocessing import DensePreprocessor

SIZES = [(5, 9), (8, 3)]


def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in SIZES]


def infos() -> list[ImageInfo]:
    return [ImageInfo(size, (2 * size[0], 2 * size[1]), (0.5, 0.5)) for size in SIZES]


def test_images_are_normalised_before_they_are_padded():
    preprocessor = DensePreprocessor(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2), size_divisor=4)
    given = images()
    batch = preprocessor({"image": given, "info": infos()})
    assert batch["image"].shape == (2, 3, 8, 12)
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.25, 0.2]).view(3, 1, 1)
    for padded, image, info in zip(batch["image"], given, batch["info"], strict=True):
        rows, columns = info.image_size
        torch.testing.assert_close(padded[:, :rows, :columns], (image / 255 - mean) / std)
        assert padded[:, rows:].abs().sum() == 0
        assert padded[:, :, columns:].abs().sum() == 0
        assert info.batch_size == (8, 12)
        assert info.padded_size == (8, 12 if columns == 9 else 4)
        assert info.scale_factor == (0.5, 0.5)


def test_targets_get_masks_of_the_batch_and_label_maps_are_padded_with_the_ignored_label():
    preprocessor = DensePreprocessor(size_divisor=4)
    targets = [
        Instances(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64), torch.ones(1, *size, dtype=torch.uint8))
        for size in SIZES
    ]
    label_maps = [torch.full(size, 7, dtype=torch.uint8) for size in SIZES]
    data = {"image": images(), "info": infos(), "target": targets, "label_map": label_maps, "path": ["a", "b"]}
    batch = preprocessor(data, training=True)
    assert [tuple(target.masks.shape) for target in batch["target"]] == [(1, 8, 12)] * 2
    for target, label_map, (rows, columns) in zip(batch["target"], batch["label_map"], SIZES, strict=True):
        assert target.masks[:, :rows, :columns].all()
        assert target.masks.sum() == rows * columns
        assert (label_map[:rows, :columns] == 7).all()
        assert (label_map == IGNORE_INDEX).sum() == label_map.numel() - rows * columns
    assert targets[0].masks is not None
    assert targets[0].masks.shape == (1, 5, 9), "the given batch is left as it is"
    assert batch["label_map"].shape == (2, 8, 12)
    assert batch["label_map"].dtype == torch.int64
    assert batch["path"] == ["a", "b"]


def test_batches_of_small_images_are_padded_to_the_crop_in_training_alone():
    preprocessor = DensePreprocessor(train_size=(10, 7))
    data = {"image": images(), "info": infos()}
    assert preprocessor(data, training=True)["image"].shape[-2:] == (10, 9)
    assert preprocessor(data)["image"].shape[-2:] == (8, 9)
    with pytest.raises(ValueError, match="train_size"):
        DensePreprocessor(train_size=(512,))


def test_in_evaluation_label_maps_stay_as_they_are():
    label_maps = [torch.zeros(50, 70, dtype=torch.uint8)] * 2
    batch = DensePreprocessor()({"image": images(), "info": infos(), "label_map": label_maps})
    assert batch["label_map"] is label_maps


def test_views_are_prepared_one_by_one():
    views = [[{"image": image, "info": info} for image, info in zip(images(), infos(), strict=True)]]
    batch = DensePreprocessor(size_divisor=4)({"views": views})
    assert [tuple(view["image"].shape) for view in batch["views"][0]] == [(1, 3, 8, 12), (1, 3, 8, 4)]
    assert [view["info"].batch_size for view in batch["views"][0]] == [(8, 12), (8, 4)]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="size_divisor"):
        DensePreprocessor(size_divisor=0)
    with pytest.raises(ValueError, match="must have 3 channels, as mean and std, got 1"):
        DensePreprocessor()({"image": [torch.zeros(1, 4, 4)]})
    data = {"image": images(), "info": infos(), "label_map": [torch.zeros(3, 3)] * 2}
    with pytest.raises(ValueError, match=r"same size, got \(5, 9\) and \(3, 3\)"):
        DensePreprocessor()(data, training=True)
