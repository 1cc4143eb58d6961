"""ResNets with efficient channel attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from ...kernels.tracing import fx_leaf
from ..common.backbone import Backbone
from ..common.blocks import DropPath, Stage, drop_path_rates
from ..common.channel_attention import EfficientChannelAttention
from ..common.checks import check_choice, check_positive, check_rates, check_stages, per_stage
from ..common.conv import ConvNormAct, channels_last
from ..common.head import PooledHead

__all__ = ["BasicBlock", "Bottleneck", "ECAResNet"]

KernelSizes = int | Sequence[int] | None
"""Kernel size of the gates: one number for all stages, one per stage, or None for the adaptive formula."""

_STEMS: dict[str, tuple[int, ...]] = {"plain": (64,), "deep": (32, 32, 64), "tiered": (24, 32, 64)}
"""Number of channels of the stem's convolutions: one 7x7, or three 3x3."""


class ResNetStem(nn.Module):
    """Convolutions with BatchNorm and ReLU, the first one with stride 2."""

    def __init__(self, in_chans: int, widths: Sequence[int]) -> None:
        super().__init__()
        size = 3 if len(widths) > 1 else 7
        ins = (in_chans, *widths)
        layers = [ConvNormAct(ins[i], width, size, 1 if i else 2) for i, width in enumerate(widths)]
        self.convs = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, C, ceil(H / 2), ceil(W / 2)); on a CPU channels-last memory format."""
        return self.convs(channels_last_on_cpu(x))


class Shortcut(nn.Module):
    """Maps the input of a block to the shape of its output: a 1x1 convolution with BatchNorm.

    Args:
        in_chans: Number of input channels.
        out_chans: Number of output channels.
        stride: 1 or 2.
        pooled: Whether to average 2x2 positions for stride 2 instead of skipping every other position (ResNet-D; He et
            al., "Bag of Tricks for Image Classification", CVPR 2019). At odd borders, the positions that exist are
            averaged.
    """

    def __init__(self, in_chans: int, out_chans: int, stride: int, pooled: bool) -> None:
        super().__init__()
        self.pools = pooled and stride > 1
        self.layer = ConvNormAct(in_chans, out_chans, 1, 1 if self.pools else stride, act_layer=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, out_chans, ceil(H / stride), ceil(W / stride))."""
        if self.pools:
            x = F.avg_pool2d(x, 2, 2, ceil_mode=True)
        return self.layer(x)


