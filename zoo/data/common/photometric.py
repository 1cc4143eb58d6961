"""Photometric distortion: brightness, contrast, saturation and hue at random."""

from __future__ import annotations

import random

import cv2
import numpy as np

BRIGHTNESS = 32
"""Most that is added to or taken from gray levels."""
CONTRAST = (0.5, 1.5)
SATURATION = (0.5, 1.5)
HUE = 18
"""Most that is added or taken, in steps of 2 degrees."""

_LEVELS = np.arange(256, dtype=np.float32)


def distort(image: np.ndarray) -> np.ndarray:
    """Changes an image's colours as mmsegmentation does with its own defaults.

    Each with probability 1/2: brightness; contrast, before or after the others, at random; saturation; hue. Gray
    levels are cut to 0 to 255 and rounded down after every step. (After Liu et al., SSD, ECCV 2016.)

    Args:
        image: (height, width, 3) uint8, RGB.

    Returns:
        The like; drawn from Python's global generator.
    """
    if _happens():
        image = cv2.LUT(image, _table(1.0, random.uniform(-BRIGHTNESS, BRIGHTNESS)))
    contrast_first = _happens()
    if contrast_first:
        image = _change_contrast(image)
    if _happens():
        table = _table(random.uniform(*SATURATION), 0.0)
        image = _change_hsv(image, 1, table)
    if _happens():
        shift = random.randrange(-HUE, HUE)
        table = ((np.arange(256) + shift) % 180).astype(np.uint8)  # OpenCV's hue of 8 bits goes from 0 to 179
        image = _change_hsv(image, 0, table)
    if not contrast_first:
        image = _change_contrast(image)
    return image


def _happens() -> bool:
    return random.random() < 0.5


def _table(factor: float, shift: float) -> np.ndarray:
    return np.clip(_LEVELS * np.float32(factor) + np.float32(shift), 0, 255).astype(np.uint8)


def _change_contrast(image: np.ndarray) -> np.ndarray:
    return cv2.LUT(image, _table(random.uniform(*CONTRAST), 0.0)) if _happens() else image


def _change_hsv(image: np.ndarray, channel: int, table: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[:, :, channel] = cv2.LUT(np.ascontiguousarray(hsv[:, :, channel]), table)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
