"""Looks at a sample of a data set's images: their sizes, and EXIF orientations."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image

SAMPLED_IMAGES = 200
"""Largest number of images that are looked at."""


@dataclass(frozen=True)
class ImageSample:
    """What a sample of images is like.

    Attributes:
        count: Number of images that could be read.
        side: Median of their shorter sides in pixels.
        rotated: Number of images with an EXIF orientation.
    """

    count: int
    side: int
    rotated: int


def sample_images(paths: Sequence[Path], seed: int = 0) -> ImageSample:
    """Reads the headers of a random sample of images.

    Images that cannot be read are left out: training reports them, and goes on without them.

    Raises:
        ValueError: None of them can be read.
    """
    sides, rotated = [], 0
    chosen = random.Random(seed).sample(list(paths), min(SAMPLED_IMAGES, len(paths)))
    for path in chosen:
        try:
            with Image.open(path) as image:
                sides.append(min(image.size))
                rotated += image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        except (OSError, ValueError, SyntaxError):
            continue
    if not sides:
        raise ValueError(f"None of {len(chosen)} images could be read, such as {chosen[0]}.")
    return ImageSample(len(sides), round(statistics.median(sides)), rotated)
