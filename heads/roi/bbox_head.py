"""The box head of Faster R-CNN and its descendants: classification and box refinement of each region.

Girshick 2015, "Fast R-CNN", section 3. Shared convolutions, class-specific boxes and the GIoU loss follow the Cascade
Mask R-CNN of Liu et al. 2021, "Swin Transformer".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import nn

from ...names import unknown_name
from ..anchor_head import BOX_LOSSES, BoxLoss
from ..boxes import CoderSettings, DeltaXYWHBBoxCoder
from ..conv_module import ConvModule, Norm
from ..losses import cross_entropy, giou_loss, l1_loss, smooth_l1_loss
from ..settings import filled


class BBoxHeadSettings(TypedDict, total=False):
    """Arguments of `BBoxHead` other than those that the RoI head sets."""

    roi_size: int
    num_shared_convs: int
    conv_channels: int
    num_shared_fcs: int
    fc_channels: int
    norm: Norm | None
    class_agnostic: bool
    bbox_coder: CoderSettings
    bbox_loss: BoxLoss
    smooth_l1_beta: float
    loss_weights: Sequence[float]


class BBoxHead(nn.Module):
    """Shared convolutions and fully connected layers, followed by classification and regression layers.

    The defaults are OpenMMLab's Shared2FCBBoxHead. Shared4Conv1FCBBoxHead is `num_shared_convs=4, num_shared_fcs=1,
    norm="BN"`.

    Args:
        num_classes: Number of classes, without background, which is the last predicted class.
        in_channels: Number of channels of the region features.
        roi_size: Height and width of the region features.
        num_shared_convs: Number of 3x3 convolutions.
        conv_channels: Number of channels of these convolutions.
        num_shared_fcs: Number of fully connected layers, at least 1.
        fc_channels: Width of these layers.
        norm: Normalization after each convolution: "BN", "GN" or None.
        class_agnostic: Predict one box per region instead of one per class.
        bbox_coder: Arguments of `DeltaXYWHBBoxCoder`; target_stds (0.1, 0.1, 0.2, 0.2) by default.
        bbox_loss: "l1" or "smooth_l1" on the offsets, or "giou" on the decoded boxes.
        smooth_l1_beta: Difference below which "smooth_l1" is quadratic.
        loss_weights: Weights of the classification loss and the box loss.

    Raises:
        ValueError: A setting or loss is unknown, there are not two loss weights, or no fully connected layer.
    """

    class_layers = ("fc_cls", "fc_reg")
    """Layers whose size depends on the number of classes."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        roi_size: int = 7,
        num_shared_convs: int = 0,
        conv_channels: int = 256,
        num_shared_fcs: int = 2,
        fc_channels: int = 1024,
        norm: Norm | None = None,
        class_agnostic: bool = False,
        bbox_coder: CoderSettings | None = None,
        bbox_loss: BoxLoss = "l1",
        smooth_l1_beta: float = 1.0,
        loss_weights: Sequence[float] = (1.0, 1.0),
    ) -> None:
        super().__init__()
        if bbox_loss not in BOX_LOSSES:
            raise ValueError(unknown_name("box loss", bbox_loss, BOX_LOSSES))
        if len(loss_weights) != 2:
            raise ValueError(f"loss_weights must be two numbers (classification, boxes), got {tuple(loss_weights)}.")
        if num_shared_fcs < 1:
            raise ValueError(f"num_shared_fcs must be >= 1, got {num_shared_fcs}.")
        self.num_classes = num_classes
        self.roi_size = roi_size
        self.class_agnostic = class_agnostic
        coder = filled("bbox_coder", bbox_coder, CoderSettings, target_stds=(0.1, 0.1, 0.2, 0.2))
        self.bbox_coder = DeltaXYWHBBoxCoder(**coder)
        self.bbox_loss = bbox_loss
        self.smooth_l1_beta = smooth_l1_beta
        self.loss_weights = loss_weights
        self.shared_convs = nn.ModuleList(
            ConvModule(conv_channels if i else in_channels, conv_channels, 3, padding=1, norm=norm)
            for i in range(num_shared_convs)
        )
        flat = (conv_channels if num_shared_convs else in_channels) * roi_size**2
        layers = [nn.Linear(fc_channels if i else flat, fc_channels) for i in range(num_shared_fcs)]
        self.shared_fcs = nn.ModuleList(layers)
        self.fc_cls = nn.Linear(fc_channels, num_classes + 1)
        self.fc_reg = nn.Linear(fc_channels, 4 if class_agnostic else 4 * num_classes)
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
        nn.init.normal_(self.fc_cls.weight, std=0.01)
        nn.init.normal_(self.fc_reg.weight, std=0.001)
        for layer in (*layers, self.fc_cls, self.fc_reg):
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes logits and offsets of regions.

        Args:
            x: Region features (n, in_channels, roi_size, roi_size).

        Returns:
            Logits (n, num_classes + 1), background last, and offsets (n, 4 * num_classes) grouped by class, or (n, 4)
            if class-agnostic.
        """
        for conv in self.shared_convs:
            x = conv(x)
        x = x.flatten(1)
        for layer in self.shared_fcs:
            x = layer(x).relu()
        return self.fc_cls(x), self.fc_reg(x)

    def losses(
        self,
        logits: torch.Tensor,
        offsets: torch.Tensor,
        boxes: torch.Tensor,
        labels: torch.Tensor,
        gt_boxes: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Computes the losses of regions.

        Args:
            logits: (n, num_classes + 1), from `forward`.
            offsets: (n, 4 * num_classes) or (n, 4), from `forward`.
            boxes: (n, 4) regions in pixels.
            labels: (n,) int64; num_classes for background.
            gt_boxes: (n, 4) ground-truth box of each region in pixels; ignored for background.

        Returns:
            `loss_cls`, averaged over the regions; `loss_bbox`, summed over the positive regions and divided by the
            number of regions; `acc`, the percentage of correctly classified regions. All are 0 without regions.
        """
        count = len(labels)
        logits, offsets = logits.float(), offsets.float()
        foreground = (labels < self.num_classes).nonzero().squeeze(1)
        positive_offsets = self.select_class(offsets[foreground], labels[foreground])
        if not count:
            return {"loss_cls": logits.sum(), "acc": logits.new_zeros(()), "loss_bbox": positive_offsets.sum()}
        return {
            "loss_cls": self.loss_weights[0] * cross_entropy(logits, labels, avg_factor=count),
            "acc": 100 * (logits.argmax(1) == labels).float().mean(),
            "loss_bbox": self.loss_weights[1]
            * self._box_loss(positive_offsets, boxes[foreground], gt_boxes[foreground], count),
        }

    def _box_loss(
        self, offsets: torch.Tensor, boxes: torch.Tensor, gt_boxes: torch.Tensor, avg_factor: int
    ) -> torch.Tensor:
        if not len(offsets):
            return offsets.sum()
        if self.bbox_loss == "giou":
            return giou_loss(self.bbox_coder.decode(boxes, offsets), gt_boxes, avg_factor=avg_factor)
        targets = self.bbox_coder.encode(boxes, gt_boxes)
        if self.bbox_loss == "l1":
            return l1_loss(offsets, targets, avg_factor=avg_factor)
        return smooth_l1_loss(offsets, targets, beta=self.smooth_l1_beta, avg_factor=avg_factor)

    def select_class(self, offsets: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Selects the offsets of one class per region.

        Args:
            offsets: (n, 4 * num_classes) or (n, 4), from `forward`.
            labels: (n,) int64, without background.

        Returns:
            (n, 4).
        """
        if self.class_agnostic:
            return offsets
        return offsets.unflatten(1, (-1, 4))[torch.arange(len(labels), device=labels.device), labels]

    def decode(self, boxes: torch.Tensor, offsets: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Applies offsets to regions.

        Args:
            boxes: (n, 4) regions in pixels.
            offsets: (n, 4 * k).
            size: (height, width) that the result is clipped to.

        Returns:
            (n, 4 * k) boxes in pixels.
        """
        return self.bbox_coder.decode(boxes, offsets.float(), size)

    def refine(
        self,
        boxes: torch.Tensor,
        logits: torch.Tensor,
        offsets: torch.Tensor,
        size: tuple[int, int],
        labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Refines each region with the offsets of one class, for the next stage of a cascade.

        Args:
            boxes: (n, 4) regions in pixels.
            logits: (n, num_classes + 1), from `forward`.
            offsets: (n, 4 * num_classes) or (n, 4), from `forward`.
            size: (height, width) of the image.
            labels: (n,) int64 ground-truth classes during training. Without labels, and for background regions, the
                best-scoring foreground class is used.

        Returns:
            (n, 4) boxes in pixels.
        """
        best = logits[:, :-1].argmax(1)
        if labels is not None:
            best = torch.where(labels < self.num_classes, labels, best)
        return self.decode(boxes, self.select_class(offsets, best), size)
