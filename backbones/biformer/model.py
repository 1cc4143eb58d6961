"""The block and the model of the BiFormer family."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

from ...names import unknown_name
from ..common.layers import (
    Backbone,
    DropPath,
    Mlp,
    PooledHead,
    Stage,
    check_image_size,
    check_positive,
    check_rate,
    drop_path_rates,
    init_linear,
)
from ..common.linear import add_in_pieces_, takes_shortcuts
from .attention import BiLevelRoutingAttention, FullAttention, check_topk, convolve, regions_per_axis

Regions = int | Sequence[int | Sequence[int]]
"""Regions along each axis: one number for all stages, or one a stage (each a number, or (rows, columns))."""


class Routes(NamedTuple):
    """Where the regions of one block's map attend to.

    Attributes:
        indices: (B, rows * columns, topk), int64: for each region, row by row, the regions that it attends to, the most
            similar first.
        num_regions: (rows, columns).
        region_size: height and width of a region in pixels of the image; the last regions may reach beyond it.
    """

    indices: torch.Tensor
    num_regions: tuple[int, int]
    region_size: tuple[int, int]


class Block(nn.Module):
    """A depthwise convolution as position encoding, attention, and an MLP, each on a residual branch.

    Args:
        dim: channels.
        attn: the attention module, (B, H, W, C) to the same.
        mlp_ratio: hidden channels of the MLP over `dim`.
        pos_embed: whether there is the convolution.
        proj_drop: dropout in the MLP.
        drop_path: rate of stochastic depth, the same for the branches of attention and MLP.
        norm_eps: of the layer norms.
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
        return x if self.pos_embed is None else x + convolve(self.pos_embed, x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W) to (B, C, H, W), channels last in memory."""
        x = self.embed(x.permute(0, 2, 3, 1))
        x = x + self.drop_path(self.attn(self.norm1(x)))
        if x.is_contiguous() and takes_shortcuts(self, x):
            x = add_in_pieces_(x, lambda piece: self.mlp(self.norm2(piece)), self.mlp.fc1.out_features)
        else:
            x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x.permute(0, 3, 1, 2)


class ConvStem(nn.Module):
    """Two overlapping 3x3 convolutions of stride 2, each with a batch norm, GELU between them."""

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, dim // 2, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(dim // 2)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1)
        self.bn2 = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, dim, ceil(H / 4), ceil(W / 4))."""
        x = self.act(self.bn1(self.conv1(x.to(memory_format=torch.channels_last))))
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
    """Patches of 4x4 pixels, zero-padded below and on the right, then a batch norm (STL)."""

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, dim, 4, stride=4)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, dim, ceil(H / 4), ceil(W / 4))."""
        return self.bn(self.conv(_pad_to_multiple(x.to(memory_format=torch.channels_last), 4)))


class PatchMerging(nn.Module):
    """A batch norm, then a convolution of 2x2 patches, zero-padded below and on the right (STL)."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_dim)
        self.conv = nn.Conv2d(in_dim, dim, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_dim, H, W) to (B, dim, ceil(H / 2), ceil(W / 2))."""
        return self.conv(_pad_to_multiple(self.bn(x), 2))


def _pad_to_multiple(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Pads a map (B, C, H, W) with zeros, below and on the right, to sides that `factor` divides."""
    rows, cols = -x.shape[2] % factor, -x.shape[3] % factor
    return F.pad(x, (0, cols, 0, rows)) if rows or cols else x


_EMBEDDINGS: dict[str, Any] = {"conv": (ConvStem, ConvDownsample), "patch": (PatchStem, PatchMerging)}
_INITS = ("trunc_normal", "torch")


