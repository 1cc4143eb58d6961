"""The block and the model of the DaViT family."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..common.backbone import Backbone
from ..common.blocks import DropPath, Stage, add_mlp, drop_path_rates
from ..common.checks import check_choice, check_mlp_ratio, check_rates, check_stages
from ..common.conv import apply_nhwc, channels_last
from ..common.fast_paths import add_by_images_, can_run_in_place, is_unmodified
from ..common.head import PooledHead
from ..common.init import init_linear
from ..common.linear import Mlp
from ..common.padding import pad_bottom_right, pad_to_multiple
from .attention import ChannelAttention, WindowAttention


class PositionEncoding(nn.Module):
    """Convolutional position encoding: adds a depthwise 3x3 convolution of the map to the map."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        return x + apply_nhwc(self.proj, x)

    def can_fold(self, x: torch.Tensor) -> bool:
        """Whether `forward_folded` can take the place of `forward` in inference."""
        return is_unmodified(self.proj, nn.Conv2d) and x.dtype == self.proj.weight.dtype in (
            torch.float32,
            torch.float64,
        )

    def forward_folded(self, x: torch.Tensor) -> torch.Tensor:
        """Computes `forward(x)` by one convolution, whose middle weights are larger by 1."""
        weight = self.proj.weight.clone()
        weight[:, :, 1, 1] += 1
        x = F.conv2d(x.permute(0, 3, 1, 2), weight, self.proj.bias, padding=1, groups=len(weight))
        return x.permute(0, 2, 3, 1).contiguous()


class DaViTBlock(nn.Module):
    """Attention and an MLP, each on a residual branch behind a position encoding and a layer norm.

    Args:
        dim: Number of channels.
        attn: Attention module, from (B, H, W, C) to the same shape.
        mlp_ratio: Hidden channels of the MLP relative to `dim`.
        proj_drop: Dropout rate in the MLP.
        drop_path: Stochastic depth rate of both branches.
        norm_eps: Epsilon of the layer norms.
    """

    def __init__(
        self, dim: int, attn: nn.Module, mlp_ratio: float, proj_drop: float, drop_path: float, norm_eps: float
    ) -> None:
        super().__init__()
        self.cpe1 = PositionEncoding(dim)
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = attn
        self.cpe2 = PositionEncoding(dim)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=nn.GELU, drop=proj_drop)
        self.mlp.apply(init_linear)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        if can_run_in_place(self, x) and self.cpe1.can_fold(x) and self.cpe2.can_fold(x):
            x = add_by_images_(self.cpe1.forward_folded(x), lambda images: self.attn(self.norm1(images)))
            return add_mlp(self, self.cpe2.forward_folded(x))
        x = self.cpe1(x)
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return add_mlp(self, self.cpe2(x))


class Stem(nn.Module):
    """A 7x7 convolution of stride 4, then a layer norm.

    Images are padded with zeros at the bottom and right to multiples of 4 pixels.
    """

    def __init__(self, in_chans: int, dim: int, norm_eps: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, dim, 7, stride=4, padding=3)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, ceil(H / 4), ceil(W / 4), dim)."""
        x = pad_to_multiple(x, 4)
        # Converting 3 channels to channels-last is cheap, and all later maps then have that format.
        x = self.conv(channels_last(x))
        return self.norm(x.permute(0, 2, 3, 1))


class Downsample(nn.Module):
    """A layer norm, then a convolution of stride 2.

    For 2x2 kernels, which do not overlap, the normalized map is padded with zeros at the bottom and right to even
    sides. 3x3 kernels (Florence-2) overlap, with one zero around the map.
    """

    def __init__(self, in_dim: int, dim: int, kernel_size: int, norm_eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_dim, eps=norm_eps)
        self.pads = kernel_size == 2
        self.conv = nn.Conv2d(in_dim, dim, kernel_size, stride=2, padding=(kernel_size - 1) // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, in_dim) to (B, ceil(H / 2), ceil(W / 2), dim)."""
        x = self.norm(x)
        if self.pads:
            x = pad_bottom_right(x, x.shape[1] + x.shape[1] % 2, x.shape[2] + x.shape[2] % 2)
        x = x.permute(0, 3, 1, 2)
        if can_run_in_place(self, x) and is_unmodified(self.conv, nn.Conv2d):
            # With many weights, oneDNN takes half the time or less if they are in the map's memory format.
            weight = self.conv.weight.contiguous(memory_format=torch.channels_last)
            x = F.conv2d(x, weight, self.conv.bias, stride=2, padding=self.conv.padding)
        else:
            x = self.conv(x)
        return x.permute(0, 2, 3, 1)


