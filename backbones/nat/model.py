"""The stem, the downsampling and the model of the NAT family."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from ..common.backbone import Backbone
from ..common.blocks import PatchMerging, PatchStem, Stage, TransformerBlock, drop_path_rates
from ..common.checks import check_choice, check_mlp_ratio, check_positive, check_rates, check_stages, per_stage
from ..common.head import PooledHead
from .attention import GlobalAttention, NeighborhoodAttention

Dilations = int | Sequence[int | Sequence[int]] | None
"""One dilation for all blocks, one per stage, or a list per stage with one per block; None means 1."""


class ConvStem(nn.Module):
    """Two overlapping 3x3 convolutions without an activation, then a layer norm (NAT, DiNAT)."""

    def __init__(self, in_chans: int, dim: int, stride: int, norm_eps: float) -> None:
        super().__init__()
        strides = {1: (1, 1), 2: (2, 1), 4: (2, 2)}
        if stride not in strides:
            raise ValueError(f"stem_stride of a convolutional stem must be 1, 2 or 4, got {stride!r}.")
        first, second = strides[stride]
        self.convs = nn.Sequential(
            nn.Conv2d(in_chans, dim // 2, 3, stride=first, padding=1),
            nn.Conv2d(dim // 2, dim, 3, stride=second, padding=1),
        )
        self.norm = nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, ceil(H / stride), ceil(W / stride), dim)."""
        return self.norm(self.convs(x).permute(0, 2, 3, 1))


