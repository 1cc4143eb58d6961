"""What a model makes of an image: its feature maps, what a position depends on, and what speaks for a class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def _kept_output(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Notes what a module gives, as a part of autograd's graph."""
    kept: list[Any] = []
    handle = module.register_forward_hook(lambda _, __, out: kept.append(out))
    try:
        yield kept
    finally:
        handle.remove()


def as_map(body: Any, out: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
    """Views what a block or stage gives as (B, C, H, W).

    Args:
        body: the backbone, which knows the layout of its maps.
        out: a map in that layout, or tokens (B, prefix + H * W, C).
        size: H and W, needed for tokens.
    """
    if out.ndim == 3:
        assert size is not None
        return out[:, body.num_prefix_tokens :].unflatten(1, size).permute(0, 3, 1, 2)
    return out if body.map_layout == "NCHW" else out.permute(0, 3, 1, 2)


def receptive_field(
    backbone: Any, image: torch.Tensor, module: nn.Module, y: int, x: int, size: tuple[int, int]
) -> torch.Tensor:
    """Says how strongly a position of a map depends on each pixel: the effective receptive field.

    Args:
        backbone: the model, put into evaluation mode.
        image: (1, C, H, W), normalised.
        module: the block whose map is meant.
        y: row of the position.
        x: column of the position.
        size: height and width of the map, in positions.

    Returns:
        (H, W): the gradient of the position's mean channel by the pixels, absolute values summed over image channels,
        divided by the largest.

    Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks" (2016).
    """
    body = getattr(backbone, "body", backbone)
    image = image.detach().clone().requires_grad_(True)
    with torch.enable_grad(), _kept_output(module) as kept:
        backbone.eval()(image)
        (gradient,) = torch.autograd.grad(as_map(body, kept[0], size)[0, :, y, x].mean(), image)
    field = gradient[0].abs().sum(0)
    return field / field.max().clamp_min(torch.finfo(field.dtype).tiny)


def grad_cam(
    model: Any, image: torch.Tensor, module: nn.Module, size: tuple[int, int], target: int | None = None
) -> tuple[torch.Tensor, int, float]:
    """Says which positions of a map speak for a class (Grad-CAM).

    Args:
        model: a backbone with a classifier, put into evaluation mode.
        image: (1, C, H, W), normalised.
        module: the block whose map is meant.
        size: height and width of the map, in positions.
        target: index of the class; the most probable one by default.

    Returns:
        (h, w): the map's channels weighted by the mean gradients of the class's logit, negative sums cut off, divided
        by the largest; the class; its probability.

    Raises:
        ValueError: the model has no classes, or not that one.

    Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (ICCV
    2017), equations 1 and 2.
    """
    classes = getattr(model, "num_classes", 0)
    if not classes:
        raise ValueError(f"Grad-CAM needs classes, but {type(model).__name__} has none.")
    if target is not None and not 0 <= target < classes:
        raise ValueError(f"There is no class {target}; the model has {classes}, 0 to {classes - 1}.")
    with torch.enable_grad(), _kept_output(module) as kept:
        # A map that needs no gradient, as of a frozen model, would have none.
        logits = model.eval()(image.detach().clone().requires_grad_(True))[0]
        target = int(logits.argmax()) if target is None else target
        (gradient,) = torch.autograd.grad(logits[target], kept[0])
    features, gradient = (as_map(model, one.detach(), size)[0] for one in (kept[0], gradient))
    cam = (gradient.mean((1, 2), keepdim=True) * features).sum(0).clamp_min(0)
    cam = cam / cam.max().clamp_min(torch.finfo(cam.dtype).tiny)
    return cam, target, float(logits.detach().softmax(-1)[target])


def principal_colors(features: torch.Tensor) -> torch.Tensor:
    """Shows a map's channels as colours: its three strongest principal components as red, green and blue.

    Args:
        features: (C, H, W), of at least three positions.

    Returns:
        (H, W, 3) in [0, 1]: each component from its 1st to its 99th percentile. A component's sign, which is free, is
        the one that makes its largest weight positive.
    """
    height, width = features.shape[1:]
    points = features.detach().float().flatten(1).T
    points = points - points.mean(0)
    _, _, components = torch.linalg.svd(points, full_matrices=False)
    components = components[:3]
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    projected = points @ (components * largest.sign()).T
    low, high = (torch.quantile(projected, share, dim=0) for share in (0.01, 0.99))
    colors = ((projected - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    if colors.shape[1] < 3:  # fewer channels or positions than colours
        colors = torch.cat([colors, colors.new_zeros(len(colors), 3 - colors.shape[1])], 1)
    return colors.view(height, width, 3)


def strongest_channels(features: torch.Tensor, count: int) -> list[int]:
    """Finds the channels of a map (C, H, W) that vary most over its positions, the strongest first."""
    spread = features.detach().float().flatten(1).var(1)
    return spread.argsort(descending=True, stable=True)[:count].tolist()
