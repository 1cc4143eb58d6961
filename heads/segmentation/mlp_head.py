"""The all-MLP head of SegFormer: a linear layer on each level, and one that fuses all levels.

Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers", NeurIPS 2021
(arXiv:2105.15203), section 3.2. Parameter names are those of mmsegmentation's SegformerHead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..conv_module import ConvModule, Norm
from .decode_head import DecodeHead, resize


class MLPHead(DecodeHead):
    """SegFormer's head: a 1x1 convolution on each level, resizing to the finest one, and a 1x1 fusion.

    As in mmsegmentation, each convolution has normalization and ReLU; the paper's own code has them after the last one
    only.

    Args:
        in_channels: Number of channels of each feature map that is used.
        channels: Number of channels of the classifier's input.
        in_index: Indices of the feature maps that are used, finest first. None for all.
        norm: "BN", "GN" or None.
        settings: `num_classes`, `dropout_ratio` and other arguments of `DecodeHead`.

    Raises:
        ValueError: Arguments contradict each other or are out of range.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        *,
        in_index: Sequence[int] | None = None,
        norm: Norm | None = "BN",
        **settings: Any,
    ) -> None:
        super().__init__(in_channels, in_index, channels, **settings)
        self.convs = nn.ModuleList(ConvModule(width, channels, 1, norm=norm) for width in self.in_channels)
        self.fusion_conv = ConvModule(channels * len(self.convs), channels, 1, norm=norm)

    def pixel_features(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Projects each level and fuses all levels at the size of the finest one."""
        size = features[0].shape[2:]
        levels = [conv(feature) for conv, feature in zip(self.convs, features, strict=True)]
        return self.fusion_conv(torch.cat([resize(level, size, self.align_corners) for level in levels], dim=1))
