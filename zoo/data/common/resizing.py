"""How large an image becomes, and resizing it, as OpenMMLab does."""

from __future__ import annotations

import cv2
import numpy as np


def fitted_size(height: int, width: int, scale: tuple[int, int]) -> tuple[int, int]:
    """The largest size of an image's own proportions within a scale, rounded half up.

    Args:
        height: of the image in pixels.
        width: of the image in pixels.
        scale: most that the longer side and the shorter side may have, in pixels, in any order.

    Returns:
        (height, width), at least 1 each.
    """
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def next_multiple(height: int, width: int, multiple: int) -> tuple[int, int]:
    """The next size that divides by `multiple`, in both directions."""
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes (h, w, 3) uint8 to (height, width), bilinear and without antialiasing, also for shrinking."""
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes (h, w) uint8 to (height, width), each pixel taken from the one in which its centre lies.

    OpenMMLab takes OpenCV's INTER_NEAREST, which reads at the pixels' corners instead: that moves labels by up to half
    a pixel against `resize_image`, and a model trained on thin objects learns to draw them beside their place.
    """
    if labels.shape == size:
        return labels
    return cv2.resize(labels, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
