"""Agent-DeiT: DeiT, a Vision Transformer with a class token, whose blocks see the whole map through agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import checkpoint
from torch import nn

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
    """Multi-head attention of all tokens to all tokens (ViT), for the blocks that have no agents.

    Args:
        dim: channels.
        num_heads: must divide `dim`.
        qkv_bias: whether the layer that makes queries, keys and values has a bias.
        proj_drop: dropout after the output projection.
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
        """Maps (B, N, C) to (B, N, C); `grid_size` is of no use here."""
        query, key, value = linear(self.qkv, x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
        return self.proj_drop(linear(self.proj, out.transpose(1, 2).flatten(2)))


class TokenStem(nn.Module):
    """Patches of stride x stride pixels, a class token before them, and a learned embedding of all places.

    The image is padded with zeros, below and on the right, to whole patches. On a map of another size than `grid_size`
    the map's part of the embedding is interpolated (bicubic).

    Args:
        in_chans: channels of the images.
        dim: channels of the tokens.
        stride: side of a patch in pixels.
        grid_size: height and width of the map that the embedding is made for.
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


def resize_pos_embed(pos_embed: torch.Tensor, given: tuple[int, int], wanted: tuple[int, int]) -> torch.Tensor:
    """Interpolates an embedding (1, prefix + h * w, C) of places to another map (bicubic); the prefix stays.

    Args:
        pos_embed: the embedding.
        given: its h and w.
        wanted: height and width of the other map.
    """
    if given == wanted:
        return pos_embed
    prefix = pos_embed.shape[1] - given[0] * given[1]
    maps = pos_embed[:, prefix:].unflatten(1, given).permute(0, 3, 1, 2).float()
    maps = F.interpolate(maps, wanted, mode="bicubic", align_corners=False).to(pos_embed.dtype)
    return torch.cat([pos_embed[:, :prefix], maps.flatten(2).transpose(1, 2)], dim=1)


class TokenStage(Stage):
    """Blocks that take tokens and the size of their map; there is nothing to downsample."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__(nn.Identity(), blocks)

    def forward(self, x: torch.Tensor, grid_size: tuple[int, int]) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Maps (B, 1 + H * W, C) to the same; `grid_size` is H and W."""
        for block in self.blocks:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, grid_size)
            else:
                x = block(x, grid_size)
        return x


class TokenHead(PooledHead):
    """Takes the class token ("token"), or the mean ("avg") or maximum ("max") of the others, and classifies it.

    It is given (B, 1 + N, C); "" hands that on. Arguments are those of `PooledHead`.
    """

    poolings = {
        "": lambda x: x,
        "token": lambda x: x[:, 0],
        "avg": lambda x: x[:, 1:].mean(dim=1),
        "max": lambda x: x[:, 1:].amax(dim=1),
    }


class AgentDeiT(Backbone):
    """DeiT with agent attention in the first blocks, and plain attention in the others.

    `forward_features` returns the normalised tokens (B, 1 + H * W, C), the class token first, as timm's Vision
    Transformers do. Stages are groups of blocks at one resolution, after each of which the map is a feature map.
    Initial values as published: linear layers, tokens, embeddings and biases by position from a truncated normal of std
    0.02; convolutions and norms keep PyTorch's.

    Args:
        embed_dim: channels.
        num_heads: attention heads; must divide the channels.
        depths: blocks of each stage.
        agent_blocks: how many blocks of each stage, from its first one on, have agent attention.
        num_agents: agents of each stage, square numbers.
        agent_shapes: height and width of each stage's grid of agents; None for the squares of `num_agents`.
        patch_size: side in pixels of a patch.
        img_size: height and width in pixels of the images that embedding and biases are made for; other sizes
            interpolate them.
        mlp_ratio: hidden channels of the MLPs over the channels.
        num_classes: 0 leaves the classifier out.
        in_chans: channels of the images.
        global_pool: "token" (the class token), "avg", "max" or "" (no pooling, which needs num_classes 0).
        drop_rate: dropout before the classifier.
        proj_drop_rate: dropout after the attention's projections and in the MLPs.
        drop_path_rate: stochastic depth of the last block; earlier blocks' rates grow linearly from 0.
        qkv_bias: whether the layers that make queries, keys and values have biases.
        norm_eps: of every layer norm.

    Raises:
        ValueError: an argument is out of its range, or does not fit another; the message names it.
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
        check_positive("in_chans", in_chans)
        check_rates(proj_drop_rate=proj_drop_rate, drop_path_rate=drop_path_rate)
        check_mlp_ratio(mlp_ratio, embed_dim)
        shapes = agent_shapes_per_stage(agent_shapes, len(depths))
        rates = drop_path_rates(drop_path_rate, depths)
        grid = grid_of(img_size, patch_size)

        self.depths = tuple(depths)
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = embed_dim
        self.feature_info = []

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
            self.stages.append(TokenStage([block(stage, index) for index in range(depth)]))
            self.feature_info.append({"num_chs": embed_dim, "reduction": patch_size, "module": f"stages.{stage}"})
        self.norm = nn.LayerNorm(embed_dim, eps=norm_eps)
        self.head = TokenHead(embed_dim, num_classes, global_pool, drop_rate)

    def no_weight_decay(self) -> set[str]:
        """Names the parameters that weight decay leaves alone: the class token and the embedding of places."""
        return {"stem.cls_token", "stem.pos_embed"}

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Maps images (B, in_chans, H, W) to normalised tokens (B, 1 + h * w, C), the class token first."""
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
        """Gives the maps after chosen stages.

        Args:
            x: images (B, in_chans, H, W).
            indices: stages: None for all, an int for the last n, or their indices.
            norm: whether the final norm is applied to every map.
            stop_early: whether to leave out the stages after the last one that is asked for.
            output_fmt: "NCHW" or "NHWC".
            intermediates_only: whether to return the list alone.
            return_prefix_tokens: whether each entry of the list is a pair, of the map and the class token (B, 1, C).

        Returns:
            The maps, (B, C, h, w) each; before them, unless `intermediates_only`, what `forward_features` returns (with
            `stop_early`, the last tokens).
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
                one = tokens[:, 1:].unflatten(1, grid_size)
                one = one.permute(0, 3, 1, 2) if output_fmt == "NCHW" else one
                maps.append((one, tokens[:, :1]) if return_prefix_tokens else one)
        if intermediates_only:
            return maps
        if not stop_early or taken[-1] + 1 == len(self.stages):
            x = self.norm(x)
        return x, maps
