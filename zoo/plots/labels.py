"""Labels of points in a scatter plot, placed so that they overlap neither each other nor the points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

_DISTANCES = (7, 14, 24, 36, 50)  # in points; labels beyond the first distance are connected with their point
_ANGLES = (0, 180, 45, -45, 135, -135, 90, -90)  # in degrees, most readable first
_RADIUS = 3.0  # pixels around a point that labels should not cover


def label_points(axes: Axes, labels: Sequence[tuple[str, float, float, str]], fontsize: float = 7.0) -> None:
    """Writes a label next to each point, at the nearest free position.

    Args:
        axes: Axes with all points plotted and fixed limits: later changes would move the points, but not the labels.
        labels: Text, x and y in data coordinates, and color of each label.
        fontsize: Font size in points.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    pixels = figure.dpi / 72
    points = [axes.transData.transform((x, y)) for _, x, y, _ in labels]
    occupied = [Bbox.from_extents(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in points]
    for (text, x, y, color), point in zip(labels, points, strict=True):
        note = axes.annotate(
            text, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=fontsize, color=color, va="center"
        )
        extent = note.get_window_extent(renderer)
        box, distance = _best_box(point, extent.width, extent.height, occupied, frame, pixels)
        dx, dy = box.x0 - point[0], box.y0 + box.height / 2 - point[1]
        note.set_position((dx / pixels, dy / pixels))
        occupied.append(box)
        if distance > _DISTANCES[0]:
            end_x = min(max(0.0, dx), dx + box.width) if dx > 0 else min(0.0, dx + box.width)
            end = axes.transData.inverted().transform((point[0] + end_x, point[1] + dy))
            axes.plot([x, end[0]], [y, end[1]], color=color, linewidth=0.5, alpha=0.6)


def _best_box(
    point: Any, width: float, height: float, occupied: Sequence[Bbox], frame: Bbox, pixels: float
) -> tuple[Bbox, float]:
    """Returns the nearest position of a label that overlaps least, and its distance from the point.

    Args:
        point: The point in pixels.
        width: Width of the label in pixels.
        height: Height of the label in pixels.
        occupied: Boxes of the points and the previous labels.
        frame: Box of the axes; labels should not extend beyond it.
        pixels: Pixels per point of font size.
    """
    best: tuple[Bbox, float] | None = None
    least = math.inf
    for distance, angle in itertools.product(_DISTANCES, _ANGLES):
        dx = math.cos(math.radians(angle)) * distance * pixels
        dy = math.sin(math.radians(angle)) * distance * pixels
        left = point[0] + dx - (0 if abs(angle) < 90 else width / 2 if abs(angle) == 90 else width)
        box = Bbox.from_bounds(left, point[1] + dy - height / 2, width, height)
        overlap = sum(_overlap(box, other) for other in occupied) + 10 * _outside(box, frame)
        if overlap < least:
            best, least = (box, distance), overlap
        if not overlap:
            break
    assert best is not None
    return best


def _overlap(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width * height if width > 0 and height > 0 else 0.0


def _outside(box: Bbox, frame: Bbox) -> float:
    return max(0.0, box.width * box.height - _overlap(box, frame))
