"""The plot of a confusion matrix."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.analysis.confusion import ConfusionMatrix
from attnzoo.zoo.plots.confusion import draw_confusion

ANIMALS = ConfusionMatrix(("cat", "dog", "bird"), np.array([[6, 3, 1], [0, 40, 10], [0, 0, 0]]))


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_the_picture_is_as_dark_as_the_shares():
    def dark(counts: list[list[int]]) -> np.ndarray:
        picture = pixels(draw_confusion(ConfusionMatrix(("a", "b"), np.array(counts)), title="a title"))
        return np.abs(picture - np.array([8, 48, 107])).sum(-1) < 12

    scale = dark([[0, 0], [0, 0]])
    one, two = dark([[10, 0], [0, 0]]) & ~scale, dark([[10, 0], [0, 10]]) & ~scale
    assert one.mean() > 0.05
    assert two.sum() == pytest.approx(2 * one.sum(), rel=0.02)
    for axis in (0, 1):  # the second class stands below and to the right
        assert np.nonzero(one)[axis].max() < np.nonzero(two & ~one)[axis].min() + 2


def test_a_single_class_is_no_matrix():
    with pytest.raises(ValueError, match="max_classes must be >= 2, got 1"):
        draw_confusion(ANIMALS, max_classes=1)


def test_plots_of_many_classes_stay_small():
    counts = 10 * np.eye(500, dtype=np.int64)
    plot = pixels(draw_confusion(ConfusionMatrix(tuple(map(str, range(500))), counts), max_classes=40))
    assert max(plot.shape) < 2500
