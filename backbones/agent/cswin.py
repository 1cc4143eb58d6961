"""Agent-CSwin: CSWin Transformer with agent attention in its first blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ...kernels import window_attention_2d
from ..common.attention import scaled_dot_product_attention
from ..common.backbone import Backbone
from ..common.blocks import Stage, TransformerBlock, drop_path_rates
from ..common.checks import check_heads, check_mlp_ratio, check_positive, check_rates, check_stages
from ..common.conv import apply_nhwc
from ..common.head import PooledHead
from ..common.init import init_linear
from ..common.linear import linear
from ..common.padding import pad_bottom_right, pad_to_multiple
from .arguments import agent_shapes_per_stage, check_agent_blocks, grid_of
from .attention import AgentAttention


class StripeAttention(nn.Module):
    """Multi-head attention in stripes as long as the feature map: half of the heads in columns, half in rows (CSWin).

    A depthwise 3x3 convolution of each stripe's values is added (locally enhanced positional encoding), which does not
    cross stripe borders. The feature map is zero-padded to full stripes; padded positions take part, as in Swin's
    windows.

    Args:
        dim: Number of channels, even.
        num_heads: Number of attention heads, even; half of it must divide half of `dim`.
        stripe_size: Width of column stripes and height of row stripes.
        qkv_bias: Whether the query, key and value projection has a bias.
        proj_drop: Dropout rate after the output projection.

    Source: "CSWin Transformer" (CVPR 2022), section 3.2.
    """

    def __init__(
        self, dim: int, num_heads: int, stripe_size: int = 7, *, qkv_bias: bool = True, proj_drop: float = 0.0
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        check_positive("stripe_size", stripe_size)
        if num_heads % 2 or dim % 2:
            raise ValueError(f"num_heads and dim must be even, got num_heads={num_heads} and dim={dim}.")
        self.num_heads = num_heads
        self.stripe_size = stripe_size
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        half = dim // 2
        self.dwc = nn.ModuleList([nn.Conv2d(half, half, 3, padding=1, groups=half) for _ in range(2)])
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.apply(init_linear)

    def _stripes(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, columns: bool) -> torch.Tensor:
        """Computes attention in column or row stripes: (B, H, W, heads, dim) each, to (B, H, W, heads * dim)."""
        rows, cols = query.shape[1:3]
        window = (rows, self.stripe_size) if columns else (self.stripe_size, cols)
        out = window_attention_2d(query, key, value, window, scale=self.scale).flatten(3)
        stripes = value.flatten(3).unflatten(2, (-1, window[1])).unflatten(1, (-1, window[0])).transpose(2, 3)
        convolved = apply_nhwc(self.dwc[0 if columns else 1], stripes.flatten(0, 2))
        return out + convolved.unflatten(0, stripes.shape[:3]).transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        height, width = x.shape[1:3]
        x = pad_bottom_right(x, height + -height % self.stripe_size, width + -width % self.stripe_size)
        qkv = linear(self.qkv, x).unflatten(-1, (3, 2, self.num_heads // 2, -1))
        parts = [
            self._stripes(qkv[:, :, :, 0, half], qkv[:, :, :, 1, half], qkv[:, :, :, 2, half], columns=half == 0)
            for half in (0, 1)
        ]
        x = torch.cat(parts, dim=-1)[:, :height, :width]
        return self.proj_drop(linear(self.proj, x))

    def extra_repr(self) -> str:
        """Returns the arguments shown when the module is printed."""
        return f"num_heads={self.num_heads}, stripe_size={self.stripe_size}"


class GlobalAttention(nn.Module):
    """Multi-head global attention plus a depthwise 3x3 convolution of the values (CSWin's last stage).

    Args:
        dim: Number of channels.
        num_heads: Number of attention heads; must divide `dim`.
        qkv_bias: Whether the query, key and value projection has a bias.
        proj_drop: Dropout rate after the output projection.
    """

    def __init__(self, dim: int, num_heads: int, *, qkv_bias: bool = True, proj_drop: float = 0.0) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.dwc = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.apply(init_linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        query, key, value = linear(self.qkv, x).chunk(3, dim=-1)
        heads = (one.flatten(1, 2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for one in (query, key, value))
        query_heads, key_heads, value_heads = heads
        out = scaled_dot_product_attention(query_heads, key_heads, value_heads, scale=self.scale)
        out = out.transpose(1, 2).reshape(x.shape) + apply_nhwc(self.dwc, value)
        return self.proj_drop(linear(self.proj, out))


class OverlappingStem(nn.Module):
    """A 7x7 convolution of stride 4 and a LayerNorm; the image is padded to a multiple of 4."""

    def __init__(self, in_chans: int, dim: int, norm_eps: float) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, 7, stride=4, padding=2)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, ceil(H / 4), ceil(W / 4), dim)."""
        return self.norm(self.proj(pad_to_multiple(x, 4)).permute(0, 2, 3, 1))


class ConvMerging(nn.Module):
    """A 3x3 convolution of stride 2 and a LayerNorm (CSWin's downsampling)."""

    def __init__(self, in_dim: int, dim: int, norm_eps: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, in_dim) to (B, ceil(H / 2), ceil(W / 2), dim)."""
        return self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class AgentCSWin(Backbone):
    """CSWin Transformer with agent attention in the first blocks of each stage, and stripes in the others.

    The other blocks of the last stage use global attention. Initialization as published: linear layers and position
    biases truncated normal with std 0.02; convolutions and norms keep PyTorch's defaults.

    Args:
        depths: Number of blocks of each stage.
        embed_dim: Number of channels of the first stage, doubled in each later stage.
        num_heads: Number of attention heads of each stage.
        agent_blocks: Number of leading blocks of each stage that use agent attention.
        num_agents: Number of agent tokens of each stage; must be square numbers.
        agent_shapes: Height and width of each stage's agent grid; None for square grids of `num_agents`.
        stripe_sizes: Stripe width of each stage; the last one is unused.
        img_size: Height and width in pixels of the images that agent attention's biases are built for; other sizes
            interpolate them.
        mlp_ratio: Ratio of the MLPs' hidden channels to the stage's channels.
        num_classes: Number of classes; 0 for no classifier.
        in_chans: Number of channels of the images.
        global_pool: "avg", "max", or "" for no pooling (requires num_classes=0).
        drop_rate: Dropout rate before the classifier.
        proj_drop_rate: Dropout rate after attention projections and in MLPs.
        drop_path_rate: Stochastic depth rate of the last block; rates increase linearly from 0.
        qkv_bias: Whether the query, key and value projections have biases.
        norm_eps: Epsilon of every LayerNorm.

    Raises:
        ValueError: An argument is out of range or inconsistent with another one.
    """

    def __init__(
        self,
        depths: Sequence[int] = (2, 4, 18, 1),
        embed_dim: int = 64,
        num_heads: Sequence[int] = (2, 4, 8, 16),
        agent_blocks: Sequence[int] = (2, 4, 0, 0),
        num_agents: Sequence[int] = (9, 16, 49, 49),
        stripe_sizes: Sequence[int] = (1, 2, 7, 7),
        *,
        agent_shapes: Sequence[int | Sequence[int]] | None = None,
        img_size: int | Sequence[int] = 224,
        mlp_ratio: float = 4.0,
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
        check_stages(depths=depths, num_heads=num_heads, num_agents=num_agents, stripe_sizes=stripe_sizes)
        check_agent_blocks(agent_blocks, depths)
        check_positive("embed_dim", embed_dim)
        check_rates(proj_drop_rate=proj_drop_rate, drop_path_rate=drop_path_rate)
        check_mlp_ratio(mlp_ratio, embed_dim)
        shapes = agent_shapes_per_stage(agent_shapes, len(depths))
        rates = drop_path_rates(drop_path_rate, depths)
        dims = [embed_dim * 2**index for index in range(len(depths))]
        self.depths = tuple(depths)
        self._set_sizes(num_classes, in_chans, dims[-1])

        def block(stage: int, index: int) -> nn.Module:
            dim, heads, agents = dims[stage], num_heads[stage], num_agents[stage]
            options: dict[str, Any] = {"qkv_bias": qkv_bias, "proj_drop": proj_drop_rate}
            attn: nn.Module
            if index < agent_blocks[stage]:
                grid = grid_of(img_size, 4 * 2**stage)
                attn = AgentAttention(dim, heads, agents, grid, agent_shape=shapes[stage], **options)
            elif stage == len(depths) - 1:
                attn = GlobalAttention(dim, heads, **options)
            else:
                attn = StripeAttention(dim, heads, stripe_sizes[stage], **options)
            rate = rates[stage][index]
            return TransformerBlock(dim, attn, mlp_ratio, proj_drop=proj_drop_rate, drop_path=rate, norm_eps=norm_eps)

        self.stem = OverlappingStem(in_chans, dims[0], norm_eps)
        self.stages = nn.Sequential()
        for stage, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            blocks = [block(stage, index) for index in range(depth)]
            downsample = ConvMerging(dims[stage - 1], dim, norm_eps) if stage else nn.Identity()
            self._append_stage(Stage(downsample, blocks), dim, 4 * 2**stage)
        self.norm = nn.LayerNorm(self.num_features, eps=norm_eps)
        self.head = PooledHead(self.num_features, num_classes, global_pool, drop_rate)
