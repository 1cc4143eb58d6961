"""Names beside the points of a scatter plot, placed so that they cover neither each other nor the points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

_DISTANCES = (7, 14, 24, 36, 50)  # points; a label farther than the first gets a line to its point
_ANGLES = (0, 180, 45, -45, 135, -135, 90, -90)  # degrees, the best to read first
_DOT = 3.0  # pixels around a point that labels keep free


def label_points(axes: Axes, labels: Sequence[tuple[str, float, float, str]], fontsize: float = 7.0) -> None:
    """Writes a label to each point, at the nearest place that is free.

    Args:
        axes: with all points drawn and their limits set: what changes afterwards moves points, not labels.
        labels: text, x and y in data coordinates, colour.
        fontsize: in points.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    dots = [axes.transData.transform((x, y)) for _, x, y, _ in labels]
    taken = [Bbox.from_extents(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in dots]
    for (text, x, y, color), dot in zip(labels, dots, strict=True):
        note = axes.annotate(
            text, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=fontsize, color=color, va="center"
        )
        box = note.get_window_extent(renderer)
        pixels = figure.dpi / 72
        best, least = (0.0, 0.0, False), math.inf
        for distance, angle in itertools.product(_DISTANCES, _ANGLES):
            dx = math.cos(math.radians(angle)) * distance * pixels
            dy = math.sin(math.radians(angle)) * distance * pixels
            left = dot[0] + dx - (0 if abs(angle) < 90 else box.width / 2 if abs(angle) == 90 else box.width)
            low = dot[1] + dy - box.height / 2
            place = Bbox.from_bounds(left, low, box.width, box.height)
            covered = sum(_overlap(place, other) for other in taken) + 10 * _outside(place, frame)
            if covered < least:
                best, least = (left - dot[0], low + box.height / 2 - dot[1], distance > _DISTANCES[0]), covered
            if not covered:
                break
        note.set_position((best[0] / pixels, best[1] / pixels))
        taken.append(Bbox.from_bounds(dot[0] + best[0], dot[1] + best[1] - box.height / 2, box.width, box.height))
        if best[2]:
            near = min(max(0.0, best[0]), best[0] + box.width) if best[0] > 0 else min(0.0, best[0] + box.width)
            end = axes.transData.inverted().transform((dot[0] + near, dot[1] + best[1]))
            axes.plot([x, end[0]], [y, end[1]], color=color, linewidth=0.5, alpha=0.6)


def _overlap(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width * height if width > 0 and height > 0 else 0.0


def _outside(box: Bbox, frame: Bbox) -> float:
    return max(0.0, box.width * box.height - _overlap(box, frame))
