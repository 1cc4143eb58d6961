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
"""From which intersection over union on a region is trained for an object; below it is background."""


class StandardRoIHead(RoIHead):
    """One box head, and one mask head where masks are asked for; the defaults are mmdet's Faster R-CNN.

    Parameters lie under `bbox_head` and `mask_head`, as in OpenMMLab's checkpoints.

    Args:
        num_classes: without background.
        in_channels: of the maps.
        bbox_head: arguments of `BBoxHead` that differ from its defaults.
        mask_head: arguments of `FCNMaskHead` that differ from its defaults, dict() for all of them; None for no masks.
        mask_size: height and width of a predicted mask.
        assigner: arguments of `MaxIoUAssigner` that differ from thresholds of 0.5, and `match_low_quality` with a mask
            head only, as mmdet's Faster R-CNN and Mask R-CNN differ.
        settings: `strides`, `test` and what else `RoIHead` takes.

    Raises:
        ValueError: a number outside its range, or an unknown key.
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
        own: dict[str, Any] = {**THRESHOLDS, "match_low_quality": mask_head is not None}
        self.assigner = MaxIoUAssigner(**filled("assigner", assigner, AssignerSettings, **own))
        self.bbox_head = BBoxHead(num_classes, in_channels, **filled("box head", bbox_head, BBoxHeadSettings))
        if mask_head is not None:
            self.mask_head = FCNMaskHead(num_classes, in_channels, **filled("mask head", mask_head, MaskHeadSettings))

    def losses(
        self,
        features: Sequence[torch.Tensor],
        proposals: Sequence[Detections],
        targets: Sequence[Instances],
        infos: Sequence[ImageInfo],
    ) -> dict[str, torch.Tensor]:
        """Trains on regions drawn from the proposals and the true boxes.

        Args:
            features: maps (B, in_channels, H, W), finest first.
            proposals: of each image, as the RPN gives them; no gradient flows back to them.
            targets: the true objects of each image, with masks where there is a mask head.
            infos: of each image.

        Returns:
            `loss_cls`, `loss_bbox`, `acc` (percent of the regions), and `loss_mask` where there is a mask head.

        Raises:
            ValueError: labels out of range, boxes without area, or masks missing.
        """
        self._check_targets(targets)
        samples = self._draw(self.assigner, [one.boxes for one in proposals], targets)
        logits, offsets = self._look(self.bbox_head, features, [one.priors for one in samples])
        losses = self._box_losses(self.bbox_head, logits, offsets, samples)
        if self.with_mask:
            losses |= self._mask_losses(self.mask_head, features, samples, targets)
        return losses

    def forward(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], infos: Sequence[ImageInfo]
    ) -> list[ScoredBoxes]:
        """Gives classes and better boxes of proposals; see `RoIHead.forward`."""
        logits, offsets = self._look(self.bbox_head, features, boxes)
        counts = [len(one) for one in boxes]
        images = zip(boxes, logits.split(counts), offsets.split(counts), infos, strict=True)
        return [
            ScoredBoxes(self.bbox_head.decode(box, offset, info.image_size), logit.float().softmax(1))
            for box, logit, offset, info in images
        ]

    def mask_probabilities(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Gives the small masks of detections, not yet pasted; see `RoIHead.mask_probabilities`."""
        logits = self._look_for_masks(self.mask_head, features, boxes)
        return [
            *self.mask_head.own_class(logits, torch.cat(list(labels)))
            .float()
            .sigmoid()
            .split([len(one) for one in boxes])
        ]
