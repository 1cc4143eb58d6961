"""The fully convolutional head, which published segmentors have as auxiliary head.

Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015 (arXiv:1411.4038); as auxiliary head:
Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017 (arXiv:1612.01105).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..conv_module import ConvModule, Norm
from .decode_head import DecodeHead


class FCNHead(DecodeHead):
    """Convolutions on one map.

    Args:
        in_channels: channels of the map that is used.
        channels: of the map that the classifier sees.
        in_index: which of the given maps is used; -1 is the last.
        num_convs: how many convolutions; with 0 the classifier sees the map itself.
        kernel_size: of the convolutions, odd, in pixels.
        dilation: of the convolutions.
        concat_input: whether a further convolution sees the map beside what was made of it.
        norm: "BN", "GN" or None.
        settings: `num_classes`, `dropout_ratio` and what else `DecodeHead` takes.

    Raises:
        ValueError: arguments contradict each other or are out of range.
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
