"""Assigners match priors to ground-truth objects; samplers select the priors that contribute to the loss.

Priors are anchors or proposals. Ren et al., "Faster R-CNN", NeurIPS 2015 (arXiv:1506.01497), sections 3.1.2 and 3.1.3.
"""

from __future__ import annotations

import dataclasses
from typing import TypedDict

import torch

from .boxes import box_iou

CHUNK = 1 << 23
"""Number of overlaps computed at once: 32 MiB in float32."""

CPU_CHUNK = 1 << 18
"""Number of overlaps computed at once on a CPU: few enough to stay in its cache."""


class AssignerSettings(TypedDict, total=False):
    """Arguments of `MaxIoUAssigner` in a config."""

    pos_iou_thr: float
    neg_iou_thr: float
    min_pos_iou: float
    match_low_quality: bool
    gt_max_assign_all: bool
    ignore_iof_thr: float
    ignore_wrt_candidates: bool


class SamplerSettings(TypedDict, total=False):
    """Arguments of `RandomSampler` in a config."""

    num: int
    pos_fraction: float
    neg_pos_ub: float
    add_gt_as_proposals: bool


@dataclasses.dataclass
class Assignment:
    """Match of each of n priors.

    Attributes:
        gt_inds: (n,) int64: -1 for ignored, 0 for background, k for object k - 1.
        max_overlaps: (n,) largest IoU with an object; 0 without objects, -1 for priors inside an ignored box.
        labels: (n,) int64 class of the matched object, -1 without one.
    """

    gt_inds: torch.Tensor
    max_overlaps: torch.Tensor
    labels: torch.Tensor


