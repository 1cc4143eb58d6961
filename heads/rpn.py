"""Region proposal network: class-agnostic object proposals.

Ren et al., "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", NeurIPS 2015
(arXiv:1506.01497). Parameter names and default values are OpenMMLab's (mmdet 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import nn

from .anchor_head import AnchorHead, BoxLoss, flatten_maps
from .anchors import AnchorSettings
from .assignment import AssignerSettings, RandomSampler, SamplerSettings
from .boxes import CoderSettings, clip_boxes, wider_and_higher_than
from .losses import binary_cross_entropy
from .nms import batched_nms
from .settings import filled
from .structures import Detections, ImageInfo, Instances


class ProposalSettings(TypedDict, total=False):
    """Settings for converting anchors to proposals.

    Keys:
        nms_pre: Maximum number of anchors per level that are considered, best first.
        max_per_img: Maximum number of proposals per image.
        nms_iou: A proposal is suppressed if its IoU with a better one of its level exceeds this.
        min_bbox_size: Minimum width and height (exclusive) of proposals in pixels; negative to keep empty boxes.
    """

    nms_pre: int
    max_per_img: int
    nms_iou: float
    min_bbox_size: float


class RPNHead(AnchorHead):
    """Predicts an objectness logit and four offsets for every anchor.

    A 3x3 convolution, shared by all levels, followed by 1x1 convolutions for logits and offsets. The defaults are those
    of OpenMMLab's Faster and Mask R-CNN on an FPN with five levels.

    Args:
        in_channels: Number of channels of the feature maps.
        feat_channels: Number of channels of the 3x3 convolution.
        anchor_generator: Arguments of `AnchorGenerator`; scale 8 and ratios 0.5, 1 and 2 by default.
        bbox_coder: Arguments of `DeltaXYWHBBoxCoder`.
        bbox_loss: "l1" or "smooth_l1" on the offsets, or "giou" on the decoded boxes.
        smooth_l1_beta: Difference below which "smooth_l1" is quadratic.
        loss_weights: Weights of the classification loss and the box loss.
        assigner: Arguments of `MaxIoUAssigner`; pos_iou_thr 0.7, neg_iou_thr 0.3 and min_pos_iou 0.3 by default.
        sampler: Arguments of `RandomSampler`; 256 anchors with at most half of them positive by default.
        allowed_border: Anchors that extend more than this many pixels beyond the image are not trained. A negative
            value trains them too.
        train_proposals: Training settings; nms_pre 2000, max_per_img 1000, nms_iou 0.7, min_bbox_size 0 by default.
        test_proposals: Test settings; nms_pre 1000, max_per_img 1000, nms_iou 0.7, min_bbox_size 0 by default.

    Raises:
        ValueError: A setting is unknown or out of range.
    """

    def __init__(
        self,
        in_channels: int = 256,
        feat_channels: int = 256,
        anchor_generator: AnchorSettings | None = None,
        bbox_coder: CoderSettings | None = None,
        bbox_loss: BoxLoss = "l1",
        smooth_l1_beta: float = 1.0,
        loss_weights: Sequence[float] = (1.0, 1.0),
        assigner: AssignerSettings | None = None,
        sampler: SamplerSettings | None = None,
        allowed_border: float = -1,
        train_proposals: ProposalSettings | None = None,
        test_proposals: ProposalSettings | None = None,
    ) -> None:
        sampling = filled("sampler", sampler, SamplerSettings, num=256, pos_fraction=0.5, add_gt_as_proposals=False)
        if sampling["add_gt_as_proposals"]:
            raise ValueError(
                "add_gt_as_proposals=True is not supported by the RPN, which trains anchors rather than proposals."
            )
        super().__init__(
            {"strides": (4, 8, 16, 32, 64), **(anchor_generator or {})},
            bbox_coder,
            {"pos_iou_thr": 0.7, "neg_iou_thr": 0.3, "min_pos_iou": 0.3, **(assigner or {})},
            RandomSampler(**sampling),
            allowed_border,
            bbox_loss,
            smooth_l1_beta,
            loss_weights,
        )
        self.in_channels = in_channels
        common = {"max_per_img": 1000, "nms_iou": 0.7, "min_bbox_size": 0}
        self.train_proposals = filled("train_proposals", train_proposals, ProposalSettings, nms_pre=2000, **common)
        self.test_proposals = filled("test_proposals", test_proposals, ProposalSettings, nms_pre=1000, **common)
        anchors = self.anchor_generator.num_anchors
        self.rpn_conv = nn.Conv2d(in_channels, feat_channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(feat_channels, anchors, 1)
        self.rpn_reg = nn.Conv2d(feat_channels, 4 * anchors, 1)
        for conv in (self.rpn_conv, self.rpn_cls, self.rpn_reg):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)  # pyright: ignore[reportArgumentType] (these have one)

    def forward(self, features: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Computes logits and offsets of every anchor.

        Args:
            features: Feature maps (B, in_channels, h, w), finest first, one per stride.

        Returns:
            Logits (B, anchors, h, w) and offsets (B, anchors * 4, h, w) of each level.
        """
        hidden = [self.rpn_conv(feature).relu() for feature in features]
        return [self.rpn_cls(x) for x in hidden], [self.rpn_reg(x) for x in hidden]

    def losses(
        self,
        maps: tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]],
        infos: Sequence[ImageInfo],
        targets: Sequence[Instances],
    ) -> dict[str, torch.Tensor]:
        """Computes the losses of a batch.

        Both are divided by the number of sampled anchors of all images, counting at least one positive and one negative
        anchor per image.

        Args:
            maps: Output of `forward`.
            infos: Metadata of the B images.
            targets: Ground truth of the B images; labels are ignored.

        Returns:
            Scalars `loss_rpn_cls` and `loss_rpn_bbox`.
        """
        cls_maps, reg_maps = maps
        anchor_targets = self.anchor_targets(cls_maps, infos, targets)
        avg_factor = sum(max(count, 1) for count in (*anchor_targets.num_pos, *anchor_targets.num_neg))
        rows = torch.cat((anchor_targets.pos_inds, anchor_targets.neg_inds))
        logits = flatten_maps(cls_maps, 1).flatten()[rows]
        truth = torch.cat((torch.ones_like(anchor_targets.pos_inds), torch.zeros_like(anchor_targets.neg_inds)))
        return {
            "loss_rpn_cls": self.loss_weights[0] * binary_cross_entropy(logits, truth, avg_factor=avg_factor),
            "loss_rpn_bbox": self.box_loss(flatten_maps(reg_maps, 4).flatten(0, 1), anchor_targets, avg_factor),
        }

    @torch.no_grad()
    def propose(
        self,
        maps: tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]],
        infos: Sequence[ImageInfo],
        training: bool,
    ) -> list[Detections]:
        """Computes proposals.

        Args:
            maps: Output of `forward`.
            infos: Metadata of the B images.
            training: Whether to use `train_proposals` rather than `test_proposals`.

        Returns:
            Boxes of each image in pixels of the network input, best first; all labels are 0.

        Raises:
            ValueError: The numbers of images differ.
        """
        cls_maps, reg_maps = maps
        if len(cls_maps[0]) != len(infos):
            raise ValueError(f"Got feature maps of {len(cls_maps[0])} images and {len(infos)} infos.")
        settings = self.train_proposals if training else self.test_proposals
        scores, offsets, anchors, levels = [], [], [], []
        level_anchors = self.anchors_for(cls_maps)
        for level, (logits, shifts, candidates) in enumerate(zip(cls_maps, reg_maps, level_anchors, strict=True)):
            level_scores = flatten_maps([logits], 1)[..., 0].float().sigmoid()
            level_offsets = flatten_maps([shifts], 4).float()
            candidates = candidates.expand_as(level_offsets)
            if level_scores.shape[1] > settings["nms_pre"]:
                level_scores, rows = level_scores.topk(settings["nms_pre"], dim=1)
                rows = rows[..., None].expand(-1, -1, 4)
                level_offsets, candidates = level_offsets.gather(1, rows), candidates.gather(1, rows)
            scores.append(level_scores)
            offsets.append(level_offsets)
            anchors.append(candidates)
            levels.append(torch.full_like(level_scores[0], level, dtype=torch.int64))
        boxes = self.bbox_coder.decode(torch.cat(anchors, dim=1), torch.cat(offsets, dim=1))
        return [
            self._suppress(clip_boxes(image_boxes, info.image_size), image_scores, torch.cat(levels), **settings)
            for image_boxes, image_scores, info in zip(boxes, torch.cat(scores, dim=1), infos, strict=True)
        ]

    @staticmethod
    def _suppress(
        boxes: torch.Tensor,
        scores: torch.Tensor,
        levels: torch.Tensor,
        nms_pre: int,
        max_per_img: int,
        nms_iou: float,
        min_bbox_size: float,
    ) -> Detections:
        """Applies NMS per level to one image's boxes (n, 4); `nms_pre` has been applied before."""
        if min_bbox_size >= 0:
            large = wider_and_higher_than(boxes, min_bbox_size)
            boxes, scores, levels = boxes[large], scores[large], levels[large]
        kept = batched_nms(boxes, scores, levels, nms_iou)[:max_per_img]
        return Detections(boxes[kept], scores[kept], torch.zeros_like(kept))
