"""Images whose colors encode the labels of their pixels, so that tests see whether both are transformed alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLORS = np.array([(250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 20)], np.uint8)
"""Colors by label."""
IGNORED_COLOR = np.array((128, 128, 128), np.uint8)
"""Color of pixels with the label 255."""


def labels(seed: int, height: int = 30, width: int = 40, classes: int = 4, ignored: bool = True) -> np.ndarray:
    """Returns a label map of blocks, (height, width) uint8; with `ignored`, about an eighth of it is 255."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, classes, (3, 4)).astype(np.uint8)
    if ignored:
        coarse[generator.random(coarse.shape) < 0.125] = 255
    return np.kron(coarse, np.ones((-(-height // 3), -(-width // 4)), np.uint8))[:height, :width]


def paint(label_map: np.ndarray) -> np.ndarray:
    """Returns the image (height, width, 3) of a label map."""
    table = np.tile(IGNORED_COLOR, (256, 1))
    table[: len(COLORS)] = COLORS
    return table[label_map]


def agreement(image: np.ndarray, label_map: np.ndarray) -> float:
    """Returns the share of pixels whose color is nearest to that of their label; image (height, width, 3)."""
    choices = np.concatenate([COLORS, IGNORED_COLOR[None]]).astype(np.int64)
    distances = np.abs(image[..., None, :].astype(np.int64) - choices).sum(-1)
    nearest = distances.argmin(-1)
    return float((np.where(nearest == len(COLORS), 255, nearest) == label_map).mean())


def save(root: Path, count: int = 4, image_suffix: str = ".jpg", seed: int = 0) -> Path:
    """Writes `images/<name><suffix>` and `labels/<name>.png`; returns the folder above."""
    for number in range(count):
        label_map = labels(seed + number)
        for folder, array, suffix in (("images", paint(label_map), image_suffix), ("labels", label_map, ".png")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / folder / f"{number:02}{suffix}", quality=95)
    return root
