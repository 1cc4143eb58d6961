"""The MLP, the block and the model of the VAN family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..common.backbone import Backbone
from ..common.blocks import DropPath, LayerScale, Stage, drop_path_rates
from ..common.checks import check_mlp_ratio, check_rates, check_stages
from ..common.conv import apply_nhwc, channels_last
from ..common.head import PooledHead
from ..common.init import init_conv
from .attention import LargeKernelAttention


class ConvMlp(nn.Module):
    """MLP with a depthwise 3x3 convolution before its activation.

    Args:
        dim: Number of channels.
        hidden: Number of hidden channels.
        drop: Dropout rate after the activation and at the end.
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
    """Large kernel attention and an MLP, each on a residual branch with a batch norm and a layer scale.

    Args:
        dim: Number of channels.
        mlp_ratio: Hidden channels of the MLP relative to `dim`.
        layer_scale: Initial value of the learned factor per channel on each branch.
        kernel_size: Kernel size of the attention.
        dilation: Dilation of the attention.
        proj_drop: Dropout rate in the MLP.
        drop_path: Stochastic depth rate of both branches.
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
        x = channels_last(x)
        return self.norm(self.proj(x)).permute(0, 2, 3, 1)


class NormedStage(Stage):
    """A stage that ends with a layer norm."""

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module], dim: int, norm_eps: float) -> None:
        super().__init__(downsample, blocks)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps the previous stage's map to this stage's map."""
        return self.norm(super().forward(x))


class VAN(Backbone):
    """Visual attention network.

    Weights are initialized as published: convolutions from a normal with variance 2 / fan-out, the classifier from a
    truncated normal with std 0.02, and zero biases.

    Args:
        depths: Number of blocks per stage.
        embed_dims: Number of channels per stage.
        mlp_ratios: Hidden channels of the MLPs relative to the stage's channels, per stage.
        kernel_size: Size of the large kernel.
        dilation: Dilation of the attention's dilated convolution.
        layer_scale: Initial value of a learned factor per channel on each residual branch.
        num_classes: Number of classes; 0 for no classifier.
        in_chans: Number of image channels.
        global_pool: "avg", "max" or "" (no pooling, which requires `num_classes=0`).
        drop_rate: Dropout rate before the classifier.
        proj_drop_rate: Dropout rate in the MLPs.
        drop_path_rate: Stochastic depth rate of the last block; the rates grow linearly from 0.
        norm_eps: Epsilon of the layer norms that end the stages.

    Raises:
        ValueError: An argument is out of range or inconsistent with another; the message names it.
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
        check_rates(proj_drop_rate=proj_drop_rate, drop_path_rate=drop_path_rate)
        rates = drop_path_rates(drop_path_rate, depths)

        self._set_sizes(num_classes, in_chans, embed_dims[-1])
        self.stem = Stem(in_chans, embed_dims[0])
        self.stages = nn.Sequential()
        for stage, (depth, dim, mlp_ratio) in enumerate(zip(depths, embed_dims, mlp_ratios, strict=True)):
            lead = Downsample(embed_dims[stage - 1], dim) if stage else nn.Identity()
            blocks = [
                VANBlock(dim, mlp_ratio, layer_scale, kernel_size, dilation, proj_drop_rate, rates[stage][index])
                for index in range(depth)
            ]
            self._append_stage(NormedStage(lead, blocks, dim, norm_eps), dim, 4 * 2**stage)
        self.norm = nn.Identity()  # the norm of the last stage is the final norm
        self.head = PooledHead(self.num_features, num_classes, global_pool, drop_rate)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Returns the layer groups in order; the norm of a stage follows its blocks."""
        groups = super().group_matcher(coarse)
        if not coarse:
            groups["blocks"] = [(r"^stages\.(\d+)\.norm", (99999,)), *groups["blocks"]]
        return groups
