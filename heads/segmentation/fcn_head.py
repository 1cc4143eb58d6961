"""The fully convolutional head, which published segmentors have as auxiliary head.

Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015 (arXiv:1411.4038); as auxiliary head:
Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017 (arXiv:1612.01105).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..conv_module import ConvModule, Norm
from .decode_head import DecodeHead


class FCNHead(DecodeHead):
    """Convolutions on one map.

    Args:
        in_channels: channels of the map that is used.
        channels: of the map that the classifier sees.
        num_classes: number of classes, at least 2.
        in_index: which of the given maps is used; -1 is the last.
        num_convs: how many convolutions; with 0 the classifier sees the map itself.
        kernel_size: of the convolutions, odd, in pixels.
        dilation: of the convolutions.
        concat_input: whether a further convolution sees the map beside what was made of it.
        dropout_ratio: how often a channel is left out in training before the classifier.
        norm: "BN", "GN" or None.
        ignore_index: the label of pixels that do not count.
        loss_weight: what the loss is multiplied by; 0.4 for published auxiliary heads.
        avg_non_ignore: divide the loss by the pixels that count, not by all.
        align_corners: how maps are resized.
        class_weight: what a pixel of each class counts for in the loss.
        init_std: standard deviation of the classifier's initial weights.

    Raises:
        ValueError: arguments contradict each other or are out of range.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        *,
        num_classes: int,
        in_index: int = -1,
        num_convs: int = 2,
        kernel_size: int = 3,
        dilation: int = 1,
        concat_input: bool = True,
        dropout_ratio: float = 0.1,
        norm: Norm | None = "BN",
        ignore_index: int = 255,
        loss_weight: float = 1.0,
        avg_non_ignore: bool = False,
        align_corners: bool = False,
        class_weight: Sequence[float] | None = None,
        init_std: float = 0.01,
    ) -> None:
        super().__init__(
            [in_channels], [in_index], channels, num_classes, dropout_ratio, ignore_index, loss_weight, avg_non_ignore,
            align_corners, class_weight, init_std,
        )  # fmt: skip
        if num_convs < 0 or dilation < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                "num_convs is at least 0, dilation at least 1 and kernel_size odd, but they are "
                f"{num_convs}, {dilation} and {kernel_size}."
            )
        if num_convs == 0 and in_channels != channels:
            raise ValueError(f"Without convolutions channels is in_channels, {in_channels}, not {channels}.")
        self.convs = nn.Sequential(
            *(
                ConvModule(
                    channels if number else in_channels,
                    channels,
                    kernel_size,
                    padding=kernel_size // 2 * dilation,
                    dilation=dilation,
                    norm=norm,
                )
                for number in range(num_convs)
            )
        )
        self.conv_cat = None
        if concat_input:
            self.conv_cat = ConvModule(
                in_channels + channels, channels, kernel_size, padding=kernel_size // 2, norm=norm
            )

    def pixel_features(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Convolves the map."""
        (x,) = features
        made = self.convs(x)
        return made if self.conv_cat is None else self.conv_cat(torch.cat([x, made], dim=1))