class BiFormer(Backbone):
    """BiFormer: a hierarchical vision transformer with bi-level routing attention.

    Initial values as published: linear layers from a truncated normal of std 0.02 with zero biases; convolutions and
    norms keep PyTorch's.

    Args:
        depths: blocks of each stage.
        embed_dims: channels of each stage.
        num_heads: attention heads of each stage; must divide its channels.
        topks: of each stage: the number of regions that a region attends to; -1 for full attention and -2 for full
            attention with LePE, as in the official code (no region is chosen there, and the heads' width sets the
            logits' scale).
        num_regions: regions along each axis: one number for all stages, or one a stage (each a number, or (rows,
            columns)). It is in no checkpoint: weights work with any.
        mlp_ratio: hidden channels of the MLPs over a stage's channels.
        patches: "conv" (overlapping convolutions between stages) or "patch" (plain patches, as in Swin-T's layout).
        pos_embed: whether each block begins with a depthwise 3x3 convolution as position encoding.
        full_lepe: what LePE of full attention sees: "input" (the normed map) or "value".
        linear_init: "trunc_normal" (std 0.02, zero biases) or "torch" (PyTorch's own, the head excepted).
        output_norms: whether each map that `FeatureMaps` returns passes a layer norm of its own, as in the official
            backbones for detection and segmentation.
        num_classes: 0 leaves the classifier out.
        in_chans: channels of the images.
        global_pool: "avg", "max" or "" (no pooling, which needs num_classes 0).
        drop_rate: dropout before the classifier.
        proj_drop_rate: dropout after the attention's projections and in the MLPs.
        drop_path_rate: stochastic depth of the last block; earlier blocks' rates grow linearly from 0.
        norm_eps: of every layer norm.

    Raises:
        ValueError: an argument is out of its range, or does not fit another; the message names it.
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
        for name, value, allowed in (
            ("patches", patches, _EMBEDDINGS),
            ("full_lepe", full_lepe, ("input", "value")),
            ("linear_init", linear_init, _INITS),
        ):
            if value not in allowed:
                raise ValueError(unknown_name(name, value, allowed))
        check_positive("in_chans", in_chans)
        check_rate("proj_drop_rate", proj_drop_rate)
        check_rate("drop_path_rate", drop_path_rate)
        _check_stages(depths, embed_dims, num_heads, topks)
        regions = _regions_per_stage(num_regions, topks)
        if not mlp_ratio * min(embed_dims) >= 1:
            raise ValueError(f"mlp_ratio must leave at least one hidden channel, but is {mlp_ratio!r}.")
        rates = drop_path_rates(drop_path_rate, depths)

        self.depths = tuple(depths)
        self.patches = patches
        self.full_lepe = full_lepe
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = embed_dims[-1]
        self.output_norm = partial(nn.LayerNorm, eps=norm_eps) if output_norms else None
        self.feature_info = []

        make_stem, make_downsample = _EMBEDDINGS[patches]
        self.stem = make_stem(in_chans, embed_dims[0])
        stages = []
        for index, (depth, dim, heads) in enumerate(zip(depths, embed_dims, num_heads, strict=True)):
            blocks = []
            for place in range(depth):
                attn: nn.Module
                if topks[index] > 0:
                    attn = BiLevelRoutingAttention(dim, heads, regions[index], topks[index], proj_drop=proj_drop_rate)
                else:
                    lepe = full_lepe if topks[index] == -2 else None
                    attn = FullAttention(dim, heads, lepe=lepe, proj_drop=proj_drop_rate)
                block = Block(dim, attn, mlp_ratio, pos_embed, proj_drop_rate, rates[index][place], norm_eps)
                blocks.append(block)
            lead = make_downsample(embed_dims[index - 1], dim) if index else nn.Identity()
            stages.append(Stage(lead, blocks))
            self.feature_info.append({"num_chs": dim, "reduction": 4 * 2**index, "module": f"stages.{index}"})
        self.stages = nn.Sequential(*stages)
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
        """Says where the regions of images attend to, in each block that routes.

        Args:
            x: images (B, in_chans, H, W).

        Returns:
            The blocks' names ("stages.0.blocks.0", ...), in order, and their routes.
        """
        check_image_size(x, self.min_input_size)
        found = {}
        x = self.stem(x)
        for index, stage in enumerate(cast("Sequence[Stage]", self.stages)):
            x = stage.downsample(x)
            stride = self.feature_info[index]["reduction"]
            for place, block in enumerate(cast("Sequence[Block]", stage.blocks)):
                attn = block.attn
                if isinstance(attn, BiLevelRoutingAttention):
                    seen = block.norm1(block.embed(x.permute(0, 2, 3, 1)))
                    rows, cols = attn.num_regions
                    size = (-(-x.shape[2] // rows) * stride, -(-x.shape[3] // cols) * stride)
                    found[f"stages.{index}.blocks.{place}"] = Routes(attn.routes(seen), attn.num_regions, size)
                x = block(x)
        return found


def _check_stages(
    depths: Sequence[int], embed_dims: Sequence[int], num_heads: Sequence[int], topks: Sequence[int]
) -> None:
    """Raises a ValueError unless all name the same stages, of at least one block each."""
    if not len(depths) or not len(depths) == len(embed_dims) == len(num_heads) == len(topks):
        raise ValueError(
            "depths, embed_dims, num_heads and topks need one number a stage, "
            f"but have {len(depths)}, {len(embed_dims)}, {len(num_heads)} and {len(topks)}."
        )
    for index, (depth, dim, heads) in enumerate(zip(depths, embed_dims, num_heads, strict=True)):
        check_positive(f"depths[{index}]", depth)
        check_positive(f"embed_dims[{index}]", dim, least=2)
        check_positive(f"num_heads[{index}]", heads)
        if dim % heads:
            raise ValueError(f"num_heads[{index}] = {heads} must divide embed_dims[{index}] = {dim}.")


def _regions_per_stage(num_regions: Regions, topks: Sequence[int]) -> list[tuple[int, int]]:
    """Spreads `num_regions` over the stages; raises a ValueError where they do not fit the stages or `topks`."""
    if isinstance(num_regions, int):
        regions = [regions_per_axis(num_regions)] * len(topks)
    elif len(num_regions) != len(topks):
        raise ValueError(
            "num_regions must be one number or one a stage, "
            f"but has {len(num_regions)} entries for {len(topks)} stages."
        )
    else:
        regions = [regions_per_axis(one, f"num_regions[{index}]") for index, one in enumerate(num_regions)]
    for index, topk in enumerate(topks):
        if topk not in (-1, -2):
            try:
                check_topk(topk, regions[index])
            except ValueError as error:
                raise ValueError(f"topks[{index}]: {error} For full attention choose -2 (with LePE) or -1.") from error
    return regions
