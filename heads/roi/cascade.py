"""The RoI head of Cascade R-CNN: each stage refines the boxes of the previous one, with stricter matching.

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
    """Settings of one stage of a cascade.

    Keys:
        iou: IoU threshold: regions that reach it with an object are positive, others are background.
        loss_weight: Weight of the stage's losses.
        target_stds: Standard deviations of the four offsets.
    """

    iou: float
    loss_weight: float
    target_stds: Sequence[float]


STAGES = (
    StageSettings(iou=0.5, loss_weight=1.0, target_stds=(0.1, 0.1, 0.2, 0.2)),
    StageSettings(iou=0.6, loss_weight=0.5, target_stds=(0.05, 0.05, 0.1, 0.1)),
    StageSettings(iou=0.7, loss_weight=0.25, target_stds=(0.033, 0.033, 0.067, 0.067)),
)
"""The three stages of the published Cascade R-CNN models."""


class CascadeRoIHead(RoIHead):
    """A box head, and optionally a mask head, per stage.

    Parameters are named `bbox_head.<stage>` and `mask_head.<stage>`, as in OpenMMLab's checkpoints. By default the box
    heads are class-agnostic with a smooth L1 loss, as in Cascade R-CNN. The Swin papers and later work use
    `bbox_head=dict(num_shared_convs=4, num_shared_fcs=1, norm="BN", class_agnostic=False, bbox_loss="giou",
    loss_weights=(1.0, 10.0))`.

    Args:
        num_classes: Number of classes, without background.
        in_channels: Number of channels of the feature maps.
        stages: Settings of each stage; omitted keys are those of the published stage with the same index.
        bbox_head: Arguments of every stage's `BBoxHead`; class_agnostic=True and bbox_loss="smooth_l1" by default.
        mask_head: Arguments of every stage's `FCNMaskHead`, dict() for its defaults; None for no masks.
        mask_size: Height and width of predicted masks.
        settings: `strides`, `test` and other arguments of `RoIHead`.

    Raises:
        ValueError: A setting is unknown or out of range.
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
            raise ValueError("stages must not be empty.")
        shared = filled("bbox_head", bbox_head, BBoxHeadSettings, class_agnostic=True, bbox_loss="smooth_l1")
        if "bbox_coder" in shared:
            raise ValueError(
                "bbox_coder cannot be set for all stages of a cascade. Set target_stds per stage in `stages`."
            )
        self.loss_weights: list[float] = []
        self.assigners: list[MaxIoUAssigner] = []
        self.bbox_head: Any = nn.ModuleList()
        for index, given in enumerate(stages):
            default = STAGES[min(index, len(STAGES) - 1)]
            stage = filled("stages", given, StageSettings, **default)
            iou, weight = stage["iou"], stage["loss_weight"]
            if not isinstance(weight, int | float) or weight < 0:
                raise ValueError(f"loss_weight of stage {index} must be a number >= 0, got {weight!r}.")
            self.loss_weights.append(weight)
            self.assigners.append(MaxIoUAssigner(iou, iou, iou, match_low_quality=False))
            self.bbox_head.append(
                BBoxHead(num_classes, in_channels, bbox_coder={"target_stds": stage["target_stds"]}, **shared)
            )
        if mask_head is not None:
            arguments = filled("mask_head", mask_head, MaskHeadSettings)
            self.mask_head: Any = nn.ModuleList(FCNMaskHead(num_classes, in_channels, **arguments) for _ in stages)

    def losses(
        self,
        features: Sequence[torch.Tensor],
        proposals: Sequence[Detections],
        targets: Sequence[Instances],
        infos: Sequence[ImageInfo],
    ) -> dict[str, torch.Tensor]:
        """Computes the losses of all stages.

        Each stage samples from the refined boxes of the previous one and from the ground truth. All stages take part
        even if there is nothing to train, because distributed training waits for all gradients.

        Args:
            features: Feature maps (B, in_channels, H, W), finest first.
            proposals: Proposals of each image, as returned by the RPN; no gradient flows back to them.
            targets: Ground truth of each image, with masks if there are mask heads.
            infos: Metadata of each image.

        Returns:
            `s<stage>.loss_cls`, `s<stage>.loss_bbox` and, with mask heads, `s<stage>.loss_mask` of each stage, scaled
            by the stage's weight, and `s<stage>.acc` (percentage of correctly classified regions).

        Raises:
            ValueError: Labels are out of range, boxes are empty, or masks are missing.
        """
        self._check_targets(targets)
        boxes = [proposal.boxes for proposal in proposals]
        losses = {}
        for stage, (weight, assigner, head) in enumerate(
            zip(self.loss_weights, self.assigners, self.bbox_head, strict=True)
        ):
            samples = self._sample(assigner, boxes, targets)
            logits, offsets = self._run_bbox_head(head, features, [sample.priors for sample in samples])
            stage_losses = self._bbox_losses(head, logits, offsets, samples)
            if self.with_mask:
                stage_losses |= self._mask_losses(self.mask_head[stage], features, samples, targets)
            for name, value in stage_losses.items():
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
        """Returns the regions of the next stage: the refined samples without the ground-truth boxes."""
        counts = [len(sample.priors) for sample in samples]
        refined = []
        for sample, logit, offset, info in zip(
            samples, logits.split(counts), offsets.split(counts), infos, strict=True
        ):
            boxes = head.refine(sample.priors, logit, offset, info.image_size, self._labels(sample))
            keep = torch.cat([~sample.pos_is_gt, sample.pos_is_gt.new_ones(len(sample.neg_inds))])
            refined.append(boxes[keep])
        return refined

    def forward(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], infos: Sequence[ImageInfo]
    ) -> list[ScoredBoxes]:
        """Predicts classes and refined boxes for proposals; see `RoIHead.forward`.

        Boxes come from the last stage, scores from the logits averaged over the stages.
        """
        counts = [len(one) for one in boxes]
        total, scored = torch.zeros(()), []
        for stage, head in enumerate(self.bbox_head):
            logits, offsets = self._run_bbox_head(head, features, boxes)
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
        """Averages the masks of all stages; see `RoIHead.mask_probabilities`."""
        classes = torch.cat(list(labels))
        stages = [
            head.select_class(self._run_mask_head(head, features, boxes), classes).float().sigmoid()
            for head in self.mask_head
        ]
        return [*torch.stack(stages).mean(0).split([len(one) for one in boxes])]
