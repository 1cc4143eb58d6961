"""Converts arrays and tensors to images."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image


def image_from_array(array: np.ndarray, name: str = "the array") -> Image.Image:
    """Converts an array to an RGB image.

    Args:
        array: (height, width) or (height, width, 1) gray, (height, width, 3) RGB, or (height, width, 4) RGBA, whose
            alpha channel is dropped; uint8 from 0 to 255, or floats from 0 to 1.
        name: Name for messages.

    Raises:
        ValueError: The array has another shape, type or range.
    """
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        raise ValueError(
            f"{name} has the shape {array.shape}, but in an array channels come last (height, width, 3). Pass "
            "array.transpose(1, 2, 0), or a tensor."
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or 0 in array.shape:
        raise ValueError(
            f"{name} has the shape {array.shape}; an image is (height, width), (height, width, 1), (height, width, 3) "
            "in RGB or (height, width, 4), and a batch has one more dimension in front."
        )
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        # Interpolation can overshoot a little.
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise ValueError(
                f"{name} has floats from {low:g} to {high:g}; they must be from 0 to 1 and not normalized. Pass pixels "
                "from 0 to 255 as uint8."
            )
        array = np.round(np.clip(array.astype(np.float64), 0, 1) * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ValueError(f"{name} has the type {array.dtype}; pixels are uint8 from 0 to 255, or floats from 0 to 1.")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def image_from_tensor(tensor: torch.Tensor, name: str = "the tensor") -> Image.Image:
    """Converts a tensor to an RGB image.

    Args:
        tensor: (height, width) or (1, height, width) gray, (3, height, width) RGB, or (4, height, width) RGBA, whose
            alpha channel is dropped; uint8 from 0 to 255, or floats from 0 to 1; on any device.
        name: Name for messages.

    Raises:
        ValueError: The tensor has another shape, type or range.
    """
    shape = tuple(tensor.shape)
    if tensor.ndim == 3 and shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4):
        raise ValueError(
            f"{name} has the shape {shape}, but in a tensor channels come first (3, height, width). Pass "
            "tensor.permute(2, 0, 1), or an array."
        )
    if tensor.ndim not in (2, 3) or (tensor.ndim == 3 and shape[0] not in (1, 3, 4)) or 0 in shape:
        raise ValueError(
            f"{name} has the shape {shape}; an image is (3, height, width) in RGB, (4, height, width), "
            "(1, height, width) or (height, width), and a batch has one more dimension in front."
        )
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # NumPy has no bfloat16
    array = tensor.numpy()
    return image_from_array(array if array.ndim == 2 else array.transpose(1, 2, 0), name)
