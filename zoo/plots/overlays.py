"""Pictures of maps on images: heat over a dimmed photo, a marked query, outlines of what it sees."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

_COLORS = "inferno"
_DIMMED = 0.7  # how bright the photo stays below the heat
_QUERY = "#00e5ff"
_OUTLINE = "#7dffb0"

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


@dataclass
class Panel:
    """One picture of a figure.

    Attributes:
        title: above it.
        heat: (h, w), laid over the whole image in cells of equal size, unless `extent` says where; None for the photo
            alone.
        picture: (h, w, 3) in [0, 1], shown instead of the photo.
        extent: of the heat, in pixels of the image; may reach beyond it.
        outlines: boxes to draw.
        labels: a text for each of `outlines`, or none.
        smooth: whether the heat is interpolated rather than shown in cells.
        shows_query: whether the query is marked.
    """

    title: str
    heat: np.ndarray | None = None
    picture: np.ndarray | None = None
    extent: Box | None = None
    outlines: Sequence[Box] = ()
    labels: Sequence[str] = field(default_factory=tuple)
    smooth: bool = False
    shows_query: bool = True


def draw_panels(
    photo: np.ndarray,
    panels: Sequence[Panel],
    title: str,
    note: str = "",
    query: tuple[float, float] | None = None,
    query_box: Box | None = None,
    columns: int = 4,
) -> bytes:
    """Draws a figure.

    Args:
        photo: (H, W, 3) uint8.
        panels: the pictures, in reading order.
        title: above the figure.
        note: below it.
        query: x and y in pixels, marked on the panels.
        query_box: the position of the map that the query belongs to.
        columns: pictures in a row.

    Returns:
        The PNG's bytes.
    """
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    tall = photo.shape[0] / photo.shape[1]
    width = 3.1
    figure = Figure(
        figsize=(width * columns + 0.3, (width * tall + 0.3) * rows + (0.75 if note else 0.5)),
        dpi=110,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    if note:
        figure.supxlabel(note, fontsize=9, color="0.35")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw(axes, photo, panel, query, query_box)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw(axes: Any, photo: np.ndarray, panel: Panel, query: tuple[float, float] | None, query_box: Box | None) -> None:
    height, width = photo.shape[:2]
    whole = (0, width, height, 0)  # matplotlib's order: left, right, bottom, top
    axes.set_title(panel.title, fontsize=9)
    shown = photo / 255 if panel.picture is None else panel.picture
    if panel.heat is not None:
        gray = (photo / 255).mean(-1, keepdims=True)
        shown = _DIMMED * (0.6 * gray + 0.4 * photo / 255)
    axes.imshow(shown, extent=whole, interpolation="antialiased" if panel.picture is None else "nearest")
    if panel.heat is not None:
        left, top, right, bottom = panel.extent or (0, 0, width, height)
        axes.imshow(
            heat_colors(panel.heat),
            extent=(left, right, bottom, top),
            interpolation="bilinear" if panel.smooth else "nearest",
        )
    for index, box in enumerate(panel.outlines):
        axes.add_patch(_rectangle(box, _OUTLINE, 0.9))
        if index < len(panel.labels):
            axes.text(box[0] + 3, box[1] + 3, panel.labels[index], color=_OUTLINE, fontsize=7, va="top", clip_on=True)
    if query is not None and panel.shows_query:
        if query_box is not None:
            axes.add_patch(_rectangle(query_box, _QUERY, 1.2))
        axes.plot(*query, marker="+", color=_QUERY, markersize=9, markeredgewidth=1.6)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def _rectangle(box: Box, color: str, linewidth: float) -> Rectangle:
    left, top, right, bottom = box
    return Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=linewidth)


def heat_colors(heat: np.ndarray) -> np.ndarray:
    """Colours a map (h, w) of values of at least 0: (h, w, 4), the more opaque the larger, NaN not at all."""
    known = np.nan_to_num(heat)
    share = known / max(float(known.max()), 1e-12)
    colors = colormaps[_COLORS](0.12 + 0.88 * share)
    colors[..., 3] = np.where(np.isnan(heat), 0.0, 0.2 + 0.55 * np.sqrt(share))
    return colors


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """Gives a tensor as a NumPy array of float64, for matplotlib."""
    return tensor.detach().double().cpu().numpy()
