"""Boxes: overlap, offsets from one box to another, scaling.

Boxes are x1, y1, x2, y2 in pixels, continuous: a box from 0 to 10 is 10 pixels wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypedDict

import torch

from ..names import unknown_name

OVERLAPS = ("iou", "iof", "giou")
"""Measures of overlap."""

SIZE_RATIO_CLIP = 16 / 1000
"""A decoded box is at least this part of its prior's side and at most its inverse, whatever the offsets say."""


class CoderSettings(TypedDict, total=False):
    """Arguments of `DeltaXYWHBBoxCoder` in a config."""

    target_means: Sequence[float]
    target_stds: Sequence[float]


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """Gives the areas (...) of boxes (..., 4), in square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_iou(
    boxes: torch.Tensor,
    others: torch.Tensor,
    mode: Literal["iou", "iof", "giou"] = "iou",
    aligned: bool = False,
    eps: float = 1e-6,
) -> torch.Tensor:
    """Measures how much boxes overlap.

    Args:
        boxes: (n, 4).
        others: (m, 4); where aligned (n, 4).
        mode: "iou": intersection over union; "iof": intersection over the area of `boxes`; "giou": generalised
            intersection over union, -1 to 1 (Rezatofighi et al., CVPR 2019, arXiv:1902.09630).
        aligned: row against row instead of all against all.
        eps: areas that divide are at least this, in square pixels.

    Returns:
        (n, m); where aligned (n,).

    Raises:
        ValueError: for another mode, or aligned boxes of unequal number.
    """
    if mode not in OVERLAPS:
        raise ValueError(unknown_name("measure of overlap", str(mode), OVERLAPS))
    if aligned and len(boxes) != len(others):
        raise ValueError(f"Aligned boxes come in pairs, not as {len(boxes)} and {len(others)}.")
    area, other_area = box_area(boxes), box_area(others)
    if not aligned:
        boxes, others = boxes[:, None], others[None]
        area, other_area = area[:, None], other_area[None]
    # Side by side rather than as pairs of coordinates: no tensor is larger than the result.
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
    """Moves coordinates of boxes (..., 4) that lie outside an image of (height, width) to its border."""
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), dim=-1)


def scale_boxes(boxes: torch.Tensor, factor: Sequence[float]) -> torch.Tensor:
    """Multiplies boxes (..., 4 * k) by a factor (x, y)."""
    repeats = boxes.shape[-1] // 2
    return boxes * boxes.new_tensor(tuple(factor)).repeat(repeats)


def wider_and_higher_than(boxes: torch.Tensor, size: float) -> torch.Tensor:
    """Tells which boxes (..., 4) are more than `size` pixels wide and high: (...) bool."""
    return (boxes[..., 2] - boxes[..., 0] > size) & (boxes[..., 3] - boxes[..., 1] > size)


class DeltaXYWHBBoxCoder:
    """Writes a box as offsets from a prior: centre in parts of the prior's size, size as logarithm of the ratio.

    Girshick et al., "Rich feature hierarchies for accurate object detection", CVPR 2014 (arXiv:1311.2524), appendix C.

    Args:
        target_means: of the four offsets x, y, width, height; taken off in encoding.
        target_stds: of the four offsets; divided by in encoding.

    Raises:
        ValueError: not four means and four positive deviations.
    """

    def __init__(
        self,
        target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    ) -> None:
        if len(target_means) != 4 or len(target_stds) != 4 or min(target_stds) <= 0:
            raise ValueError(
                "A coder has four target_means and four positive target_stds, for x, y, width and height, not "
                f"{tuple(target_means)} and {tuple(target_stds)}."
            )
        self.means = tuple(float(one) for one in target_means)
        self.stds = tuple(float(one) for one in target_stds)

    def encode(self, priors: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Gives the offsets (n, 4) that lead from priors (n, 4) to boxes (n, 4)."""
        prior_size, size = priors[..., 2:] - priors[..., :2], boxes[..., 2:] - boxes[..., :2]
        prior_centre, centre = (priors[..., 2:] + priors[..., :2]) * 0.5, (boxes[..., 2:] + boxes[..., :2]) * 0.5
        offsets = torch.cat(((centre - prior_centre) / prior_size, torch.log(size / prior_size)), dim=-1)
        return (offsets - offsets.new_tensor(self.means)) / offsets.new_tensor(self.stds)

    def decode(
        self,
        priors: torch.Tensor,
        offsets: torch.Tensor,
        max_shape: Sequence[int] | None = None,
        wh_ratio_clip: float = SIZE_RATIO_CLIP,
    ) -> torch.Tensor:
        """Gives the boxes that offsets lead to.

        Args:
            priors: (n, 4).
            offsets: (n, 4), or (n, 4 * classes), four columns a class.
            max_shape: (height, width) in pixels that boxes are cut to; None for none.
            wh_ratio_clip: a side is at least this part of the prior's and at most its inverse.

        Returns:
            Boxes in the shape of the offsets.
        """
        shape = offsets.shape
        offsets = offsets.reshape(*shape[:-1], shape[-1] // 4, 4)
        offsets = offsets * offsets.new_tensor(self.stds) + offsets.new_tensor(self.means)
        priors = priors.unsqueeze(-2)
        limit = abs(math.log(wh_ratio_clip))
        prior_size = priors[..., 2:] - priors[..., :2]
        centre = (priors[..., :2] + priors[..., 2:]) * 0.5 + prior_size * offsets[..., :2]
        half = prior_size * offsets[..., 2:].clamp(-limit, limit).exp() * 0.5
        boxes = torch.cat((centre - half, centre + half), dim=-1)
        if max_shape is not None:
            boxes = clip_boxes(boxes, max_shape)
        return boxes.reshape(shape)
