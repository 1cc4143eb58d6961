"""The block and the model of the BiFormer family."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, cast

import torch
from torch import nn

from ..common.backbone import Backbone
from ..common.blocks import DropPath, Stage, add_mlp, drop_path_rates
from ..common.checks import (
    check_choice,
    check_image_size,
    check_mlp_ratio,
    check_rates,
    check_stages,
    per_stage,
    to_pair,
)
from ..common.conv import apply_nhwc, channels_last
from ..common.head import PooledHead
from ..common.init import init_linear
from ..common.linear import Mlp
from .attention import BiLevelRoutingAttention, FullAttention, check_topk

Regions = int | Sequence[int | Sequence[int]]
"""Number of regions along each axis: one for all stages, or one per stage (each a number or (rows, columns))."""


class Routes(NamedTuple):
    """The regions that each region of a block's map attends to.

    Attributes:
        indices: (B, rows * columns, topk), int64: for each region, row by row, the regions that it attends to, the most
            similar first.
        num_regions: (rows, columns).
        region_size: Height and width of a region in image pixels; the last regions may extend beyond the image.
    """

    indices: torch.Tensor
    num_regions: tuple[int, int]
    region_size: tuple[int, int]


class BiFormerBlock(nn.Module):
    """A depthwise convolution as position encoding, attention, and an MLP, each on a residual branch.

    Args:
        dim: Number of channels.
        attn: Attention module, from (B, H, W, C) to the same shape.
        mlp_ratio: Hidden channels of the MLP relative to `dim`.
        pos_embed: Whether to use the position encoding.
        proj_drop: Dropout rate in the MLP.
        drop_path: Stochastic depth rate of the attention and MLP branches.
        norm_eps: Epsilon of the layer norms.
    """

    def __init__(
        self,
        dim: int,
        attn: nn.Module,
        mlp_ratio: float,
        pos_embed: bool,
        proj_drop: float,
        drop_path: float,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.pos_embed = nn.Conv2d(dim, dim, 3, padding=1, groups=dim) if pos_embed else None
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=nn.GELU, drop=proj_drop)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Adds the position encoding to a map (B, H, W, C)."""
        return x if self.pos_embed is None else x + apply_nhwc(self.pos_embed, x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W) to (B, C, H, W) in channels-last memory format."""
        x = self.embed(x.permute(0, 2, 3, 1))
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return add_mlp(self, x).permute(0, 3, 1, 2)


class ConvStem(nn.Module):
    """Two overlapping 3x3 convolutions of stride 2 with batch norms, and a GELU in between."""

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, dim // 2, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(dim // 2)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1)
        self.bn2 = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, dim, ceil(H / 4), ceil(W / 4))."""
        x = self.act(self.bn1(self.conv1(channels_last(x))))
        return self.bn2(self.conv2(x))


class ConvDownsample(nn.Module):
    """An overlapping 3x3 convolution of stride 2, then a batch norm."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_dim, H, W) to (B, dim, ceil(H / 2), ceil(W / 2))."""
        return self.bn(self.conv(x))


class PatchStem(nn.Module):
    """Non-overlapping patches of 4x4 pixels, then a batch norm (STL). Pixels that do not fill a patch are dropped."""

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, dim, 4, stride=4)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, dim, H // 4, W // 4)."""
        return self.bn(self.conv(channels_last(x)))


class PatchMerging(nn.Module):
    """A batch norm, then a convolution of 2x2 patches (STL). The last row or column of an odd map is dropped."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_dim)
        self.conv = nn.Conv2d(in_dim, dim, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_dim, H, W) to (B, dim, H // 2, W // 2)."""
        return self.conv(self.bn(x))


_EMBEDDINGS: dict[str, Any] = {"conv": (ConvStem, ConvDownsample), "patch": (PatchStem, PatchMerging)}


