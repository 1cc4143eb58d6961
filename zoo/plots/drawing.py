"""Draws detections and label maps on a canvas, whether they were predicted or are ground truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...deprecated_paths import renamed_names
from .canvas import Canvas
from .colors import Color, class_color

__getattr__ = renamed_names(__name__, {"Colour": "Color", "class_colour": "class_color"})

_MAX_FULL_SIZE_LABELS = 12  # with more objects in an image, labels are smaller


def class_name(label: int, classes: Sequence[str]) -> str:
    """Returns the name of a class, or its number where it has no name."""
    return classes[label] if 0 <= label < len(classes) else str(label)


def draw_detections(
    canvas: Canvas,
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    masks: Sequence[np.ndarray | None] | None = None,
    texts: Sequence[str] | None = None,
) -> None:
    """Draws objects: all masks, then all boxes, then all texts, with earlier objects on top of later ones.

    Args:
        canvas: Canvas to draw on.
        boxes: x1, y1, x2, y2 of each object in pixels of the canvas's image.
        labels: Class of each object, which determines its color.
        masks: (height, width) bool of each object, or None.
        texts: Text of each object.
    """
    colors = [class_color(label) for label in labels]
    for mask, color in zip(reversed(masks or ()), reversed(colors), strict=False):
        if mask is not None:
            canvas.draw_mask(mask, color)
    canvas.draw_boxes(boxes[::-1], colors[::-1])
    # With many objects, labels in full size would hide what they name.
    scale = min(1.0, max(0.7, (_MAX_FULL_SIZE_LABELS / max(1, len(boxes))) ** 0.5))
    for box, text, color in zip(boxes, texts or (), colors, strict=False):
        canvas.draw_label(box, text, color, scale)


def draw_label_map(
    canvas: Canvas,
    label_map: np.ndarray,
    classes: Sequence[str],
    color: Callable[[int], Color] = class_color,
    alpha: float = 0.6,
    legend: bool = True,
    ignore_index: int = 255,
) -> None:
    """Blends class colors over an image and lists the classes below, the largest first.

    Args:
        canvas: Canvas to draw on.
        label_map: (height, width) integers, as large as the canvas's image.
        classes: Names by label.
        color: Returns the color of a label.
        alpha: Opacity of the colors, 0 to 1.
        legend: Whether to list the classes with their shares of the area.
        ignore_index: Label of pixels to ignore, unless there are so many classes that it is one of them.
    """
    if ignore_index < len(classes):
        ignore_index = -1
    labels, counts = np.unique(label_map, return_counts=True)
    areas = [
        (int(label), count / label_map.size)
        for label, count in zip(labels, counts, strict=True)
        if label != ignore_index
    ]
    highest = max((label for label, _ in areas), default=-1)
    canvas.draw_label_map(label_map, [color(label) for label in range(highest + 1)], alpha, ignore_index)
    if legend:
        areas.sort(key=lambda pair: -pair[1])
        canvas.add_legend([(color(label), f"{class_name(label, classes)} {_percent(area)}") for label, area in areas])


def _percent(fraction: float) -> str:
    return "< 0.1 %" if fraction < 0.001 else f"{100 * fraction:.1f} %"
