"""Stages, blocks and patch embeddings that several families share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm import layers as timm_layers
from timm.models import checkpoint
from torch import nn

from ...deprecated_paths import renamed_names
from .checks import check_positive
from .fast_paths import add_in_chunks_, can_run_in_place, is_unmodified
from .init import init_linear
from .linear import Mlp, linear
from .padding import pad_bottom_right, pad_to_multiple

__all__ = [
    "DropPath",
    "LayerScale",
    "PatchMerging",
    "PatchStem",
    "Stage",
    "TransformerBlock",
    "add_mlp",
    "drop_path_rates",
]

# timm.layers is where timm documents these, but it does not mark them as exported, so pyright takes them for private.
DropPath = timm_layers.DropPath  # pyright: ignore[reportPrivateImportUsage]
LayerScale = timm_layers.LayerScale  # pyright: ignore[reportPrivateImportUsage]


def drop_path_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Returns stochastic depth rates that grow linearly over all blocks from 0 to `rate`, as one list per stage."""
    total = sum(depths)
    rates = [rate * index / max(total - 1, 1) for index in range(total)]
    starts = [sum(depths[:index]) for index in range(len(depths))]
    return [rates[start : start + depth] for start, depth in zip(starts, depths, strict=True)]


class Stage(nn.Module):
    """A downsampling layer and blocks at one resolution.

    Args:
        downsample: Downsamples the previous stage's map; `nn.Identity` for none.
        blocks: Blocks of the stage.
    """

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps the previous stage's map to this stage's map."""
        x = self.downsample(x)
        for block in self.blocks:
            x = checkpoint(block, x) if self.grad_checkpointing and torch.is_grad_enabled() else block(x)
        return x


class TransformerBlock(nn.Module):
    """Attention and an MLP, each on a residual branch behind a layer norm.

    Args:
        dim: Number of channels.
        attn: Attention module, from (B, H, W, C) to the same shape.
        mlp_ratio: Hidden channels of the MLP relative to `dim`.
        layer_scale: Initial value of a learned factor per channel on each branch; None for no factors.
        proj_drop: Dropout rate in the MLP.
        drop_path: Stochastic depth rate of both branches.
        norm_eps: Epsilon of the layer norms.
    """

    def __init__(
        self,
        dim: int,
        attn: nn.Module,
        mlp_ratio: float = 4.0,
        *,
        layer_scale: float | None = None,
        proj_drop: float = 0.0,
        drop_path: float = 0.0,
        norm_eps: float = 1e-5,
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

    def forward(self, x: torch.Tensor, *attn_args: Any) -> torch.Tensor:
        """Maps (B, H, W, C), or the shape that the attention takes, to the same shape.

        Args:
            x: Input of the block.
            *attn_args: Further arguments of the attention module.
        """
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x), *attn_args)))
        return add_mlp(self, x)


def add_mlp(block: Any, x: torch.Tensor) -> torch.Tensor:
    """Computes a block's second residual branch, x + drop_path(ls2(mlp(norm2(x)))); `ls2` is optional.

    In inference on a CPU it is computed in chunks and added to `x` in place, so `x` must not be used afterwards.
    """
    scale = getattr(block, "ls2", None)

    def branch(x: torch.Tensor) -> torch.Tensor:
        out = block.mlp(block.norm2(x))
        return out if scale is None else scale(out)

    mlp = block.mlp
    if (
        can_run_in_place(block, x)
        and x.is_contiguous()
        and type(mlp) is Mlp
        and is_unmodified(mlp.fc1, nn.Linear)
        and is_unmodified(mlp.fc2, nn.Linear)
    ):
        return add_in_chunks_(x, branch, mlp.hidden_features)
    return x + block.drop_path(branch(x))


class PatchStem(nn.Module):
    """Swin's patch embedding: non-overlapping patches of stride x stride pixels, then a layer norm.

    Images are padded with zeros at the bottom and right to multiples of the stride.
    """

    def __init__(self, in_chans: int, dim: int, stride: int, norm_eps: float) -> None:
        super().__init__()
        check_positive("stem_stride", stride)
        self.stride = stride
        self.proj = nn.Conv2d(in_chans, dim, stride, stride=stride)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, ceil(H / stride), ceil(W / stride), dim)."""
        return self.norm(self.proj(pad_to_multiple(x, self.stride)).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Swin's downsampling: concatenates the four positions of each 2x2 patch, then a layer norm and a linear layer."""

    def __init__(self, in_dim: int, dim: int, norm_eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * in_dim, eps=norm_eps)
        self.reduction = nn.Linear(4 * in_dim, dim, bias=False)
        init_linear(self.reduction)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, in_dim) to (B, ceil(H / 2), ceil(W / 2), dim)."""
        x = pad_bottom_right(x, x.shape[1] + x.shape[1] % 2, x.shape[2] + x.shape[2] % 2)
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], dim=-1)
        return linear(self.reduction, self.norm(x))


__getattr__ = renamed_names(__name__, {"Block": "TransformerBlock"})
