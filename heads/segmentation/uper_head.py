"""UPerNet: pyramid pooling on the coarsest level, a feature pyramid, and fusion of all levels.

Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018 (arXiv:1807.10221), section 3.1. The
pooling is that of Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017 (arXiv:1612.01105).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..conv_module import ConvModule, Norm
from .decode_head import DecodeHead, resize


class AdaptivePooling(nn.Module):
    """Averages a feature map over a grid of bins x bins areas, as torch's AdaptiveAvgPool2d does.

    Implemented as matrix products, so that it exports to ONNX for feature maps of any size and its gradient on a GPU is
    deterministic. Each axis is averaged separately, because sums over an entire map could overflow float16.

    Args:
        bins: Number of areas along each axis.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W) to (B, C, bins, bins)."""
        return self._average(self._average(x).transpose(2, 3)).transpose(2, 3)

    def _average(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, n, size) to (B, C, n, bins); bin i spans floor(i size / bins) to ceil((i + 1) size / bins)."""
        size = x.shape[3]
        position = torch.arange(size, device=x.device)[:, None]
        start = torch.arange(self.bins, device=x.device) * size
        members = ((position + 1) * self.bins > start) & (position * self.bins < start + size)
        return x @ members.to(x.dtype) / members.sum(0)


class UPerHead(DecodeHead):
    """UPerNet's head.

    Training needs at least two images per process: the coarsest pooling leaves one value per image and channel, for
    which BatchNorm has no variance.

    Args:
        in_channels: Number of channels of each feature map that is used.
        channels: Number of channels of all inner feature maps and of the classifier's input.
        in_index: Indices of the feature maps that are used, finest first. None for all.
        pool_scales: Number of areas along each axis of the pooled maps.
        norm: "BN", "GN" or None.
        settings: `num_classes`, `dropout_ratio` and other arguments of `DecodeHead`.

    Raises:
        ValueError: Arguments contradict each other or are out of range.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 512,
        *,
        in_index: Sequence[int] | None = None,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        norm: Norm | None = "BN",
        **settings: Any,
    ) -> None:
        super().__init__(in_channels, in_index, channels, **settings)
        if not pool_scales or min(pool_scales) < 1:
            raise ValueError(f"pool_scales must be a non-empty sequence of integers >= 1, got {pool_scales!r}.")
        *finer, last = self.in_channels
        self.psp_modules = nn.ModuleList(
            nn.Sequential(AdaptivePooling(bins), ConvModule(last, channels, 1, norm=norm)) for bins in pool_scales
        )
        self.bottleneck = ConvModule(last + len(pool_scales) * channels, channels, 3, padding=1, norm=norm)
        self.lateral_convs = nn.ModuleList(ConvModule(width, channels, 1, norm=norm) for width in finer)
        self.fpn_convs = nn.ModuleList(ConvModule(channels, channels, 3, padding=1, norm=norm) for _ in finer)
        self.fpn_bottleneck = ConvModule(len(self.in_channels) * channels, channels, 3, padding=1, norm=norm)

    def pixel_features(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Pools the coarsest map, adds it down the pyramid, and fuses all levels at the finest size."""
        *finer, last = features
        pooled = [resize(module(last), last.shape[2:], self.align_corners) for module in self.psp_modules]
        levels = [conv(feature) for conv, feature in zip(self.lateral_convs, finer, strict=True)]
        levels.append(self.bottleneck(torch.cat([last, *pooled], dim=1)))
        for index in range(len(levels) - 1, 0, -1):
            coarser = resize(levels[index], levels[index - 1].shape[2:], self.align_corners)
            levels[index - 1] = levels[index - 1] + coarser
        outputs = [conv(level) for conv, level in zip(self.fpn_convs, levels[:-1], strict=True)] + levels[-1:]
        size = outputs[0].shape[2:]
        outputs = [outputs[0]] + [resize(out, size, self.align_corners) for out in outputs[1:]]
        return self.fpn_bottleneck(torch.cat(outputs, dim=1))
