"""Agent-Swin: Swin Transformer with agent attention in its first blocks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from ...kernels import window_attention_2d
from ...kernels.tracing import fx_leaf
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
    """Multi-head attention in windows with a learned relative position bias (Swin).

    The feature map is zero-padded at the bottom and right to full windows. Padded positions take part: their queries,
    keys and values are the biases of `qkv`.

    Args:
        dim: Number of channels.
        num_heads: Number of attention heads; must divide `dim`.
        window_size: Side of a window.
        shift_size: Window shift, from 0 to window_size - 1.
        always_shift: Whether windows are also shifted on a feature map no larger than a window along an axis. Swin's
            classification code does not shift there; its code for dense prediction does.
        qkv_bias: Whether the query, key and value projection has a bias.
        proj_drop: Dropout rate after the output projection.
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
            raise ValueError(
                f"shift_size must be < window_size, got shift_size={shift_size} and window_size={window_size}."
            )
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
        """Returns the window shift for a feature map."""
        return self.shift_size if self.always_shift else _shift_of(height, width, self.window_size, self.shift_size)

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
        """Returns the arguments shown when the module is printed."""
        return f"num_heads={self.num_heads}, window_size={self.window_size}, shift_size={self.shift_size}"


@fx_leaf
def _shift_of(height: int, width: int, window_size: int, shift_size: int) -> int:
    """Returns the shift of windows, 0 for a map that is not larger than a window along an axis."""
    return shift_size if min(height, width) > window_size else 0


class AgentSwin(Backbone):
    """Swin Transformer with agent attention in the first blocks of each stage, and shifted windows in the others.

    Initialization as published: linear layers and position biases truncated normal with std 0.02; convolutions and
    norms keep PyTorch's defaults.

    Args:
        depths: Number of blocks of each stage.
        embed_dim: Number of channels of the first stage, doubled in each later stage.
        num_heads: Number of attention heads of each stage.
        agent_blocks: Number of leading blocks of each stage that use agent attention.
        num_agents: Number of agent tokens of each stage; must be square numbers.
        agent_shapes: Height and width of each stage's agent grid; None for square grids of `num_agents`.
        window_size: Window side of the other blocks; every second block of a stage shifts the windows by half.
        always_shift: As in `ShiftedWindowAttention`.
        img_size: Height and width in pixels of the images that agent attention's biases are built for; other sizes
            interpolate them.
        mlp_ratio: Ratio of the MLPs' hidden channels to the stage's channels.
        output_norms: Whether each feature map returned by `FeatureMaps` has its own LayerNorm, as in the official
            backbones for detection and segmentation.
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
        check_rates(proj_drop_rate=proj_drop_rate, drop_path_rate=drop_path_rate)
        check_mlp_ratio(mlp_ratio, embed_dim)
        shapes = agent_shapes_per_stage(agent_shapes, len(depths))
        rates = drop_path_rates(drop_path_rate, depths)
        dims = [embed_dim * 2**index for index in range(len(depths))]
        self.depths = tuple(depths)
        self._set_sizes(num_classes, in_chans, dims[-1])
        self.output_norm = partial(nn.LayerNorm, eps=norm_eps) if output_norms else None

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
            self._append_stage(Stage(downsample, blocks), dim, 4 * 2**stage)
        self.norm = nn.LayerNorm(self.num_features, eps=norm_eps)
        self.head = PooledHead(self.num_features, num_classes, global_pool, drop_rate)

    def no_weight_decay(self) -> set[str]:
        """Returns the names of parameters without weight decay: the windows' position biases."""
        return {name for name, _ in self.named_parameters() if name.endswith(".rpb")}
