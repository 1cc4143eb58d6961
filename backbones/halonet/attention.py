"""Replacements for the 3x3 convolution of a bottleneck: halo attention, global attention and lambda layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ...kernels import halo_attention_2d
from ...kernels.tracing import fx_leaf
from ..common.checks import check_heads, check_odd, check_positive
from ..common.init import trunc_normal_
from ..common.linear import linear

__all__ = ["GlobalRelativeAttention", "HaloAttention", "LambdaLayer"]


class HaloAttention(nn.Module):
    """Multi-head attention of blocks of queries to their own block of keys and a halo local it.

    Relative row and column embeddings are multiplied with the unscaled query and shared by all heads. Where a window
    extends beyond the feature map, zero keys and values take part in the softmax, as in timm's published weights.

    With stride 2 and an even block size, every other query of a row and column is used, and relative positions count
    queries rather than pixels, which the published weights require. With an odd block size all queries attend, and the
    output is averaged over 2x2 positions.

    Args:
        dim: Number of input channels.
        num_heads: Number of attention heads; must divide `dim_out`.
        block_size: Side of a block of queries, in positions of the input.
        halo_size: Number of positions that a window extends beyond its block on each side.
        dim_out: Number of output channels; `dim` by default.
        qk_head_dim: Query and key channels per head; equal to the value channels by default.
        stride: 1, or 2 to halve the feature map, rounding up.
        mask_halo: Whether positions outside the feature map are masked.
        qkv_bias: Whether the query, key and value projections have biases.
        proj: Whether to append an output projection. HaloNet has none, because its bottleneck ends with a 1x1
            convolution; in other bodies it mixes the heads.

    Source: Vaswani et al., "Scaling Local Self-Attention for Parameter Efficient Visual Backbones" (CVPR 2021),
    sections 2 and 3.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        block_size: int = 8,
        halo_size: int = 3,
        *,
        dim_out: int | None = None,
        qk_head_dim: int | None = None,
        stride: int = 1,
        mask_halo: bool = False,
        qkv_bias: bool = False,
        proj: bool = False,
    ) -> None:
        super().__init__()
        dim_out = dim if dim_out is None else dim_out
        check_heads(dim_out, num_heads)
        check_positive("block_size", block_size)
        check_positive("halo_size", halo_size, least=0)
        _check_stride(stride)
        self.num_heads = num_heads
        self.block_size = block_size
        self.halo_size = halo_size
        self.mask_halo = mask_halo
        self.qk_head_dim = dim_out // num_heads if qk_head_dim is None else qk_head_dim
        check_positive("qk_head_dim", self.qk_head_dim)
        self.v_head_dim = dim_out // num_heads
        self.scale = self.qk_head_dim**-0.5
        self.pools = stride > 1 and block_size % stride != 0
        self.query_stride = 1 if self.pools else stride
        self.q = nn.Linear(dim, num_heads * self.qk_head_dim, bias=qkv_bias)
        self.kv = nn.Linear(dim, num_heads * (self.qk_head_dim + self.v_head_dim), bias=qkv_bias)
        window = block_size + 2 * halo_size
        self.row_embedding = nn.Parameter(torch.empty(2 * window - 1, self.qk_head_dim))
        self.col_embedding = nn.Parameter(torch.empty(2 * window - 1, self.qk_head_dim))
        self.proj = nn.Linear(dim_out, dim_out) if proj else nn.Identity()
        for layer in (self.q, self.kv, self.proj):
            _init_projection(layer)
        trunc_normal_(self.row_embedding, std=self.scale)
        trunc_normal_(self.col_embedding, std=self.scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, dim) to (B, ceil(H / stride), ceil(W / stride), dim_out), for any H and W."""
        step = self.query_stride
        query = linear(self.q, x[:, ::step, ::step] if step > 1 else x).unflatten(-1, (self.num_heads, -1))
        keys_and_values = linear(self.kv, x).unflatten(-1, (self.num_heads, -1))
        key, value = keys_and_values.split((self.qk_head_dim, self.v_head_dim), dim=-1)
        x = halo_attention_2d(
            query,
            key,
            value,
            self.block_size,
            self.halo_size,
            query_stride=step,
            row_embedding=self.row_embedding,
            col_embedding=self.col_embedding,
            mask_halo=self.mask_halo,
            scale=self.scale,
        ).flatten(3)
        return linear(self.proj, _average_pool(x) if self.pools else x)

    def extra_repr(self) -> str:
        """Returns the arguments shown when the module is printed."""
        stride = 2 if self.pools else self.query_stride
        return f"num_heads={self.num_heads}, block_size={self.block_size}, halo_size={self.halo_size}, stride={stride}"


class GlobalRelativeAttention(nn.Module):
    """Multi-head attention of every position to the entire feature map, with relative row and column embeddings.

    Implemented as halo attention with one block and no halo. timm's module supports a single feature-map size. Here, an
    axis shorter than `table_size` uses the inner part of the embeddings, and a longer one interpolates them linearly.

    Args:
        dim: Number of channels.
        num_heads: Number of attention heads; must divide `dim`.
        table_size: Side of the feature map that the embeddings are built for.
        stride: 1, or 2 to average the output over 2x2 positions.
        qkv_bias: Whether the query, key and value projection has a bias.

    Source: Srinivas et al., "Bottleneck Transformers for Visual Recognition" (CVPR 2021), section 3.
    """

    def __init__(self, dim: int, num_heads: int, table_size: int, *, stride: int = 1, qkv_bias: bool = False) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        check_positive("table_size", table_size)
        _check_stride(stride)
        self.num_heads = num_heads
        self.table_size = table_size
        self.scale = (dim // num_heads) ** -0.5
        self.pools = stride > 1
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.row_embedding = nn.Parameter(torch.empty(2 * table_size - 1, dim // num_heads))
        self.col_embedding = nn.Parameter(torch.empty(2 * table_size - 1, dim // num_heads))
        _init_projection(self.qkv)
        trunc_normal_(self.row_embedding, std=self.scale)
        trunc_normal_(self.col_embedding, std=self.scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, ceil(H / stride), ceil(W / stride), C), for any H and W."""
        query, key, value = linear(self.qkv, x).unflatten(-1, (3, self.num_heads, -1)).unbind(3)
        rows, cols = _at_least(x.shape[1], self.table_size), _at_least(x.shape[2], self.table_size)
        x = halo_attention_2d(
            query,
            key,
            value,
            (rows, cols),
            0,
            row_embedding=_resize_embedding(self.row_embedding, 2 * rows - 1),
            col_embedding=_resize_embedding(self.col_embedding, 2 * cols - 1),
            scale=self.scale,
        ).flatten(3)
        return _average_pool(x) if self.pools else x

    def extra_repr(self) -> str:
        """Returns the arguments shown when the module is printed."""
        return f"num_heads={self.num_heads}, table_size={self.table_size}"


