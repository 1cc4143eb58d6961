"""Colors of classes, the same in every image."""

from __future__ import annotations

import colorsys
import functools
import math

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

# Hues in degrees that look equally far apart: the eye distinguishes fewer greens than oranges.
_HUES = (0, 25, 48, 75, 130, 180, 205, 230, 265, 295, 325, 360)
# Saturation and value. Every eight labels use the next pair, because by then the hues repeat.
_SATURATION_AND_VALUE = ((0.85, 0.95), (0.60, 1.00), (0.95, 0.68), (0.45, 0.85))


@functools.cache
def class_color(label: int) -> Color:
    """Returns the color of a class. Consecutive labels get clearly different hues.

    Args:
        label: Class index, starting at 0.
    """
    position = (label * (math.sqrt(5) - 1) / 2) % 1 * (len(_HUES) - 1)
    below = _HUES[int(position)]
    hue = (below + (position - int(position)) * (_HUES[int(position) + 1] - below)) / 360
    saturation, value = _SATURATION_AND_VALUE[(label // 8) % len(_SATURATION_AND_VALUE)]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def text_color_on(background: Color) -> Color:
    """Returns black or white, whichever is easier to read on a background."""
    red, green, blue = background
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
