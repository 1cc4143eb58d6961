"""What the bodies of the family share: the block, and checks of what a model is built from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..common.layers import DropPath, Mlp, check_positive, init_linear
from ..common.linear import add_in_pieces_, takes_shortcuts
from .attention import as_pair


class Block(nn.Module):
    """Attention and MLP, each behind a norm, with a residual connection.

    Args:
        dim: channels.
        attn: the attention module.
        mlp_ratio: hidden channels of the MLP over `dim`.
        proj_drop: dropout in the MLP.
        drop_path: rate of stochastic depth, the same for both branches.
        norm_eps: of the layer norms.
    """

    def __init__(
        self, dim: int, attn: nn.Module, mlp_ratio: float, proj_drop: float, drop_path: float, norm_eps: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=nn.GELU, drop=proj_drop)
        self.mlp.apply(init_linear)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: torch.Tensor, *where: Any) -> torch.Tensor:
        """Maps (..., C) to the same; `where` is what else the attention asks for."""
        x = x + self.drop_path(self.attn(self.norm1(x), *where))
        if takes_shortcuts(self, x):
            return add_in_pieces_(x, lambda piece: self.mlp(self.norm2(piece)), self.mlp.fc1.out_features)
        return x + self.drop_path(self.mlp(self.norm2(x)))


def check_stages(num_stages: int, **lists: Sequence[Any]) -> None:
    """Raises a ValueError unless every list has one positive integer a stage.

    Args:
        num_stages: how many stages there are, at least 1.
        **lists: by the arguments' names; the first one says in the message how many stages there are.
    """
    first = next(iter(lists))
    for name, values in lists.items():
        if num_stages < 1 or len(values) != num_stages:
            raise ValueError(f"{name} needs one number a stage, as {first} has ({num_stages}), but has {len(values)}.")
        for index, value in enumerate(values):
            check_positive(f"{name}[{index}]", value)


def check_agent_blocks(agent_blocks: Sequence[int], depths: Sequence[int]) -> None:
    """Raises a ValueError unless `agent_blocks` counts the first blocks of each stage, from none to all."""
    if len(agent_blocks) != len(depths):
        raise ValueError(f"agent_blocks needs one number a stage, but has {len(agent_blocks)} for {len(depths)}.")
    for index, (count, depth) in enumerate(zip(agent_blocks, depths, strict=True)):
        check_positive(f"agent_blocks[{index}]", count, least=0)
        if count > depth:
            raise ValueError(f"agent_blocks[{index}] = {count} must be at most depths[{index}] = {depth}.")


def agent_shapes_per_stage(
    agent_shapes: Sequence[int | Sequence[int]] | None, num_stages: int
) -> list[tuple[int, int] | None]:
    """Gives the shape of the agents' grid of each stage; None for the trained one."""
    if agent_shapes is None:
        return [None] * num_stages
    if len(agent_shapes) != num_stages:
        raise ValueError(f"agent_shapes needs one entry a stage ({num_stages}), but has {len(agent_shapes)}.")
    return [as_pair(f"agent_shapes[{index}]", shape) for index, shape in enumerate(agent_shapes)]


def check_mlp_ratio(mlp_ratio: float, dim: int) -> None:
    """Raises a ValueError where an MLP would have no hidden channel."""
    if not mlp_ratio * dim >= 1:
        raise ValueError(f"mlp_ratio must leave at least one hidden channel, but is {mlp_ratio!r}.")


def grid_of(img_size: int | Sequence[int], stride: int) -> tuple[int, int]:
    """Gives the height and width of a map of an image, where sides are padded to whole strides."""
    height, width = as_pair("img_size", img_size)
    return -(-height // stride), -(-width // stride)
