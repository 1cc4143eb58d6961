"""Figures of a model's activations: receptive field, feature maps, Grad-CAM."""

from __future__ import annotations

from collections.abc import Sequence

from ...deprecated_paths import renamed_names
from ..analysis.activation_maps import feature_maps, grad_cam, principal_colors, receptive_field, strongest_channels
from ..analysis.blocks import find_block, output_size
from .overlays import Panel, draw_panels, to_array
from .view import View

_CHANNELS_PER_STAGE = 3


def draw_receptive_field(view: View) -> tuple[bytes, str]:
    """Plots the effective receptive field of the query's position in the output of the block.

    Returns:
        The PNG, and a description in words.
    """
    module = find_block(view.model, view.stage, view.block)
    size = output_size(view.model, view.image, module)
    y, x = view.position(size)
    field = receptive_field(view.model, view.image, module, y, x, size)
    share = float((field > 0.05).float().mean())
    note = f"map of {size[0]} x {size[1]} positions; {100 * share:.1f} % of the pixels exceed 5 % of the maximum"
    content = draw_panels(
        view.photo,
        [Panel("the query"), Panel("gradient", to_array(field)), Panel("square root", to_array(field.sqrt()))],
        f"Effective receptive field of {view.title}",
        note,
        view.query,
        view.box(size, (y, y + 1), (x, x + 1)),
        columns=3,
    )
    return content, note


def draw_feature_maps(view: View) -> tuple[bytes, str]:
    """Plots the map of every stage: its three strongest principal components as colors, and its strongest channels.

    Returns:
        The PNG, and a description in words.
    """
    maps = feature_maps(view.model, view.image)
    panels = []
    for index, features in maps.items():
        channels, height, width = features.shape
        extent = view.box((height, width), (0, height), (0, width))
        title = f"map {index}: {channels} channels, {height} x {width}"
        panels.append(Panel(title, image=to_array(principal_colors(features)), shows_query=False))
        for channel in strongest_channels(features, _CHANNELS_PER_STAGE):
            values = features[channel] - features[channel].min()
            panels.append(Panel(f"channel {channel}", to_array(values), extent=extent, shows_query=False))
    note = "colors: the three strongest principal components of each map; then its channels with the largest variance"
    content = draw_panels(view.photo, panels, f"Feature maps of {view.name}", note, columns=1 + _CHANNELS_PER_STAGE)
    return content, f"{len(maps)} maps"


def draw_grad_cam(view: View, target: int | None, classes: Sequence[str] | None) -> tuple[bytes, str]:
    """Plots which positions of the block's output increase the logit of a class.

    Args:
        view: Model, image and block.
        target: Index of the class; None for the most probable one.
        classes: Class names, if known.

    Returns:
        The PNG, and a description in words.

    Raises:
        ValueError: The model has no classes, or `target` is out of range.
    """
    module = find_block(view.model, view.stage, view.block)
    size = output_size(view.model, view.image, module)
    cam, target, probability = grad_cam(view.model, view.image, module, size, target)
    extent = view.box(size, (0, size[0]), (0, size[1]))
    name = classes[target] if classes else f"class {target}"
    note = f"{name}, probability {probability:.3f}; map of {size[0]} x {size[1]} positions"
    panels = [
        Panel("the image", shows_query=False),
        Panel("by position", to_array(cam), extent=extent, shows_query=False),
        Panel("interpolated", to_array(cam), extent=extent, smooth=True, shows_query=False),
    ]
    return draw_panels(view.photo, panels, f"Grad-CAM of {view.title}", note, columns=3), note


__getattr__ = renamed_names(__name__, {"draw_features": "draw_feature_maps"})
