"""Suppression of boxes that overlap a better one, on torchvision's operator."""

from __future__ import annotations

import torch
from torchvision.ops import nms

from .structures import Detections

SPLIT_THRESHOLD = 10000
"""From this number of boxes on, groups are treated one by one."""


def batched_nms(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    groups: torch.Tensor,
    iou_threshold: float,
    class_agnostic: bool = False,
    split_threshold: int = SPLIT_THRESHOLD,
) -> torch.Tensor:
    """Finds the boxes that no better box of their group overlaps by more than a threshold.

    The groups are moved apart by a multiple of the largest coordinate and treated at once, as OpenMMLab does. That
    rounds the coordinates of later groups a little, so that now and then a box near the threshold lives or dies
    otherwise than with a pass for each group: published figures were measured so. From `split_threshold` boxes on,
    there is a pass for each group, on the same moved coordinates.

    Args:
        boxes: (n, 4) float32.
        scores: (n,).
        groups: (n,) integers, such as classes or levels.
        iou_threshold: a box goes if its intersection over union with a better one is above this.
        class_agnostic: boxes of all groups suppress each other.
        split_threshold: from this number of boxes on, the groups are treated one by one.

    Returns:
        (k,) int64: the rows that stay, best first.
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
    """Turns boxes with a score for every class into detections.

    Args:
        boxes: (n, 4), or (n, 4 * classes) where each class has a box of its own.
        scores: (n, classes + 1); the last column is the background's.
        score_thr: only pairs of box and class that score more are looked at.
        iou_threshold: a detection goes if its intersection over union with a better one of its class is above this.
        max_num: how many detections there are at most; -1 for any number.
        class_agnostic: detections of all classes suppress each other.
        split_threshold: as in `batched_nms`.

    Returns:
        The detections, best first, and for each which pair it was: row * classes + class.
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
