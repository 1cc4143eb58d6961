"""Detections and label maps on a canvas."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.plots import drawing
from attnzoo.zoo.plots.canvas import Canvas
from attnzoo.zoo.plots.colors import class_color
from attnzoo.zoo.plots.drawing import class_name, draw_detections, draw_label_map

GRAY = (120, 120, 120)


def canvas() -> Canvas:
    return Canvas(Image.new("RGB", (640, 480), GRAY))


def test_classes_without_a_name_are_numbers():
    assert [class_name(label, ("a", "b")) for label in (-1, 0, 1, 2)] == ["-1", "a", "b", "2"]


def test_earlier_objects_are_on_top():
    box = (100, 100, 300, 300)
    mask = np.zeros((480, 640), dtype=bool)
    mask[100:300, 100:300] = True
    drawn = canvas()
    draw_detections(drawn, [box, box], [0, 1], [mask, mask])
    pixels = np.asarray(drawn.image).astype(float)
    assert tuple(pixels[200, 100]) == class_color(0)
    below = 0.55 * np.array(GRAY) + 0.45 * np.array(class_color(1))
    assert np.abs(pixels[200, 200] - (0.55 * below + 0.45 * np.array(class_color(0)))).max() <= 2


def test_texts_of_many_objects_are_smaller():
    boxes = [(x, 200.0, x + 20, 220.0) for x in range(0, 600, 20)]
    few, many = canvas(), canvas()
    few.font_size = many.font_size = 30
    draw_detections(few, boxes[:1], [0], texts=["name"])
    draw_detections(many, boxes, [0] * len(boxes), texts=["name"] * len(boxes))
    heights = [label[3] - label[1] for label in (*few._labels, *many._labels[:1])]
    assert heights[1] < heights[0]


def test_ignored_labels_are_not_in_the_legend(monkeypatch: pytest.MonkeyPatch):
    entries: list[list[tuple[tuple[int, int, int], str]]] = []
    monkeypatch.setattr(Canvas, "add_legend", lambda self, given: entries.append(list(given)))
    label_map = np.zeros((480, 640), dtype=np.uint8)
    label_map[:120], label_map[120] = 255, 1
    draw_label_map(canvas(), label_map, ("sky", "sea"))
    draw_label_map(canvas(), label_map, ("sky",) * 300)
    assert [text for _, text in entries[0]] == ["sky 74.8 %", "sea 0.2 %"]
    assert [text for _, text in entries[1]] == ["sky 74.8 %", "sky 25.0 %", "sky 0.2 %"]
    assert entries[0][0][0] == class_color(0)


def test_old_names_of_colors_warn():
    with pytest.warns(DeprecationWarning, match="class_color"):
        assert drawing.class_colour is class_color
