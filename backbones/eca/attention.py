"""Efficient channel attention as a token mixer."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from ..common.channel_attention import EfficientChannelAttention
from ..common.checks import check_choice, check_odd, check_positive
from ..common.init import trunc_normal_

__all__ = ["EfficientChannelAttentionMixer"]

_MIXINGS = ("conv", "pool")


class EfficientChannelAttentionMixer(nn.Module):
    """Mixes neighboring positions per channel, then gates the channels by their means (`attn`).

    Not from a paper: ECA-Net puts its gate into convolutional blocks. Here the gate carries global information, and a
    depthwise convolution or PoolFormer's pooling carries local information.

    Args:
        dim: Number of channels.
        num_heads: Ignored; present so that all attention modules have the same signature.
        mixing: "conv" for a depthwise convolution with bias (`conv`), or "pool" for the mean of the neighborhood minus
            the input (Yu et al., "MetaFormer Is Actually What You Need for Vision", CVPR 2022).
        window_size: Kernel size of the mixing, odd.
        kernel_size: Kernel size of the gate's convolution along the channels; None for `adaptive_kernel_size(dim)`.

    Raises:
        ValueError: The mixing is unknown, or a size is even or less than 1.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 1,
        *,
        mixing: Literal["conv", "pool"] = "conv",
        window_size: int = 3,
        kernel_size: int | None = None,
    ) -> None:
        super().__init__()
        check_positive("dim", dim)
        check_positive("num_heads", num_heads)
        check_odd("window_size", window_size)
        check_choice("mixing", mixing, _MIXINGS)
        self.window_size = window_size
        self.conv = nn.Conv2d(dim, dim, window_size, padding=window_size // 2, groups=dim) if mixing == "conv" else None
        if self.conv is not None:
            assert self.conv.bias is not None
            trunc_normal_(self.conv.weight, std=0.02)
            nn.init.zeros_(self.conv.bias)
        self.attn = EfficientChannelAttention(dim, kernel_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        x = x.permute(0, 3, 1, 2)
        if self.conv is not None:
            mixed = self.conv(x)
        else:
            padding = self.window_size // 2
            mixed = F.avg_pool2d(x, self.window_size, 1, padding, count_include_pad=False) - x
        return self.attn(mixed).permute(0, 2, 3, 1)

    def extra_repr(self) -> str:
        """Returns the arguments shown when the module is printed."""
        return f"mixing={'pool' if self.conv is None else 'conv'}, window_size={self.window_size}"
