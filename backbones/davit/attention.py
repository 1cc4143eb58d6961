"""The attention modules of the DaViT family: attention in windows, and attention between channels."""

from __future__ import annotations

import torch
from torch import nn

from ...kernels import window_attention_2d
from ..common.checks import check_heads, check_positive
from ..common.init import init_linear
from ..common.linear import linear
from ..common.padding import pad_bottom_right


class WindowAttention(nn.Module):
    """Multi-head attention in non-overlapping windows, without shift or position bias.

    A map whose sides are not multiples of the window size is padded with zeros at the bottom and right. Padded
    positions are not masked: their queries, keys and values are the biases of `qkv`.

    Args:
        dim: Number of channels.
        num_heads: Number of attention heads; must divide `dim`.
        window_size: Height and width of a window in positions.
        qkv_bias: Whether the query, key and value projection has a bias.
        proj_drop: Dropout rate after the output projection.

    Source: Ding et al., "DaViT" (ECCV 2022), section 3.2.
    """

    def __init__(
        self, dim: int, num_heads: int, window_size: int = 7, qkv_bias: bool = True, proj_drop: float = 0.0
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        check_positive("window_size", window_size)
        self.num_heads = num_heads
        self.window_size = window_size
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.apply(init_linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        height, width = x.shape[1:3]
        size = self.window_size
        x = pad_bottom_right(x, height + -height % size, width + -width % size)
        query, key, value = linear(self.qkv, x).unflatten(-1, (3, self.num_heads, -1)).unbind(3)
        x = window_attention_2d(query, key, value, size, scale=self.scale).flatten(3)
        return self.proj_drop(linear(self.proj, x[:, :height, :width]))

    def extra_repr(self) -> str:
        """Returns the module's arguments for its printed form."""
        return f"num_heads={self.num_heads}, window_size={self.window_size}"


class ChannelAttention(nn.Module):
    """Attention between the channels of each group, over all positions of the map.

    In a group of d = dim / num_heads channels, a d x d attention matrix mixes the channels. Despite their names, keys
    and values form this matrix, and queries are mixed: softmax(keys^T values / sqrt(d)) queries^T. Florence-2's variant
    follows the names: softmax(queries^T keys / sqrt(N)) values^T, for N positions.

    Args:
        dim: Number of channels.
        num_heads: Number of groups; must divide `dim`.
        qkv_bias: Whether the query, key and value projection has a bias.
        proj_drop: Dropout rate after the output projection.
        v2: Whether to use Florence-2's variant.

    Source: Ding et al., "DaViT" (ECCV 2022), section 3.3, as computed by its official code.
    """

    def __init__(
        self, dim: int, num_heads: int, qkv_bias: bool = True, proj_drop: float = 0.0, v2: bool = False
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.v2 = v2
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.apply(init_linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        groups = linear(self.qkv, x).flatten(1, 2).unflatten(-1, (3, self.num_heads, -1))
        # (B * groups, positions, channels per group) each; views for a single image, copies for several.
        query, key, value = groups.permute(2, 0, 3, 1, 4).flatten(1, 2)
        left, right, mixed = (query, key, value) if self.v2 else (key, value, query)
        scale = left.shape[1 if self.v2 else 2] ** -0.5
        attention = torch.baddbmm(left.new_empty(1), left.mT, right, beta=0, alpha=scale).softmax(-1)
        mixed = torch.bmm(mixed, attention.mT).unflatten(0, (x.shape[0], -1))
        return self.proj_drop(linear(self.proj, mixed.transpose(1, 2).reshape(x.shape)))

    def extra_repr(self) -> str:
        """Returns the module's arguments for its printed form."""
        return f"num_heads={self.num_heads}, v2={self.v2}"
