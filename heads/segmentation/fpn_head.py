"""Semantic FPN: a pyramid's levels, brought to the finest level's size and added.

Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR 2019 (arXiv:1901.02446), section 3. It stands on an `FPN`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..conv_module import ConvModule, Norm
from .decode_head import DecodeHead, resize


class _Doubling(nn.Module):
    """Doubles height and width."""

    def __init__(self, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return resize(x, (2 * x.shape[2], 2 * x.shape[3]), self.align_corners)


class FPNHead(DecodeHead):
    """Semantic FPN's head: 3x3 convolutions, each with a doubling where the level is coarser than the finest; a sum.

    Args:
        in_channels: channels of each map that is used.
        channels: of the map that the classifier sees.
        in_index: which of the given maps are used, finest first. None for all.
        feature_strides: of each map that is used, in pixels; each is the first one times a power of 2.
        norm: "BN", "GN" or None.
        settings: `num_classes`, `dropout_ratio` and what else `DecodeHead` takes.

    Raises:
        ValueError: arguments contradict each other or are out of range.
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
                f"feature_strides needs one number for each of {len(self.in_channels)} maps, not {feature_strides}."
            )
        self.feature_strides = tuple(feature_strides)
        self.scale_heads = nn.ModuleList()
        for width, stride in zip(self.in_channels, self.feature_strides, strict=True):
            ratio = stride // feature_strides[0]
            doublings = ratio.bit_length() - 1
            if ratio < 1 or feature_strides[0] << doublings != stride:
                raise ValueError(f"Each of feature_strides is the first one times a power of 2: {feature_strides}.")
            layers: list[nn.Module] = []
            for number in range(max(1, doublings)):
                layers.append(ConvModule(channels if number else width, channels, 3, padding=1, norm=norm))
                if doublings:
                    layers.append(_Doubling(self.align_corners))
            self.scale_heads.append(nn.Sequential(*layers))

    def pixel_features(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Adds the levels up at the finest one's size."""
        total = self.scale_heads[0](features[0])
        for head, one in zip(self.scale_heads[1:], features[1:], strict=True):
            # Sizes that were rounded up are one off after doubling.
            total = total + resize(head(one), total.shape[2:], self.align_corners)
        return total
