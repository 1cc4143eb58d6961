"""The mask head of Mask R-CNN: a small map of probabilities in each box and class.

He et al. 2017, "Mask R-CNN", figure 4 (right).
"""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import nn

from ..conv_module import ConvModule, Norm
from ..losses import binary_cross_entropy


class MaskHeadSettings(TypedDict, total=False):
    """Arguments of `FCNMaskHead` besides those that the RoI head itself has."""

    num_convs: int
    conv_channels: int
    class_agnostic: bool
    norm: Norm | None
    loss_weight: float


class FCNMaskHead(nn.Module):
    """Convolutions, a doubling of the size, and one logit a class and pixel.

    Args:
        num_classes: without the background.
        in_channels: of the regions' features.
        num_convs: number of 3 x 3 convolutions.
        conv_channels: their channels.
        class_agnostic: predict one mask a box instead of one for each class.
        norm: "BN", "GN" or None, after each convolution.
        loss_weight: multiplies the loss.
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
        """Maps regions' features (n, in_channels, s, s) to logits (n, classes, 2 s, 2 s)."""
        for conv in self.convs:
            x = conv(x)
        return self.conv_logits(self.upsample(x).relu())

    def own_class(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Takes each box's map of its own class.

        Args:
            logits: (n, classes, s, s), as from `forward`.
            labels: (n,) int64.

        Returns:
            (n, s, s).
        """
        if self.class_agnostic:
            return logits[:, 0]
        return logits[torch.arange(len(labels), device=labels.device), labels]

    def losses(self, logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compares the maps of the boxes' own classes with the true masks.

        Args:
            logits: (n, classes, s, s), as from `forward`.
            labels: (n,) int64, of the true objects.
            targets: (n, s, s) of 0 and 1, as `masks.mask_targets` makes them.

        Returns:
            `loss_mask`: the mean binary cross-entropy over all pixels; 0 where there is no box.
        """
        return {"loss_mask": self.loss_weight * binary_cross_entropy(self.own_class(logits, labels), targets)}
