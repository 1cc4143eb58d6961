"""The all-MLP head of SegFormer: linear layers at every place of every level, and one over all levels.

Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers", NeurIPS 2021
(arXiv:2105.15203), section 3.2. Parameter names are those of mmsegmentation's SegformerHead.
"""

from __future__ import annotations

from collections.abc import Sequence

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
        num_classes: number of classes, at least 2.
        in_index: which of the given maps are used, finest first. None for all.
        dropout_ratio: how often a channel is left out in training before the classifier.
        norm: "BN", "GN" or None.
        ignore_index: the label of pixels that do not count.
        loss_weight: what the loss is multiplied by.
        avg_non_ignore: divide the loss by the pixels that count, not by all.
        align_corners: how maps are resized.
        class_weight: what a pixel of each class counts for in the loss.
        init_std: standard deviation of the classifier's initial weights.

    Raises:
        ValueError: arguments contradict each other or are out of range.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        *,
        num_classes: int,
        in_index: Sequence[int] | None = None,
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
            in_channels, in_index, channels, num_classes, dropout_ratio, ignore_index, loss_weight, avg_non_ignore,
            align_corners, class_weight, init_std,
        )  # fmt: skip
        self.convs = nn.ModuleList(ConvModule(width, channels, 1, norm=norm) for width in self.in_channels)
        self.fusion_conv = ConvModule(channels * len(self.convs), channels, 1, norm=norm)

    def pixel_features(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Mixes channels of each level, then of all levels at the finest one's size."""
        size = features[0].shape[2:]
        levels = [conv(one) for conv, one in zip(self.convs, features, strict=True)]
        return self.fusion_conv(torch.cat([resize(one, size, self.align_corners) for one in levels], dim=1))
