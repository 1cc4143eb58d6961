"""Prepares an image for a task, as the data set of an evaluation does, and groups images that fit into one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..data.detection.annotated_image import AnnotatedImage

_MAX_ASPECT_RATIO = 100  # when a classifier's transform resizes a longer strip, the result takes gigabytes


def prepare_image(image: Image.Image, kind: str, transform: Callable[..., Any]) -> dict[str, Any]:
    """Applies a task's transform.

    Args:
        image: RGB image.
        kind: "classification", "detection" or "segmentation".
        transform: Transform of the task's test data.

    Returns:
        The entries of a sample without annotations: `image`, and for dense tasks `info`, or `views` instead of both.

    Raises:
        ValueError: A classifier's transform returns something other than a tensor (3, height, width).
    """
    if kind == "classification":
        tensor = transform(crop_strip(image))
        if not isinstance(tensor, torch.Tensor) or tensor.ndim != 3:
            what = f"{tuple(tensor.shape)}" if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise ValueError(f"The transform must return a tensor (3, height, width), got {what}.")
        return {"image": tensor}
    array = np.asarray(image)
    if kind == "segmentation":
        sample = transform(array, None)
    else:
        sample = transform(AnnotatedImage(array, (array.shape[0], array.shape[1])))
    return {key: value for key, value in sample.items() if key in ("image", "info", "views")}


def batch_key(sample: Mapping[str, Any]) -> Any:
    """Returns a key that is equal for samples whose images have equal shapes."""
    if "views" in sample:
        return tuple(tuple(view["image"].shape) for view in sample["views"])
    return tuple(sample["image"].shape)


def crop_strip(image: Image.Image) -> Image.Image:
    """Crops a very long strip to its center; other images are returned unchanged."""
    width, height = image.size
    if max(width, height) <= _MAX_ASPECT_RATIO * min(width, height):
        return image
    if width > height:
        left = (width - _MAX_ASPECT_RATIO * height) // 2
        return image.crop((left, 0, left + _MAX_ASPECT_RATIO * height, height))
    top = (height - _MAX_ASPECT_RATIO * width) // 2
    return image.crop((0, top, width, top + _MAX_ASPECT_RATIO * width))
