"""Panels of an image with overlays: heat maps, a marked query, outlines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.patches import Rectangle

from .figures import new_figure, new_grid, to_png

_COLORMAP = "inferno"
_BRIGHTNESS = 0.7  # of the photo below a heat map
_QUERY_COLOR = "#00e5ff"
_OUTLINE_COLOR = "#7dffb0"
_PANEL_WIDTH = 3.1  # inches

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


@dataclass
class Panel:
    """One panel of a figure.

    Attributes:
        title: Title above the panel.
        heat: (h, w), a heat map over the image; None for the image alone.
        image: (h, w, 3) in [0, 1], shown instead of the photo.
        extent: Area of the heat map in pixels of the photo, by default all of it. May extend beyond the photo.
        outlines: Boxes to outline.
        labels: A text for each of `outlines`, or none.
        smooth: Whether the heat map is interpolated rather than shown in cells.
        shows_query: Whether the query is marked.
    """

    title: str
    heat: np.ndarray | None = None
    image: np.ndarray | None = None
    extent: Box | None = None
    outlines: Sequence[Box] = ()
    labels: Sequence[str] = ()
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
    """Renders panels in a grid.

    Args:
        photo: (H, W, 3) uint8.
        panels: The panels, in reading order.
        title: Heading of the figure.
        note: Text below the figure.
        query: x and y in pixels, marked on the panels.
        query_box: Pixels of the query's position in the map.
        columns: Number of panels per row.

    Returns:
        The PNG.
    """
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    panel_height = _PANEL_WIDTH * photo.shape[0] / photo.shape[1] + 0.3
    figure = new_figure(_PANEL_WIDTH * columns + 0.3, panel_height * rows + (0.75 if note else 0.5), title=title)
    if note:
        figure.supxlabel(note, fontsize=9, color="0.35")
    for axes, panel in zip(new_grid(figure, rows, columns), panels, strict=False):
        _draw_panel(axes, photo, panel, query, query_box)
    return to_png(figure)


def _draw_panel(
    axes: Any, photo: np.ndarray, panel: Panel, query: tuple[float, float] | None, query_box: Box | None
) -> None:
    height, width = photo.shape[:2]
    axes.set_title(panel.title, fontsize=9)
    image = photo / 255 if panel.image is None else panel.image
    if panel.heat is not None:
        gray = (photo / 255).mean(-1, keepdims=True)
        image = _BRIGHTNESS * (0.6 * gray + 0.4 * photo / 255)
    axes.imshow(
        image,
        extent=(0, width, height, 0),  # left, right, bottom, top
        interpolation="antialiased" if panel.image is None else "nearest",
    )
    if panel.heat is not None:
        left, top, right, bottom = panel.extent or (0, 0, width, height)
        axes.imshow(
            heat_colors(panel.heat),
            extent=(left, right, bottom, top),
            interpolation="bilinear" if panel.smooth else "nearest",
        )
    for index, box in enumerate(panel.outlines):
        axes.add_patch(_rectangle(box, _OUTLINE_COLOR, 0.9))
        if index < len(panel.labels):
            axes.text(
                box[0] + 3, box[1] + 3, panel.labels[index], color=_OUTLINE_COLOR, fontsize=7, va="top", clip_on=True
            )
    if query is not None and panel.shows_query:
        if query_box is not None:
            axes.add_patch(_rectangle(query_box, _QUERY_COLOR, 1.2))
        axes.plot(*query, marker="+", color=_QUERY_COLOR, markersize=9, markeredgewidth=1.6)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def _rectangle(box: Box, color: str, linewidth: float) -> Rectangle:
    left, top, right, bottom = box
    return Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=linewidth)


def heat_colors(heat: np.ndarray) -> np.ndarray:
    """Maps (h, w) of non-negative values to colors (h, w, 4): larger values are more opaque, NaN is transparent."""
    values = np.nan_to_num(heat)
    share = values / max(float(values.max()), 1e-12)
    colors = colormaps[_COLORMAP](0.12 + 0.88 * share)
    colors[..., 3] = np.where(np.isnan(heat), 0.0, 0.2 + 0.55 * np.sqrt(share))
    return colors


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """Converts a tensor to a NumPy array of float64."""
    return tensor.detach().double().cpu().numpy()
