"""Feature pyramid network.

Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017 (arXiv:1612.03144). Extra levels as in RetinaNet:
Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017 (arXiv:1708.02002), section 4. Parameter names match
OpenMMLab's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from ..names import unknown_name
from .conv_module import ConvModule

EXTRA = ("on_input", "on_lateral", "on_output")
"""Inputs that the first extra level can be computed from."""


class FPN(nn.Module):
    """Projects a backbone's feature maps to one width and adds coarse, semantic features to the finer levels.

    Every used level has a 1x1 lateral convolution. Levels are added from coarse to fine, with nearest-neighbor
    upsampling to the finer map's exact size, so odd sizes work, and a 3x3 convolution follows each sum. Extra coarse
    levels come from pooling or strided convolutions.

    Args:
        in_channels: Number of channels of each of the backbone's feature maps, finest first.
        out_channels: Number of channels of each output.
        num_outs: Number of output feature maps.
        start_level: Index of the first feature map that is used.
        end_level: Index of the last feature map that is used; -1 for the last one.
        add_extra_convs: How levels beyond the backbone's are computed. False subsamples the last output by 2. A name
            applies 3x3 convolutions of stride 2, the first one to the backbone's last used feature map ("on_input",
            also True), to its lateral sum ("on_lateral") or to the last output ("on_output").
        relu_before_extra_convs: Whether a ReLU precedes each of these convolutions except the first.

    Raises:
        ValueError: A level does not exist, num_outs is smaller than the number of used levels, or `add_extra_convs` is
            unknown.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_outs: int = 5,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | Literal["on_input", "on_lateral", "on_output"] = False,
        relu_before_extra_convs: bool = False,
    ) -> None:
        super().__init__()
        if add_extra_convs not in (True, False, *EXTRA):
            raise ValueError(unknown_name("add_extra_convs", str(add_extra_convs), EXTRA))
        levels = len(in_channels)
        last = levels - 1 if end_level == -1 else end_level
        if not 0 <= start_level <= last < levels:
            raise ValueError(
                f"start_level and end_level must satisfy 0 <= start_level <= end_level <= {levels - 1} "
                f"(or end_level=-1) for {levels} feature maps, got start_level={start_level} and end_level={end_level}."
            )
        used = last - start_level + 1
        if num_outs < used:
            raise ValueError(
                f"num_outs must be >= the number of used feature maps, got num_outs={num_outs} for {used} maps."
            )
        if last < levels - 1 and num_outs > used:
            raise ValueError(
                f"Extra levels need the last of the {levels} feature maps, got num_outs={num_outs} with "
                f"end_level={end_level}. Set num_outs={used} or end_level=-1."
            )
        self.in_channels = tuple(in_channels)
        self.out_channels = out_channels
        self.num_outs = num_outs
        self.start_level = start_level
        self.end_level = last
        self.add_extra_convs = "on_input" if add_extra_convs is True else (add_extra_convs or None)
        self.relu_before_extra_convs = relu_before_extra_convs

        self.lateral_convs = nn.ModuleList(
            ConvModule(channels, out_channels, 1, act=False) for channels in in_channels[start_level : last + 1]
        )
        self.fpn_convs = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, padding=1, act=False) for _ in range(used)
        )
        if self.add_extra_convs:
            for index in range(num_outs - used):
                on_input = index == 0 and self.add_extra_convs == "on_input"
                channels = in_channels[last] if on_input else out_channels
                self.fpn_convs.append(ConvModule(channels, out_channels, 3, stride=2, padding=1, act=False))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Computes the pyramid.

        Args:
            features: All of the backbone's feature maps (B, in_channels[i], H_i, W_i), finest first.

        Returns:
            `num_outs` feature maps (B, out_channels, h_i, w_i), finest first.

        Raises:
            ValueError: The number of feature maps differs from `in_channels`.
        """
        if len(features) != len(self.in_channels):
            raise ValueError(f"Expected {len(self.in_channels)} feature maps (in_channels), got {len(features)}.")
        used = features[self.start_level : self.end_level + 1]
        sums = [conv(feature) for conv, feature in zip(self.lateral_convs, used, strict=True)]
        for level in range(len(sums) - 1, 0, -1):
            coarser = F.interpolate(sums[level], size=sums[level - 1].shape[2:], mode="nearest")
            sums[level - 1] = sums[level - 1] + coarser
        maps = [self.fpn_convs[level](x) for level, x in enumerate(sums)]
        if self.add_extra_convs is None:
            while len(maps) < self.num_outs:
                maps.append(F.max_pool2d(maps[-1], 1, stride=2))
            return maps
        sources = {"on_input": used[-1], "on_lateral": sums[-1], "on_output": maps[-1]}
        source = sources[self.add_extra_convs]
        for level in range(len(sums), self.num_outs):
            if level > len(sums) and self.relu_before_extra_convs:
                source = source.relu()
            source = self.fpn_convs[level](source)
            maps.append(source)
        return maps
