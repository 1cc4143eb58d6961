"""Channel attention: efficient channel attention and squeeze-and-excitation."""

from __future__ import annotations

import math

import torch
from torch import nn

from .checks import check_odd, check_positive
from .fast_paths import is_eager_inference

__all__ = ["EfficientChannelAttention", "SqueezeExcite", "adaptive_kernel_size"]


def adaptive_kernel_size(channels: int, gamma: float = 2.0, beta: float = 1.0) -> int:
    """Returns the kernel size for a number of channels: odd, at least 3, and linear in the logarithm of the number.

    Source: Wang et al., "ECA-Net" (CVPR 2020), equation 12, rounded to odd as timm does.
    """
    check_positive("channels", channels)
    size = int(abs(math.log2(channels) + beta) / gamma)
    return max(size if size % 2 else size + 1, 3)


class EfficientChannelAttention(nn.Module):
    """Multiplies each channel by a gate: the sigmoid of a 1-D convolution (`conv`) over the channel means.

    Args:
        channels: Number of channels.
        kernel_size: Kernel size of the convolution, odd; None for `adaptive_kernel_size(channels)`.

    Source: Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks" (CVPR 2020).
    """

    def __init__(self, channels: int, kernel_size: int | None = None) -> None:
        super().__init__()
        size = adaptive_kernel_size(channels) if kernel_size is None else kernel_size
        check_odd("kernel_size", size)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the gates (B, C, 1, 1) of a map (B, C, H, W)."""
        gate = self.conv(x.mean(dim=(2, 3))[:, None]).sigmoid()
        return gate[:, 0, :, None, None]

    def forward(self, x: torch.Tensor, shortcut: torch.Tensor | None = None) -> torch.Tensor:
        """Maps (B, C, H, W) to the same shape.

        Args:
            x: The map. With a shortcut, the output may overwrite it in inference, so it must not be used afterwards.
            shortcut: Map (B, C, H, W) to add to the gated map, in the same pass over memory.
        """
        gate = self.gate(x)
        if shortcut is None:
            return x * gate
        if is_eager_inference(x) and shortcut.dtype == x.dtype:
            return torch.addcmul(shortcut, x, gate, out=x)
        return torch.addcmul(shortcut, x, gate)


class SqueezeExcite(nn.Module):
    """Multiplies each channel by a gate: the sigmoid of two 1x1 convolutions (`fc1`, `fc2`) on the channel means.

    Args:
        channels: Number of channels.
        hidden: Number of channels between the convolutions.

    Source: Hu et al., "Squeeze-and-Excitation Networks" (CVPR 2018).
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.act = nn.ReLU()
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W) to the same shape."""
        return x * self.fc2(self.act(self.fc1(x.mean(dim=(2, 3), keepdim=True)))).sigmoid()
