"""RetinaNet head: dense per-anchor classification and box regression, trained with the focal loss.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017 (arXiv:1708.02002). Parameter names and default
values are OpenMMLab's (mmdet 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypedDict

import torch
from torch import nn

from ..names import unknown_name
from .anchor_head import AnchorHead, BoxLoss, flatten_maps
from .anchors import AnchorSettings
from .assignment import AssignerSettings, PseudoSampler
from .boxes import CoderSettings, clip_boxes, scale_boxes, wider_and_higher_than
from .conv_module import ConvModule, Norm
from .losses import sigmoid_focal_loss
from .nms import batched_nms
from .settings import filled
from .structures import Detections, ImageInfo, Instances

PRIOR = 0.01
"""Initial object probability of every anchor (section 4.1)."""

CANDIDATES = ("pairs", "anchors")
"""What `nms_pre` can count."""


class RetinaTestSettings(TypedDict, total=False):
    """Settings for converting predictions to detections.

    Keys:
        nms_pre: Maximum number of candidates per level, best first.
        nms_pre_of: What a candidate is. "pairs": a pair of anchor and class with a score above `score_thr`, as in mmdet
            3 and late mmdet 2. "anchors": an anchor ranked by its best class; all its classes above `score_thr` are
            kept and `min_bbox_size` is ignored, as in mmdet 2.11, with which the published results of BiFormer and
            DaViT were measured. It keeps slightly more boxes.
        score_thr: Minimum score (exclusive) of a detection.
        nms_iou: A detection is suppressed if its IoU with a better one of its class exceeds this.
        max_per_img: Maximum number of detections per image.
        min_bbox_size: Minimum width and height (exclusive) of detections in pixels; negative to keep empty boxes.
    """

    nms_pre: int
    nms_pre_of: Literal["pairs", "anchors"]
    score_thr: float
    nms_iou: float
    max_per_img: int
    min_bbox_size: float


class RetinaHead(AnchorHead):
    """Predicts one logit per class and four offsets for every anchor.

    Classification and regression each have a stack of convolutions, shared by all levels. The defaults are those of
    OpenMMLab's RetinaNet on an FPN with levels 3 to 7.

    Args:
        num_classes: Number of classes, without background.
        in_channels: Number of channels of the feature maps.
        stacked_convs: Number of 3x3 convolutions per stack.
        feat_channels: Number of channels of these convolutions.
        norm: Normalization after each of these convolutions: "BN", "GN" or None.
        anchor_generator: Arguments of `AnchorGenerator`; by default base scale 4, three scales per octave, ratios 0.5,
            1 and 2.
        bbox_coder: Arguments of `DeltaXYWHBBoxCoder`.
        focal_gamma: `gamma` of `losses.sigmoid_focal_loss`.
        focal_alpha: `alpha` of `losses.sigmoid_focal_loss`.
        bbox_loss: "l1" or "smooth_l1" on the offsets, or "giou" on the decoded boxes.
        smooth_l1_beta: Difference below which "smooth_l1" is quadratic.
        loss_weights: Weights of the classification loss and the box loss.
        assigner: Arguments of `MaxIoUAssigner`; pos_iou_thr 0.5, neg_iou_thr 0.4 and min_pos_iou 0 by default.
        allowed_border: Anchors that extend more than this many pixels beyond the image are not trained. A negative
            value trains them too.
        test: Test settings; by default nms_pre 1000 (of pairs), score_thr 0.05, nms_iou 0.5, max_per_img 100,
            min_bbox_size 0.

    Raises:
        ValueError: A setting is unknown or out of range.
    """

    class_layers = ("retina_cls",)
    """Layers whose size depends on the number of classes."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        stacked_convs: int = 4,
        feat_channels: int = 256,
        norm: Norm | None = None,
        anchor_generator: AnchorSettings | None = None,
        bbox_coder: CoderSettings | None = None,
        focal_gamma: float = 2.0,
        focal_alpha: float = 0.25,
        bbox_loss: BoxLoss = "l1",
        smooth_l1_beta: float = 1.0,
        loss_weights: Sequence[float] = (1.0, 1.0),
        assigner: AssignerSettings | None = None,
        allowed_border: float = -1,
        test: RetinaTestSettings | None = None,
    ) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be >= 1, got {num_classes}.")
        anchors: AnchorSettings = {"strides": (8, 16, 32, 64, 128), **(anchor_generator or {})}
        if "scales" not in anchors:
            anchors = {"octave_base_scale": 4, "scales_per_octave": 3, **anchors}
        super().__init__(
            anchors,
            bbox_coder,
            {"pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0.0, **(assigner or {})},
            PseudoSampler(),
            allowed_border,
            bbox_loss,
            smooth_l1_beta,
            loss_weights,
        )
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.focal_gamma = focal_gamma
        self.focal_alpha = focal_alpha
        self.test = filled(
            "test",
            test,
            RetinaTestSettings,
            nms_pre=1000,
            nms_pre_of="pairs",
            score_thr=0.05,
            nms_iou=0.5,
            max_per_img=100,
            min_bbox_size=0,
        )
        if self.test["nms_pre_of"] not in CANDIDATES:
            raise ValueError(unknown_name("nms_pre_of", str(self.test["nms_pre_of"]), CANDIDATES))

        widths = [in_channels] + [feat_channels] * stacked_convs
        self.cls_convs, self.reg_convs = (
            nn.ModuleList(ConvModule(a, b, 3, padding=1, norm=norm) for a, b in pairwise(widths)) for _ in range(2)
        )
        per_cell = self.anchor_generator.num_anchors
        self.retina_cls = nn.Conv2d(widths[-1], per_cell * num_classes, 3, padding=1)
        self.retina_reg = nn.Conv2d(widths[-1], per_cell * 4, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(self.retina_cls.bias, -math.log((1 - PRIOR) / PRIOR))  # pyright: ignore[reportArgumentType]

    def forward(self, features: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Computes logits and offsets of every anchor.

        Args:
            features: Feature maps (B, in_channels, h, w), finest first, one per stride.

        Returns:
            Logits (B, anchors * num_classes, h, w) and offsets (B, anchors * 4, h, w) of each level.
        """
        cls_scores, bbox_preds = [], []
        for feature in features:
            cls_map = reg_map = feature
            for cls_conv, reg_conv in zip(self.cls_convs, self.reg_convs, strict=True):
                cls_map, reg_map = cls_conv(cls_map), reg_conv(reg_map)
            cls_scores.append(self.retina_cls(cls_map))
            bbox_preds.append(self.retina_reg(reg_map))
        return cls_scores, bbox_preds

    def losses(
        self, features: Sequence[torch.Tensor], infos: Sequence[ImageInfo], targets: Sequence[Instances]
    ) -> dict[str, torch.Tensor]:
        """Computes the losses of a batch.

        Both are divided by the number of positive anchors, at least one per image.

        Args:
            features: Feature maps (B, in_channels, h, w), finest first, one per stride.
            infos: Metadata of the B images.
            targets: Ground truth of the B images.

        Returns:
            Scalars `loss_cls` and `loss_bbox`.
        """
        cls_maps, reg_maps = self(features)
        anchor_targets = self.anchor_targets(cls_maps, infos, targets)
        avg_factor = sum(max(count, 1) for count in anchor_targets.num_pos)
        logits = flatten_maps(cls_maps, self.num_classes).flatten(0, 1)
        labels = torch.full((len(logits),), self.num_classes, dtype=torch.int64, device=logits.device)
        labels[anchor_targets.pos_inds] = anchor_targets.pos_labels
        weight = torch.zeros(len(logits), device=logits.device)
        weight[anchor_targets.pos_inds] = 1
        weight[anchor_targets.neg_inds] = 1
        loss = sigmoid_focal_loss(logits, labels, weight, avg_factor, self.focal_gamma, self.focal_alpha)
        return {
            "loss_cls": self.loss_weights[0] * loss,
            "loss_bbox": self.box_loss(flatten_maps(reg_maps, 4).flatten(0, 1), anchor_targets, avg_factor),
        }

    @torch.no_grad()
    def predict(
        self, features: Sequence[torch.Tensor], infos: Sequence[ImageInfo], rescale: bool = True
    ) -> list[Detections]:
        """Detects objects.

        Args:
            features: Feature maps (B, in_channels, h, w), finest first, one per stride.
            infos: Metadata of the B images.
            rescale: Whether to return boxes in pixels of the original image instead of the network input.

        Returns:
            Detections of each image, best first.

        Raises:
            ValueError: The numbers of images differ.
        """
        cls_maps, reg_maps = self(features)
        if len(cls_maps[0]) != len(infos):
            raise ValueError(f"Got feature maps of {len(cls_maps[0])} images and {len(infos)} infos.")
        anchors = self.anchors_for(cls_maps)
        scores = [flatten_maps([level], self.num_classes).float().sigmoid() for level in cls_maps]
        offsets = [flatten_maps([level], 4).float() for level in reg_maps]
        return [
            self._detect(
                anchors, [level[image] for level in scores], [level[image] for level in offsets], info, rescale
            )
            for image, info in enumerate(infos)
        ]

    def _detect(
        self,
        anchors: Sequence[torch.Tensor],
        scores: Sequence[torch.Tensor],
        offsets: Sequence[torch.Tensor],
        info: ImageInfo,
        rescale: bool,
    ) -> Detections:
        """Detects the objects of one image from each level's anchors (n, 4), scores (n, classes) and offsets (n, 4)."""
        test = self.test
        candidates = self._best_pairs if test["nms_pre_of"] == "pairs" else self._pairs_of_best_anchors
        rows, values, labels = zip(*(candidates(level) for level in scores), strict=True)
        boxes = self.bbox_coder.decode(
            torch.cat([level[kept] for level, kept in zip(anchors, rows, strict=True)]),
            torch.cat([level[kept] for level, kept in zip(offsets, rows, strict=True)]),
        )
        boxes, values, labels = clip_boxes(boxes, info.image_size), torch.cat(values), torch.cat(labels)
        if rescale:  # before NMS, as in OpenMMLab
            boxes = scale_boxes(boxes, [1 / factor for factor in info.scale_factor])
        if test["min_bbox_size"] >= 0 and test["nms_pre_of"] == "pairs":
            large = wider_and_higher_than(boxes, test["min_bbox_size"])
            boxes, values, labels = boxes[large], values[large], labels[large]
        kept = batched_nms(boxes, values, labels, test["nms_iou"])[: test["max_per_img"]]
        return Detections(boxes[kept], values[kept], labels[kept])

    def _best_pairs(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns anchor, score and class of the best pairs of a level (n, classes)."""
        pairs = (scores.flatten() > self.test["score_thr"]).nonzero().flatten()
        values, order = scores.flatten()[pairs].topk(min(self.test["nms_pre"], len(pairs)))
        pairs = pairs[order]
        return pairs // self.num_classes, values, pairs % self.num_classes

    def _pairs_of_best_anchors(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns anchor, score and class of all pairs above the threshold among a level's best anchors."""
        rows = torch.arange(len(scores), device=scores.device)
        if len(scores) > self.test["nms_pre"]:
            rows = scores.amax(dim=1).topk(self.test["nms_pre"]).indices
        inside, labels = (scores[rows] > self.test["score_thr"]).nonzero(as_tuple=True)
        return rows[inside], scores[rows[inside], labels], labels