class BiFormer(Backbone):
    """BiFormer: a hierarchical vision transformer with bi-level routing attention.

    Weights are initialized as published: linear layers from a truncated normal with std 0.02 and zero bias,
    convolutions and norms with PyTorch's defaults.

    Args:
        depths: Number of blocks per stage.
        embed_dims: Number of channels per stage.
        num_heads: Number of attention heads per stage; each must divide its stage's channels.
        topks: Number of regions that a region attends to, per stage; -1 for full attention and -2 for full attention
            with LePE, as in the official code. (Full attention scales the logits by the width of a head.)
        num_regions: Number of regions along each axis: one for all stages, or one per stage (each a number or (rows,
            columns)). Weights work with any number.
        mlp_ratio: Hidden channels of the MLPs relative to the stage's channels.
        patches: "conv" (overlapping convolutions) or "patch" (non-overlapping patches, as in Swin-T's layout).
        pos_embed: Whether each block starts with a depthwise 3x3 convolution as position encoding.
        full_lepe: Input of LePE in full attention: "input" (the normalized map) or "value".
        linear_init: "trunc_normal" (std 0.02, zero bias) or "torch" (PyTorch's default, except for the head).
        output_norms: Whether `FeatureMaps` applies a layer norm to each map, as the official backbones for detection
            and segmentation do.
        num_classes: Number of classes; 0 for no classifier.
        in_chans: Number of image channels.
        global_pool: "avg", "max" or "" (no pooling, which requires `num_classes=0`).
        drop_rate: Dropout rate before the classifier.
        proj_drop_rate: Dropout rate after the attention's output projections and in the MLPs.
        drop_path_rate: Stochastic depth rate of the last block; the rates grow linearly from 0.
        norm_eps: Epsilon of the layer norms.

    Raises:
        ValueError: An argument is out of range or inconsistent with another; the message names it.
    """

    map_layout: ClassVar[Literal["NCHW", "NHWC"]] = "NCHW"

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 8, 2),
        embed_dims: Sequence[int] = (64, 128, 256, 512),
        num_heads: Sequence[int] = (2, 4, 8, 8),
        topks: Sequence[int] = (1, 4, 16, -2),
        num_regions: Regions = 7,
        mlp_ratio: float = 3.0,
        *,
        patches: Literal["conv", "patch"] = "conv",
        pos_embed: bool = True,
        full_lepe: Literal["input", "value"] = "input",
        linear_init: Literal["trunc_normal", "torch"] = "trunc_normal",
        output_norms: bool = False,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        check_choice("patches", patches, _EMBEDDINGS)
        check_choice("full_lepe", full_lepe, ("input", "value"))
        check_choice("linear_init", linear_init, ("trunc_normal", "torch"))
        check_rates(proj_drop_rate=proj_drop_rate, drop_path_rate=drop_path_rate)
        check_stages(depths=depths, embed_dims=embed_dims, num_heads=num_heads, others={"topks": topks}, min_dim=2)
        check_mlp_ratio(mlp_ratio, min(embed_dims))
        self.cuts_edges = patches == "patch"
        self.depths, self.patches, self.full_lepe = tuple(depths), patches, full_lepe
        self._set_sizes(num_classes, in_chans, embed_dims[-1])
        self.output_norm = partial(nn.LayerNorm, eps=norm_eps) if output_norms else None
        regions = _regions_per_stage(num_regions, topks)
        rates = drop_path_rates(drop_path_rate, depths)

        def block(stage: int, index: int) -> nn.Module:
            dim, heads, topk = embed_dims[stage], num_heads[stage], topks[stage]
            attn: nn.Module
            if topk > 0:
                attn = BiLevelRoutingAttention(dim, heads, regions[stage], topk, proj_drop=proj_drop_rate)
            else:
                attn = FullAttention(dim, heads, lepe=full_lepe if topk == -2 else None, proj_drop=proj_drop_rate)
            return BiFormerBlock(dim, attn, mlp_ratio, pos_embed, proj_drop_rate, rates[stage][index], norm_eps)

        make_stem, make_downsample = _EMBEDDINGS[patches]
        self.stem = make_stem(in_chans, embed_dims[0])
        self.stages = nn.Sequential()
        for stage, (depth, dim) in enumerate(zip(depths, embed_dims, strict=True)):
            blocks = [block(stage, index) for index in range(depth)]
            downsample = make_downsample(embed_dims[stage - 1], dim) if stage else nn.Identity()
            self._append_stage(Stage(downsample, blocks), dim, 4 * 2**stage)
        self.min_input_size = self.feature_info[-1]["reduction"]
        self.norm = nn.BatchNorm2d(self.num_features)
        self.head = PooledHead(self.num_features, num_classes, global_pool, drop_rate)
        for module in self.stages.modules():
            if linear_init == "trunc_normal":
                init_linear(module)
            elif isinstance(module, nn.Linear):
                module.reset_parameters()

    @torch.no_grad()
    def routes(self, x: torch.Tensor) -> dict[str, Routes]:
        """Returns the regions that the regions of images attend to, for each block with routing.

        Args:
            x: Images (B, in_chans, H, W).

        Returns:
            Routes by name of the block ("stages.0.blocks.0", ...), in order.
        """
        check_image_size(x, self.min_input_size)
        found = {}
        x = self.stem(x)
        for index, stage in enumerate(cast("Sequence[Stage]", self.stages)):
            x = stage.downsample(x)
            stride = self.feature_info[index]["reduction"]
            for place, block in enumerate(cast("Sequence[BiFormerBlock]", stage.blocks)):
                attn = block.attn
                if isinstance(attn, BiLevelRoutingAttention):
                    seen = block.norm1(block.embed(x.permute(0, 2, 3, 1)))
                    rows, cols = attn.num_regions
                    size = (-(-x.shape[2] // rows) * stride, -(-x.shape[3] // cols) * stride)
                    found[f"stages.{index}.blocks.{place}"] = Routes(attn.routes(seen), attn.num_regions, size)
                x = block(x)
        return found


def _regions_per_stage(num_regions: Regions, topks: Sequence[int]) -> list[tuple[int, int]]:
    """Returns the regions of every stage; raises a ValueError if they do not match the stages or `topks`."""
    given = per_stage("num_regions", num_regions, len(topks))
    regions = [to_pair(f"num_regions[{index}]", one) for index, one in enumerate(given)]
    for index, topk in enumerate(topks):
        if topk not in (-1, -2):
            try:
                check_topk(topk, regions[index])
            except ValueError as error:
                raise ValueError(f"topks[{index}]: {error} For full attention, use -2 (with LePE) or -1.") from error
    return regions
