"""Region proposal network: where objects may be, whatever they are.

Ren et al., "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", NeurIPS 2015
(arXiv:1506.01497). Parameter names and numbers are OpenMMLab's (mmdet 3).
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
    """How the best anchors become proposals.

    Keys:
        nms_pre: how many anchors of a level are looked at, the best ones.
        max_per_img: how many proposals an image has at most.
        nms_iou: a proposal goes if its intersection over union with a better one of its level is above this.
        min_bbox_size: proposals are wider and higher than so many pixels; negative to keep also those without area.
    """

    nms_pre: int
    max_per_img: int
    nms_iou: float
    min_bbox_size: float


class RPNHead(AnchorHead):
    """Scores every anchor and shifts it to the object it may be part of.

    A 3x3 convolution, the same on all levels, then a 1x1 convolution for one logit and one for four offsets an anchor.
    Defaults are those of OpenMMLab's Faster and Mask R-CNN on an FPN of five levels.

    Args:
        in_channels: of the maps.
        feat_channels: of the 3x3 convolution.
        anchor_generator: arguments of `AnchorGenerator`; (8,) strides wide, ratios 0.5, 1, 2 by default.
        bbox_coder: arguments of `DeltaXYWHBBoxCoder`.
        bbox_loss: "l1" or "smooth_l1" on the offsets, "giou" on the boxes.
        smooth_l1_beta: below which difference "smooth_l1" is quadratic.
        loss_weights: of the loss of logits and of that of boxes.
        assigner: arguments of `MaxIoUAssigner` that differ from thresholds 0.7 and 0.3, min_pos_iou 0.3.
        sampler: arguments of `RandomSampler` that differ from 256 anchors, at most half of them for objects.
        allowed_border: anchors that reach further than so many pixels out of the image are not trained; negative to
            train them too.
        train_proposals: what differs from nms_pre 2000, max_per_img 1000, nms_iou 0.7, min_bbox_size 0.
        test_proposals: what differs from nms_pre 1000, max_per_img 1000, nms_iou 0.7, min_bbox_size 0.

    Raises:
        ValueError: unknown keys, or numbers that fit nothing.
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
            raise ValueError("An RPN trains anchors; add_gt_as_proposals=True is for the heads that refine proposals.")
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
        self.train_proposals = filled("proposals", train_proposals, ProposalSettings, nms_pre=2000, **common)
        self.test_proposals = filled("proposals", test_proposals, ProposalSettings, nms_pre=1000, **common)
        anchors = self.anchor_generator.num_anchors
        self.rpn_conv = nn.Conv2d(in_channels, feat_channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(feat_channels, anchors, 1)
        self.rpn_reg = nn.Conv2d(feat_channels, 4 * anchors, 1)
        for conv in (self.rpn_conv, self.rpn_cls, self.rpn_reg):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)  # pyright: ignore[reportArgumentType] (these have one)

    def forward(self, features: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Says something about every anchor.

        Args:
            features: maps (B, in_channels, h, w), finest first, one for each stride.

        Returns:
            The logits (B, anchors, h, w) and the offsets (B, anchors * 4, h, w) of each level.
        """
        hidden = [self.rpn_conv(one).relu() for one in features]
        return [self.rpn_cls(one) for one in hidden], [self.rpn_reg(one) for one in hidden]

    def losses(
        self,
        maps: tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]],
        infos: Sequence[ImageInfo],
        targets: Sequence[Instances],
    ) -> dict[str, torch.Tensor]:
        """Computes the losses of a batch.

        Both are divided by the number of trained anchors of all images, objects and background counted as one at least.

        Args:
            maps: what `forward` gave.
            infos: of the B images.
            targets: the true objects of the B images; their labels do not matter.

        Returns:
            The scalars `loss_rpn_cls` and `loss_rpn_bbox`.
        """
        cls_maps, reg_maps = maps
        found = self.targets_of(cls_maps, infos, targets)
        avg_factor = sum(max(one, 1) for one in (*found.num_pos, *found.num_neg))
        rows = torch.cat((found.pos_inds, found.neg_inds))
        logits = flatten_maps(cls_maps, 1).flatten()[rows]
        truth = torch.cat((torch.ones_like(found.pos_inds), torch.zeros_like(found.neg_inds)))
        return {
            "loss_rpn_cls": self.loss_weights[0] * binary_cross_entropy(logits, truth, avg_factor=avg_factor),
            "loss_rpn_bbox": self.loss_of_boxes(flatten_maps(reg_maps, 4).flatten(0, 1), found, avg_factor),
        }

    @torch.no_grad()
    def propose(
        self,
        maps: tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]],
        infos: Sequence[ImageInfo],
        training: bool,
    ) -> list[Detections]:
        """Proposes boxes.

        Args:
            maps: what `forward` gave.
            infos: of the B images.
            training: whether `train_proposals` hold, or `test_proposals`.

        Returns:
            For each image boxes in pixels of the image that the model saw, best first; all labels are 0.

        Raises:
            ValueError: for another number of images.
        """
        cls_maps, reg_maps = maps
        if len(cls_maps[0]) != len(infos):
            raise ValueError(f"Maps of {len(cls_maps[0])} images came with {len(infos)} infos.")
        settings = self.train_proposals if training else self.test_proposals
        scores, offsets, anchors, levels = [], [], [], []
        for level, (logits, shifts, own) in enumerate(zip(cls_maps, reg_maps, self.anchors_of(cls_maps), strict=True)):
            level_scores = flatten_maps([logits], 1)[..., 0].float().sigmoid()
            level_offsets = flatten_maps([shifts], 4).float()
            own = own.expand_as(level_offsets)
            if level_scores.shape[1] > settings["nms_pre"]:
                level_scores, rows = level_scores.topk(settings["nms_pre"], dim=1)
                rows = rows[..., None].expand(-1, -1, 4)
                level_offsets, own = level_offsets.gather(1, rows), own.gather(1, rows)
            scores.append(level_scores)
            offsets.append(level_offsets)
            anchors.append(own)
            levels.append(torch.full_like(level_scores[0], level, dtype=torch.int64))
        boxes = self.bbox_coder.decode(torch.cat(anchors, dim=1), torch.cat(offsets, dim=1))
        return [
            self._best(clip_boxes(own, info.image_size), own_scores, torch.cat(levels), **settings)
            for own, own_scores, info in zip(boxes, torch.cat(scores, dim=1), infos, strict=True)
        ]

    @staticmethod
    def _best(
        boxes: torch.Tensor,
        scores: torch.Tensor,
        levels: torch.Tensor,
        nms_pre: int,
        max_per_img: int,
        nms_iou: float,
        min_bbox_size: float,
    ) -> Detections:
        """Suppresses an image's boxes (n, 4) on each level; `nms_pre` has been seen to."""
        if min_bbox_size >= 0:
            large = wider_and_higher_than(boxes, min_bbox_size)
            boxes, scores, levels = boxes[large], scores[large], levels[large]
        kept = batched_nms(boxes, scores, levels, nms_iou)[:max_per_img]
        return Detections(boxes[kept], scores[kept], torch.zeros_like(kept))
