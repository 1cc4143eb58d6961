"""Colors of classes."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from attnzoo.zoo.plots.colors import class_color, text_color_on


def test_class_colors_are_distinct_and_stable():
    colors = [class_color(label) for label in range(80)]
    assert colors == [class_color(label) for label in range(80)]
    distances = [np.abs(np.subtract(one, other)).sum() for one, other in combinations(colors[:20], 2)]
    assert min(distances) > 25
    assert len(set(colors)) == 80


def test_text_contrasts_with_its_background():
    assert text_color_on((255, 255, 0)) == (0, 0, 0)
    assert text_color_on((0, 0, 255)) == (255, 255, 255)