class ConvDownsample(nn.Module):
    """An overlapping 3x3 convolution of stride 2 without bias, then a layer norm (NAT, DiNAT)."""

    def __init__(self, in_dim: int, dim: int, norm_eps: float) -> None:
        super().__init__()
        self.reduction = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1, bias=False)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, in_dim) to (B, ceil(H / 2), ceil(W / 2), dim)."""
        return self.norm(self.reduction(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


_STEMS = {"conv": ConvStem, "patch": PatchStem}
_DOWNSAMPLES = {"conv": ConvDownsample, "merge": PatchMerging, "none": nn.Identity}
_ATTENTIONS = ("neighborhood", "global")


class NAT(Backbone):
    """Neighborhood attention transformer.

    Weights are initialized as published: linear layers and relative position biases from a truncated normal with std
    0.02, convolutions and norms with PyTorch's defaults.

    Args:
        depths: Number of blocks per stage.
        embed_dims: Number of channels per stage.
        num_heads: Number of attention heads per stage; each must divide its stage's channels.
        kernel_size: Side of the neighborhoods.
        dilations: Dilation of the neighborhoods: one for all blocks, one per stage, or a list per stage with one per
            block; None means 1.
        mlp_ratio: Hidden channels of the MLPs relative to the stage's channels.
        layer_scale: Initial value of a learned factor per channel on each residual branch; None for no factors.
        stem: "conv" (two overlapping convolutions) or "patch" (non-overlapping patches).
        stem_stride: Stride of the stem in pixels.
        downsample: Downsampling between stages: "conv", "merge" (Swin's), or "none" for a single resolution.
        attention: "neighborhood" or "global".
        table_size: Side of the map that the bias tables of global attention cover.
        output_norms: Whether `FeatureMaps` applies a layer norm to each map, as the official backbones for detection
            and segmentation do.
        num_classes: Number of classes; 0 for no classifier.
        in_chans: Number of image channels.
        global_pool: "avg", "max" or "" (no pooling, which requires `num_classes=0`).
        drop_rate: Dropout rate before the classifier.
        proj_drop_rate: Dropout rate after the attention's output projections and in the MLPs.
        drop_path_rate: Stochastic depth rate of the last block; the rates grow linearly from 0.
        qkv_bias: Whether the query, key and value projections have biases.
        norm_eps: Epsilon of the layer norms.

    Raises:
        ValueError: An argument is out of range or inconsistent with another; the message names it.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 6, 5),
        embed_dims: Sequence[int] = (64, 128, 256, 512),
        num_heads: Sequence[int] = (2, 4, 8, 16),
        kernel_size: int = 7,
        dilations: Dilations = None,
        mlp_ratio: float = 3.0,
        layer_scale: float | None = None,
        *,
        stem: Literal["conv", "patch"] = "conv",
        stem_stride: int = 4,
        downsample: Literal["conv", "merge", "none"] = "conv",
        attention: Literal["neighborhood", "global"] = "neighborhood",
        table_size: int = 14,
        output_norms: bool = False,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        qkv_bias: bool = True,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        check_stages(depths=depths, embed_dims=embed_dims, num_heads=num_heads, min_dim=2)
        check_choice("stem", stem, _STEMS)
        check_choice("downsample", downsample, _DOWNSAMPLES)
        check_rates(proj_drop_rate=proj_drop_rate, drop_path_rate=drop_path_rate)
        check_mlp_ratio(mlp_ratio, min(embed_dims))
        self.is_isotropic = downsample == "none"
        if self.is_isotropic and len(set(embed_dims)) > 1:
            raise ValueError(f"embed_dims must all be equal if downsample is 'none', got {embed_dims}.")
        self.depths = tuple(depths)
        self._set_sizes(num_classes, in_chans, embed_dims[-1])
        self.output_norm = partial(nn.LayerNorm, eps=norm_eps) if output_norms else None
        dilation_lists = _dilations_per_block(dilations, depths)
        rates = drop_path_rates(drop_path_rate, depths)
        options: dict[str, Any] = {"qkv_bias": qkv_bias, "proj_drop": proj_drop_rate}

        def block(stage: int, index: int) -> nn.Module:
            dim, heads = embed_dims[stage], num_heads[stage]
            attn = _attention(attention, dim, heads, kernel_size, dilation_lists[stage][index], table_size, **options)
            rate, scale = rates[stage][index], layer_scale
            return TransformerBlock(
                dim, attn, mlp_ratio, layer_scale=scale, proj_drop=proj_drop_rate, drop_path=rate, norm_eps=norm_eps
            )

        self.stem = _STEMS[stem](in_chans, embed_dims[0], stem_stride, norm_eps)
        self.stages = nn.Sequential()
        for stage, (depth, dim) in enumerate(zip(depths, embed_dims, strict=True)):
            make_downsample = _DOWNSAMPLES[downsample] if stage else nn.Identity
            stride = stem_stride if self.is_isotropic else stem_stride * 2**stage
            lead = make_downsample(embed_dims[stage - 1], dim, norm_eps)
            self._append_stage(Stage(lead, [block(stage, index) for index in range(depth)]), dim, stride)
        # Global attention has no neighborhood to pad to, and needs two positions along each axis.
        self.min_input_size = self.feature_info[-1]["reduction"] * (2 if attention == "global" else 1)
        self.norm = nn.LayerNorm(self.num_features, eps=norm_eps)
        self.head = PooledHead(self.num_features, num_classes, global_pool, drop_rate)

    def no_weight_decay(self) -> set[str]:
        """Returns the names of the parameters without weight decay: the relative position biases."""
        return {name for name, _ in self.named_parameters() if name.endswith(".rpb")}


def _attention(
    kind: str, dim: int, heads: int, kernel_size: int, dilation: int, table_size: int, **options: Any
) -> nn.Module:
    """Builds the attention module of a block, "neighborhood" or "global"."""
    check_choice("attention", kind, _ATTENTIONS)
    if kind == "global":
        return GlobalAttention(dim, heads, table_size, **options)
    return NeighborhoodAttention(dim, heads, kernel_size, dilation, **options)


def _dilations_per_block(dilations: Dilations, depths: Sequence[int]) -> list[list[int]]:
    """Returns the dilation of every block; raises a ValueError if `dilations` does not match `depths`."""
    per_block = []
    for index, (stage, depth) in enumerate(zip(per_stage("dilations", dilations, len(depths)), depths, strict=True)):
        values = [1 if stage is None else stage] * depth if stage is None or isinstance(stage, int) else list(stage)
        if len(values) != depth:
            raise ValueError(f"dilations[{index}] must have one entry per block, got {len(values)} for {depth} blocks.")
        for place, value in enumerate(values):
            check_positive(f"dilations[{index}][{place}]", value)
        per_block.append(values)
    return per_block
