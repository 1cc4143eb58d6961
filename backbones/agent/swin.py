"""Agent-Swin: Swin Transformer whose first blocks see the whole map through agents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from ...kernels import window_attention_2d
from ..common.backbone import Backbone
from ..common.blocks import PatchMerging, PatchStem, Stage, TransformerBlock, drop_path_rates
from ..common.checks import check_heads, check_mlp_ratio, check_positive, check_rates, check_stages
from ..common.head import PooledHead
from ..common.init import init_linear, trunc_normal_
from ..common.linear import linear
from ..common.padding import pad_bottom_right
from .arguments import agent_shapes_per_stage, check_agent_blocks, grid_of
from .attention import AgentAttention


class ShiftedWindowAttention(nn.Module):
    """Multi-head attention inside windows, with a learned bias by relative position (Swin).

    The map is padded with zeros, below and on the right, to whole windows. Padded positions take part: their queries,
    keys and values are the biases of `qkv`.

    Args:
        dim: channels.
        num_heads: must divide `dim`.
        window_size: side of a window.
        shift_size: how far the windows are shifted, from 0 to window_size - 1.
        always_shift: whether they are shifted on a map, too, that is no larger than a window along an axis. Swin's
            classification code does not shift there, its code for dense prediction does.
        qkv_bias: whether the layer that makes queries, keys and values has a bias.
        proj_drop: dropout after the output projection.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int = 7,
        shift_size: int = 0,
        *,
        always_shift: bool = False,
        qkv_bias: bool = True,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        check_positive("window_size", window_size)
        check_positive("shift_size", shift_size, least=0)
        if shift_size >= window_size:
            raise ValueError(f"shift_size must be below window_size = {window_size}, but is {shift_size}.")
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift_size = shift_size
        self.always_shift = always_shift
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.rpb = nn.Parameter(torch.empty(num_heads, *[2 * window_size - 1] * 2))
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.apply(init_linear)
        trunc_normal_(self.rpb, std=0.02)

    def shift_of(self, height: int, width: int) -> int:
        """Says how far the windows are shifted on a map."""
        return self.shift_size if self.always_shift or min(height, width) > self.window_size else 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        height, width = x.shape[1:3]
        window = self.window_size
        x = pad_bottom_right(x, height + -height % window, width + -width % window)
        query, key, value = linear(self.qkv, x).unflatten(-1, (3, self.num_heads, -1)).unbind(3)
        shift = self.shift_of(height, width)
        x = window_attention_2d(query, key, value, window, shift, rpb=self.rpb, scale=self.scale)
        return self.proj_drop(linear(self.proj, x[:, :height, :width].flatten(3)))

    def extra_repr(self) -> str:
        """Says what printing the module shows."""
        return f"num_heads={self.num_heads}, window_size={self.window_size}, shift_size={self.shift_size}"


class AgentSwin(Backbone):
    """Swin Transformer with agent attention in the first blocks of each stage, and shifted windows in the others.

    Initial values as published: linear layers and biases by position from a truncated normal of std 0.02; convolutions
    and norms keep PyTorch's.

    Args:
        depths: blocks of each stage.
        embed_dim: channels of the first stage; each later one has twice those of the one before.
        num_heads: attention heads of each stage.
        agent_blocks: how many blocks of each stage, from its first one on, have agent attention.
        num_agents: agents of each stage, square numbers.
        agent_shapes: height and width of each stage's grid of agents; None for the squares of `num_agents`.
        window_size: side of the windows of the other blocks; every second of a stage's blocks shifts them by half.
        always_shift: see `ShiftedWindowAttention`.
        img_size: height and width in pixels of the images that the biases of agent attention are made for; other sizes
            interpolate them.
        mlp_ratio: hidden channels of the MLPs over a stage's channels.
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
        depths: Sequence[int] = (2, 2, 6, 2),
        embed_dim: int = 96,
        num_heads: Sequence[int] = (3, 6, 12, 24),
        agent_blocks: Sequence[int] = (2, 2, 6, 0),
        num_agents: Sequence[int] = (9, 16, 49, 49),
        *,
        agent_shapes: Sequence[int | Sequence[int]] | None = None,
        window_size: int = 7,
        always_shift: bool = False,
        img_size: int | Sequence[int] = 224,
        mlp_ratio: float = 4.0,
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
        check_stages(depths=depths, num_heads=num_heads, num_agents=num_agents)
        check_agent_blocks(agent_blocks, depths)
        check_positive("embed_dim", embed_dim)
        check_positive("in_chans", in_chans)
        check_rates(proj_drop_rate=proj_drop_rate, drop_path_rate=drop_path_rate)
        check_mlp_ratio(mlp_ratio, embed_dim)
        shapes = agent_shapes_per_stage(agent_shapes, len(depths))
        rates = drop_path_rates(drop_path_rate, depths)
        dims = [embed_dim * 2**index for index in range(len(depths))]
        self.depths = tuple(depths)
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = dims[-1]
        self.output_norm = partial(nn.LayerNorm, eps=norm_eps) if output_norms else None
        self.feature_info = []

        def block(stage: int, index: int) -> nn.Module:
            dim, heads, agents = dims[stage], num_heads[stage], num_agents[stage]
            options: dict[str, Any] = {"qkv_bias": qkv_bias, "proj_drop": proj_drop_rate}
            attn: nn.Module
            if index < agent_blocks[stage]:
                grid = grid_of(img_size, 4 * 2**stage)
                attn = AgentAttention(dim, heads, agents, grid, agent_shape=shapes[stage], **options)
            else:
                shift = window_size // 2 if index % 2 else 0
                attn = ShiftedWindowAttention(dim, heads, window_size, shift, always_shift=always_shift, **options)
            rate = rates[stage][index]
            return TransformerBlock(dim, attn, mlp_ratio, proj_drop=proj_drop_rate, drop_path=rate, norm_eps=norm_eps)

        self.stem = PatchStem(in_chans, dims[0], 4, norm_eps)
        self.stages = nn.Sequential()
        for stage, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            blocks = [block(stage, index) for index in range(depth)]
            downsample = PatchMerging(dims[stage - 1], dim, norm_eps) if stage else nn.Identity()
            self.stages.append(Stage(downsample, blocks))
            self.feature_info.append({"num_chs": dim, "reduction": 4 * 2**stage, "module": f"stages.{stage}"})
        self.norm = nn.LayerNorm(self.num_features, eps=norm_eps)
        self.head = PooledHead(self.num_features, num_classes, global_pool, drop_rate)

    def no_weight_decay(self) -> set[str]:
        """Names the parameters that weight decay leaves alone: the windows' biases, not those of agent attention."""
        return {name for name, _ in self.named_parameters() if name.endswith(".rpb")}
