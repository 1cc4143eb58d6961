"""Photometric distortion: random changes of brightness, contrast, saturation and hue."""

from __future__ import annotations

import random

import cv2
import numpy as np

BRIGHTNESS = 32
"""Largest change, in levels of 0 to 255."""
CONTRAST = (0.5, 1.5)
SATURATION = (0.5, 1.5)
HUE = 18
"""Largest change, in steps of 2 degrees."""

_LEVELS = np.arange(256, dtype=np.float32)


def distort(image: np.ndarray) -> np.ndarray:
    """Changes an image's colors as mmsegmentation's PhotoMetricDistortion does by default.

    Brightness, contrast, saturation and hue change with probability 1/2 each; contrast comes before or after saturation
    and hue, at random. After every step, levels are clipped to [0, 255] and rounded down. (Liu et al., SSD: Single Shot
    MultiBox Detector, ECCV 2016.) Random numbers come from Python's global generator.

    Args:
        image: (height, width, 3) uint8, RGB.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    if _coin_flip():
        image = cv2.LUT(image, _lookup_table(1.0, random.uniform(-BRIGHTNESS, BRIGHTNESS)))
    contrast_first = _coin_flip()
    if contrast_first:
        image = _change_contrast(image)
    if _coin_flip():
        table = _lookup_table(random.uniform(*SATURATION), 0.0)
        image = _change_hsv(image, 1, table)
    if _coin_flip():
        shift = random.randrange(-HUE, HUE)
        table = ((np.arange(256) + shift) % 180).astype(np.uint8)  # OpenCV's 8-bit hue is in [0, 179]
        image = _change_hsv(image, 0, table)
    if not contrast_first:
        image = _change_contrast(image)
    return image


def _coin_flip() -> bool:
    return random.random() < 0.5


def _lookup_table(factor: float, shift: float) -> np.ndarray:
    return np.clip(_LEVELS * np.float32(factor) + np.float32(shift), 0, 255).astype(np.uint8)


def _change_contrast(image: np.ndarray) -> np.ndarray:
    return cv2.LUT(image, _lookup_table(random.uniform(*CONTRAST), 0.0)) if _coin_flip() else image


def _change_hsv(image: np.ndarray, channel: int, table: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[:, :, channel] = cv2.LUT(np.ascontiguousarray(hsv[:, :, channel]), table)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
