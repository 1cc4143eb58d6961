"""The attention modules, the block and the model of the NAT family."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from ...kernels import neighborhood_attention_2d
from ...names import unknown_name
from ..common.blocks import Block
from ..common.layers import (
    Backbone,
    PatchMerging,
    PatchStem,
    PooledHead,
    Stage,
    check_heads,
    check_positive,
    check_rate,
    check_stages,
    drop_path_rates,
    init_linear,
    pad_bottom_right,
    trunc_normal_,
)

Dilations = int | Sequence[int | Sequence[int]] | None
"""One number for all blocks, one a stage, or one list of them a stage with one a block; None is 1."""


class NeighborhoodAttention(nn.Module):
    """Multi-head attention of every position to the `kernel_size` x `kernel_size` positions around it.

    A map smaller than kernel_size * dilation is padded with zeros, below and on the right, to that size. The padded
    positions are real neighbors: their queries, keys and values are the biases of `qkv`.

    Args:
        dim: channels.
        num_heads: must divide `dim`.
        kernel_size: positions that a query sees along each axis, odd or even, at least 2.
        dilation: distance of these positions.
        qkv_bias: whether the layer that makes queries, keys and values has a bias.
        rel_pos_bias: whether a bias by head and relative position, `rpb`, is learned.
        proj_drop: dropout after the output projection.

    Source: "Neighborhood Attention Transformer", section 3; "Dilated Neighborhood Attention Transformer", section 3.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        kernel_size: int = 7,
        dilation: int = 1,
        *,
        qkv_bias: bool = True,
        rel_pos_bias: bool = True,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        check_positive("kernel_size", kernel_size, least=2)
        check_positive("dilation", dilation)
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.rpb = nn.Parameter(torch.empty(num_heads, *[2 * kernel_size - 1] * 2)) if rel_pos_bias else None
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.apply(init_linear)
        if self.rpb is not None:
            trunc_normal_(self.rpb, std=0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        height, width = x.shape[1:3]
        least = self.kernel_size * self.dilation
        x = pad_bottom_right(x, least, least)
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(3)
        x = neighborhood_attention_2d(
            query, key, value, self.kernel_size, dilation=self.dilation, rpb=self.rpb, scale=self.scale
        )
        return self.proj_drop(self.proj(x[:, :height, :width].flatten(3)))

    def extra_repr(self) -> str:
        """Says what printing the module shows."""
        return f"num_heads={self.num_heads}, kernel_size={self.kernel_size}, dilation={self.dilation}"


class GlobalAttention(nn.Module):
    """Multi-head attention of every position to the whole map, with a learned bias by relative position (ViT-rpb).

    This is neighborhood attention whose neighborhood is the map, and so it is computed: one fused operation, no matrix
    of biases, no index buffer, and a deterministic gradient of the table. (`scaled_dot_product_attention` would take
    its slow path, because the bias needs a gradient.) The centre of `rpb` is a query's own position, as in
    `NeighborhoodAttention`.

    Along an axis with fewer positions than the table was made for, the table's inner part is used: the same offsets.
    Along a longer one the table is stretched by bicubic interpolation, as Swin does for larger windows.

    Args:
        dim: channels.
        num_heads: must divide `dim`.
        table_size: positions along each axis of the map that the table is made for.
        qkv_bias: whether the layer that makes queries, keys and values has a bias.
        proj_drop: dropout after the output projection.
    """

    def __init__(
        self, dim: int, num_heads: int, table_size: int = 14, *, qkv_bias: bool = True, proj_drop: float = 0.0
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        check_positive("table_size", table_size, least=2)
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.table_size = table_size
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.rpb = nn.Parameter(torch.empty(num_heads, *[2 * table_size - 1] * 2))
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.apply(init_linear)
        trunc_normal_(self.rpb, std=0.02)

    def bias_table(self, height: int, width: int) -> torch.Tensor:
        """Gives the biases (heads, 2 * height - 1, 2 * width - 1) of a map's relative positions."""
        longer = [max(length, self.table_size) for length in (height, width)]
        table = resize_rpb(self.rpb, (2 * longer[0] - 1, 2 * longer[1] - 1))
        rows, cols = longer[0] - height, longer[1] - width
        return table[:, rows : table.shape[1] - rows, cols : table.shape[2] - cols]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C); H and W at least 2."""
        height, width = x.shape[1:3]
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(3)
        rpb = self.bias_table(height, width)
        x = neighborhood_attention_2d(query, key, value, (height, width), rpb=rpb, scale=self.scale)
        return self.proj_drop(self.proj(x.flatten(3)))

    def extra_repr(self) -> str:
        """Says what printing the module shows."""
        return f"num_heads={self.num_heads}, table_size={self.table_size}"


def resize_rpb(rpb: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resizes a table of biases (heads, h, w) to (heads, *size) by bicubic interpolation, as Swin's are."""
    if tuple(rpb.shape[1:]) == size:
        return rpb
    return F.interpolate(rpb[None].float(), size=size, mode="bicubic", align_corners=False)[0].to(rpb.dtype)


class ConvStem(nn.Module):
    """Two overlapping 3x3 convolutions with nothing between them, then a layer norm (NAT, DiNAT)."""

    def __init__(self, in_chans: int, dim: int, stride: int, norm_eps: float) -> None:
        super().__init__()
        strides = {1: (1, 1), 2: (2, 1), 4: (2, 2)}
        if stride not in strides:
            raise ValueError(f"stem_stride of a convolutional stem must be 1, 2 or 4, but is {stride!r}.")
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
_DOWNSAMPLES = {"conv": ConvDownsample, "merge": PatchMerging, "none": None}
_ATTENTIONS = ("neighborhood", "global")


class NAT(Backbone):
    """Neighborhood attention transformer.

    Initial values as published: linear layers and biases by position from a truncated normal of std 0.02; convolutions
    and norms keep PyTorch's.

    Args:
        depths: blocks of each stage.
        embed_dims: channels of each stage.
        num_heads: attention heads of each stage; must divide its channels.
        kernel_size: positions that a query sees along each axis.
        dilations: distance of these positions: one number for all blocks, one a stage, or a list a stage with one
            number a block; None is 1.
        mlp_ratio: hidden channels of the MLPs over a stage's channels.
        layer_scale: initial value of a learned factor a channel on each residual branch; None for no factors.
        stem: "conv" (two overlapping convolutions) or "patch" (plain patches).
        stem_stride: pixels of a position of the first stage's map, along each axis.
        downsample: between stages: "conv", "merge" (Swin's), or "none" for one resolution throughout.
        attention: "neighborhood" or "global".
        table_size: for global attention, positions along each axis of the map that its biases are made for.
        output_norms: whether each map that `FeatureMaps` returns passes a layer norm of its own, as in the official
            backbones for detection and segmentation.
        num_classes: 0 leaves the classifier out.
        in_chans: channels of the images.
        global_pool: "avg", "max" or "" (no pooling, which needs num_classes 0).
        drop_rate: dropout before the classifier.
        proj_drop_rate: dropout after the attention's projections and in the MLPs.
        drop_path_rate: stochastic depth of the last block; earlier blocks' rates grow linearly from 0.
        qkv_bias: whether the layers that make queries, keys and values have biases.
        norm_eps: of every layer norm.

    Raises:
        ValueError: an argument is out of its range, or does not fit another; the message names it.
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
        check_stages(depths, embed_dims, num_heads, least=2)
        for name, value, allowed in (
            ("stem", stem, _STEMS),
            ("downsample", downsample, _DOWNSAMPLES),
            ("attention", attention, _ATTENTIONS),
        ):
            if value not in allowed:
                raise ValueError(unknown_name(name, value, allowed))
        check_positive("in_chans", in_chans)
        check_rate("proj_drop_rate", proj_drop_rate)
        check_rate("drop_path_rate", drop_path_rate)
        if not mlp_ratio * min(embed_dims) >= 1:
            raise ValueError(f"mlp_ratio must leave at least one hidden channel, but is {mlp_ratio!r}.")
        dilation_lists = _dilations_per_block(dilations, depths)
        rates = drop_path_rates(drop_path_rate, depths)

        self.depths = tuple(depths)
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = embed_dims[-1]
        self.output_norm = partial(nn.LayerNorm, eps=norm_eps) if output_norms else None
        self.is_isotropic = _DOWNSAMPLES[downsample] is None
        self.feature_info = []

        self.stem = _STEMS[stem](in_chans, embed_dims[0], stem_stride, norm_eps)
        stages = []
        stride = stem_stride
        for index, (depth, dim, heads) in enumerate(zip(depths, embed_dims, num_heads, strict=True)):
            lead: nn.Module = nn.Identity()
            if index:
                make_downsample = _DOWNSAMPLES[downsample]
                if make_downsample is not None:
                    lead = make_downsample(embed_dims[index - 1], dim, norm_eps)
                    stride *= 2
                elif dim != embed_dims[index - 1]:
                    raise ValueError(f"embed_dims must be equal where downsample is 'none', but are {embed_dims}.")
            blocks = []
            for place in range(depth):
                shared = {"qkv_bias": qkv_bias, "proj_drop": proj_drop_rate}
                attn: nn.Module
                if attention == "global":
                    attn = GlobalAttention(dim, heads, table_size, **shared)
                else:
                    attn = NeighborhoodAttention(dim, heads, kernel_size, dilation_lists[index][place], **shared)
                block = Block(dim, attn, mlp_ratio, layer_scale, proj_drop_rate, rates[index][place], norm_eps)
                blocks.append(block)
            stages.append(Stage(lead, blocks))
            self.feature_info.append({"num_chs": dim, "reduction": stride, "module": f"stages.{index}"})
        self.stages = nn.Sequential(*stages)
        # Global attention has no neighborhood to pad to, and needs two positions along each axis.
        self.min_input_size = stride * 2 if attention == "global" else stride
        self.norm = nn.LayerNorm(self.num_features, eps=norm_eps)
        self.head = PooledHead(self.num_features, num_classes, global_pool, drop_rate)

    def no_weight_decay(self) -> set[str]:
        """Names the parameters that weight decay leaves alone: the biases by relative position."""
        return {name for name, _ in self.named_parameters() if name.endswith(".rpb")}


def _dilations_per_block(dilations: Dilations, depths: Sequence[int]) -> list[list[int]]:
    """Spreads `dilations` over the blocks; raises a ValueError where the lengths do not fit `depths`."""
    if dilations is None or isinstance(dilations, int):
        dilations = [1 if dilations is None else dilations] * len(depths)
    if len(dilations) != len(depths):
        raise ValueError(f"dilations has {len(dilations)} entries, but depths has {len(depths)} stages.")
    per_block = []
    for index, (stage, depth) in enumerate(zip(dilations, depths, strict=True)):
        values = [stage] * depth if isinstance(stage, int) else list(stage)
        if len(values) != depth:
            raise ValueError(f"dilations[{index}] has {len(values)} entries, but depths[{index}] is {depth}.")
        for place, value in enumerate(values):
            check_positive(f"dilations[{index}][{place}]", value)
        per_block.append(values)
    return per_block
