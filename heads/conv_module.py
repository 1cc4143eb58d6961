"""The unit that necks and heads are made of: convolution, normalisation, activation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from ..names import unknown_name

Norm = Literal["BN", "GN"]

GROUPS = 32
"""Groups of a group normalisation."""


def make_norm(norm: Norm, channels: int) -> tuple[str, nn.Module]:
    """Makes a normalisation of maps, and gives the name it has in checkpoints of OpenMMLab ("bn", "gn").

    Args:
        norm: "BN" (batch normalisation) or "GN" (32 groups).
        channels: of the maps.

    Raises:
        ValueError: for another norm, or channels that do not make 32 groups.
    """
    if norm == "BN":
        return "bn", nn.BatchNorm2d(channels)
    if norm == "GN":
        if channels % GROUPS:
            raise ValueError(f"norm='GN' makes {GROUPS} groups, which {channels} channels do not divide into.")
        return "gn", nn.GroupNorm(GROUPS, channels)
    raise ValueError(unknown_name("norm of a head", str(norm), ("BN", "GN")))


class ConvModule(nn.Module):
    """Convolution, then normalisation and ReLU where asked for, with OpenMMLab's parameter names.

    Weights are Kaiming-normal by fan-out, as OpenMMLab initialises this unit.

    Args:
        in_channels: of the map given.
        out_channels: of the map made.
        kernel_size: of the square kernel, in pixels.
        stride: in pixels.
        padding: with zeros, in pixels on each side.
        dilation: of the kernel.
        norm: "BN", "GN" (32 groups) or None. The convolution has a bias only without a norm.
        act: whether a ReLU ends it.
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
