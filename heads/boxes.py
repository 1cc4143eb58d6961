"""Box operations: overlap, offset coding, clipping, scaling.

Boxes are (x1, y1, x2, y2) in continuous pixel coordinates: a box from 0 to 10 is 10 pixels wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypedDict

import torch

from ..names import unknown_name

OVERLAPS = ("iou", "iof", "giou")
"""Overlap measures of `box_iou`."""

SIZE_RATIO_CLIP = 16 / 1000
"""Limit of the ratio between a decoded box's sides and its prior's, and of the inverse ratio."""


class CoderSettings(TypedDict, total=False):
    """Arguments of `DeltaXYWHBBoxCoder` in a config."""

    target_means: Sequence[float]
    target_stds: Sequence[float]


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """Returns the areas (...) of boxes (..., 4) in square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_iou(
    boxes: torch.Tensor,
    others: torch.Tensor,
    mode: Literal["iou", "iof", "giou"] = "iou",
    aligned: bool = False,
    eps: float = 1e-6,
) -> torch.Tensor:
    """Computes the overlap of boxes.

    Args:
        boxes: (n, 4).
        others: (m, 4); (n, 4) if `aligned`.
        mode: "iou": intersection over union; "iof": intersection over the area of `boxes`; "giou": generalized
            intersection over union, in [-1, 1] (Rezatofighi et al., CVPR 2019, arXiv:1902.09630).
        aligned: Compare row by row instead of all pairs.
        eps: Lower bound of divisors, in square pixels.

    Returns:
        (n, m), or (n,) if `aligned`.

    Raises:
        ValueError: The mode is unknown, or aligned boxes differ in number.
    """
    if mode not in OVERLAPS:
        raise ValueError(unknown_name("overlap mode", str(mode), OVERLAPS))
    if aligned and len(boxes) != len(others):
        raise ValueError(f"Aligned boxes must be equal in number, got {len(boxes)} and {len(others)}.")
    area, other_area = box_area(boxes), box_area(others)
    if not aligned:
        boxes, others = boxes[:, None], others[None]
        area, other_area = area[:, None], other_area[None]
    # One tensor per coordinate, so that no intermediate is larger than the result.
    ax1, ay1, ax2, ay2 = boxes.unbind(-1)
    bx1, by1, bx2, by2 = others.unbind(-1)
    overlap = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    overlap = overlap * (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    if mode == "iof":
        return overlap / area.clamp(min=eps)
    union = (area + other_area - overlap).clamp(min=eps)
    ious = overlap / union
    if mode == "iou":
        return ious
    width = (torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)).clamp(min=0)
    height = (torch.maximum(ay2, by2) - torch.minimum(ay1, by1)).clamp(min=0)
    enclosing = (width * height).clamp(min=eps)
    return ious - (enclosing - union) / enclosing


def clip_boxes(boxes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Clips boxes (..., 4) to an image of (height, width)."""
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), dim=-1)


def scale_boxes(boxes: torch.Tensor, factor: Sequence[float]) -> torch.Tensor:
    """Multiplies boxes (..., 4 * k) by a factor (x, y)."""
    repeats = boxes.shape[-1] // 2
    return boxes * boxes.new_tensor(tuple(factor)).repeat(repeats)


def wider_and_higher_than(boxes: torch.Tensor, size: float) -> torch.Tensor:
    """Returns which boxes (..., 4) are wider and higher than `size` pixels: (...) bool."""
    return (boxes[..., 2] - boxes[..., 0] > size) & (boxes[..., 3] - boxes[..., 1] > size)


class DeltaXYWHBBoxCoder:
    """Codes boxes as offsets from priors: center shift relative to the prior's size, logarithm of the size ratio.

    Girshick et al., "Rich feature hierarchies for accurate object detection", CVPR 2014 (arXiv:1311.2524), appendix C.

    Args:
        target_means: Means of the offsets (x, y, width, height), subtracted when encoding.
        target_stds: Standard deviations of the offsets, divided by when encoding.

    Raises:
        ValueError: There are not four means and four positive standard deviations.
    """

    def __init__(
        self,
        target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    ) -> None:
        if len(target_means) != 4 or len(target_stds) != 4 or min(target_stds) <= 0:
            raise ValueError(
                "target_means must be four numbers and target_stds four positive numbers (x, y, width, height), got "
                f"{tuple(target_means)} and {tuple(target_stds)}."
            )
        self.means = tuple(map(float, target_means))
        self.stds = tuple(map(float, target_stds))

    def encode(self, priors: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Returns the offsets (n, 4) from priors (n, 4) to boxes (n, 4)."""
        prior_size, size = priors[..., 2:] - priors[..., :2], boxes[..., 2:] - boxes[..., :2]
        prior_center, center = (priors[..., 2:] + priors[..., :2]) * 0.5, (boxes[..., 2:] + boxes[..., :2]) * 0.5
        offsets = torch.cat(((center - prior_center) / prior_size, torch.log(size / prior_size)), dim=-1)
        return (offsets - offsets.new_tensor(self.means)) / offsets.new_tensor(self.stds)

    def decode(
        self,
        priors: torch.Tensor,
        offsets: torch.Tensor,
        max_shape: Sequence[int] | None = None,
        wh_ratio_clip: float = SIZE_RATIO_CLIP,
    ) -> torch.Tensor:
        """Applies offsets to priors.

        Args:
            priors: (n, 4).
            offsets: (n, 4), or (n, 4 * classes) with four columns per class.
            max_shape: (height, width) in pixels that boxes are clipped to; None for no clipping.
            wh_ratio_clip: Limit of the ratio between a box's sides and its prior's, and of the inverse ratio.

        Returns:
            Boxes in the shape of the offsets.
        """
        shape = offsets.shape
        offsets = offsets.reshape(*shape[:-1], shape[-1] // 4, 4)
        offsets = offsets * offsets.new_tensor(self.stds) + offsets.new_tensor(self.means)
        priors = priors.unsqueeze(-2)
        limit = abs(math.log(wh_ratio_clip))
        prior_size = priors[..., 2:] - priors[..., :2]
        center = (priors[..., :2] + priors[..., 2:]) * 0.5 + prior_size * offsets[..., :2]
        half = prior_size * offsets[..., 2:].clamp(-limit, limit).exp() * 0.5
        boxes = torch.cat((center - half, center + half), dim=-1)
        if max_shape is not None:
            boxes = clip_boxes(boxes, max_shape)
        return boxes.reshape(shape)
