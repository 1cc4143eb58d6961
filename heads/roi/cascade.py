"""The RoI head of Cascade R-CNN: stages that each look at the boxes of the one before, with stricter training.

Cai and Vasconcelos 2018, "Cascade R-CNN: Delving into High Quality Object Detection".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch import nn

from ..assignment import MaxIoUAssigner, Sample
from ..settings import filled
from ..structures import Detections, ImageInfo, Instances
from .base import RoIHead, ScoredBoxes
from .bbox_head import BBoxHead, BBoxHeadSettings
from .mask_head import FCNMaskHead, MaskHeadSettings


class StageSettings(TypedDict, total=False):
    """What differs between the stages of a cascade.

    Keys:
        iou: intersection over union with an object from which on a region is trained for it; below it is background.
        loss_weight: multiplies the stage's losses.
        target_stds: of the four offsets, divided by.
    """

    iou: float
    loss_weight: float
    target_stds: Sequence[float]


STAGES = (
    StageSettings(iou=0.5, loss_weight=1.0, target_stds=(0.1, 0.1, 0.2, 0.2)),
    StageSettings(iou=0.6, loss_weight=0.5, target_stds=(0.05, 0.05, 0.1, 0.1)),
    StageSettings(iou=0.7, loss_weight=0.25, target_stds=(0.033, 0.033, 0.067, 0.067)),
)
"""The three stages of all published Cascade R-CNN."""


class CascadeRoIHead(RoIHead):
    """A box head, and where masks are asked for a mask head, for each stage.

    Parameters lie under `bbox_head.<stage>` and `mask_head.<stage>`, as in OpenMMLab's checkpoints. The default box
    heads are class-agnostic with a smooth L1 loss, as in Cascade R-CNN. Those of the Swin papers and their followers:
    `bbox_head=dict(num_shared_convs=4, num_shared_fcs=1, norm="BN", class_agnostic=False, bbox_loss="giou",
    loss_weights=(1.0, 10.0))`.

    Args:
        num_classes: without background.
        in_channels: of the maps.
        stages: what differs between the stages; a key that is left out is that of the published stage of that number.
        bbox_head: arguments of every stage's `BBoxHead` that differ from class_agnostic=True, bbox_loss="smooth_l1".
        mask_head: arguments of every stage's `FCNMaskHead` that differ from its defaults, dict() for all of them; None
            for no masks.
        mask_size: height and width of a predicted mask.
        settings: `strides`, `test` and what else `RoIHead` takes.

    Raises:
        ValueError: a number outside its range, or an unknown key.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        *,
        stages: Sequence[StageSettings] = STAGES,
        bbox_head: BBoxHeadSettings | None = None,
        mask_head: MaskHeadSettings | None = None,
        mask_size: int = 28,
        **settings: Any,
    ) -> None:
        size = None if mask_head is None else mask_size
        super().__init__(num_classes, in_channels, mask_size=size, **settings)
        if not stages:
            raise ValueError("A cascade has at least one stage.")
        shared = filled("box head", bbox_head, BBoxHeadSettings, class_agnostic=True, bbox_loss="smooth_l1")
        if "bbox_coder" in shared:
            raise ValueError("The stages of a cascade have coders of their own: give their target_stds in `stages`.")
        self.loss_weights: list[float] = []
        self.assigners: list[MaxIoUAssigner] = []
        self.bbox_head: Any = nn.ModuleList()
        for number, given in enumerate(stages):
            default = STAGES[min(number, len(STAGES) - 1)]
            stage = filled("stage", given, StageSettings, **default)
            iou, weight = stage["iou"], stage["loss_weight"]
            if not isinstance(weight, int | float) or weight < 0:
                raise ValueError(f"loss_weight of stage {number} is a number from 0 on, not {weight!r}.")
            self.loss_weights.append(weight)
            self.assigners.append(MaxIoUAssigner(iou, iou, iou, match_low_quality=False))
            self.bbox_head.append(
                BBoxHead(num_classes, in_channels, bbox_coder={"target_stds": stage["target_stds"]}, **shared)
            )
        if mask_head is not None:
            arguments = filled("mask head", mask_head, MaskHeadSettings)
            self.mask_head: Any = nn.ModuleList(FCNMaskHead(num_classes, in_channels, **arguments) for _ in stages)

    def losses(
        self,
        features: Sequence[torch.Tensor],
        proposals: Sequence[Detections],
        targets: Sequence[Instances],
        infos: Sequence[ImageInfo],
    ) -> dict[str, torch.Tensor]:
        """Trains every stage on regions drawn from what the stage before made of its own, and the true boxes.

        Every stage takes part, also where there is nothing to train: distributed training waits for all gradients.

        Args:
            features: maps (B, in_channels, H, W), finest first.
            proposals: of each image, as the RPN gives them; no gradient flows back to them.
            targets: the true objects of each image, with masks where there is a mask head.
            infos: of each image.

        Returns:
            For each stage `s<stage>.loss_cls`, `s<stage>.loss_bbox`, `s<stage>.loss_mask` where there are mask heads,
            each times the stage's weight, and `s<stage>.acc` (percent of the regions).

        Raises:
            ValueError: labels out of range, boxes without area, or masks missing.
        """
        self._check_targets(targets)
        boxes = [one.boxes for one in proposals]
        losses = {}
        for stage, (weight, assigner, head) in enumerate(
            zip(self.loss_weights, self.assigners, self.bbox_head, strict=True)
        ):
            samples = self._draw(assigner, boxes, targets)
            logits, offsets = self._look(head, features, [one.priors for one in samples])
            found = self._box_losses(head, logits, offsets, samples)
            if self.with_mask:
                found |= self._mask_losses(self.mask_head[stage], features, samples, targets)
            for name, value in found.items():
                losses[f"s{stage}.{name}"] = weight * value if "loss" in name else value
            if stage + 1 < len(self.bbox_head):
                boxes = self._refine_samples(head, logits, offsets, samples, infos)
        return losses

    @torch.no_grad()
    def _refine_samples(
        self,
        head: BBoxHead,
        logits: torch.Tensor,
        offsets: torch.Tensor,
        samples: Sequence[Sample],
        infos: Sequence[ImageInfo],
    ) -> list[torch.Tensor]:
        """Gives the regions of the next stage: those of this one, moved, without the true boxes among them."""
        counts = [len(one.priors) for one in samples]
        refined = []
        for sample, logit, offset, info in zip(
            samples, logits.split(counts), offsets.split(counts), infos, strict=True
        ):
            boxes = head.refine(sample.priors, logit, offset, info.image_size, self._labels(sample))
            moved = torch.cat([~sample.pos_is_gt, sample.pos_is_gt.new_ones(len(sample.neg_inds))])
            refined.append(boxes[moved])
        return refined

    def forward(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], infos: Sequence[ImageInfo]
    ) -> list[ScoredBoxes]:
        """Gives classes and better boxes of proposals; see `RoIHead.forward`.

        The boxes are the last stage's, the scores those of the mean over the stages of their logits.
        """
        counts = [len(one) for one in boxes]
        total, scored = torch.zeros(()), []
        for stage, head in enumerate(self.bbox_head):
            logits, offsets = self._look(head, features, boxes)
            logits = logits.float()
            total = logits if not stage else total + logits
            images = list(zip(boxes, logits.split(counts), offsets.split(counts), infos, strict=True))
            if stage + 1 < len(self.bbox_head):
                boxes = [head.refine(box, logit, offset, info.image_size) for box, logit, offset, info in images]
            else:
                scores = (total / len(self.bbox_head)).softmax(1).split(counts)
                scored = [
                    ScoredBoxes(head.decode(box, offset, info.image_size), score)
                    for (box, _, offset, info), score in zip(images, scores, strict=True)
                ]
        return scored

    def mask_probabilities(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Gives the mean over the stages of the detections' small masks; see `RoIHead.mask_probabilities`."""
        classes = torch.cat(list(labels))
        stages = [
            head.own_class(self._look_for_masks(head, features, boxes), classes).float().sigmoid()
            for head in self.mask_head
        ]
        return [*torch.stack(stages).mean(0).split([len(one) for one in boxes])]