class MaxIoUAssigner:
    """Matches each prior to the object with the highest IoU, and each object to its best priors.

    Args:
        pos_iou_thr: Priors whose highest IoU reaches this threshold are positive.
        neg_iou_thr: Priors below this threshold are background; between the two thresholds they are ignored.
        min_pos_iou: Lowest IoU at which an object is matched to its best priors.
        match_low_quality: Whether objects are matched to their best priors regardless of the thresholds above. Such a
            prior goes to the last object that it is best for, even if it overlaps another one more.
        gt_max_assign_all: Match an object to all priors with its highest IoU, not only to the first. With
            `min_pos_iou` 0, an object without any overlap is matched to all priors that it does not overlap.
        ignore_iof_thr: Priors that overlap an ignored box by more than this fraction are ignored; 0 or negative to
            disregard ignored boxes.
        ignore_wrt_candidates: Measure that fraction relative to the prior's area rather than the ignored box's.

    Raises:
        ValueError: A threshold is outside [0, 1], or neg_iou_thr exceeds pos_iou_thr.
    """

    def __init__(
        self,
        pos_iou_thr: float,
        neg_iou_thr: float,
        min_pos_iou: float = 0.0,
        match_low_quality: bool = True,
        gt_max_assign_all: bool = True,
        ignore_iof_thr: float = -1,
        ignore_wrt_candidates: bool = True,
    ) -> None:
        if not 0 <= neg_iou_thr <= pos_iou_thr <= 1:
            raise ValueError(
                f"Thresholds must satisfy 0 <= neg_iou_thr <= pos_iou_thr <= 1, got neg_iou_thr={neg_iou_thr} and "
                f"pos_iou_thr={pos_iou_thr}."
            )
        self.pos_iou_thr = pos_iou_thr
        self.neg_iou_thr = neg_iou_thr
        self.min_pos_iou = min_pos_iou
        self.match_low_quality = match_low_quality
        self.gt_max_assign_all = gt_max_assign_all
        self.ignore_iof_thr = ignore_iof_thr
        self.ignore_wrt_candidates = ignore_wrt_candidates

    @torch.no_grad()
    def assign(
        self,
        priors: torch.Tensor,
        boxes: torch.Tensor,
        labels: torch.Tensor,
        ignored_boxes: torch.Tensor | None = None,
    ) -> Assignment:
        """Matches an image's priors to its objects.

        Overlaps are computed in chunks of priors to bound memory, and once more for the chunks that contain an object's
        best priors.

        Args:
            priors: (n, 4).
            boxes: (m, 4) ground-truth boxes.
            labels: (m,) int64.
            ignored_boxes: (k, 4) or None.

        Returns:
            The match of each prior.
        """
        count = len(boxes)
        if count == 0 or len(priors) == 0:
            inds = torch.zeros(len(priors), dtype=torch.int64, device=priors.device)
            return Assignment(inds, priors.new_zeros(len(priors)), inds - 1)

        chunks = priors.split(max(1, (CPU_CHUNK if priors.device.type == "cpu" else CHUNK) // count))
        overlaps = torch.empty(0)
        best_values, best_objects, most = [], [], []
        for chunk in chunks:
            overlaps = self._overlaps(chunk, boxes, ignored_boxes)
            values, objects = overlaps.max(dim=0)
            best_values.append(values)
            best_objects.append(objects)
            most.append(overlaps.max(dim=1))
        max_overlaps, best = torch.cat(best_values), torch.cat(best_objects)

        inds = torch.full_like(best, -1)
        inds[(max_overlaps >= 0) & (max_overlaps < self.neg_iou_thr)] = 0
        inds = torch.where(max_overlaps >= self.pos_iou_thr, best + 1, inds)

        if self.match_low_quality:
            per_chunk = torch.stack([one.values for one in most])  # (chunks, m)
            object_max, first_chunk = per_chunk.max(dim=0)
            enough = object_max >= self.min_pos_iou
            if self.gt_max_assign_all:
                owners = []
                holds_best = ((per_chunk == object_max) & enough).any(dim=1).tolist()
                for chunk, wanted in zip(chunks, holds_best, strict=True):
                    if not wanted:
                        owners.append(inds.new_zeros(len(chunk)))
                        continue
                    if len(chunks) > 1:
                        overlaps = self._overlaps(chunk, boxes, ignored_boxes)
                    owners.append(_last_owner((overlaps == object_max[:, None]) & enough[:, None]))
                owner = torch.cat(owners)
                inds = torch.where(owner > 0, owner, inds)
            else:
                inside = torch.stack([one.indices for one in most]).gather(0, first_chunk[None])[0]
                rows = (first_chunk * len(chunks[0]) + inside)[enough]
                numbers = torch.arange(1, count + 1, device=best.device)[enough]
                inds.scatter_reduce_(0, rows, numbers, "amax", include_self=False)
        return Assignment(inds, max_overlaps, torch.where(inds > 0, labels[(inds - 1).clamp(min=0)], -1))

    def _overlaps(self, priors: torch.Tensor, boxes: torch.Tensor, ignored: torch.Tensor | None) -> torch.Tensor:
        """Returns the IoU matrix (m, n), with -1 for priors inside ignored boxes."""
        overlaps = box_iou(boxes, priors)
        if self.ignore_iof_thr > 0 and ignored is not None and len(ignored):
            if self.ignore_wrt_candidates:
                inside = box_iou(priors, ignored, mode="iof").amax(dim=1)
            else:
                inside = box_iou(ignored, priors, mode="iof").amax(dim=0)
            overlaps.masked_fill_((inside > self.ignore_iof_thr)[None], -1)
        return overlaps


def _last_owner(claims: torch.Tensor) -> torch.Tensor:
    """Returns the number (from 1) of the last object that claims each prior, 0 for none: (m, n) bool to (n,)."""
    numbers = torch.arange(1, len(claims) + 1, dtype=torch.int32, device=claims.device)
    return (claims * numbers[:, None]).amax(dim=0).long()


@dataclasses.dataclass
class Sample:
    """Sampled priors of an image: p positive, q negative.

    Attributes:
        pos_inds: (p,) int64, rows of the candidates.
        neg_inds: (q,) int64.
        pos_priors: (p, 4).
        neg_priors: (q, 4).
        pos_assigned_gt_inds: (p,) int64, index of the matched object.
        pos_gt_boxes: (p, 4) box of the matched object.
        pos_gt_labels: (p,) int64.
        pos_is_gt: (p,) bool, whether the candidate is a ground-truth box itself.
    """

    pos_inds: torch.Tensor
    neg_inds: torch.Tensor
    pos_priors: torch.Tensor
    neg_priors: torch.Tensor
    pos_assigned_gt_inds: torch.Tensor
    pos_gt_boxes: torch.Tensor
    pos_gt_labels: torch.Tensor
    pos_is_gt: torch.Tensor

    @property
    def priors(self) -> torch.Tensor:
        """All sampled priors (p + q, 4), positives first."""
        return torch.cat((self.pos_priors, self.neg_priors))

    @property
    def avg_factor(self) -> int:
        """Divisor of this image's losses: max(p, 1) + max(q, 1), as in OpenMMLab."""
        return max(len(self.pos_inds), 1) + max(len(self.neg_inds), 1)


def _sample(
    pos_inds: torch.Tensor,
    neg_inds: torch.Tensor,
    candidates: torch.Tensor,
    gt_inds: torch.Tensor,
    boxes: torch.Tensor,
    labels: torch.Tensor,
    num_gt_candidates: int,
) -> Sample:
    objects = gt_inds[pos_inds] - 1
    return Sample(
        pos_inds=pos_inds,
        neg_inds=neg_inds,
        pos_priors=candidates[pos_inds],
        neg_priors=candidates[neg_inds],
        pos_assigned_gt_inds=objects,
        pos_gt_boxes=boxes[objects].view(-1, 4),
        pos_gt_labels=labels[objects],
        pos_is_gt=pos_inds < num_gt_candidates,
    )


class RandomSampler:
    """Randomly samples positive and negative priors, using torch's CPU generator.

    Args:
        num: Number of priors sampled per image.
        pos_fraction: Maximum fraction of positives; negatives fill the remainder.
        neg_pos_ub: Maximum ratio of negatives to positives (at least one positive is assumed); negative for no limit.
        add_gt_as_proposals: Add the ground-truth boxes to the candidates, in front of the others.

    Raises:
        ValueError: num is below 1, or pos_fraction outside [0, 1].
    """

    def __init__(self, num: int, pos_fraction: float, neg_pos_ub: float = -1, add_gt_as_proposals: bool = True) -> None:
        if num < 1 or not 0 <= pos_fraction <= 1:
            raise ValueError(
                f"num must be >= 1 and pos_fraction must be in [0, 1], got num={num} and pos_fraction={pos_fraction}."
            )
        self.num = num
        self.pos_fraction = pos_fraction
        self.neg_pos_ub = neg_pos_ub
        self.add_gt_as_proposals = add_gt_as_proposals

    @torch.no_grad()
    def sample(self, assignment: Assignment, priors: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor) -> Sample:
        """Samples an image's priors, in ascending order unless candidates have to be dropped.

        Args:
            assignment: Match of each prior.
            priors: (n, 4).
            boxes: (m, 4) ground-truth boxes.
            labels: (m,) int64.

        Returns:
            The sampled priors. If ground-truth boxes are candidates, they come first in the row numbering.
        """
        gt_inds, added = assignment.gt_inds, 0
        if self.add_gt_as_proposals and len(boxes):
            added = len(boxes)
            priors = torch.cat((boxes.to(priors), priors))
            gt_inds = torch.cat((torch.arange(1, added + 1, device=gt_inds.device), gt_inds))
        pos_inds = _draw((gt_inds > 0).nonzero().flatten(), int(self.num * self.pos_fraction))
        most = self.num - len(pos_inds)
        if self.neg_pos_ub >= 0:
            most = min(most, int(self.neg_pos_ub * max(1, len(pos_inds))))
        neg_inds = _draw((gt_inds == 0).nonzero().flatten(), most)
        return _sample(pos_inds, neg_inds, priors, gt_inds, boxes, labels, added)


def _draw(rows: torch.Tensor, most: int) -> torch.Tensor:
    if len(rows) <= most:
        return rows
    # Sampled on the CPU, so that a run samples the same priors on every device.
    return rows[torch.randperm(len(rows))[:most].to(rows.device)]


class PseudoSampler:
    """Keeps all priors that are matched to an object or to background."""

    @torch.no_grad()
    def sample(self, assignment: Assignment, priors: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor) -> Sample:
        """Returns all positive and negative priors in ascending order; arguments as in `RandomSampler.sample`."""
        gt_inds = assignment.gt_inds
        pos_inds, neg_inds = ((gt_inds > 0).nonzero().flatten(), (gt_inds == 0).nonzero().flatten())
        return _sample(pos_inds, neg_inds, priors, gt_inds, boxes, labels, 0)
