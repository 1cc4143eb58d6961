"""Grids of images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.plots.gallery import draw_gallery


def test_every_image_is_in_the_grid():
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    content = draw_gallery([Image.new("RGB", (40, 20), color) for color in colors], columns=2)
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    shares = [(pixels == color).all(-1).mean() for color in colors]
    assert min(shares) > 0.15
    half = pixels[: len(pixels) // 2]
    assert (half == colors[0]).all(-1).any()
    assert (half == colors[1]).all(-1).any()
    assert not (half == colors[2]).all(-1).any()


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="no images to plot"):
        draw_gallery([])
