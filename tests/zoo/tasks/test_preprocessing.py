"""Normalization of batches of images of one size."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnzoo.zoo.tasks.preprocessing import ImagePreprocessor

MEAN, STD = (0.5, 0.25, 0.125), (0.5, 0.2, 0.1)


def test_integers_and_floats_are_normalized_alike():
    preprocessor = ImagePreprocessor(MEAN, STD)
    pixels = torch.arange(2 * 3 * 4, dtype=torch.uint8).view(2, 3, 2, 2) * 10
    label = torch.tensor([1, 0])
    prepared = preprocessor({"image": pixels, "label": label, "path": ["a", "b"]})
    expected = (pixels.double() / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    torch.testing.assert_close(prepared["image"], expected.float())
    torch.testing.assert_close(preprocessor({"image": pixels.float() / 255})["image"], prepared["image"])
    assert torch.equal(prepared["label"], label)
    assert prepared["path"] == ["a", "b"]


def test_mean_and_std_are_not_saved():
    assert not ImagePreprocessor(MEAN, STD).state_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": (0.5,), "std": (0.5, 0.5)}, "one value per channel"),
        ({"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}, "Divide by 255"),
        ({"mean": (0.5,), "std": (0.0,)}, "std must be positive"),
    ],
)
def test_invalid_arguments_raise(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ImagePreprocessor(**arguments)


def test_a_wrong_number_of_channels_raises():
    with pytest.raises(ValueError, match="must have 3 channels, as mean and std, got 1"):
        ImagePreprocessor(MEAN, STD)({"image": torch.zeros(1, 1, 2, 2)})