class LambdaLayer(nn.Module):
    """Applies linear functions (lambdas) to each query: one from the entire feature map, one from its neighborhood.

    Keys, with a single head, are normalized over the feature map; together with the values they form one matrix (K, V)
    for all queries. A convolution of the values adds one matrix per position. Nothing is quadratic in the number of
    positions.

    Args:
        dim: Number of channels.
        num_heads: Number of query heads; must divide `dim`.
        kernel_size: Kernel size of the convolution, odd.
        qk_dim: Number of channels K per query head and of the keys.
        stride: 1, or 2 to average the output over 2x2 positions.

    Source: Bello, "LambdaNetworks: Modeling Long-Range Interactions Without Attention" (ICLR 2021), section 3, with
    intra-depth 1, as timm has it.
    """

    def __init__(self, dim: int, num_heads: int, kernel_size: int = 9, *, qk_dim: int = 16, stride: int = 1) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        check_odd("kernel_size", kernel_size)
        check_positive("qk_dim", qk_dim)
        _check_stride(stride)
        self.num_heads = num_heads
        self.qk_dim = qk_dim
        self.v_dim = dim // num_heads
        self.pools = stride > 1
        self.qkv = nn.Linear(dim, num_heads * qk_dim + qk_dim + self.v_dim, bias=False)
        self.norm_q = nn.BatchNorm2d(num_heads * qk_dim)
        self.norm_v = nn.BatchNorm2d(self.v_dim)
        self.conv_lambda = nn.Conv2d(1, qk_dim, kernel_size, padding=kernel_size // 2)
        _init_projection(self.qkv)
        trunc_normal_(self.conv_lambda.weight, std=qk_dim**-0.5)
        nn.init.zeros_(self.conv_lambda.bias) if self.conv_lambda.bias is not None else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, ceil(H / stride), ceil(W / stride), C), for any H and W."""
        batch, height, width, _ = x.shape
        sizes = (self.num_heads * self.qk_dim, self.qk_dim, self.v_dim)
        query, key, value = linear(self.qkv, x).permute(0, 3, 1, 2).split(sizes, dim=1)
        query = self.norm_q(query).reshape(batch, self.num_heads, self.qk_dim, height * width)
        value = self.norm_v(value)
        local = self.conv_lambda(value.reshape(batch * self.v_dim, 1, height, width))
        local = local.reshape(batch, self.v_dim, self.qk_dim, height * width)
        value = value.reshape(batch, self.v_dim, height * width)
        global_lambda = value @ key.flatten(2).softmax(dim=-1).mT  # (B, V, K)
        x = global_lambda[:, None] @ query + torch.einsum("bhkm,bvkm->bhvm", query, local)
        x = x.reshape(batch, -1, height, width).permute(0, 2, 3, 1)
        return _average_pool(x) if self.pools else x

    def extra_repr(self) -> str:
        """Returns the arguments shown when the module is printed."""
        return f"num_heads={self.num_heads}, qk_dim={self.qk_dim}"


def _check_stride(stride: int) -> None:
    """Raises a ValueError unless the stride is 1 or 2."""
    if stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2, got {stride!r}.")


def _init_projection(layer: nn.Module) -> None:
    """Initializes a linear layer as published: truncated normal of std fan_in ** -0.5, zero bias."""
    if isinstance(layer, nn.Linear):
        trunc_normal_(layer.weight, std=layer.in_features**-0.5)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _average_pool(x: torch.Tensor) -> torch.Tensor:
    """Averages (B, H, W, C) over 2x2 positions; at odd borders over the positions that exist."""
    x = F.avg_pool2d(x.permute(0, 3, 1, 2), 2, ceil_mode=True, count_include_pad=False)
    return x.permute(0, 2, 3, 1)


@fx_leaf
def _at_least(length: int, least: int) -> int:
    """Returns the larger one."""
    return max(length, least)


@fx_leaf
def _resize_embedding(embedding: torch.Tensor, length: int) -> torch.Tensor:
    """Resizes embeddings (offsets, dim) to (length, dim) by linear interpolation that keeps the outermost offsets."""
    if len(embedding) == length:
        return embedding
    return F.interpolate(embedding.float().mT[None], size=length, mode="linear", align_corners=True)[0].mT.to(
        embedding.dtype
    )
