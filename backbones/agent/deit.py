"""Agent-DeiT: DeiT with agent attention in its first blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import checkpoint
from torch import nn

from ...kernels.tracing import fx_leaf
from ..common.attention import scaled_dot_product_attention
from ..common.backbone import Backbone, take_indices
from ..common.blocks import Stage, TransformerBlock, drop_path_rates
from ..common.checks import (
    check_choice,
    check_heads,
    check_image_size,
    check_mlp_ratio,
    check_positive,
    check_rates,
    check_stages,
)
from ..common.head import PooledHead
from ..common.init import init_linear, trunc_normal_
from ..common.linear import linear
from ..common.padding import pad_to_multiple
from .arguments import agent_shapes_per_stage, check_agent_blocks, grid_of
from .attention import ClassTokenAgentAttention


class TokenAttention(nn.Module):
    """Multi-head self-attention of ViT, for blocks without agents.

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
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.apply(init_linear)

    def forward(self, x: torch.Tensor, grid_size: tuple[int, int] | None = None) -> torch.Tensor:
        """Maps (B, N, C) to (B, N, C); `grid_size` is ignored."""
        query, key, value = linear(self.qkv, x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        out = scaled_dot_product_attention(query, key, value, scale=self.scale)
        return self.proj_drop(linear(self.proj, out.transpose(1, 2).flatten(2)))


class TokenStem(nn.Module):
    """Patch embedding with a class token and learned position embeddings.

    The image is zero-padded at the bottom and right to full patches. For a grid other than `grid_size`, the position
    embeddings of the grid are interpolated (bicubic).

    Args:
        in_chans: Number of channels of the images.
        dim: Number of token channels.
        stride: Side of a patch in pixels.
        grid_size: Height and width of the grid that the position embeddings are built for.
    """

    def __init__(self, in_chans: int, dim: int, stride: int, grid_size: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride
        self.grid_size = grid_size
        self.proj = nn.Conv2d(in_chans, dim, stride, stride=stride)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + grid_size[0] * grid_size[1], dim))
        trunc_normal_(self.cls_token, std=0.02)
        trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
        """Maps (B, in_chans, H, W) to tokens (B, 1 + h * w, dim) and (h, w), with h = ceil(H / stride)."""
        x = self.proj(pad_to_multiple(x, self.stride))
        grid_size = (x.shape[2], x.shape[3])
        tokens = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        return tokens + resize_pos_embed(self.pos_embed, self.grid_size, grid_size), grid_size


@fx_leaf
def resize_pos_embed(pos_embed: torch.Tensor, given: tuple[int, int], wanted: tuple[int, int]) -> torch.Tensor:
    """Interpolates position embeddings (1, prefix + h * w, C) to another grid (bicubic); the prefix is kept.

    Args:
        pos_embed: Position embeddings.
        given: Height h and width w of their grid.
        wanted: Height and width of the target grid.
    """
    if given == wanted:
        return pos_embed
    prefix = pos_embed.shape[1] - given[0] * given[1]
    maps = pos_embed[:, prefix:].unflatten(1, given).permute(0, 3, 1, 2).float()
    maps = F.interpolate(maps, wanted, mode="bicubic", align_corners=False).to(pos_embed.dtype)
    return torch.cat([pos_embed[:, :prefix], maps.flatten(2).transpose(1, 2)], dim=1)


class TokenStage(Stage):
    """Blocks that take tokens and the size of their grid, without downsampling."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__(nn.Identity(), blocks)

    def forward(self, x: torch.Tensor, grid_size: tuple[int, int]) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Maps (B, 1 + H * W, C) to (B, 1 + H * W, C); `grid_size` is (H, W)."""
        for block in self.blocks:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, grid_size)
            else:
                x = block(x, grid_size)
        return x


class TokenHead(PooledHead):
    """Pools tokens to the class token ("token"), or the mean ("avg") or maximum ("max") of the others, and classifies.

    The input is (B, 1 + N, C); "" passes it through. Arguments are those of `PooledHead`.
    """

    poolings = {
        "": lambda x: x,
        "token": lambda x: x[:, 0],
        "avg": lambda x: x[:, 1:].mean(dim=1),
        "max": lambda x: x[:, 1:].amax(dim=1),
    }