_ATTENTIONS = ("spatial", "channel")


class DaViT(Backbone):
    """Dual attention vision transformer.

    Weights are initialized as published: linear layers from a truncated normal with std 0.02 and zero bias,
    convolutions and norms with PyTorch's defaults.

    Args:
        depths: Number of repetitions of `attn_types` per stage.
        embed_dims: Number of channels per stage.
        num_heads: Number of attention heads, or of channel groups, per stage; each must divide its stage's channels.
        window_size: Height and width of the windows of spatial attention in positions.
        mlp_ratio: Hidden channels of the MLPs relative to the stage's channels.
        attn_types: "spatial" (in windows) and "channel" attention, in the order of the blocks.
        down_kernel_size: Kernel size of the convolutions between stages: 2, or 3 for overlapping ones.
        channel_attn_v2: Whether to use Florence-2's channel attention; see `ChannelAttention`.
        output_norms: Whether `FeatureMaps` applies a layer norm to each map, as the official backbones for detection
            and segmentation do.
        num_classes: Number of classes; 0 for no classifier.
        in_chans: Number of image channels.
        global_pool: "avg", "max" or "" (no pooling, which requires `num_classes=0`).
        drop_rate: Dropout rate before the classifier.
        proj_drop_rate: Dropout rate after the attention's output projections and in the MLPs.
        drop_path_rate: Stochastic depth rate of the last block; the rates grow linearly from 0.
        qkv_bias: Whether the query, key and value projections have biases.
        norm_eps: Epsilon of the layer norms.

    Raises:
        ValueError: An argument is out of range or inconsistent with another; the message names it.
    """

    def __init__(
        self,
        depths: Sequence[int] = (1, 1, 3, 1),
        embed_dims: Sequence[int] = (96, 192, 384, 768),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        *,
        attn_types: Sequence[str] = _ATTENTIONS,
        down_kernel_size: int = 2,
        channel_attn_v2: bool = False,
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
        check_stages(depths=depths, embed_dims=embed_dims, num_heads=num_heads)
        if isinstance(attn_types, str) or not len(attn_types):
            raise ValueError(f"attn_types must be a list of at least one kind of attention, got {attn_types!r}.")
        for kind in attn_types:
            check_choice("kind of attention", kind, _ATTENTIONS)
        if down_kernel_size not in (2, 3):
            raise ValueError(f"down_kernel_size must be 2 or 3, got {down_kernel_size!r}.")
        check_rates(proj_drop_rate=proj_drop_rate, drop_path_rate=drop_path_rate)
        check_mlp_ratio(mlp_ratio, min(embed_dims))

        make_norm = partial(nn.LayerNorm, eps=norm_eps)
        self.depths = tuple(depths)
        self.attn_types = tuple(attn_types)
        self._set_sizes(num_classes, in_chans, embed_dims[-1])
        self.output_norm = make_norm if output_norms else None

        def block(kind: str, dim: int, heads: int, drop_path: float) -> nn.Module:
            options: dict[str, Any] = {"qkv_bias": qkv_bias, "proj_drop": proj_drop_rate}
            attn: nn.Module
            if kind == "spatial":
                attn = WindowAttention(dim, heads, window_size, **options)
            else:
                attn = ChannelAttention(dim, heads, **options, v2=channel_attn_v2)
            return DaViTBlock(dim, attn, mlp_ratio, proj_drop_rate, drop_path, norm_eps)

        rates = drop_path_rates(drop_path_rate, [depth * len(attn_types) for depth in depths])
        self.stem = Stem(in_chans, embed_dims[0], norm_eps)
        self.stages = nn.Sequential()
        for index, (depth, dim, heads) in enumerate(zip(depths, embed_dims, num_heads, strict=True)):
            downsample = Downsample(embed_dims[index - 1], dim, down_kernel_size, norm_eps) if index else nn.Identity()
            kinds = zip(self.attn_types * depth, rates[index], strict=True)
            self._append_stage(
                Stage(downsample, [block(kind, dim, heads, rate) for kind, rate in kinds]), dim, 4 * 2**index
            )
        self.norm = nn.Identity()  # the head has the norm, after pooling
        self.head = PooledHead(self.num_features, num_classes, global_pool, drop_rate, norm_layer=make_norm)
