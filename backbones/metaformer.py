"""MetaFormer: a plain hierarchical body for the attention modules of all families.

Paper:
    Yu, Luo, Zhou, Si, Zhou, Wang, Feng, Yan: "MetaFormer Is Actually What You Need for Vision", CVPR 2022,
    https://arxiv.org/abs/2111.11418

The token mixer is an argument: `create_model("metaformer_s12", mixer="biformer")`. Everything else is the same for all
mixers: stem and downsampling (overlapping convolutions), MLPs, layer norms, and the width of the heads. `MIXERS` lists
the mixers, and `register_mixer` adds one:

    pool                  average of 3x3 positions minus the position itself: PoolFormer, the default
    identity              no mixing outside of the stem and the downsampling
    full                  self-attention over the complete map
    neighborhood          neighborhood attention (NAT)
    dilated_neighborhood  the same, dilated in every other block (DiNAT)
    window                attention in windows without shift
    dual                  alternating window attention and channel attention (DaViT)
    halo                  attention of query blocks to a halo of keys around them (HaloNet)
    agent                 attention through a few agent tokens (Agent Attention)
    biformer              bi-level routing attention
    lka                   large kernel attention (VAN)
    eca                   a depthwise convolution (mixing="pool": pooling), then efficient channel attention (ECA-Net)

Each is its family's own module with its own encoding of positions: biases (NAT, Agent Attention), embeddings (HaloNet),
convolutions (BiFormer, VAN, ECA), or none (full, window, dual). DaViT's convolutional position encodings are outside of
its attention module, so they are not used here. The zero padding of stem and downsampling gives every mixer a rough
notion of position.

Window, region and grid sizes are computed for images of `img_size`, by the same rules for all mixers (see `Place`).
Images of other sizes work, too.

Deviations from PoolFormer, and why:
- Layer norms over the channels of a position instead of group norms over the complete map, so that a local mixer gets
  no information about distant positions from the norm.
- The stem pads by 3 pixels instead of 2, so that maps have ceil(size / 4) positions for any size.
- `layer_scale` can be None, because factors that start at 1e-5 need long training.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..names import unknown_name
from .agent import AgentAttention
from .biformer import BiLevelRoutingAttention, FullAttention
from .common.backbone import Backbone
from .common.blocks import Stage, TransformerBlock, drop_path_rates
from .common.checkpoints import strip_prefixes
from .common.checks import (
    check_choice,
    check_mlp_ratio,
    check_odd,
    check_positive,
    check_rates,
    check_stages,
    per_stage,
)
from .common.conv import channels_last
from .common.head import PooledHead
from .davit import ChannelAttention, WindowAttention
from .eca import EfficientChannelAttentionMixer
from .halonet import HaloAttention
from .nat import NeighborhoodAttention
from .registry import PretrainedCfg, register_model
from .van import LargeKernelAttention


@dataclass(frozen=True)
class Place:
    """The place of a mixer in the body, and the sizes that follow from it.

    Published sizes are for 224x224 images: maps of 56, 28, 14 and 7 positions, and windows of 7. The rules here return
    these sizes for such maps, and windows of about half the map for smaller ones, so that a local mixer stays local.

    Attributes:
        dim: Number of channels.
        num_heads: Number of attention heads.
        side: Side of the map of an image of `img_size`.
    """

    dim: int
    num_heads: int
    side: int

    @property
    def window(self) -> int:
        """Side of a window: the first of 7, 8, 6, 5 and 4 that divides the map and is at most half of it, otherwise 7.

        A map smaller than 8 is a single window.
        """
        if self.side < 8:
            return self.side
        return next((size for size in (7, 8, 6, 5, 4) if self.side % size == 0 and 2 * size <= self.side), 7)

    @property
    def kernel_size(self) -> int:
        """Side of a neighborhood: odd, at most 7 and half of the map; a map smaller than 8 is a single neighborhood."""
        if self.side < 8:
            return max(self.side, 2)
        return min(7, self.side // 2 - (self.side // 2 + 1) % 2)

    @property
    def topk(self) -> int:
        """Number of regions that a region attends to: those with 64 positions in total, but at most a third of all.

        On a map smaller than 8, where a region is a single position, these are all regions.
        """
        regions, positions = self.window**2, max(1, self.side // self.window) ** 2
        return regions if self.side < 8 else max(1, min(64 // positions, regions // 3))

    @property
    def agents_side(self) -> int:
        """Side of the grid of agent tokens: half of the map, at most 7."""
        return max(1, min(7, self.side // 2))


Choice = tuple[Callable[..., nn.Module], dict[str, Any]]
"""A mixer class, called with dim, num_heads and further arguments, and these arguments."""


class PoolMixer(nn.Module):
    """PoolFormer's token mixer: average pooling minus the position itself, which the residual connection adds.

    Args:
        dim: Unused.
        num_heads: Unused.
        pool_size: Size of the pooling window, odd; positions outside of the map are not counted.

    Source: "MetaFormer Is Actually What You Need for Vision", section 3.2.
    """

    def __init__(self, dim: int, num_heads: int = 1, pool_size: int = 3) -> None:
        super().__init__()
        check_odd("pool_size", pool_size)
        self.pool_size = pool_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        size = self.pool_size
        means = F.avg_pool2d(x.permute(0, 3, 1, 2), size, stride=1, padding=size // 2, count_include_pad=False)
        return means.permute(0, 2, 3, 1) - x


class IdentityMixer(nn.Identity):
    """Returns its input.

    Args:
        dim: Unused.
        num_heads: Unused.
    """

    def __init__(self, dim: int, num_heads: int = 1) -> None:
        super().__init__()


def _neighborhood(place: Place) -> list[Choice]:
    return [(NeighborhoodAttention, {"kernel_size": place.kernel_size})]


def _dilated_neighborhood(place: Place) -> list[Choice]:
    size = place.kernel_size
    return [
        (NeighborhoodAttention, {"kernel_size": size, "dilation": dilation})
        for dilation in (1, max(1, place.side // size))
    ]


def _window(place: Place) -> list[Choice]:
    return [(WindowAttention, {"window_size": place.window})]


def _halo(place: Place) -> list[Choice]:
    halo = 0 if place.window >= place.side else min(3, place.window // 2)
    return [
        (HaloAttention, {"block_size": place.window, "halo_size": halo, "qkv_bias": True, "proj": True}),
    ]


def _agent(place: Place) -> list[Choice]:
    return [(AgentAttention, {"num_agents": place.agents_side**2, "grid_size": place.side})]


def _biformer(place: Place) -> list[Choice]:
    return [(BiLevelRoutingAttention, {"num_regions": place.window, "topk": place.topk})]


def _lka(place: Place) -> list[Choice]:
    return [(LargeKernelAttention, {"kernel_size": max(3, min(21, 2 * place.side - 1))})]


MIXERS: dict[str, Callable[[Place], list[Choice]]] = {
    "pool": lambda place: [(PoolMixer, {})],
    "identity": lambda place: [(IdentityMixer, {})],
    "full": lambda place: [(FullAttention, {"qkv_bias": True, "lepe": None})],
    "neighborhood": _neighborhood,
    "dilated_neighborhood": _dilated_neighborhood,
    "window": _window,
    "dual": lambda place: [*_window(place), (ChannelAttention, {})],
    "halo": _halo,
    "agent": _agent,
    "biformer": _biformer,
    "lka": _lka,
    "eca": lambda place: [(EfficientChannelAttentionMixer, {})],
}
"""Maps each name to the modules that the blocks alternate between, with their arguments at a place in the body."""


def register_mixer(
    name: str, settings: Callable[[Place], Mapping[str, Any]] | None = None
) -> Callable[[Callable[..., nn.Module]], Any]:
    """Returns a decorator that registers a token mixer, so that `mixer=name` builds it.

    The mixer is a module class, `Mixer(dim, num_heads, **own)`, that maps (B, H, W, C) to (B, H, W, C) for any H and W.

    Args:
        name: Name of the mixer.
        settings: Returns the arguments that follow from the place in the body, such as a window size.

    Raises:
        ValueError: The name is taken.
    """
    if name in MIXERS:
        raise ValueError(f"The mixer {name!r} is already registered. Choose another name.")

    def register(mixer: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        MIXERS[name] = lambda place: [(mixer, {} if settings is None else dict(settings(place)))]
        return mixer

    return register


def make_mixer(name: str, place: Place, index: int, kwargs: Mapping[str, Any]) -> nn.Module:
    """Builds the mixer of a block.

    Args:
        name: One of `MIXERS`.
        place: Place of the block.
        index: Index of the block in the network, by which mixers of two modules alternate.
        kwargs: Arguments of the user, which override those that follow from `place`. If a mixer consists of two
            modules, each gets the arguments that it has.

    Raises:
        ValueError: There is no such mixer, it has no such argument, or an argument is invalid.
    """
    check_choice("mixer", str(name), MIXERS)
    choices = MIXERS[name](place)
    known = [set(inspect.signature(build).parameters) - {"self", "dim", "num_heads"} for build, _ in choices]
    for key in kwargs:
        if not any(key in names for names in known):
            raise ValueError(unknown_name(f"argument of the mixer {name!r}", key, sorted(set().union(*known))))
    turn = index % len(choices)
    build, settings = choices[turn]
    own = {key: value for key, value in kwargs.items() if key in known[turn]}
    return build(place.dim, place.num_heads, **{**settings, **own})


class Stem(nn.Module):
    """An overlapping convolution: 7x7 for stride 4, 3x3 for strides 2 and 1."""

    def __init__(self, in_chans: int, dim: int, stride: int) -> None:
        super().__init__()
        kernels = {1: 3, 2: 3, 4: 7}
        if stride not in kernels:
            raise ValueError(f"stem_stride must be 1, 2 or 4, got {stride!r}.")
        self.proj = nn.Conv2d(in_chans, dim, kernels[stride], stride=stride, padding=kernels[stride] // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, ceil(H / stride), ceil(W / stride), dim)."""
        return self.proj(channels_last(x)).permute(0, 2, 3, 1)


