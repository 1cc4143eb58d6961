"""Which object each prior is trained for (assigners), and which priors are trained at all (samplers).

Priors are anchors or proposals. Ren et al., "Faster R-CNN", NeurIPS 2015 (arXiv:1506.01497), sections 3.1.2 and 3.1.3.
"""

from __future__ import annotations

import dataclasses
from typing import TypedDict

import torch

from .boxes import box_iou

CHUNK = 1 << 23
"""Overlaps that are held at once: 32 MiB in float32."""

CPU_CHUNK = 1 << 18
"""Overlaps that are held at once on a CPU: few enough to stay in its cache."""


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
    """What n priors are trained for.

    Attributes:
        gt_inds: (n,) int64: -1 for nothing, 0 for background, k for object k - 1.
        max_overlaps: (n,) largest intersection over union with an object; 0 where there is none, -1 where the prior
            lies in an ignored box.
        labels: (n,) int64: the object's class, -1 where there is none.
    """

    gt_inds: torch.Tensor
    max_overlaps: torch.Tensor
    labels: torch.Tensor


class MaxIoUAssigner:
    """Gives a prior the object that it overlaps most, if enough, and an object the priors that overlap it most.

    Args:
        pos_iou_thr: a prior whose largest intersection over union is at least this is trained for that object.
        neg_iou_thr: below this it is background; between the two it is not trained.
        min_pos_iou: an object that overlaps no prior by so much gets none of its own.
        match_low_quality: whether objects get their best priors whatever the thresholds above. Such a prior goes to the
            last object that it is best for, even if it overlaps another more.
        gt_max_assign_all: give an object all priors that are equally best, not only the first. With `min_pos_iou` 0,
            an object that overlaps no prior gets all that it does not overlap.
        ignore_iof_thr: priors that lie in an ignored box by more than this part are not trained; at most 0 to use no
            ignored boxes.
        ignore_wrt_candidates: measure that part of the prior's area, not of the ignored box's.

    Raises:
        ValueError: thresholds outside 0 to 1, or neg_iou_thr above pos_iou_thr.
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
                f"Thresholds are 0 <= neg_iou_thr <= pos_iou_thr <= 1, not neg_iou_thr={neg_iou_thr} and "
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
        """Assigns an image's priors.

        Overlaps are computed for so many priors at a time that memory stays small; again for those among whom an object
        has its best, once it is known which these are.

        Args:
            priors: (n, 4).
            boxes: (m, 4), the objects.
            labels: (m,) int64.
            ignored_boxes: (k, 4) or None.

        Returns:
            What each prior is trained for.
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
        """Gives the intersections over union (m, n), -1 for priors in ignored boxes."""
        overlaps = box_iou(boxes, priors)
        if self.ignore_iof_thr > 0 and ignored is not None and len(ignored):
            if self.ignore_wrt_candidates:
                inside = box_iou(priors, ignored, mode="iof").amax(dim=1)
            else:
                inside = box_iou(ignored, priors, mode="iof").amax(dim=0)
            overlaps.masked_fill_((inside > self.ignore_iof_thr)[None], -1)
        return overlaps


def _last_owner(claims: torch.Tensor) -> torch.Tensor:
    """Gives the number from 1 of the last object that claims each prior, 0 where none does: (m, n) bool to (n,)."""
    numbers = torch.arange(1, len(claims) + 1, dtype=torch.int32, device=claims.device)
    return (claims * numbers[:, None]).amax(dim=0).long()


@dataclasses.dataclass
class Sample:
    """The priors of an image that are trained: p for objects, q for background.

    Attributes:
        pos_inds: (p,) int64, rows of the candidates.
        neg_inds: (q,) int64.
        pos_priors: (p, 4).
        neg_priors: (q, 4).
        pos_assigned_gt_inds: (p,) int64, which object of the image each is trained for, from 0.
        pos_gt_boxes: (p, 4), that object's box.
        pos_gt_labels: (p,) int64.
        pos_is_gt: (p,) bool: whether the candidate is an object's own box.
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
        """All trained priors (p + q, 4), those for objects first."""
        return torch.cat((self.pos_priors, self.neg_priors))

    @property
    def avg_factor(self) -> int:
        """What losses of this image count as: max(p, 1) + max(q, 1), as in OpenMMLab."""
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
    """Draws so many priors for objects and for background, from torch's CPU generator.

    Args:
        num: of trained priors of an image.
        pos_fraction: at most this part of them is trained for objects; background fills up the rest.
        neg_pos_ub: at most this many times as many for background as for objects (at least one of these is counted);
            negative for no bound.
        add_gt_as_proposals: let the objects' own boxes be candidates too; they come first.

    Raises:
        ValueError: no positive number, or a part outside 0 to 1.
    """

    def __init__(self, num: int, pos_fraction: float, neg_pos_ub: float = -1, add_gt_as_proposals: bool = True) -> None:
        if num < 1 or not 0 <= pos_fraction <= 1:
            raise ValueError(
                f"A sampler takes num >= 1 priors, pos_fraction 0 to 1 of them for objects, not num={num} and "
                f"pos_fraction={pos_fraction}."
            )
        self.num = num
        self.pos_fraction = pos_fraction
        self.neg_pos_ub = neg_pos_ub
        self.add_gt_as_proposals = add_gt_as_proposals

    @torch.no_grad()
    def sample(self, assignment: Assignment, priors: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor) -> Sample:
        """Samples an image's priors; ascending order where nothing must be left out.

        Args:
            assignment: of the priors.
            priors: (n, 4).
            boxes: (m, 4), the objects.
            labels: (m,) int64.

        Returns:
            The trained ones. Rows count the objects' boxes first, where these are candidates.
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
    # Drawn on the CPU, so that a run draws the same on every device.
    return rows[torch.randperm(len(rows))[:most].to(rows.device)]


class PseudoSampler:
    """Takes all priors that are assigned to an object or to background."""

    @torch.no_grad()
    def sample(self, assignment: Assignment, priors: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor) -> Sample:
        """Gives all priors of an image that are trained, in ascending order; arguments as `RandomSampler.sample`."""
        gt_inds = assignment.gt_inds
        pos_inds, neg_inds = ((gt_inds > 0).nonzero().flatten(), (gt_inds == 0).nonzero().flatten())
        return _sample(pos_inds, neg_inds, priors, gt_inds, boxes, labels, 0)
