"""Non-maximum suppression per group and per class, on torchvision's operator."""

from __future__ import annotations

import torch
from torchvision.ops import nms

from .structures import Detections

SPLIT_THRESHOLD = 10000
"""Number of boxes from which groups are processed one by one."""


def batched_nms(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    groups: torch.Tensor,
    iou_threshold: float,
    class_agnostic: bool = False,
    split_threshold: int = SPLIT_THRESHOLD,
) -> torch.Tensor:
    """Non-maximum suppression within groups.

    All groups are processed at once, separated by offsets of a multiple of the largest coordinate, as in OpenMMLab. The
    offsets round the coordinates of later groups slightly, so a box close to the threshold can be decided differently
    than by a separate call per group; published results were measured this way. From `split_threshold` boxes on, each
    group is processed by itself, on the same shifted coordinates.

    Args:
        boxes: (n, 4) float32.
        scores: (n,).
        groups: (n,) integers, such as classes or levels.
        iou_threshold: A box is suppressed if its IoU with a better box exceeds this.
        class_agnostic: Whether boxes of all groups suppress each other.
        split_threshold: Number of boxes from which groups are processed one by one.

    Returns:
        (k,) int64 rows that are kept, best first.
    """
    if len(boxes) == 0:
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    boxes, scores = boxes.float(), scores.float()
    if not class_agnostic:
        boxes = boxes + (groups.to(boxes) * (boxes.max() + 1))[:, None]
    if len(boxes) < split_threshold:
        return nms(boxes, scores, iou_threshold)
    kept = []
    for group in groups.unique():
        rows = (groups == group).nonzero().flatten()
        kept.append(rows[nms(boxes[rows], scores[rows], iou_threshold)])
    rows = torch.cat(kept).sort().values
    return rows[scores[rows].argsort(descending=True, stable=True)]


def multiclass_nms(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    score_thr: float,
    iou_threshold: float,
    max_num: int = -1,
    class_agnostic: bool = False,
    split_threshold: int = SPLIT_THRESHOLD,
) -> tuple[Detections, torch.Tensor]:
    """Converts boxes with per-class scores to detections.

    Args:
        boxes: (n, 4), or (n, 4 * classes) with one box per class.
        scores: (n, classes + 1); the last column is background.
        score_thr: Minimum score (exclusive) of a pair of box and class.
        iou_threshold: A detection is suppressed if its IoU with a better one of its class exceeds this.
        max_num: Maximum number of detections; -1 for no limit.
        class_agnostic: Whether detections of all classes suppress each other.
        split_threshold: As in `batched_nms`.

    Returns:
        The detections, best first, and the pair that each came from: row * classes + class.
    """
    classes = scores.shape[1] - 1
    boxes = boxes.reshape(len(boxes), boxes.shape[1] // 4, 4).expand(len(boxes), classes, 4).reshape(-1, 4)
    flat = scores[:, :-1].reshape(-1)
    pairs = (flat > score_thr).nonzero().flatten()
    boxes, flat, labels = boxes[pairs], flat[pairs], pairs % classes
    kept = batched_nms(boxes, flat, labels, iou_threshold, class_agnostic, split_threshold)
    if max_num > 0:
        kept = kept[:max_num]
    return Detections(boxes[kept], flat[kept], labels[kept]), pairs[kept]
