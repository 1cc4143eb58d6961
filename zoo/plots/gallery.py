"""Plots a grid of images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .figures import new_figure, new_grid, to_png


def draw_gallery(images: Sequence[Image.Image], columns: int = 4, title: str | None = None) -> bytes:
    """Plots images in a grid, each as large as fits.

    Args:
        images: Images, in order.
        columns: Number of images per row.
        title: Heading.

    Returns:
        The PNG.

    Raises:
        ValueError: There are no images.
    """
    if not images:
        raise ValueError("There are no images to plot.")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    shape = sum(image.height / image.width for image in images) / len(images)
    figure = new_figure(3.2 * columns, 3.2 * shape * rows + (0.45 if title else 0.1), title=title)
    for axes, image in zip(new_grid(figure, rows, columns), images, strict=False):
        interpolation = "nearest" if max(image.size) < 100 else "antialiased"
        axes.imshow(np.asarray(image.convert("RGB")), interpolation=interpolation)
    return to_png(figure)
