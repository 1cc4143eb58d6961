"""Feature pyramid network.

Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017 (arXiv:1612.03144); the further levels of
RetinaNet: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017 (arXiv:1708.02002), section 4. Parameter names
are OpenMMLab's.
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
"""What the first further level may be convolved from."""


class FPN(nn.Module):
    """Brings a backbone's maps to one width and adds what coarser levels know to finer ones.

    A 1x1 convolution on every used level, sums from coarse to fine (nearest neighbour, to the finer map's exact size,
    so that odd sizes work), a 3x3 convolution on every sum. Further coarse levels follow by pooling or by strided
    convolutions.

    Args:
        in_channels: channels of all of the backbone's maps, finest first.
        out_channels: channels of every map made.
        num_outs: how many maps are made.
        start_level: first used map of the backbone.
        end_level: last used map of the backbone, -1 for the last there is.
        add_extra_convs: how levels beyond the backbone's are made. False takes every second pixel of the last map. A
            name makes 3x3 convolutions of stride 2, the first of them on the backbone's last used map ("on_input", also
            True), its 1x1 convolution with the sums ("on_lateral") or the pyramid's last map ("on_output").
        relu_before_extra_convs: whether a ReLU stands before each of these convolutions but the first.

    Raises:
        ValueError: levels that are not there or number less than used, or an unknown `add_extra_convs`.
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
                f"start_level={start_level} and end_level={end_level} do not fit {levels} maps: a neck uses maps "
                f"0 <= start_level <= end_level <= {levels - 1} (or end_level=-1)."
            )
        used = last - start_level + 1
        if num_outs < used:
            raise ValueError(f"num_outs={num_outs}, but {used} maps are used: each of them makes one.")
        if last < levels - 1 and num_outs > used:
            raise ValueError(
                f"num_outs={num_outs} with end_level={end_level}: further levels are made only where the last of the "
                f"{levels} maps is used; give num_outs={used} or end_level=-1."
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
        """Makes the pyramid.

        Args:
            features: all of the backbone's maps (B, in_channels[i], H_i, W_i), finest first.

        Returns:
            `num_outs` maps (B, out_channels, h_i, w_i), finest first.

        Raises:
            ValueError: another number of maps.
        """
        if len(features) != len(self.in_channels):
            raise ValueError(f"The neck has in_channels for {len(self.in_channels)} maps, not for {len(features)}.")
        used = features[self.start_level : self.end_level + 1]
        sums = [conv(one) for conv, one in zip(self.lateral_convs, used, strict=True)]
        for level in range(len(sums) - 1, 0, -1):
            coarser = F.interpolate(sums[level], size=sums[level - 1].shape[2:], mode="nearest")
            sums[level - 1] = sums[level - 1] + coarser
        maps = [self.fpn_convs[level](one) for level, one in enumerate(sums)]
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