class Downsample(nn.Module):
    """An overlapping 3x3 convolution of stride 2."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, in_dim) to (B, ceil(H / 2), ceil(W / 2), dim)."""
        return self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class MetaFormer(Backbone):
    """A hierarchical body with any token mixer.

    Linear layers are initialized from a truncated normal with std 0.02, convolutions with PyTorch's defaults, and
    mixers as in their families.

    Args:
        depths: Number of blocks per stage.
        embed_dims: Number of channels per stage.
        mixer: One of `MIXERS` for all stages, or one per stage.
        mixer_kwargs: Further arguments of the mixers, such as `kernel_size` of neighborhoods or `topk` of bi-level
            routing: one dict for all stages, or one (or None) per stage. They override those of `Place`.
        img_size: Side in pixels of the images that windows, regions, biases and agents are sized for. Images of other
            sizes work, too.
        head_dim: Number of channels per attention head; must divide all `embed_dims`.
        mlp_ratio: Hidden channels of the MLPs relative to the stage's channels.
        layer_scale: Initial value of a learned factor per channel on each residual branch; None for no factors.
        stem_stride: Stride of the stem in pixels: 1, 2 or 4.
        num_classes: Number of classes; 0 for no classifier.
        in_chans: Number of image channels.
        global_pool: "avg", "max" or "" (no pooling, which requires `num_classes=0`).
        drop_rate: Dropout rate before the classifier.
        proj_drop_rate: Dropout rate in the MLPs.
        drop_path_rate: Stochastic depth rate of the last block; the rates grow linearly from 0.
        norm_eps: Epsilon of the layer norms.

    Raises:
        ValueError: An argument is out of range or inconsistent with another; the message names it.
    """

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 6, 2),
        embed_dims: Sequence[int] = (64, 128, 320, 512),
        mixer: str | Sequence[str] = "pool",
        mixer_kwargs: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
        img_size: int = 224,
        head_dim: int = 32,
        mlp_ratio: float = 4.0,
        layer_scale: float | None = 1e-5,
        *,
        stem_stride: int = 4,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        check_stages(depths=depths, embed_dims=embed_dims)
        check_positive("head_dim", head_dim)
        for index, dim in enumerate(embed_dims):
            if dim % head_dim:
                raise ValueError(f"head_dim must divide embed_dims[{index}], got {head_dim} and {dim} channels.")
        check_positive("img_size", img_size)
        check_rates(proj_drop_rate=proj_drop_rate, drop_path_rate=drop_path_rate)
        check_mlp_ratio(mlp_ratio, min(embed_dims))
        self.mixers = tuple(per_stage("mixer", mixer, len(depths), str))
        self._set_sizes(num_classes, in_chans, embed_dims[-1])

        kwargs = per_stage("mixer_kwargs", mixer_kwargs, len(depths), Mapping)
        rates = drop_path_rates(drop_path_rate, depths)

        def block(stage: int, index: int) -> nn.Module:
            dim, stride = embed_dims[stage], stem_stride * 2**stage
            place = Place(dim, dim // head_dim, -(-img_size // stride))
            mixing = make_mixer(self.mixers[stage], place, sum(depths[:stage]) + index, kwargs[stage] or {})
            return TransformerBlock(
                dim,
                mixing,
                mlp_ratio,
                layer_scale=layer_scale,
                proj_drop=proj_drop_rate,
                drop_path=rates[stage][index],
                norm_eps=norm_eps,
            )

        self.stem = Stem(in_chans, embed_dims[0], stem_stride)
        self.stages = nn.Sequential()
        for stage, (depth, dim) in enumerate(zip(depths, embed_dims, strict=True)):
            downsample = Downsample(embed_dims[stage - 1], dim) if stage else nn.Identity()
            stride = stem_stride * 2**stage
            self._append_stage(Stage(downsample, [block(stage, index) for index in range(depth)]), dim, stride)
        self.min_input_size = self.feature_info[-1]["reduction"]
        self.norm = nn.LayerNorm(self.num_features, eps=norm_eps)
        self.head = PooledHead(self.num_features, num_classes, global_pool, drop_rate)

    def no_weight_decay(self) -> set[str]:
        """Returns the names of the parameters without weight decay: position biases and embeddings of the mixers."""
        return {name for name, _ in self.named_parameters() if name.endswith((".rpb", "_bias", "_embedding"))}


def checkpoint_filter_fn(state_dict: Mapping[str, torch.Tensor], model: MetaFormer) -> dict[str, torch.Tensor]:
    """Removes the prefixes of wrappers and task models; nothing was published for these bodies.

    Args:
        state_dict: Tensors by name.
        model: Model to load into.

    Returns:
        A new dict for `model.load_state_dict(..., strict=True)`.
    """
    return strip_prefixes(state_dict)


_METAFORMER = PretrainedCfg(
    first_conv="stem.proj",
    classifier="head.fc",
    pool_size=(7, 7),
    paper="MetaFormer Is Actually What You Need for Vision",
    paper_url="https://arxiv.org/abs/2111.11418",
    note="A body for comparing token mixers. PoolFormer's published weights do not fit, because its norms differ. "
    "Parameters and multiply-accumulates are those of the default mixer, pooling.",
)

default_cfgs = {
    "metaformer_micro.untrained": replace(
        _METAFORMER, input_size=(3, 32, 32), pool_size=(2, 2), crop_pct=1.0, params=671336, macs=0.012
    ),
    "metaformer_s12.untrained": replace(_METAFORMER, params=11915176, macs=1.8123),
    "metaformer_s24.untrained": replace(_METAFORMER, params=21388968, macs=3.3922),
    "metaformer_s36.untrained": replace(_METAFORMER, params=30862760, macs=4.9722),
}


@register_model
def metaformer_micro(**kwargs: Any) -> MetaFormer:
    """Builds a body for quick comparisons on 32x32 images: maps of 16, 8, 4 and 2, no layer scale."""
    own: dict[str, Any] = {"img_size": 32, "stem_stride": 2, "layer_scale": None}
    return MetaFormer(**{"depths": (1, 2, 2, 1), "embed_dims": (32, 64, 96, 128), **own, **kwargs})


@register_model
def metaformer_s12(**kwargs: Any) -> MetaFormer:
    """Builds a body of PoolFormer-S12's size: 11.9 M parameters, 1.8 G multiply-accumulates at 224x224 with pooling."""
    return MetaFormer(**{"depths": (2, 2, 6, 2), **kwargs})


@register_model
def metaformer_s24(**kwargs: Any) -> MetaFormer:
    """Builds a body of PoolFormer-S24's size: 21.4 M parameters, 3.4 G multiply-accumulates at 224x224 with pooling."""
    return MetaFormer(**{"depths": (4, 4, 12, 4), **kwargs})


@register_model
def metaformer_s36(**kwargs: Any) -> MetaFormer:
    """Builds a body of PoolFormer-S36's size: 30.9 M parameters, 5.0 G multiply-accumulates at 224x224 with pooling."""
    return MetaFormer(**{"depths": (6, 6, 18, 6), **kwargs})
