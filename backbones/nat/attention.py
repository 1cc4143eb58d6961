"""The attention modules of the NAT family: neighborhood attention, and attention to the whole map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ...kernels import neighborhood_attention_2d
from ...kernels.tracing import fx_leaf
from ..common.checks import check_heads, check_positive
from ..common.init import init_linear, trunc_normal_
from ..common.linear import linear
from ..common.padding import pad_bottom_right


class NeighborhoodAttention(nn.Module):
    """Multi-head attention of every position to its `kernel_size` x `kernel_size` nearest neighbors.

    A map smaller than kernel_size * dilation is padded with zeros at the bottom and right to that size. Padded
    positions are not masked: their queries, keys and values are the biases of `qkv`.

    Args:
        dim: Number of channels.
        num_heads: Number of attention heads; must divide `dim`.
        kernel_size: Side of the neighborhood, odd or even, >= 2.
        dilation: Distance between neighbors.
        qkv_bias: Whether the query, key and value projection has a bias.
        rel_pos_bias: Whether to learn a relative position bias `rpb` per head.
        proj_drop: Dropout rate after the output projection.

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
        query, key, value = linear(self.qkv, x).unflatten(-1, (3, self.num_heads, -1)).unbind(3)
        x = neighborhood_attention_2d(
            query, key, value, self.kernel_size, dilation=self.dilation, rpb=self.rpb, scale=self.scale
        )
        return self.proj_drop(linear(self.proj, x[:, :height, :width].flatten(3)))

    def extra_repr(self) -> str:
        """Returns the module's arguments for its printed form."""
        return f"num_heads={self.num_heads}, kernel_size={self.kernel_size}, dilation={self.dilation}"


class GlobalAttention(nn.Module):
    """Multi-head attention to the complete map with a learned relative position bias (ViT-rpb).

    It is computed as neighborhood attention whose neighborhood is the map: one fused operation, without a bias matrix
    or an index buffer, and with a deterministic gradient of the table. (`scaled_dot_product_attention` would take its
    slow path, because the bias needs a gradient.) The center of `rpb` is a query's own position, as in
    `NeighborhoodAttention`.

    Along an axis shorter than `table_size`, the inner part of the table is used, with the same offsets. Along a longer
    one, the table is enlarged by bicubic interpolation, as Swin does for larger windows.

    Args:
        dim: Number of channels.
        num_heads: Number of attention heads; must divide `dim`.
        table_size: Side of the map that the bias table covers.
        qkv_bias: Whether the query, key and value projection has a bias.
        proj_drop: Dropout rate after the output projection.
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
        """Returns the relative position biases (heads, 2 * height - 1, 2 * width - 1) of a map."""
        return _bias_table(self.rpb, height, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C), for H and W >= 2."""
        height, width = x.shape[1:3]
        query, key, value = linear(self.qkv, x).unflatten(-1, (3, self.num_heads, -1)).unbind(3)
        rpb = self.bias_table(height, width)
        x = neighborhood_attention_2d(query, key, value, (height, width), rpb=rpb, scale=self.scale)
        return self.proj_drop(linear(self.proj, x.flatten(3)))

    def extra_repr(self) -> str:
        """Returns the module's arguments for its printed form."""
        return f"num_heads={self.num_heads}, table_size={self.table_size}"


@fx_leaf
def _bias_table(rpb: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Returns the part of a bias table (heads, 2 * side - 1, 2 * side - 1) for a map, enlarged where it must be."""
    side = (rpb.shape[1] + 1) // 2
    longer = [max(length, side) for length in (height, width)]
    table = resize_rpb(rpb, (2 * longer[0] - 1, 2 * longer[1] - 1))
    rows, cols = longer[0] - height, longer[1] - width
    return table[:, rows : table.shape[1] - rows, cols : table.shape[2] - cols]


def resize_rpb(rpb: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resizes a bias table (heads, h, w) to (heads, *size) by bicubic interpolation, as Swin does."""
    if tuple(rpb.shape[1:]) == size:
        return rpb
    return F.interpolate(rpb[None].float(), size=size, mode="bicubic", align_corners=False)[0].to(rpb.dtype)