class AgentDeiT(Backbone):
    """DeiT with agent attention in the first blocks and global attention in the others.

    `forward_features` returns the normalized tokens (B, 1 + H * W, C), class token first, as timm's Vision Transformers
    do. Stages are groups of blocks at one resolution; the output of each one is a feature map. Initialization as
    published: linear layers, tokens, embeddings and position biases truncated normal with std 0.02; convolutions and
    norms keep PyTorch's defaults.

    Args:
        embed_dim: Number of channels.
        num_heads: Number of attention heads; must divide embed_dim.
        depths: Number of blocks of each stage.
        agent_blocks: Number of leading blocks of each stage that use agent attention.
        num_agents: Number of agent tokens of each stage; must be square numbers.
        agent_shapes: Height and width of each stage's agent grid; None for square grids of `num_agents`.
        patch_size: Side of a patch in pixels.
        img_size: Height and width in pixels of the images that embeddings and biases are built for; other sizes
            interpolate them.
        mlp_ratio: Ratio of the MLPs' hidden channels to embed_dim.
        num_classes: Number of classes; 0 for no classifier.
        in_chans: Number of channels of the images.
        global_pool: "token" (the class token), "avg", "max", or "" for no pooling (requires num_classes=0).
        drop_rate: Dropout rate before the classifier.
        proj_drop_rate: Dropout rate after attention projections and in MLPs.
        drop_path_rate: Stochastic depth rate of the last block; rates increase linearly from 0.
        qkv_bias: Whether the query, key and value projections have biases.
        norm_eps: Epsilon of every LayerNorm.

    Raises:
        ValueError: An argument is out of range or inconsistent with another one.
    """

    num_prefix_tokens = 1
    is_isotropic = True
    head: TokenHead

    def __init__(
        self,
        embed_dim: int = 192,
        num_heads: int = 3,
        depths: Sequence[int] = (3, 3, 3, 3),
        agent_blocks: Sequence[int] = (3, 3, 3, 3),
        num_agents: Sequence[int] = (49, 49, 49, 49),
        *,
        agent_shapes: Sequence[int | Sequence[int]] | None = None,
        patch_size: int = 16,
        img_size: int | Sequence[int] = 224,
        mlp_ratio: float = 4.0,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "token",
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        qkv_bias: bool = True,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        check_stages(depths=depths, num_agents=num_agents)
        check_agent_blocks(agent_blocks, depths)
        check_positive("embed_dim", embed_dim)
        check_positive("patch_size", patch_size)
        check_rates(proj_drop_rate=proj_drop_rate, drop_path_rate=drop_path_rate)
        check_mlp_ratio(mlp_ratio, embed_dim)
        shapes = agent_shapes_per_stage(agent_shapes, len(depths))
        rates = drop_path_rates(drop_path_rate, depths)
        grid = grid_of(img_size, patch_size)

        self.depths = tuple(depths)
        self._set_sizes(num_classes, in_chans, embed_dim)

        def block(stage: int, index: int) -> nn.Module:
            options: dict[str, Any] = {"qkv_bias": qkv_bias, "proj_drop": proj_drop_rate}
            attn: nn.Module
            if index < agent_blocks[stage]:
                agents, shape = num_agents[stage], shapes[stage]
                attn = ClassTokenAgentAttention(embed_dim, num_heads, agents, grid, agent_shape=shape, **options)
            else:
                attn = TokenAttention(embed_dim, num_heads, **options)
            rate = rates[stage][index]
            return TransformerBlock(
                embed_dim, attn, mlp_ratio, proj_drop=proj_drop_rate, drop_path=rate, norm_eps=norm_eps
            )

        self.stem = TokenStem(in_chans, embed_dim, patch_size, grid)
        self.stages = nn.Sequential()
        for stage, depth in enumerate(depths):
            self._append_stage(TokenStage([block(stage, index) for index in range(depth)]), embed_dim, patch_size)
        self.norm = nn.LayerNorm(embed_dim, eps=norm_eps)
        self.head = TokenHead(embed_dim, num_classes, global_pool, drop_rate)

    def no_weight_decay(self) -> set[str]:
        """Returns the names of parameters without weight decay: class token and position embeddings."""
        return {"stem.cls_token", "stem.pos_embed"}

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Maps images (B, in_chans, H, W) to normalized tokens (B, 1 + h * w, C), class token first."""
        check_image_size(x, self.min_input_size)
        x, grid_size = self.stem(x)
        for stage in self.stages:
            x = stage(x, grid_size)
        return self.norm(x)

    def forward_intermediates(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        x: torch.Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        return_prefix_tokens: bool = False,
    ) -> Any:
        """Returns the feature maps after selected stages.

        Args:
            x: Images (B, in_chans, H, W).
            indices: Stages: None for all, an int for the last n, or a list of indices.
            norm: Whether to apply the final norm to each feature map.
            stop_early: Whether to skip the stages after the last requested one.
            output_fmt: "NCHW" or "NHWC".
            intermediates_only: Whether to return only the list of feature maps.
            return_prefix_tokens: Whether each entry is a pair of the feature map and the class token (B, 1, C).

        Returns:
            The feature maps (B, C, h, w); unless `intermediates_only`, preceded by the output of `forward_features`
            (with `stop_early`, the last tokens).
        """
        check_choice("output_fmt", output_fmt, ("NCHW", "NHWC"))
        check_image_size(x, self.min_input_size)
        taken = take_indices(len(self.stages), indices)
        maps = []
        x, grid_size = self.stem(x)
        for index, stage in enumerate(self.stages):
            if stop_early and index > taken[-1]:
                break
            x = stage(x, grid_size)
            if index in taken:
                tokens = self.norm(x) if norm else x
                feature_map = tokens[:, 1:].unflatten(1, grid_size)
                feature_map = feature_map.permute(0, 3, 1, 2) if output_fmt == "NCHW" else feature_map
                maps.append((feature_map, tokens[:, :1]) if return_prefix_tokens else feature_map)
        if intermediates_only:
            return maps
        if not stop_early or taken[-1] + 1 == len(self.stages):
            x = self.norm(x)
        return x, maps
