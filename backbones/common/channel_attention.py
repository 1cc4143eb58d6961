"""Gates over channels: efficient channel attention and squeeze-and-excitation."""

from __future__ import annotations

import math

import torch
from torch import nn

from .checks import check_odd, check_positive
from .fast_paths import is_eager_inference

__all__ = ["EfficientChannelAttention", "SqueezeExcite", "adaptive_kernel_size"]


def adaptive_kernel_size(channels: int, gamma: float = 2.0, beta: float = 1.0) -> int:
    """Gives the odd kernel size, at least 3, that the logarithm of the number of channels asks for.

    Source: Wang et al., "ECA-Net" (CVPR 2020), equation 12, rounded to odd as timm does.
    """
    check_positive("channels", channels)
    size = int(abs(math.log2(channels) + beta) / gamma)
    return max(size if size % 2 else size + 1, 3)


class EfficientChannelAttention(nn.Module):
    """Gates each channel by a 1-D convolution along the channels' means (`conv`, without bias) and a sigmoid.

    Args:
        channels: of the map.
        kernel_size: neighbouring channels that a gate sees, odd; None for `adaptive_kernel_size(channels)`.

    Source: Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks" (CVPR 2020).
    """

    def __init__(self, channels: int, kernel_size: int | None = None) -> None:
        super().__init__()
        size = adaptive_kernel_size(channels) if kernel_size is None else kernel_size
        check_odd("kernel_size", size)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """Gives the factors (B, C, 1, 1) of a map (B, C, H, W)."""
        means = x.mean(dim=(2, 3))
        return self.conv(means[:, None]).sigmoid().reshape(*means.shape, 1, 1)

    def forward(self, x: torch.Tensor, shortcut: torch.Tensor | None = None) -> torch.Tensor:
        """Maps (B, C, H, W) to the same.

        Args:
            x: the map.
            shortcut: what is added to the gated map, (B, C, H, W); the sum then costs no pass over memory of its own.
                In inference the sum may be written over `x`, which must not be used any more.
        """
        gate = self.gate(x)
        if shortcut is None:
            return x * gate
        if is_eager_inference(x) and shortcut.dtype == x.dtype:
            return torch.addcmul(shortcut, x, gate, out=x)
        return torch.addcmul(shortcut, x, gate)


class SqueezeExcite(nn.Module):
    """Gates each channel by two 1x1 convolutions (`fc1`, `fc2`) on the channels' means and a sigmoid.

    Args:
        channels: of the map.
        hidden: channels between the two.

    Source: Hu et al., "Squeeze-and-Excitation Networks" (CVPR 2018).
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.act = nn.ReLU()
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W) to the same."""
        return x * self.fc2(self.act(self.fc1(x.mean(dim=(2, 3), keepdim=True)))).sigmoid()
