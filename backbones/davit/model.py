"""The attention modules, the block and the model of the DaViT family."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from ...kernels import window_attention_2d
from ...names import unknown_name
from ..common.layers import (
    Backbone,
    DropPath,
    Mlp,
    PooledHead,
    Stage,
    check_heads,
    check_positive,
    check_rate,
    check_stages,
    drop_path_rates,
    init_linear,
    pad_bottom_right,
)
from ..common.linear import Linear, add_by_images_, add_in_pieces_, takes_shortcuts


class WindowAttention(nn.Module):
    """Multi-head attention inside windows that tile the map: no shift, no biases by position.

    A map whose sides are no multiples of the window is padded with zeros below and on the right. The padded positions
    take part unmasked: their queries, keys and values are the biases of `qkv`.

    Args:
        dim: channels.
        num_heads: attention heads; must divide `dim`.
        window_size: height and width of a window in positions.
        qkv_bias: whether the layer that makes queries, keys and values has biases.
        proj_drop: dropout of what the module returns.

    Source: Ding et al., "DaViT" (ECCV 2022), section 3.2.
    """

    def __init__(
        self, dim: int, num_heads: int, window_size: int = 7, qkv_bias: bool = True, proj_drop: float = 0.0
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        check_positive("window_size", window_size)
        self.num_heads = num_heads
        self.window_size = window_size
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.apply(init_linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        height, width = x.shape[1:3]
        size = self.window_size
        x = pad_bottom_right(x, height + -height % size, width + -width % size)
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(3)
        x = window_attention_2d(query, key, value, size, scale=self.scale).flatten(3)
        return self.proj_drop(self.proj(x[:, :height, :width]))

    def extra_repr(self) -> str:
        """Says what printing the module shows."""
        return f"num_heads={self.num_heads}, window_size={self.window_size}"


class ChannelAttention(nn.Module):
    """Attention between channels, over all positions of the map, in groups of channels.

    In each group of d = dim / num_heads channels a d x d map of attention tells how every channel of the output is
    mixed. Despite their names it is keys and values that make this map, and queries that are mixed by it:
    softmax(keys^T values / sqrt(d)) queries^T. Florence-2's form follows the names: softmax(queries^T keys / sqrt(N))
    values^T, for N positions.

    Args:
        dim: channels.
        num_heads: groups of channels; must divide `dim`.
        qkv_bias: whether the layer that makes queries, keys and values has biases.
        proj_drop: dropout of what the module returns.
        v2: whether to attend as Florence-2 does.

    Source: Ding et al., "DaViT" (ECCV 2022), section 3.3, as its official code computes it.
    """

    def __init__(
        self, dim: int, num_heads: int, qkv_bias: bool = True, proj_drop: float = 0.0, v2: bool = False
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.v2 = v2
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.apply(init_linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        groups = self.qkv(x).flatten(1, 2).unflatten(-1, (3, self.num_heads, -1))
        # (B * groups, positions, channels of a group) each; views of one image, a copy of several.
        query, key, value = groups.permute(2, 0, 3, 1, 4).flatten(1, 2)
        left, right, mixed = (query, key, value) if self.v2 else (key, value, query)
        scale = left.shape[1 if self.v2 else 2] ** -0.5
        attention = torch.baddbmm(left.new_empty(1), left.mT, right, beta=0, alpha=scale).softmax(-1)
        mixed = torch.bmm(mixed, attention.mT).unflatten(0, (x.shape[0], -1))
        return self.proj_drop(self.proj(mixed.transpose(1, 2).reshape(x.shape)))

    def extra_repr(self) -> str:
        """Says what printing the module shows."""
        return f"num_heads={self.num_heads}, v2={self.v2}"


class PositionEncoding(nn.Module):
    """Adds a depthwise 3x3 convolution of the map to it, which tells positions apart."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        return x + self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def forward_at_once(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the same by one convolution whose middle weights are larger by 1; inference, float32 or float64."""
        weight = self.proj.weight.clone()
        weight[:, :, 1, 1] += 1
        x = F.conv2d(x.permute(0, 3, 1, 2), weight, self.proj.bias, padding=1, groups=len(weight))
        return x.permute(0, 2, 3, 1).contiguous()


class Block(nn.Module):
    """Attention and MLP, each behind a position encoding and a norm, with a residual connection.

    Args:
        dim: channels.
        attn: the attention module, (B, H, W, C) to the same.
        mlp_ratio: hidden channels of the MLP over `dim`.
        proj_drop: dropout in the MLP.
        drop_path: rate of stochastic depth, the same for both branches.
        norm_eps: of the layer norms.
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
        if takes_shortcuts(self, x) and x.dtype in (torch.float32, torch.float64):
            x = add_by_images_(self.cpe1.forward_at_once(x), lambda images: self.attn(self.norm1(images)))
            x = self.cpe2.forward_at_once(x)
            return add_in_pieces_(x, lambda piece: self.mlp(self.norm2(piece)), self.mlp.fc1.out_features)
        x = self.cpe1(x)
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = self.cpe2(x)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Stem(nn.Module):
    """A 7x7 convolution of stride 4, then a layer norm.

    Images are first padded with zeros, below and on the right, to multiples of 4 pixels.
    """

    def __init__(self, in_chans: int, dim: int, norm_eps: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, dim, 7, stride=4, padding=3)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, ceil(H / 4), ceil(W / 4), dim)."""
        rows, cols = -x.shape[2] % 4, -x.shape[3] % 4
        if rows or cols:
            x = F.pad(x, (0, cols, 0, rows))
        # Three channels are quickly put last; all that follow are then written in that order.
        x = self.conv(x.contiguous(memory_format=torch.channels_last))
        return self.norm(x.permute(0, 2, 3, 1))


