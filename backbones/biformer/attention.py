"""The attention modules of the BiFormer family: bi-level routing attention, and full attention with LePE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from ...kernels import route_regions, routed_attention_2d
from ...names import unknown_name
from ..common.attention import scaled_dot_product_attention
from ..common.checks import check_heads, check_odd, check_positive, to_pair
from ..common.conv import apply_nhwc
from ..common.init import init_linear
from ..common.linear import linear
from ..common.padding import pad_bottom_right

Lepe = Literal["input", "value"] | None
"""Input of the locally enhancing position encoding (LePE) of full attention; None for no LePE."""


class BiLevelRoutingAttention(nn.Module):
    """Multi-head attention of each region of the map to the `topk` regions most similar to it.

    The map is divided into `num_regions` equal regions along each axis. A region's mean query is compared with the mean
    keys of all regions, and its positions attend to the positions of the `topk` best regions. A depthwise convolution
    of the values over the complete map (LePE, locally enhancing position encoding) is added before the output
    projection.

    A map whose sides are not multiples of the number of regions is padded with zeros at the bottom and right. Padded
    positions are not masked: their queries, keys and values are the biases of `qkv`, and they count in the means of
    regions, in LePE and in the softmax, as in the official code for dense prediction.

    The selection of regions is discrete and has no gradient: queries and keys are trained by the attention only.

    Args:
        dim: Number of channels.
        num_heads: Number of attention heads; must divide `dim`.
        num_regions: Number of regions along each axis, or (rows, columns).
        topk: Number of regions that a region attends to; with all of them, this is full attention. (The official code's
            -1 and -2 select another module, see `FullAttention`.)
        qkv_bias: Whether the query, key and value projection has a bias.
        lepe_kernel_size: Kernel size of LePE, odd; 0 for no LePE.
        scale: Scale of the logits; None for dim ** -0.5, which does not depend on the number of heads.
        proj_drop: Dropout rate after the output projection.

    Raises:
        ValueError: An argument is out of range, or there are fewer than `topk` regions.

    Source: "BiFormer: Vision Transformer with Bi-Level Routing Attention", sections 3.2 and 3.3.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_regions: int | Sequence[int] = 7,
        topk: int = 4,
        *,
        qkv_bias: bool = True,
        lepe_kernel_size: int = 5,
        scale: float | None = None,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.num_regions = to_pair("num_regions", num_regions)
        check_topk(topk, self.num_regions)
        self.topk = topk
        self.scale = dim**-0.5 if scale is None else scale
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.lepe = _depthwise(dim, lepe_kernel_size)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.apply(init_linear)

    def _project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Projects a map (B, H, W, C), padded, to queries, keys and values (B, H', W', heads, dim)."""
        rows, cols = self.num_regions
        x = pad_bottom_right(x, -(-x.shape[1] // rows) * rows, -(-x.shape[2] // cols) * cols)
        query, key, value = linear(self.qkv, x).unflatten(-1, (3, self.num_heads, -1)).unbind(3)
        return query, key, value.contiguous()  # LePE needs a contiguous copy, which makes attention faster, too

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        height, width = x.shape[1:3]
        query, key, value = self._project(x)
        routes = route_regions(query, key, self.num_regions, self.topk)
        x = routed_attention_2d(query, key, value, routes, self.num_regions, scale=self.scale).flatten(3)
        if self.lepe is not None:
            x = x + apply_nhwc(self.lepe, value.flatten(3))
        return self.proj_drop(linear(self.proj, x[:, :height, :width]))

    def routes(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the regions that each region of a map attends to.

        Args:
            x: A map (B, H, W, C), as in `forward`.

        Returns:
            (B, rows * columns, topk), int64: for each region, row by row, the indices of the regions that it attends
            to, the most similar first. A region has ceil(H / rows) x ceil(W / columns) positions; the last ones may
            extend beyond the map.
        """
        query, key, _ = self._project(x)
        return route_regions(query, key, self.num_regions, self.topk)

    def extra_repr(self) -> str:
        """Returns the module's arguments for its printed form."""
        return f"num_heads={self.num_heads}, num_regions={self.num_regions}, topk={self.topk}"


class FullAttention(nn.Module):
    """Multi-head attention to the complete map, which the official code selects by topk = -1 and -2.

    Args:
        dim: Number of channels.
        num_heads: Number of attention heads; must divide `dim`.
        qkv_bias: Whether the query, key and value projection has a bias.
        lepe: Input of LePE, a depthwise convolution that is added before the output projection: "input" (the module's
            input), "value", or None for no LePE.
        lepe_kernel_size: Kernel size of LePE, odd.
        proj_drop: Dropout rate after the output projection.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        *,
        qkv_bias: bool = False,
        lepe: Lepe = "input",
        lepe_kernel_size: int = 5,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        if lepe not in ("input", "value", None):
            raise ValueError(unknown_name("lepe", str(lepe), ("input", "value")))
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.lepe_of = lepe
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.lepe = None if lepe is None else _depthwise(dim, lepe_kernel_size)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.apply(init_linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        size = x.shape[1:3]
        qkv = linear(self.qkv, x)
        query, key, value = qkv.flatten(1, 2).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        out = scaled_dot_product_attention(query, key, value, scale=self.scale)
        out = out.transpose(1, 2).flatten(2).unflatten(1, size)
        if self.lepe is not None:
            seen = x if self.lepe_of == "input" else qkv[..., -x.shape[-1] :]
            out = out + apply_nhwc(self.lepe, seen)
        return self.proj_drop(linear(self.proj, out))

    def extra_repr(self) -> str:
        """Returns the module's arguments for its printed form."""
        return f"num_heads={self.num_heads}, lepe_of={self.lepe_of!r}"


def check_topk(topk: int, num_regions: tuple[int, int]) -> None:
    """Raises a ValueError unless `topk` regions can be selected."""
    check_positive("topk", topk)
    rows, cols = num_regions
    if topk > rows * cols:
        raise ValueError(
            f"topk must be at most the number of regions, got {topk} with {rows} x {cols} = {rows * cols} regions. "
            "Decrease topk or increase num_regions."
        )


def _depthwise(dim: int, kernel_size: int) -> nn.Conv2d | None:
    """Builds a depthwise convolution that keeps the size of maps; None for kernel size 0."""
    if kernel_size == 0:
        return None
    check_odd("lepe_kernel_size", kernel_size)
    return nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
