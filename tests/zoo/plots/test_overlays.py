"""Heat maps and panels."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo.zoo.plots.overlays import Panel, draw_panels, heat_colors, to_array

BLACK = np.zeros((40, 50, 3), np.uint8)


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def near(plot: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((np.abs(plot - np.array(color)).sum(-1) < 40).sum())


def test_heat_is_transparent_where_it_is_nan():
    colors = heat_colors(np.array([[np.nan, 0.0, 1.0]]))
    assert colors[0, 0, 3] == 0
    assert 0 < colors[0, 1, 3] < colors[0, 2, 3] <= 1


def test_the_query_and_outlines_are_marked():
    query, outline = (0, 229, 255), (125, 255, 176)
    marked = pixels(draw_panels(BLACK, [Panel("one", outlines=[(5, 5, 20, 20)])], "title", "note", (30, 30)))
    plain = pixels(draw_panels(BLACK, [Panel("one", shows_query=False)], "title", "note", (30, 30)))
    assert near(marked, query) > 10
    assert near(marked, outline) > 10
    assert near(plain, query) == near(plain, outline) == 0


def test_panels_are_arranged_in_rows():
    two, three = (
        pixels(draw_panels(BLACK, [Panel(str(index)) for index in range(count)], "title", columns=2)).shape
        for count in (2, 3)
    )
    assert two[1] == three[1]
    assert three[0] > 1.5 * two[0]


def test_a_heat_map_covers_its_extent_only():
    heat = Panel("panel", np.ones((2, 2)), extent=(0, 0, 25, 40), shows_query=False)
    plain = Panel("panel", shows_query=False)
    changed = (pixels(draw_panels(BLACK, [heat], "title")) != pixels(draw_panels(BLACK, [plain], "title"))).any(-1)
    rows, cols = changed.nonzero()
    height, width = np.ptp(rows) + 1, np.ptp(cols) + 1
    assert width / height == pytest.approx(25 / 40, rel=0.05)
    assert cols.max() < changed.shape[1] // 2 + 5


def test_tensors_become_float64_arrays():
    array = to_array(torch.ones(2, dtype=torch.bfloat16, requires_grad=True))
    assert array.dtype == np.float64
    assert array.tolist() == [1, 1]
