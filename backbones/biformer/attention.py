"""The attention modules of the BiFormer family: bi-level routing attention, and full attention with LePE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from ...kernels import route_regions, routed_attention_2d
from ...names import unknown_name
from ..common.checks import check_heads, check_odd, check_positive, to_pair
from ..common.conv import apply_nhwc
from ..common.init import init_linear
from ..common.linear import linear
from ..common.padding import pad_bottom_right

Lepe = Literal["input", "value"] | None
"""What the locally enhancing position encoding of full attention is computed of; None for none."""


class BiLevelRoutingAttention(nn.Module):
    """Multi-head attention of each region of the map to the `topk` regions that resemble it most.

    The map is cut into `num_regions` equal regions along each axis. The mean query of a region is compared with the
    mean keys of all regions, and its positions attend to the positions of the `topk` best ones. A depthwise convolution
    of the values over the whole map (LePE, locally enhancing position encoding) is added before the output projection.

    A map whose sides are no multiples of the number of regions is padded with zeros, below and on the right. The padded
    positions are real ones: their queries, keys and values are the biases of `qkv`, and they take part in the regions'
    means, in LePE and, unmasked, in the softmax. That is how the official code pads for dense prediction.

    The choice of regions is discrete and has no gradient: queries and keys learn from attention alone.

    Args:
        dim: channels.
        num_heads: must divide `dim`.
        num_regions: along each axis, or (rows, columns).
        topk: regions that a region attends to, 1 up to all of them; with all of them this is full attention. (The
            official code's -1 and -2 name another module, see `FullAttention`.)
        qkv_bias: whether the layer that makes queries, keys and values has a bias.
        lepe_kernel_size: side of the depthwise convolution's kernel, odd; 0 for no LePE.
        scale: of the logits; None for dim ** -0.5. Note that it is not the heads' width that counts.
        proj_drop: dropout after the output projection.

    Raises:
        ValueError: an argument is out of its range, or there are fewer than `topk` regions.

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
        """Makes queries, keys and values (B, H', W', heads, dim) of a map (B, H, W, C) and its padding."""
        rows, cols = self.num_regions
        x = pad_bottom_right(x, -(-x.shape[1] // rows) * rows, -(-x.shape[2] // cols) * cols)
        query, key, value = linear(self.qkv, x).unflatten(-1, (3, self.num_heads, -1)).unbind(3)
        return query, key, value.contiguous()  # LePE needs the copy, and attention is the faster for it

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
        """Says where the regions of a map attend to.

        Args:
            x: a map (B, H, W, C), as `forward` takes it.

        Returns:
            For each region (row by row) the indices of the `topk` regions that it attends to, the most similar first:
            (B, rows * columns, topk), int64. A region is ceil(H / rows) x ceil(W / columns) positions; the last ones
            may reach beyond the map.
        """
        query, key, _ = self._project(x)
        return route_regions(query, key, self.num_regions, self.topk)

    def extra_repr(self) -> str:
        """Says what printing the module shows."""
        return f"num_heads={self.num_heads}, num_regions={self.num_regions}, topk={self.topk}"


class FullAttention(nn.Module):
    """Multi-head attention of every position to the whole map; what the official code means by topk = -1 and -2.

    Args:
        dim: channels.
        num_heads: must divide `dim`.
        qkv_bias: whether the layer that makes queries, keys and values has a bias.
        lepe: what the depthwise convolution that is added before the output projection sees: "input" (the map that the
            module is given), "value", or None for no such convolution.
        lepe_kernel_size: side of its kernel, odd.
        proj_drop: dropout after the output projection.
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
        out = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
        out = out.transpose(1, 2).flatten(2).unflatten(1, size)
        if self.lepe is not None:
            seen = x if self.lepe_of == "input" else qkv[..., -x.shape[-1] :]
            out = out + apply_nhwc(self.lepe, seen)
        return self.proj_drop(linear(self.proj, out))

    def extra_repr(self) -> str:
        """Says what printing the module shows."""
        return f"num_heads={self.num_heads}, lepe_of={self.lepe_of!r}"


def check_topk(topk: int, num_regions: tuple[int, int]) -> None:
    """Raises a ValueError unless `topk` regions can be chosen."""
    check_positive("topk", topk)
    rows, cols = num_regions
    if topk > rows * cols:
        raise ValueError(
            f"topk must be at most the number of regions, but is {topk} of {rows} x {cols} = {rows * cols} regions: "
            "choose fewer, or more regions with num_regions."
        )


def _depthwise(dim: int, kernel_size: int) -> nn.Conv2d | None:
    """Makes a depthwise convolution that keeps a map's size; None for a kernel of size 0."""
    if kernel_size == 0:
        return None
    check_odd("lepe_kernel_size", kernel_size)
    return nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
