"""Image sizes and resizing, as in OpenMMLab."""

from __future__ import annotations

import cv2
import numpy as np


def fitted_size(height: int, width: int, scale: tuple[int, int]) -> tuple[int, int]:
    """Returns the largest size within a scale that keeps the image's aspect ratio, rounded half up.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        scale: Limits of the longer and the shorter side in pixels, in any order.

    Returns:
        (height, width), at least 1 each.
    """
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def next_multiple(height: int, width: int, multiple: int) -> tuple[int, int]:
    """Rounds both sides up to a multiple of `multiple`."""
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image (h, w, 3) uint8 to (height, width), bilinearly and without antialiasing."""
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a label map (h, w) uint8 to (height, width); each pixel takes the label at its center.

    OpenMMLab uses OpenCV's INTER_NEAREST, which samples at the pixels' corners. That shifts labels by up to half a
    pixel relative to `resize_image`, and a model trained on thin objects learns to predict them beside their true
    position.
    """
    if labels.shape == size:
        return labels
    return cv2.resize(labels, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
