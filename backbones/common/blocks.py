"""The block that transformers of plain attention and MLP share."""

from __future__ import annotations

import torch
from torch import nn

from .layers import DropPath, LayerScale, Mlp, init_linear

__all__ = ["Block"]


class Block(nn.Module):
    """Attention and MLP, each behind a norm, with a residual connection.

    Args:
        dim: channels.
        attn: the attention module, (B, H, W, C) to the same.
        mlp_ratio: hidden channels of the MLP over `dim`.
        layer_scale: initial value of a learned factor a channel on each branch; None for no factor.
        proj_drop: dropout in the MLP.
        drop_path: rate of stochastic depth, the same for both branches.
        norm_eps: of the layer norms.
    """

    def __init__(
        self,
        dim: int,
        attn: nn.Module,
        mlp_ratio: float,
        layer_scale: float | None,
        proj_drop: float,
        drop_path: float,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = attn
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=nn.GELU, drop=proj_drop)
        self.mlp.apply(init_linear)
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x))))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
