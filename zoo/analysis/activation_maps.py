"""Feature maps of a model, effective receptive fields, and class activation maps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .blocks import as_map


@contextmanager
def _record_output(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Records the outputs of a module, which stay part of the autograd graph."""
    outputs: list[Any] = []
    handle = module.register_forward_hook(lambda _, __, out: outputs.append(out))
    try:
        yield outputs
    finally:
        handle.remove()


def receptive_field(
    backbone: Any, image: torch.Tensor, module: nn.Module, y: int, x: int, size: tuple[int, int]
) -> torch.Tensor:
    """Computes the effective receptive field of a position: how strongly it depends on each pixel.

    Args:
        backbone: The model. It is put into evaluation mode.
        image: (1, C, H, W), normalized.
        module: The block that computes the map.
        y: Row of the position.
        x: Column of the position.
        size: Height and width of the map in positions.

    Returns:
        (H, W): Gradient of the position's mean channel with respect to the pixels, absolute values summed over the
        image channels, divided by the maximum.

    Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks" (2016).
    """
    body = getattr(backbone, "body", backbone)
    image = image.detach().clone().requires_grad_(True)
    with torch.enable_grad(), _record_output(module) as outputs:
        backbone.eval()(image)
        (gradient,) = torch.autograd.grad(as_map(body, outputs[0], size)[0, :, y, x].mean(), image)
    field = gradient[0].abs().sum(0)
    return field / field.max().clamp_min(torch.finfo(field.dtype).tiny)


def grad_cam(
    model: Any, image: torch.Tensor, module: nn.Module, size: tuple[int, int], target: int | None = None
) -> tuple[torch.Tensor, int, float]:
    """Computes Grad-CAM: which positions of a map increase the logit of a class.

    Args:
        model: A backbone with a classifier. It is put into evaluation mode.
        image: (1, C, H, W), normalized.
        module: The block that computes the map.
        size: Height and width of the map in positions.
        target: Index of the class; by default the most probable one.

    Returns:
        (h, w): Channels of the map weighted by the mean gradients of the logit, negative sums set to 0, divided by the
        maximum; the index of the class; its probability.

    Raises:
        ValueError: The model has no classes, or `target` is out of range.

    Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (ICCV
    2017), equations 1 and 2.
    """
    num_classes = getattr(model, "num_classes", 0)
    if not num_classes:
        raise ValueError(f"Grad-CAM needs a classifier, but {type(model).__name__} has no classes.")
    if target is not None and not 0 <= target < num_classes:
        raise ValueError(f"There is no class {target}; the model has {num_classes}, 0 to {num_classes - 1}.")
    with torch.enable_grad(), _record_output(module) as outputs:
        # The image requires a gradient because otherwise the map of a frozen model has none.
        logits = model.eval()(image.detach().clone().requires_grad_(True))[0]
        target = int(logits.argmax()) if target is None else target
        (gradient,) = torch.autograd.grad(logits[target], outputs[0])
    features, gradient = (as_map(model, tensor.detach(), size)[0] for tensor in (outputs[0], gradient))
    cam = (gradient.mean((1, 2), keepdim=True) * features).sum(0).clamp_min(0)
    cam = cam / cam.max().clamp_min(torch.finfo(cam.dtype).tiny)
    return cam, target, float(logits.detach().softmax(-1)[target])


def feature_maps(model: Any, image: torch.Tensor) -> dict[int, torch.Tensor]:
    """Computes the feature map (C, H, W) of every stage, by its index.

    Args:
        model: A backbone, or the `FeatureMaps` around one. It is put into evaluation mode.
        image: (1, C, H, W), normalized.
    """
    with torch.no_grad():
        if hasattr(model, "body"):
            return dict(zip(model.out_indices, (one[0] for one in model.eval()(image)), strict=True))
        return dict(enumerate(one[0] for one in model.eval().forward_intermediates(image, intermediates_only=True)))


def principal_colors(features: torch.Tensor) -> torch.Tensor:
    """Maps the three strongest principal components of a feature map to red, green and blue.

    Args:
        features: (C, H, W), at least three positions.

    Returns:
        (H, W, 3) in [0, 1]: each component scaled from its 1st to its 99th percentile. The sign of a component is
        chosen so that its largest weight is positive.
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
    if colors.shape[1] < 3:  # fewer channels or positions than colors
        colors = torch.cat([colors, colors.new_zeros(len(colors), 3 - colors.shape[1])], 1)
    return colors.view(height, width, 3)


def strongest_channels(features: torch.Tensor, count: int) -> list[int]:
    """Returns the indices of the channels of (C, H, W) with the largest variance over positions, largest first."""
    variance = features.detach().float().flatten(1).var(1)
    return variance.argsort(descending=True, stable=True)[:count].tolist()
