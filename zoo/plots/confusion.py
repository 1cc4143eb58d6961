"""Plot of a confusion matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..analysis.confusion import ConfusionMatrix, most_confused_classes
from .figures import new_figure, to_png
from .tables import shorten_class_name

MAX_CLASSES_WITH_NUMBERS = 40
"""With at most this many classes, each cell also shows its share as a number."""


def draw_confusion(confusion: ConfusionMatrix, max_classes: int = 40, title: str | None = None) -> bytes:
    """Plots the matrix, each row as shares of its true class.

    Args:
        confusion: The matrix.
        max_classes: Maximum number of classes. Of more, those that are confused most are shown, with their shares of
            the complete matrix.
        title: Heading.

    Returns:
        The PNG.

    Raises:
        ValueError: `max_classes` is less than 2.
    """
    if max_classes < 2:
        raise ValueError(f"max_classes must be >= 2, got {max_classes}.")
    chosen = most_confused_classes(confusion, max_classes)
    names = [shorten_class_name(confusion.names[index]) for index in chosen]
    count = len(chosen)
    with_numbers = count <= MAX_CLASSES_WITH_NUMBERS
    side = count * (0.38 if with_numbers else max(0.17, min(0.3, 14 / count)))  # of the matrix, in inches
    names_width = 0.3 + 0.085 * max(map(len, names))
    figure = new_figure(
        max(5.0, side + names_width + 1.9), max(3.5, side + names_width + 1.2), dpi=110 if side < 14 else 90
    )
    axes = figure.add_subplot()
    heading = title or "Confusion"
    if count < len(confusion.names):
        heading += f"\nthe {count} of {len(confusion.names)} classes that are confused most"
    axes.set_title(heading, fontsize=11)
    shares = 100 * confusion.shares[np.ix_(chosen, chosen)]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    fontsize = max(4.0, min(8.0, 45 * side / count))
    axes.set_xticks(range(count), names, rotation=90, fontsize=fontsize)
    axes.set_yticks(range(count), names, fontsize=fontsize)
    axes.set(xlabel="predicted class", ylabel="true class")
    # Lines between the cells guide the eye along rows and columns.
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.92", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    if with_numbers:
        _write_shares(axes, shares, confusion.counts[np.ix_(chosen, chosen)])
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label("% of the true class")
    return to_png(figure)


def _write_shares(axes: Any, shares: np.ndarray, counts: np.ndarray) -> None:
    for row, column in zip(*np.nonzero(counts), strict=True):
        value = shares[row, column]
        text = "100" if value >= 99.95 else f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"
        color = "white" if value > 55 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=color)
