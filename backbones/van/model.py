"""The MLP, the block and the model of the VAN family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..common.backbone import Backbone
from ..common.blocks import DropPath, LayerScale, Stage, drop_path_rates
from ..common.checks import check_mlp_ratio, check_positive, check_rates, check_stages
from ..common.conv import apply_nhwc
from ..common.head import PooledHead
from ..common.init import init_conv
from .attention import LargeKernelAttention


class ConvMlp(nn.Module):
    """MLP with a depthwise 3x3 convolution before its activation.

    Args:
        dim: channels.
        hidden: channels between the two 1x1 convolutions.
        drop: dropout after the activation and at the end.
    """

    def __init__(self, dim: int, hidden: int, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()
        self.drop = nn.Dropout(drop)
        self.fc2 = nn.Conv2d(hidden, dim, 1)
        self.apply(init_conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        x = self.drop(self.act(apply_nhwc(self.dwconv, apply_nhwc(self.fc1, x))))
        return self.drop(apply_nhwc(self.fc2, x))


class VANBlock(nn.Module):
    """Large kernel attention and MLP, each behind a batch norm, with a residual connection and a layer scale.

    Args:
        dim: channels.
        mlp_ratio: hidden channels of the MLP over `dim`.
        layer_scale: initial value of the factors a channel on each branch.
        kernel_size: of the attention.
        dilation: of the attention.
        proj_drop: dropout in the MLP.
        drop_path: rate of stochastic depth, the same for both branches.
    """

    def __init__(
        self,
        dim: int,
        mlp_ratio: float,
        layer_scale: float,
        kernel_size: int,
        dilation: int,
        proj_drop: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = LargeKernelAttention(dim, kernel_size=kernel_size, dilation=dilation)
        self.ls1 = LayerScale(dim, layer_scale)
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = ConvMlp(dim, int(dim * mlp_ratio), proj_drop)
        self.ls2 = LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        x = x + self.drop_path(self.ls1(self.attn(apply_nhwc(self.norm1, x))))
        return x + self.drop_path(self.ls2(self.mlp(apply_nhwc(self.norm2, x))))


class Downsample(nn.Module):
    """An overlapping convolution of stride 2, then a batch norm."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(dim)
        init_conv(self.proj)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, in_dim) to (B, ceil(H / 2), ceil(W / 2), dim)."""
        return self.norm(self.proj(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)


class Stem(nn.Module):
    """An overlapping 7x7 convolution of stride 4, then a batch norm."""

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, 7, stride=4, padding=3)
        self.norm = nn.BatchNorm2d(dim)
        init_conv(self.proj)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, ceil(H / 4), ceil(W / 4), dim)."""
        x = x.contiguous(memory_format=torch.channels_last)
        return self.norm(self.proj(x)).permute(0, 2, 3, 1)


class NormedStage(Stage):
    """A stage whose map passes a layer norm on its way to whatever follows."""

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module], dim: int, norm_eps: float) -> None:
        super().__init__(downsample, blocks)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps the output of the stage before to this stage's."""
        return self.norm(super().forward(x))


class VAN(Backbone):
    """Visual attention network.

    Initial values as published: convolutions from a normal of variance 2 / fan-out, the classifier from a truncated
    normal of std 0.02, no biases.

    Args:
        depths: blocks of each stage.
        embed_dims: channels of each stage.
        mlp_ratios: hidden channels of the MLPs over a stage's channels, of each stage.
        kernel_size: side of the attention's large kernel.
        dilation: of its dilated part.
        layer_scale: initial value of a learned factor a channel on each residual branch.
        num_classes: 0 leaves the classifier out.
        in_chans: channels of the images.
        global_pool: "avg", "max" or "" (no pooling, which needs num_classes 0).
        drop_rate: dropout before the classifier.
        proj_drop_rate: dropout in the MLPs.
        drop_path_rate: stochastic depth of the last block; earlier blocks' rates grow linearly from 0.
        norm_eps: of the layer norms that end the stages.

    Raises:
        ValueError: an argument is out of its range, or does not fit another; the message names it.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 3, 5, 2),
        embed_dims: Sequence[int] = (32, 64, 160, 256),
        mlp_ratios: Sequence[float] = (8, 8, 4, 4),
        kernel_size: int = 21,
        dilation: int = 3,
        layer_scale: float = 1e-2,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        check_stages(depths=depths, embed_dims=embed_dims, others={"mlp_ratios": mlp_ratios})
        for index, (mlp_ratio, dim) in enumerate(zip(mlp_ratios, embed_dims, strict=True)):
            check_mlp_ratio(mlp_ratio, dim, f"mlp_ratios[{index}]")
        check_positive("in_chans", in_chans)
        check_rates(proj_drop_rate=proj_drop_rate, drop_path_rate=drop_path_rate)
        rates = drop_path_rates(drop_path_rate, depths)

        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = embed_dims[-1]
        self.feature_info = []
        self.stem = Stem(in_chans, embed_dims[0])
        stages = []
        for index, (depth, dim, mlp_ratio) in enumerate(zip(depths, embed_dims, mlp_ratios, strict=True)):
            lead = Downsample(embed_dims[index - 1], dim) if index else nn.Identity()
            blocks = [
                VANBlock(dim, mlp_ratio, layer_scale, kernel_size, dilation, proj_drop_rate, rates[index][place])
                for place in range(depth)
            ]
            stages.append(NormedStage(lead, blocks, dim, norm_eps))
            self.feature_info.append({"num_chs": dim, "reduction": 4 * 2**index, "module": f"stages.{index}"})
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Identity()  # the last stage's own norm is the final one
        self.head = PooledHead(self.num_features, num_classes, global_pool, drop_rate)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Gives the layer groups in order; a stage's norm comes after its blocks."""
        groups = super().group_matcher(coarse)
        if not coarse:
            groups["blocks"] = [(r"^stages\.(\d+)\.norm", (99999,)), *groups["blocks"]]
        return groups
