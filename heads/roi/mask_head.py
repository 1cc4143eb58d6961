"""The mask head of Mask R-CNN: a low-resolution mask per region and class.

He et al. 2017, "Mask R-CNN", figure 4 (right).
"""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import nn

from ..conv_module import ConvModule, Norm
from ..losses import binary_cross_entropy


class MaskHeadSettings(TypedDict, total=False):
    """Arguments of `FCNMaskHead` other than those that the RoI head sets."""

    num_convs: int
    conv_channels: int
    class_agnostic: bool
    norm: Norm | None
    loss_weight: float


class FCNMaskHead(nn.Module):
    """Convolutions, 2x upsampling, and one logit per class and pixel.

    Args:
        num_classes: Number of classes, without background.
        in_channels: Number of channels of the region features.
        num_convs: Number of 3x3 convolutions.
        conv_channels: Number of channels of these convolutions.
        class_agnostic: Predict one mask per region instead of one per class.
        norm: Normalization after each convolution: "BN", "GN" or None.
        loss_weight: Weight of the loss.
    """

    class_layers = ("conv_logits",)
    """Layers whose size depends on the number of classes."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        num_convs: int = 4,
        conv_channels: int = 256,
        class_agnostic: bool = False,
        norm: Norm | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.class_agnostic = class_agnostic
        self.loss_weight = loss_weight
        self.convs = nn.ModuleList(
            ConvModule(conv_channels if i else in_channels, conv_channels, 3, padding=1, norm=norm)
            for i in range(num_convs)
        )
        self.upsample = nn.ConvTranspose2d(conv_channels if num_convs else in_channels, conv_channels, 2, stride=2)
        self.conv_logits = nn.Conv2d(conv_channels, 1 if class_agnostic else num_classes, 1)
        for layer in (self.upsample, self.conv_logits):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps region features (n, in_channels, s, s) to logits (n, classes, 2 * s, 2 * s)."""
        for conv in self.convs:
            x = conv(x)
        return self.conv_logits(self.upsample(x).relu())

    def select_class(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Selects the mask of one class per region.

        Args:
            logits: (n, classes, s, s), from `forward`.
            labels: (n,) int64.

        Returns:
            (n, s, s).
        """
        if self.class_agnostic:
            return logits[:, 0]
        return logits[torch.arange(len(labels), device=labels.device), labels]

    def losses(self, logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Computes the mask loss.

        Args:
            logits: (n, classes, s, s), from `forward`.
            labels: (n,) int64 classes of the matched objects.
            targets: (n, s, s) of 0 and 1, from `masks.mask_targets`.

        Returns:
            `loss_mask`: binary cross entropy averaged over all pixels; 0 without regions.
        """
        return {"loss_mask": self.loss_weight * binary_cross_entropy(self.select_class(logits, labels), targets)}
