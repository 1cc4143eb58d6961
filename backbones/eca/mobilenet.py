"""MobileNetV2 with efficient channel attention."""

from __future__ import annotations

import torch
from torch import nn

from ..common.backbone import Backbone
from ..common.blocks import DropPath, Stage, drop_path_rates
from ..common.channel_attention import EfficientChannelAttention
from ..common.checks import check_positive, check_rates, per_stage
from ..common.conv import ConvNormAct
from ..common.head import PooledHead
from .resnet import KernelSizes, channels_last_on_cpu

__all__ = ["ECAMobileNetV2", "InvertedResidual"]

_ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and stride of each row of blocks; Sandler et al., "MobileNetV2" (CVPR 2018), table 2."""
_STAGE_ENDS = (1, 2, 4, 6)
"""Rows that end a stage: the last ones at strides 4, 8, 16 and 32."""


class MobileNetStem(nn.Module):
    """A 3x3 convolution of stride 2 with BatchNorm and ReLU6."""

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_chans, out_chans, 3, 2, act_layer=nn.ReLU6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, C, ceil(H / 2), ceil(W / 2)); on a CPU channels-last memory format."""
        return self.conv(channels_last_on_cpu(x))


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise 3x3 convolution, linear 1x1 projection, and the gate.

    The gated branch is added to the input if both have the same shape; no activation follows.

    Args:
        in_chans: Number of input channels.
        out_chans: Number of output channels.
        stride: Stride of the depthwise convolution.
        expansion: Ratio of hidden channels to `in_chans`; with 1 there is no expansion convolution.
        kernel_size: Kernel size of the gate's convolution along the channels; None for the adaptive formula.
        drop_path: Stochastic depth rate.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        stride: int,
        expansion: int,
        kernel_size: int | None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = in_chans * expansion
        self.is_residual = stride == 1 and in_chans == out_chans
        self.expand = nn.Identity() if expansion == 1 else ConvNormAct(in_chans, hidden, act_layer=nn.ReLU6)
        self.depthwise = ConvNormAct(hidden, hidden, 3, stride, groups=hidden, act_layer=nn.ReLU6)
        self.project = ConvNormAct(hidden, out_chans, act_layer=None)
        self.attn = EfficientChannelAttention(out_chans, kernel_size)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, out_chans, ceil(H / stride), ceil(W / stride))."""
        out = self.project(self.depthwise(self.expand(x)))
        if not self.is_residual:
            return self.attn(out)
        if self.training and isinstance(self.drop_path, DropPath):
            return x + self.drop_path(self.attn(out))
        return self.attn(out, x)


class ECAMobileNetV2(Backbone):
    """MobileNetV2 whose blocks end with efficient channel attention.

    The feature maps of the four stages have 24, 32, 96 and 320 channels. The 1x1 convolution to 1280 channels before
    pooling is the model's `norm`, so it is not part of the feature maps.

    Initialization as published: convolutions normal with variance 2 / (kernel area * output channels), BatchNorm
    weights 1 and biases 0, classifier normal with std 0.01 and zero biases, gates as in PyTorch.

    Args:
        k_size: Kernel size of the gates: one number for all blocks, or one for each of the seven rows of blocks (16,
            24, 32, 64, 96, 160 and 320 channels); None for the adaptive formula.
        width_mult: Multiplier of all channels, rounded down; applied to the last convolution only if above 1.
        num_classes: Number of classes; 0 for no classifier.
        in_chans: Number of channels of the images.
        global_pool: "avg", "max", or "" for no pooling (requires num_classes=0).
        drop_rate: Dropout rate before the classifier.
        drop_path_rate: Stochastic depth rate of the last block; rates increase linearly from 0.

    Raises:
        ValueError: An argument is out of range.
    """

    map_layout = "NCHW"

    def __init__(
        self,
        k_size: KernelSizes = (1, 1, 1, 1, 3, 3, 3),
        width_mult: float = 1.0,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive("in_chans", in_chans)
        check_positive("num_classes", num_classes, least=0)
        check_rates(drop_rate=drop_rate, drop_path_rate=drop_path_rate)
        if not 16 * width_mult >= 1:
            raise ValueError(f"width_mult must be >= 1/16, got {width_mult!r}.")
        sizes = per_stage("k_size", k_size, len(_ROWS), unit="row")
        rates = iter(drop_path_rates(drop_path_rate, [sum(depth for _, _, depth, _ in _ROWS)])[0])

        self.num_classes = num_classes
        self.in_chans = in_chans
        channels = int(32 * width_mult)
        self.stem = MobileNetStem(in_chans, channels)
        self.feature_info = []
        stages: list[nn.Module] = []
        blocks: list[nn.Module] = []
        for row, (expansion, width, depth, first_stride) in enumerate(_ROWS):
            for place in range(depth):
                out_chans, stride = int(width * width_mult), 1 if place else first_stride
                blocks.append(InvertedResidual(channels, out_chans, stride, expansion, sizes[row], next(rates)))
                channels = out_chans
            if row in _STAGE_ENDS:
                index = len(stages)
                self.feature_info.append({"num_chs": channels, "reduction": 4 << index, "module": f"stages.{index}"})
                stages.append(Stage(nn.Identity(), blocks))
                blocks = []
        self.stages = nn.Sequential(*stages)
        self.num_features = self.head_hidden_size = int(1280 * max(1.0, width_mult))
        self.norm = ConvNormAct(channels, self.num_features, act_layer=nn.ReLU6)
        self.head = PooledHead(self.num_features, num_classes, global_pool, drop_rate)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self._init_classifier()

    def _init_classifier(self) -> None:
        """Initializes the classifier as published."""
        if isinstance(self.head.fc, nn.Linear):
            nn.init.normal_(self.head.fc.weight, std=0.01)
            nn.init.zeros_(self.head.fc.bias)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the classifier; 0 classes remove it. None keeps the pooling."""
        super().reset_classifier(num_classes, global_pool)
        self._init_classifier()
