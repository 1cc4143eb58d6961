"""The query and its cells are where they are in the photo."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from attnzoo.zoo.plots.overlays import Panel, draw_panels
from attnzoo.zoo.plots.view import View


def test_the_query_and_its_cells_are_where_they_are_in_the_photo():
    photo = np.zeros((40, 50, 3), np.uint8)
    view = View(None, "", torch.zeros(1), photo, (49.0, 0.0), 0, 0)
    assert view.position((10, 13)) == (0, 12)  # 50 pixels make 12.5 strides of 4
    assert view.box((10, 13), (0, 1), (12, 13)) == (48, 0, 52, 4)
    assert view.box((5, 6), (4, 5), (5, 6)) == (40, 32, 48, 40)  # a stride that cuts the edge off
    content = draw_panels(photo, [Panel("one", np.ones((10, 13)), outlines=[(0, 0, 8, 8)])], "title", "note", (3, 3))
    assert Image.open(io.BytesIO(content)).size[0] > 100
