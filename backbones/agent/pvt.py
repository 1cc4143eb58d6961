"""Agent-PVT: Pyramid Vision Transformer with agent attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...kernels.tracing import fx_leaf
from ..common.backbone import Backbone
from ..common.blocks import Stage, TransformerBlock, drop_path_rates
from ..common.checks import check_mlp_ratio, check_rates, check_stages, to_pair
from ..common.head import PooledHead
from ..common.init import trunc_normal_
from .arguments import agent_shapes_per_stage
from .attention import AgentAttention


class PositionedPatches(nn.Module):
    """Patch embedding with a LayerNorm and learned position embeddings.

    Rows and columns that do not fill a patch are dropped. For a grid other than `grid_size`, the position embeddings
    are interpolated (bilinear).

    Args:
        in_dim: Number of input channels.
        dim: Number of output channels.
        stride: Side of a patch.
        grid_size: Height and width of the grid that the position embeddings are built for.
    """

    def __init__(self, in_dim: int, dim: int, stride: int, grid_size: tuple[int, int]) -> None:
        super().__init__()
        self.grid_size = grid_size
        self.proj = nn.Conv2d(in_dim, dim, stride, stride=stride)
        # The norms of the blocks have eps 1e-6, this one the default.
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.pos_embed = nn.Parameter(torch.empty(1, grid_size[0] * grid_size[1], dim))
        trunc_normal_(self.pos_embed, std=0.02)

    def embedding(self, height: int, width: int) -> torch.Tensor:
        """Returns the position embeddings (1, height, width, dim) of a grid."""
        return _resize_embedding(self.pos_embed.unflatten(1, self.grid_size), height, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_dim, H, W) to (B, H // stride, W // stride, dim)."""
        x = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return x + self.embedding(x.shape[1], x.shape[2])


@fx_leaf
def _resize_embedding(embedding: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Interpolates (1, h, w, C) bilinearly to (1, height, width, C)."""
    if embedding.shape[1:3] == (height, width):
        return embedding
    maps = F.interpolate(embedding.permute(0, 3, 1, 2), (height, width), mode="bilinear", align_corners=False)
    return maps.permute(0, 2, 3, 1)


class PatchDownsample(PositionedPatches):
    """`PositionedPatches` for feature maps (B, H, W, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, in_dim) to (B, H // stride, W // stride, dim)."""
        return super().forward(x.permute(0, 3, 1, 2))


class AgentPVT(Backbone):
    """Pyramid Vision Transformer with agent attention in every block, without reduction of keys and values.

    There is no norm before the head. Initialization as published: linear layers, position biases and embeddings
    truncated normal with std 0.02; convolutions and norms keep PyTorch's defaults.

    Args:
        depths: Number of blocks of each stage.
        embed_dims: Number of channels of each stage.
        num_heads: Number of attention heads of each stage; must divide its channels.
        mlp_ratios: Ratio of the MLPs' hidden channels to the stage's channels.
        num_agents: Number of agent tokens of each stage; must be square numbers.
        agent_shapes: Height and width of each stage's agent grid; None for square grids of `num_agents`.
        img_size: Height and width in pixels of the images that embeddings and biases are built for; other sizes
            interpolate them.
        num_classes: Number of classes; 0 for no classifier.
        in_chans: Number of channels of the images.
        global_pool: "avg", "max", or "" for no pooling (requires num_classes=0).
        drop_rate: Dropout rate before the classifier.
        proj_drop_rate: Dropout rate after attention projections and in MLPs.
        drop_path_rate: Stochastic depth rate of the last block; rates increase linearly from 0.
        qkv_bias: Whether the query, key and value projections have biases.
        norm_eps: Epsilon of the blocks' LayerNorms.

    Raises:
        ValueError: An argument is out of range or inconsistent with another one.
    """

    cuts_edges = True

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 2, 2),
        embed_dims: Sequence[int] = (64, 128, 320, 512),
        num_heads: Sequence[int] = (1, 2, 5, 8),
        mlp_ratios: Sequence[float] = (8, 8, 4, 4),
        num_agents: Sequence[int] = (9, 16, 49, 49),
        *,
        agent_shapes: Sequence[int | Sequence[int]] | None = None,
        img_size: int | Sequence[int] = 224,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        qkv_bias: bool = True,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        check_stages(
            depths=depths,
            embed_dims=embed_dims,
            num_heads=num_heads,
            num_agents=num_agents,
            others={"mlp_ratios": mlp_ratios},
        )
        for index, (mlp_ratio, dim) in enumerate(zip(mlp_ratios, embed_dims, strict=True)):
            check_mlp_ratio(mlp_ratio, dim, f"mlp_ratios[{index}]")
        check_rates(proj_drop_rate=proj_drop_rate, drop_path_rate=drop_path_rate)
        shapes = agent_shapes_per_stage(agent_shapes, len(depths))
        rates = drop_path_rates(drop_path_rate, depths)
        height, width = to_pair("img_size", img_size)
        last_stride = 4 * 2 ** (len(depths) - 1)
        if min(height, width) < last_stride:
            raise ValueError(f"img_size must be >= {last_stride} for {len(depths)} stages, got {img_size!r}.")
        self.depths = tuple(depths)
        self._set_sizes(num_classes, in_chans, embed_dims[-1])
        self.min_input_size = last_stride

        def block(stage: int, index: int, grid: tuple[int, int]) -> nn.Module:
            dim, agents, shape = embed_dims[stage], num_agents[stage], shapes[stage]
            options: dict[str, Any] = {"agent_shape": shape, "qkv_bias": qkv_bias, "proj_drop": proj_drop_rate}
            attn = AgentAttention(dim, num_heads[stage], agents, grid, **options)
            rate = rates[stage][index]
            return TransformerBlock(
                dim, attn, mlp_ratios[stage], proj_drop=proj_drop_rate, drop_path=rate, norm_eps=norm_eps
            )

        self.stem = PositionedPatches(in_chans, embed_dims[0], 4, (height // 4, width // 4))
        self.stages = nn.Sequential()
        for stage, (depth, dim) in enumerate(zip(depths, embed_dims, strict=True)):
            stride = 4 * 2**stage
            grid = (height // stride, width // stride)
            blocks = [block(stage, index, grid) for index in range(depth)]
            downsample = PatchDownsample(embed_dims[stage - 1], dim, 2, grid) if stage else nn.Identity()
            self._append_stage(Stage(downsample, blocks), dim, stride)
        self.norm = nn.Identity()
        self.head = PooledHead(self.num_features, num_classes, global_pool, drop_rate)
