"""Arrays and tensors become images, or the error says what is wrong with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo.zoo.inference.arrays import image_from_array, image_from_tensor

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RGB, RGB),
        (RGB[..., 0], RGB[..., :1].repeat(3, -1)),
        (RGB[..., :1], RGB[..., :1].repeat(3, -1)),
        (np.dstack([RGB, RGB[..., :1]]), RGB),
        (RGB.astype(np.float32) / 255, RGB),
        (RGB.astype(np.float64) / 255, RGB),
        (RGB[:, ::-1], RGB[:, ::-1]),
    ],
    ids=["rgb", "gray", "one channel", "rgba", "float32", "float64", "strided"],
)
def test_arrays_become_rgb_images(array: np.ndarray, expected: np.ndarray):
    assert np.array_equal(pixels(image_from_array(array)), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_become_rgb_images(dtype: torch.dtype):
    tensor = torch.from_numpy(RGB.transpose(2, 0, 1).copy())
    given = tensor if dtype == torch.uint8 else (tensor.float() / 255).to(dtype).requires_grad_()
    difference = pixels(image_from_tensor(given)).astype(int) - RGB
    assert np.abs(difference).max() <= (1 if dtype == torch.bfloat16 else 0)
    assert np.array_equal(pixels(image_from_tensor(tensor[0])), RGB[..., :1].repeat(3, -1))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (RGB.transpose(2, 0, 1), "channels come last"),
        (np.zeros((4, 5, 2), np.uint8), r"has the shape \(4, 5, 2\)"),
        (np.zeros(5, np.uint8), r"has the shape \(5,\)"),
        (np.zeros((0, 5, 3), np.uint8), "has the shape"),
        (np.zeros((4, 5), np.uint16), "has the type uint16"),
        (np.zeros((4, 5), bool), "has the type bool"),
        (RGB.astype(np.float32), "floats from 0 to 24"),
        ((RGB / 255 - 0.5).astype(np.float32), "not normalized"),
        (np.full((4, 5), np.nan), "floats from nan"),
    ],
)
def test_other_arrays_are_rejected(array: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        image_from_array(array)


def test_other_tensors_are_rejected():
    with pytest.raises(ValueError, match="channels come first"):
        image_from_tensor(torch.zeros(5, 7, 3))
    with pytest.raises(ValueError, match=r"has the shape \(2, 5, 7\)"):
        image_from_tensor(torch.zeros(2, 5, 7))
    with pytest.raises(ValueError, match="has the type int64"):
        image_from_tensor(torch.zeros(3, 5, 7, dtype=torch.int64))
