"""Semantic FPN: all levels of a feature pyramid are upsampled to the finest one and summed.

Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR 2019 (arXiv:1901.02446), section 3. Its input comes from an
`FPN`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..conv_module import ConvModule, Norm
from .decode_head import DecodeHead, resize


class _Upsample2x(nn.Module):
    """Doubles height and width bilinearly."""

    def __init__(self, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return resize(x, (2 * x.shape[2], 2 * x.shape[3]), self.align_corners)


class FPNHead(DecodeHead):
    """Semantic FPN's head: 3x3 convolutions with 2x upsampling on each coarser level, followed by a sum.

    Args:
        in_channels: Number of channels of each feature map that is used.
        channels: Number of channels of the classifier's input.
        in_index: Indices of the feature maps that are used, finest first. None for all.
        feature_strides: Strides of the feature maps that are used; each is the first one times a power of 2.
        norm: "BN", "GN" or None.
        settings: `num_classes`, `dropout_ratio` and other arguments of `DecodeHead`.

    Raises:
        ValueError: Arguments contradict each other or are out of range.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 128,
        *,
        in_index: Sequence[int] | None = None,
        feature_strides: Sequence[int] = (4, 8, 16, 32),
        norm: Norm | None = "BN",
        **settings: Any,
    ) -> None:
        super().__init__(in_channels, in_index, channels, **settings)
        if len(feature_strides) != len(self.in_channels):
            raise ValueError(
                f"feature_strides must have one value per feature map ({len(self.in_channels)}), got {feature_strides}."
            )
        self.feature_strides = tuple(feature_strides)
        self.scale_heads = nn.ModuleList()
        for width, stride in zip(self.in_channels, self.feature_strides, strict=True):
            ratio = stride // feature_strides[0]
            doublings = ratio.bit_length() - 1
            if ratio < 1 or feature_strides[0] << doublings != stride:
                raise ValueError(f"feature_strides must be the first stride times powers of 2, got {feature_strides}.")
            layers: list[nn.Module] = []
            for index in range(max(1, doublings)):
                layers.append(ConvModule(channels if index else width, channels, 3, padding=1, norm=norm))
                if doublings:
                    layers.append(_Upsample2x(self.align_corners))
            self.scale_heads.append(nn.Sequential(*layers))

    def pixel_features(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Sums the levels at the size of the finest one."""
        out = self.scale_heads[0](features[0])
        for head, feature in zip(self.scale_heads[1:], features[1:], strict=True):
            # Odd sizes are off by one after upsampling.
            out = out + resize(head(feature), out.shape[2:], self.align_corners)
        return out
