"""The fully convolutional head, used as the auxiliary head of published segmentors.

Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015 (arXiv:1411.4038). As an auxiliary
head: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017 (arXiv:1612.01105).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..conv_module import ConvModule, Norm
from .decode_head import DecodeHead


class FCNHead(DecodeHead):
    """Convolutions on one feature map.

    Args:
        in_channels: Number of channels of the feature map that is used.
        channels: Number of channels of the classifier's input.
        in_index: Index of the feature map that is used; -1 for the last one.
        num_convs: Number of convolutions; with 0 the classifier is applied to the feature map itself.
        kernel_size: Kernel size of the convolutions, odd.
        dilation: Dilation of the convolutions.
        concat_input: Whether another convolution combines the input with the result.
        norm: "BN", "GN" or None.
        settings: `num_classes`, `dropout_ratio` and other arguments of `DecodeHead`.

    Raises:
        ValueError: Arguments contradict each other or are out of range.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        *,
        in_index: int = -1,
        num_convs: int = 2,
        kernel_size: int = 3,
        dilation: int = 1,
        concat_input: bool = True,
        norm: Norm | None = "BN",
        **settings: Any,
    ) -> None:
        super().__init__([in_channels], [in_index], channels, **settings)
        if num_convs < 0 or dilation < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                "num_convs must be >= 0, dilation >= 1 and kernel_size odd, got "
                f"num_convs={num_convs}, dilation={dilation} and kernel_size={kernel_size}."
            )
        if num_convs == 0 and in_channels != channels:
            raise ValueError(f"channels must equal in_channels with num_convs=0, got {channels} and {in_channels}.")
        self.convs = nn.Sequential(
            *(
                ConvModule(
                    channels if index else in_channels,
                    channels,
                    kernel_size,
                    padding=kernel_size // 2 * dilation,
                    dilation=dilation,
                    norm=norm,
                )
                for index in range(num_convs)
            )
        )
        self.conv_cat = None
        if concat_input:
            self.conv_cat = ConvModule(
                in_channels + channels, channels, kernel_size, padding=kernel_size // 2, norm=norm
            )

    def pixel_features(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Applies the convolutions."""
        (x,) = features
        out = self.convs(x)
        return out if self.conv_cat is None else self.conv_cat(torch.cat([x, out], dim=1))
