"""The building block of necks and heads: convolution, normalization, activation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from ..names import unknown_name

Norm = Literal["BN", "GN"]

GROUPS = 32
"""Number of groups of GroupNorm."""


def make_norm(norm: Norm, channels: int) -> tuple[str, nn.Module]:
    """Builds a normalization layer and returns it with its name in OpenMMLab's checkpoints ("bn" or "gn").

    Args:
        norm: "BN" (BatchNorm2d) or "GN" (GroupNorm with 32 groups).
        channels: Number of channels.

    Raises:
        ValueError: The norm is unknown, or channels is not a multiple of 32 for "GN".
    """
    if norm == "BN":
        return "bn", nn.BatchNorm2d(channels)
    if norm == "GN":
        if channels % GROUPS:
            raise ValueError(f"norm='GN' needs channels to be a multiple of {GROUPS}, got {channels}.")
        return "gn", nn.GroupNorm(GROUPS, channels)
    raise ValueError(unknown_name("norm", str(norm), ("BN", "GN")))


class ConvModule(nn.Module):
    """Convolution with optional normalization and ReLU, with OpenMMLab's parameter names.

    Weights are initialized with Kaiming normal (fan-out), as in OpenMMLab.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        kernel_size: Side of the square kernel.
        stride: Stride of the convolution.
        padding: Zero padding on each side.
        dilation: Dilation of the kernel.
        norm: "BN", "GN" (32 groups) or None. The convolution has a bias only without normalization.
        act: Whether to apply a ReLU at the end.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        norm: Norm | None = None,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, dilation=dilation, bias=norm is None
        )
        self.norm_name: str | None = None
        if norm is not None:
            self.norm_name, module = make_norm(norm, out_channels)
            self.add_module(self.norm_name, module)
        self.act = nn.ReLU(inplace=True) if act else nn.Identity()
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H', W')."""
        x = self.conv(x)
        if self.norm_name is not None:
            x = getattr(self, self.norm_name)(x)
        return self.act(x)