class Downsample(nn.Module):
    """A layer norm, then a convolution of stride 2.

    Kernels of 2x2 see patches side by side: the normalised map is first padded with zeros, below and on the right, to
    even sides. Kernels of 3x3 (Florence-2) overlap, with a zero around the map.
    """

    def __init__(self, in_dim: int, dim: int, kernel_size: int, norm_eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_dim, eps=norm_eps)
        self.conv = nn.Conv2d(in_dim, dim, kernel_size, stride=2, padding=(kernel_size - 1) // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, in_dim) to (B, ceil(H / 2), ceil(W / 2), dim)."""
        x = self.norm(x)
        if self.conv.kernel_size == (2, 2):
            x = pad_bottom_right(x, x.shape[1] + x.shape[1] % 2, x.shape[2] + x.shape[2] % 2)
        x = x.permute(0, 3, 1, 2)
        if takes_shortcuts(self, x):
            # With weights in the map's order, oneDNN takes half the time or less where they are many.
            weight = self.conv.weight.contiguous(memory_format=torch.channels_last)
            x = F.conv2d(x, weight, self.conv.bias, stride=2, padding=self.conv.padding)
        else:
            x = self.conv(x)
        return x.permute(0, 2, 3, 1)


_ATTENTIONS = ("spatial", "channel")


class DaViT(Backbone):
    """Dual attention vision transformer.

    Initial values as published: linear layers from a truncated normal of std 0.02, without biases; convolutions and
    norms keep PyTorch's.

    Args:
        depths: how often each stage repeats `attn_types`.
        embed_dims: channels of each stage.
        num_heads: attention heads, and groups of channels, of each stage; must divide its channels.
        window_size: height and width of a window of the spatial attention in positions.
        mlp_ratio: hidden channels of the MLPs over a stage's channels.
        attn_types: "spatial" (in windows) and "channel" attention, in the order in which blocks take turns.
        down_kernel_size: side of the convolutions between stages: 2, or 3 for overlapping ones.
        channel_attn_v2: whether channels attend as in Florence-2; see `ChannelAttention`.
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
        check_stages(depths, embed_dims, num_heads)
        if isinstance(attn_types, str) or not len(attn_types):
            raise ValueError(f"attn_types must be a list of at least one kind of attention, but is {attn_types!r}.")
        for kind in attn_types:
            if kind not in _ATTENTIONS:
                raise ValueError(unknown_name("kind of attention", kind, _ATTENTIONS))
        if down_kernel_size not in (2, 3):
            raise ValueError(f"down_kernel_size must be 2 or 3, but is {down_kernel_size!r}.")
        check_positive("in_chans", in_chans)
        check_rate("proj_drop_rate", proj_drop_rate)
        check_rate("drop_path_rate", drop_path_rate)
        if not mlp_ratio * min(embed_dims) >= 1:
            raise ValueError(f"mlp_ratio must leave at least one hidden channel, but is {mlp_ratio!r}.")

        make_norm = partial(nn.LayerNorm, eps=norm_eps)
        self.depths = tuple(depths)
        self.attn_types = tuple(attn_types)
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = embed_dims[-1]
        self.output_norm = make_norm if output_norms else None
        self.feature_info = []

        shared = {"qkv_bias": qkv_bias, "proj_drop": proj_drop_rate}
        rates = drop_path_rates(drop_path_rate, [depth * len(attn_types) for depth in depths])
        self.stem = Stem(in_chans, embed_dims[0], norm_eps)
        stages = []
        for index, (depth, dim, heads) in enumerate(zip(depths, embed_dims, num_heads, strict=True)):
            lead = Downsample(embed_dims[index - 1], dim, down_kernel_size, norm_eps) if index else nn.Identity()
            blocks = []
            for kind, rate in zip(self.attn_types * depth, rates[index], strict=True):
                attn: nn.Module
                if kind == "spatial":
                    attn = WindowAttention(dim, heads, window_size, **shared)
                else:
                    attn = ChannelAttention(dim, heads, **shared, v2=channel_attn_v2)
                blocks.append(Block(dim, attn, mlp_ratio, proj_drop_rate, rate, norm_eps))
            stages.append(Stage(lead, blocks))
            self.feature_info.append({"num_chs": dim, "reduction": 4 * 2**index, "module": f"stages.{index}"})
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Identity()  # the head's norm follows the pooling
        self.head = PooledHead(self.num_features, num_classes, global_pool, drop_rate, norm_layer=make_norm)
