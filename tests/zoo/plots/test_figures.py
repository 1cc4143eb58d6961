"""Figures without a display."""

from __future__ import annotations

import io

from PIL import Image

from attnzoo.zoo.plots.figures import new_figure, new_grid, to_png


def test_figures_have_the_given_size_in_pixels():
    figure = new_figure(3, 2, dpi=100, title="a title")
    assert figure.get_suptitle() == "a title"
    with Image.open(io.BytesIO(to_png(figure))) as image:
        assert image.size == (300, 200)
        assert image.format == "PNG"


def test_grids_are_in_reading_order_without_frames():
    axes = new_grid(new_figure(4, 4), 2, 3)
    assert len(axes) == 6
    assert not any(one.axison for one in axes)
    boxes = [one.get_position() for one in axes]
    assert boxes[0].x0 < boxes[1].x0 < boxes[2].x0
    assert boxes[0].y0 > boxes[3].y0
