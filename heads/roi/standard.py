"""The RoI head of Faster R-CNN and Mask R-CNN.

Ren et al. 2015, "Faster R-CNN"; He et al. 2017, "Mask R-CNN".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..assignment import AssignerSettings, MaxIoUAssigner
from ..settings import filled
from ..structures import Detections, ImageInfo, Instances
from .base import RoIHead, ScoredBoxes
from .bbox_head import BBoxHead, BBoxHeadSettings
from .mask_head import FCNMaskHead, MaskHeadSettings

THRESHOLDS = {"pos_iou_thr": 0.5, "neg_iou_thr": 0.5, "min_pos_iou": 0.5}
"""IoU thresholds: regions that reach them with an object are positive, others are background."""


class StandardRoIHead(RoIHead):
    """One box head and, optionally, one mask head; the defaults are mmdet's Faster R-CNN.

    Parameters are named `bbox_head` and `mask_head`, as in OpenMMLab's checkpoints.

    Args:
        num_classes: Number of classes, without background.
        in_channels: Number of channels of the feature maps.
        bbox_head: Arguments of `BBoxHead`.
        mask_head: Arguments of `FCNMaskHead`, dict() for its defaults; None for no masks.
        mask_size: Height and width of predicted masks.
        assigner: Arguments of `MaxIoUAssigner`. By default all thresholds are 0.5, and `match_low_quality` is True only
            with a mask head, which is how mmdet's Faster R-CNN and Mask R-CNN differ.
        settings: `strides`, `test` and other arguments of `RoIHead`.

    Raises:
        ValueError: A setting is unknown or out of range.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        *,
        bbox_head: BBoxHeadSettings | None = None,
        mask_head: MaskHeadSettings | None = None,
        mask_size: int = 28,
        assigner: AssignerSettings | None = None,
        **settings: Any,
    ) -> None:
        size = None if mask_head is None else mask_size
        super().__init__(num_classes, in_channels, mask_size=size, **settings)
        defaults: dict[str, Any] = {**THRESHOLDS, "match_low_quality": mask_head is not None}
        self.assigner = MaxIoUAssigner(**filled("assigner", assigner, AssignerSettings, **defaults))
        self.bbox_head = BBoxHead(num_classes, in_channels, **filled("bbox_head", bbox_head, BBoxHeadSettings))
        if mask_head is not None:
            self.mask_head = FCNMaskHead(num_classes, in_channels, **filled("mask_head", mask_head, MaskHeadSettings))

    def losses(
        self,
        features: Sequence[torch.Tensor],
        proposals: Sequence[Detections],
        targets: Sequence[Instances],
        infos: Sequence[ImageInfo],
    ) -> dict[str, torch.Tensor]:
        """Computes the losses on regions sampled from the proposals and the ground-truth boxes.

        Args:
            features: Feature maps (B, in_channels, H, W), finest first.
            proposals: Proposals of each image, as returned by the RPN; no gradient flows back to them.
            targets: Ground truth of each image, with masks if there is a mask head.
            infos: Metadata of each image.

        Returns:
            `loss_cls`, `loss_bbox`, `acc` (percentage of correctly classified regions) and, with a mask head,
            `loss_mask`.

        Raises:
            ValueError: Labels are out of range, boxes are empty, or masks are missing.
        """
        self._check_targets(targets)
        samples = self._sample(self.assigner, [proposal.boxes for proposal in proposals], targets)
        logits, offsets = self._run_bbox_head(self.bbox_head, features, [sample.priors for sample in samples])
        losses = self._bbox_losses(self.bbox_head, logits, offsets, samples)
        if self.with_mask:
            losses |= self._mask_losses(self.mask_head, features, samples, targets)
        return losses

    def forward(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], infos: Sequence[ImageInfo]
    ) -> list[ScoredBoxes]:
        """Predicts classes and refined boxes for proposals; see `RoIHead.forward`."""
        logits, offsets = self._run_bbox_head(self.bbox_head, features, boxes)
        counts = [len(one) for one in boxes]
        images = zip(boxes, logits.split(counts), offsets.split(counts), infos, strict=True)
        return [
            ScoredBoxes(self.bbox_head.decode(box, offset, info.image_size), logit.float().softmax(1))
            for box, logit, offset, info in images
        ]

    def mask_probabilities(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Predicts masks at low resolution; see `RoIHead.mask_probabilities`."""
        logits = self._run_mask_head(self.mask_head, features, boxes)
        return [
            *self.mask_head.select_class(logits, torch.cat(list(labels)))
            .float()
            .sigmoid()
            .split([len(one) for one in boxes])
        ]