class _Residual(nn.Module):
    """Base class of both kinds of blocks: gate the branch, add the shortcut, apply ReLU."""

    def __init__(self, out_chans: int, kernel_size: int | None, shortcut: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.attn = EfficientChannelAttention(out_chans, kernel_size)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.shortcut = shortcut
        self.act = nn.ReLU(inplace=True)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        """Maps the block's input to the input of the gate."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, out_chans, ceil(H / stride), ceil(W / stride))."""
        shortcut, out = self.shortcut(x), self.branch(x)
        if self.training and isinstance(self.drop_path, DropPath):
            return self.act(self.drop_path(self.attn(out)) + shortcut)
        return self.act(self.attn(out, shortcut))


class BasicBlock(_Residual):
    """Two 3x3 convolutions, the first one strided.

    Args:
        in_chans: Number of input channels.
        widths: Number of output channels of each convolution.
        stride: Stride of the block.
        kernel_size: Kernel size of the gate's convolution along the channels; None for the adaptive formula.
        shortcut: Maps the input to the output's shape.
        groups: Must be 1; these blocks have no groups.
        drop_path: Stochastic depth rate.
    """

    def __init__(
        self,
        in_chans: int,
        widths: Sequence[int],
        stride: int,
        kernel_size: int | None,
        shortcut: nn.Module,
        groups: int = 1,
        drop_path: float = 0.0,
    ) -> None:
        first, last = widths
        if groups != 1:
            raise ValueError(f"Blocks of two convolutions have no groups, but groups is {groups}.")
        super().__init__(last, kernel_size, shortcut, drop_path)
        self.conv1 = ConvNormAct(in_chans, first, 3, stride)
        self.conv2 = ConvNormAct(first, last, 3, act_layer=None)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        """Maps the block's input to the input of the gate."""
        return self.conv2(self.conv1(x))

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The last BatchNorm of the branch."""
        return self.conv2.bn


class Bottleneck(_Residual):
    """1x1, 3x3 and 1x1 convolutions; the 3x3 one is strided and grouped.

    Args:
        in_chans: Number of input channels.
        widths: Number of output channels of each convolution.
        stride: Stride of the block.
        kernel_size: Kernel size of the gate's convolution along the channels; None for the adaptive formula.
        shortcut: Maps the input to the output's shape.
        groups: Number of groups of the 3x3 convolution.
        drop_path: Stochastic depth rate.
    """

    def __init__(
        self,
        in_chans: int,
        widths: Sequence[int],
        stride: int,
        kernel_size: int | None,
        shortcut: nn.Module,
        groups: int = 1,
        drop_path: float = 0.0,
    ) -> None:
        first, second, last = widths
        super().__init__(last, kernel_size, shortcut, drop_path)
        self.conv1 = ConvNormAct(in_chans, first)
        self.conv2 = ConvNormAct(first, second, 3, stride, groups=groups)
        self.conv3 = ConvNormAct(second, last, act_layer=None)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        """Maps the block's input to the input of the gate."""
        return self.conv3(self.conv2(self.conv1(x)))

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The last BatchNorm of the branch."""
        return self.conv3.bn


_BLOCKS: dict[str, type[BasicBlock | Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ECAResNet(Backbone):
    """A ResNet whose blocks end with efficient channel attention, before the shortcut is added.

    Initialization as published: convolutions normal with variance 2 / (kernel area * output channels), BatchNorm
    weights 1 and biases 0, gates and classifier as in PyTorch.

    Args:
        depths: Number of blocks of each stage.
        planes: Width of each stage: output channels of basic blocks, a quarter of those of bottlenecks.
        block: "basic" or "bottleneck".
        k_size: Kernel size of the gates: one number for all blocks, or one per stage; None for the adaptive formula of
            the block's output channels.
        stem: "plain" (one 7x7 convolution), "deep" (three 3x3 convolutions with 32, 32, 64 channels) or "tiered" (24,
            32, 64).
        pooled_shortcut: Whether shortcuts of stride 2 average 2x2 positions, as in ResNet-D.
        groups: Number of groups of the bottlenecks' 3x3 convolutions.
        base_width: Channels per group in the first stage, where `planes` is 64.
        widths: Number of output channels of each convolution of each block of each stage, for irregular models;
            overrides `planes`, `groups` and `base_width`. The last number must be equal for all blocks of a stage.
        zero_init_last: Whether the last BatchNorm of each branch starts with zero weights, so that blocks start as
            identities.
        num_classes: Number of classes; 0 for no classifier.
        in_chans: Number of channels of the images.
        global_pool: "avg", "max", or "" for no pooling (requires num_classes=0).
        drop_rate: Dropout rate before the classifier.
        drop_path_rate: Stochastic depth rate of the last block; rates increase linearly from 0.

    Raises:
        ValueError: An argument is out of range or inconsistent with another one.
    """

    stem_is_level = True
    map_layout = "NCHW"

    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 6, 3),
        planes: Sequence[int] = (64, 128, 256, 512),
        block: Literal["basic", "bottleneck"] = "bottleneck",
        k_size: KernelSizes = None,
        *,
        stem: Literal["plain", "deep", "tiered"] = "plain",
        pooled_shortcut: bool = False,
        groups: int = 1,
        base_width: int = 64,
        widths: Sequence[Sequence[Sequence[int]]] | None = None,
        zero_init_last: bool = False,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_choice("block", block, _BLOCKS)
        check_choice("stem", stem, _STEMS)
        for name, value in (("in_chans", in_chans), ("groups", groups), ("base_width", base_width)):
            check_positive(name, value)
        check_positive("num_classes", num_classes, least=0)
        check_rates(drop_rate=drop_rate, drop_path_rate=drop_path_rate)
        check_stages(depths=depths, planes=planes)
        per_block = _regular_widths(depths, planes, block, groups, base_width) if widths is None else widths
        _check_widths(per_block, depths, 2 if block == "basic" else 3)
        sizes = per_stage("k_size", k_size, len(depths))
        rates = drop_path_rates(drop_path_rate, depths)

        self.depths = tuple(depths)
        self.num_classes = num_classes
        self.in_chans = in_chans
        channels = _STEMS[stem][-1]
        self.feature_info = [{"num_chs": channels, "reduction": 2, "module": "stem"}]
        self.stem = ResNetStem(in_chans, _STEMS[stem])
        stages = []
        for index, stage_widths in enumerate(per_block):
            blocks = []
            for place, block_widths in enumerate(stage_widths):
                stride = 2 if index and not place else 1
                out_chans = block_widths[-1]
                shortcut: nn.Module = nn.Identity()
                if stride > 1 or channels != out_chans:
                    shortcut = Shortcut(channels, out_chans, stride, pooled_shortcut)
                rate = rates[index][place]
                blocks.append(_BLOCKS[block](channels, block_widths, stride, sizes[index], shortcut, groups, rate))
                channels = out_chans
            stages.append(Stage(nn.Identity() if index else nn.MaxPool2d(3, 2, 1), blocks))
            self.feature_info.append({"num_chs": channels, "reduction": 4 << index, "module": f"stages.{index}"})
        self.stages = nn.Sequential(*stages)
        self.num_features = self.head_hidden_size = channels
        self.norm = nn.Identity()
        self.head = PooledHead(channels, num_classes, global_pool, drop_rate)
        self._init_weights(zero_init_last)

    def _init_weights(self, zero_init_last: bool) -> None:
        """Initializes the parameters that differ from PyTorch's defaults."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init_last and isinstance(module, (BasicBlock, Bottleneck)):
                nn.init.zeros_(module.last_norm.weight)
        _init_classifier(self.head)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the classifier; 0 classes remove it. None keeps the pooling."""
        super().reset_classifier(num_classes, global_pool)
        _init_classifier(self.head)


@fx_leaf
def channels_last_on_cpu(x: torch.Tensor) -> torch.Tensor:
    """Converts images on a CPU to channels-last, with which convolutions and BatchNorm are fastest there."""
    return channels_last(x) if x.device.type == "cpu" else x


def _init_classifier(head: PooledHead) -> None:
    """Initializes the classifier with PyTorch's defaults, as published."""
    if isinstance(head.fc, nn.Linear):
        head.fc.reset_parameters()


def _regular_widths(
    depths: Sequence[int], planes: Sequence[int], block: str, groups: int, base_width: int
) -> list[list[tuple[int, ...]]]:
    """Returns the number of output channels of each convolution of each block of each stage."""
    found: list[list[tuple[int, ...]]] = []
    for depth, plane in zip(depths, planes, strict=True):
        inner = plane * base_width // 64 * groups
        found.append([(plane, plane) if block == "basic" else (inner, inner, 4 * plane)] * depth)
    return found


def _check_widths(widths: Sequence[Sequence[Sequence[int]]], depths: Sequence[int], convs: int) -> None:
    """Raises a ValueError unless there is one number per convolution and one output width per stage."""
    if [len(stage) for stage in widths] != list(depths):
        raise ValueError(
            f"widths must have one entry per block ({list(depths)} per stage), got {[len(stage) for stage in widths]}."
        )
    for index, stage in enumerate(widths):
        if any(len(block) != convs for block in stage) or len({block[-1] for block in stage}) > 1:
            raise ValueError(
                f"widths[{index}] must have {convs} numbers per block, the last one equal in all, got {list(stage)}."
            )
        for place, block in enumerate(stage):
            for number in block:
                check_positive(f"widths[{index}][{place}]", number)
