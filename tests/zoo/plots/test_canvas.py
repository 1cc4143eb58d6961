"""Boxes, masks, label maps and text are drawn where they belong, at any image size."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.plots.canvas import Canvas

GRAY = (120, 120, 120)
RED, BLUE = (255, 0, 0), (0, 0, 255)


def gray(width: int = 640, height: int = 480) -> Image.Image:
    return Image.new("RGB", (width, height), GRAY)


def pixels(canvas: Canvas) -> np.ndarray:
    return np.asarray(canvas.image)


def test_font_size_and_line_width_grow_with_the_image():
    small, large = Canvas(gray(400, 300)), Canvas(gray(4000, 3000))
    assert small.font_size >= 9
    assert small.line_width >= 1
    assert large.font_size >= 7 * small.font_size
    assert large.line_width >= 6 * small.line_width
    assert Canvas(gray(400, 300), downscale=3).font_size == 3 * small.font_size


@pytest.mark.parametrize(("size", "expected"), [((10, 5), (320, 160)), ((640, 3), (640, 96)), ((700, 500), (700, 500))])
def test_tiny_images_are_enlarged_and_strips_are_padded(size: tuple[int, int], expected: tuple[int, int]):
    assert Canvas(gray(*size)).image.size == expected


def test_labels_do_not_cover_each_other():
    canvas = Canvas(gray())
    for _ in range(5):
        canvas.draw_label((200, 200, 300, 300), "a long name 0.99", RED)
    assert len(canvas._labels) == 5
    for one, other in combinations(canvas._labels, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_later_boxes_are_on_top_and_inside_the_image():
    canvas = Canvas(gray())
    canvas.draw_boxes([(100, 100, 200, 200), (100, 100, 300, 200), (600, 400, 900, 900)], [RED, BLUE, RED])
    drawn = pixels(canvas)
    assert tuple(drawn[150, 100]) == BLUE
    assert tuple(drawn[150, 199]) == RED
    assert tuple(drawn[479, 620]) == RED
    assert tuple(drawn[150, 150]) == GRAY
    before = pixels(canvas)
    canvas.draw_boxes([], [])
    assert np.array_equal(pixels(canvas), before)


def test_dashed_boxes_have_gaps():
    canvas = Canvas(gray())
    canvas.draw_dashed_box((100, 100, 300, 300), RED)
    red = (pixels(canvas) == RED).all(-1)
    for side in (red[100, 100:300], red[299, 100:300], red[100:300, 100], red[100:300, 299]):
        assert 0.3 < side.mean() < 0.8
    assert not red[150:250, 150:250].any()


@pytest.mark.parametrize("factor", [1, 8])
def test_masks_are_blended_and_outlined(factor: int):
    canvas = Canvas(gray(640 // factor, 480 // factor))
    assert canvas.factor == (1 if factor == 1 else 4)
    mask = np.zeros((480 // factor, 640 // factor), dtype=bool)
    mask[20:40, 10:50] = True
    canvas.draw_mask(mask, RED, alpha=0.5)
    drawn = pixels(canvas)[: mask.shape[0] * canvas.factor, : mask.shape[1] * canvas.factor]
    large = mask.repeat(canvas.factor, 0).repeat(canvas.factor, 1)
    assert (drawn[~large] == GRAY).all()
    assert tuple(drawn[20 * canvas.factor, 30 * canvas.factor]) == RED
    middle = drawn[30 * canvas.factor, 30 * canvas.factor].astype(float)
    assert np.abs(middle - (np.add(GRAY, RED) / 2)).max() <= 1
    before = pixels(canvas)
    canvas.draw_mask(np.zeros_like(mask), RED)
    assert np.array_equal(pixels(canvas), before)


def test_a_mask_that_fills_the_image_is_outlined_at_the_borders():
    canvas = Canvas(gray())
    canvas.draw_mask(np.ones((480, 640), dtype=bool), RED)
    drawn = pixels(canvas)
    assert all(tuple(drawn[y, x]) == RED for y, x in ((0, 300), (479, 300), (200, 0), (200, 639)))
    assert tuple(drawn[200, 300]) != RED


def test_ignored_pixels_of_a_label_map_are_striped():
    label_map = np.zeros((480, 640), dtype=np.uint8)
    label_map[:, 200:400], label_map[:, 400:] = 1, 255
    canvas = Canvas(gray())
    canvas.draw_label_map(label_map, [RED, BLUE], alpha=1.0)
    drawn = pixels(canvas)
    assert (drawn[:, :200] == RED).all()
    assert (drawn[:, 200:400] == BLUE).all()
    assert {tuple(pixel) for pixel in drawn[10, 400:]} == {GRAY, (123, 123, 123)}


def test_legends_bars_and_captions_are_added_below():
    canvas = Canvas(gray())
    canvas.add_legend([])
    assert canvas.image.size == (640, 480)
    canvas.add_legend([(RED, "red")])
    below = pixels(canvas)[480:]
    assert (below == RED).all(-1).any()
    few = canvas.image.height
    many = Canvas(gray())
    many.add_legend([(BLUE, f"class {index}") for index in range(100)])
    assert few < many.image.height < 2 * 480
    height = canvas.image.height
    canvas.add_bars([("first", 0.75), ("second", 0.0)])
    row = pixels(canvas)[height + canvas.font_size]
    filled, empty = (row == (150, 190, 235)).all(-1).sum(), (row == (228, 232, 238)).all(-1).sum()
    assert 1 < filled / empty < 5  # the name and the percentage cover parts of both
    height = canvas.image.height
    canvas.add_caption("a text that is far too long for one line " * 20)
    assert canvas.image.width == 640
    assert (pixels(canvas)[height:] < 100).any()
