"""Creating matplotlib figures without a display, and rendering them as PNG."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def new_figure(width: float, height: float, dpi: int = 110, title: str | None = None, fontsize: float = 12) -> Figure:
    """Creates a figure with a constrained layout.

    Args:
        width: Width in inches.
        height: Height in inches.
        dpi: Pixels per inch.
        title: Heading.
        fontsize: Font size of the heading in points.
    """
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=fontsize)
    return figure


def new_grid(figure: Figure, rows: int, columns: int) -> list[Any]:
    """Creates a grid of axes without frames, in reading order."""
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    return list(grid.flat)


def to_png(figure: Figure) -> bytes:
    """Renders a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
