"""The all-MLP head of SegFormer: linear layers at every place of every level, and one over all levels.

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
    """SegFormer's head: a 1x1 convolution on each level, resizing to the finest, a 1x1 convolution over all.

    As in mmsegmentation, each convolution has a normalisation and a ReLU; the paper's own code has them in the last one
    alone.

    Args:
        in_channels: channels of each map that is used.
        channels: of the map that the classifier sees.
        in_index: which of the given maps are used, finest first. None for all.
        norm: "BN", "GN" or None.
        settings: `num_classes`, `dropout_ratio` and what else `DecodeHead` takes.

    Raises:
        ValueError: arguments contradict each other or are out of range.
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
        """Mixes channels of each level, then of all levels at the finest one's size."""
        size = features[0].shape[2:]
        levels = [conv(one) for conv, one in zip(self.convs, features, strict=True)]
        return self.fusion_conv(torch.cat([resize(one, size, self.align_corners) for one in levels], dim=1))
