"""Large kernel attention, the attention module of the VAN family."""

from __future__ import annotations

import torch
from torch import nn

from ..common.checks import check_positive
from ..common.conv import apply_nhwc
from ..common.init import init_conv


class LargeKernelAttention(nn.Module):
    """Multiplies a map by a large-kernel convolution of it, between two 1x1 convolutions and with a shortcut.

    The large kernel is decomposed into a depthwise kernel of size 2 * dilation - 1, a dilated depthwise kernel of size
    kernel_size / dilation (rounded up to odd), and a 1x1 convolution, without an activation.

    Args:
        dim: Number of channels.
        num_heads: Unused; part of the signature of all attention modules.
        kernel_size: Size of the large kernel.
        dilation: Dilation of the second depthwise convolution.
        proj_drop: Dropout rate after the last convolution.

    Source: "Visual Attention Network", section 3.1 and figure 3; the published models have a kernel of 21, dilation 3.
    """

    def __init__(
        self, dim: int, num_heads: int = 1, kernel_size: int = 21, dilation: int = 3, *, proj_drop: float = 0.0
    ) -> None:
        super().__init__()
        check_positive("dim", dim)
        check_positive("num_heads", num_heads)
        check_positive("kernel_size", kernel_size)
        check_positive("dilation", dilation)
        local, wide = 2 * dilation - 1, -(-kernel_size // dilation) // 2 * 2 + 1
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.act = nn.GELU()
        self.conv0 = nn.Conv2d(dim, dim, local, padding=local // 2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, wide, padding=wide // 2 * dilation, dilation=dilation, groups=dim)
        self.conv1 = nn.Conv2d(dim, dim, 1)
        self.proj_2 = nn.Conv2d(dim, dim, 1)
        self.proj_drop = nn.Dropout(proj_drop)
        self.apply(init_conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        values = self.act(apply_nhwc(self.proj_1, x))
        gate = apply_nhwc(self.conv1, apply_nhwc(self.conv_spatial, apply_nhwc(self.conv0, values)))
        return x + self.proj_drop(apply_nhwc(self.proj_2, values * gate))
