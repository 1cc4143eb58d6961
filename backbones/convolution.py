"""Convolutions with batch norms, of the families that are convolutional networks or begin as one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

__all__ = ["ConvNormAct"]


class ConvNormAct(nn.Module):
    """A convolution without bias (`conv`), a batch norm (`bn`) and an activation (`act`).

    Args:
        in_chans: channels of the input.
        out_chans: channels of the output.
        kernel_size: side of the kernel.
        stride: of the convolution.
        dilation: of the kernel.
        groups: of the convolution.
        act_layer: makes the activation; None for none.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        kernel_size: int = 1,
        stride: int = 1,
        *,
        dilation: int = 1,
        groups: int = 1,
        act_layer: Callable[[], nn.Module] | None = nn.ReLU,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size - 1) // 2
        self.conv = nn.Conv2d(
            in_chans, out_chans, kernel_size, stride, padding, dilation=dilation, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_chans)
        self.act = nn.Identity() if act_layer is None else act_layer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, out_chans, ceil(H / stride), ceil(W / stride))."""
        return self.act(self.bn(self.conv(x)))
