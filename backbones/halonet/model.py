"""The bottlenecks and the model of the HaloNet family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from timm import layers as timm_layers
from torch import nn

from ..common.backbone import Backbone
from ..common.blocks import DropPath, Stage, drop_path_rates
from ..common.channel_attention import EfficientChannelAttention, SqueezeExcite
from ..common.checks import check_choice, check_positive, check_rates, check_stages
from ..common.conv import ConvNormAct, channels_last
from ..common.fast_paths import can_run_in_place
from ..common.head import PooledHead
from ..common.init import init_conv
from .attention import GlobalRelativeAttention, HaloAttention, LambdaLayer

# timm documents it in timm.layers but does not mark it as exported, so pyright considers it private.
make_divisible = timm_layers.make_divisible  # pyright: ignore[reportPrivateImportUsage]

Activation = Literal["relu", "silu"]
Gate = Literal["se", "eca"]
Shortcut = Literal["changed", "first", "none"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "silu": partial(nn.SiLU, inplace=True),
}
_SHORTCUTS = ("changed", "first", "none")
_GATES = ("se", "eca")
_STEMS = {"tiered": (3, (24, 32, 64)), "7x7": (7, (64,)), "3x3": (3, (32,))}
"""Kernel size and channels of each convolution of a stem; the first has stride 2."""
_KINDS = {"c": "convolution", "h": "halo attention", "g": "global attention", "l": "lambda layer"}


class Bottleneck(nn.Module):
    """A residual block: 1x1 convolution, spatial mixing, 1x1 convolution; feature maps are NCHW.

    Args:
        in_chans: Number of input channels.
        hidden: Number of output channels of the first convolution.
        mixed: Number of output channels of the spatial mixing.
        out_chans: Number of output channels.
        stride: Stride of the spatial mixing.
        projects: Whether the shortcut is a 1x1 convolution; None for no shortcut.
        act: Activation constructor.
        acts_last: Whether an activation follows the sum.
        drop_path: Stochastic depth rate; a block without a shortcut is never dropped.
    """

    def __init__(
        self,
        in_chans: int,
        hidden: int,
        mixed: int,
        out_chans: int,
        *,
        stride: int,
        projects: bool | None,
        act: Callable[[], nn.Module],
        acts_last: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.has_shortcut = projects is not None
        self.conv1 = ConvNormAct(in_chans, hidden, act_layer=act)
        self.conv3 = ConvNormAct(mixed, out_chans, act_layer=None)
        self.shortcut = ConvNormAct(in_chans, out_chans, stride=stride, act_layer=None) if projects else nn.Identity()
        self.drop_path = DropPath(drop_path) if drop_path and self.has_shortcut else nn.Identity()
        self.act = act() if acts_last else nn.Identity()

    def mix(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, hidden, H, W) to (B, mixed, ceil(H / stride), ceil(W / stride))."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor, owns_input: bool = False) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, out_chans, ceil(H / stride), ceil(W / stride)).

        Args:
            x: Input of the block.
            owns_input: Whether the output may overwrite the input in inference.
        """
        out = self.mix(self.conv1(x))
        if self.has_shortcut and can_run_in_place(self, x):
            shortcut = self.shortcut(x)
            if shortcut is x and not owns_input:
                return self.act(self.conv3(out).add_(shortcut))
            return self.act(self.conv3.add_to_(shortcut, out))
        out = self.drop_path(self.conv3(out))
        return self.act(out + self.shortcut(x) if self.has_shortcut else out)


class ConvBottleneck(Bottleneck):
    """A bottleneck with a 3x3 convolution and an optional channel gate."""

    def __init__(
        self,
        in_chans: int,
        hidden: int,
        out_chans: int,
        *,
        stride: int,
        groups: int,
        gate: Callable[[int], nn.Module] | None,
        projects: bool | None,
        act: Callable[[], nn.Module],
        acts_last: bool,
        drop_path: float,
    ) -> None:
        super().__init__(
            in_chans,
            hidden,
            hidden,
            out_chans,
            stride=stride,
            projects=projects,
            act=act,
            acts_last=acts_last,
            drop_path=drop_path,
        )
        self.conv2 = ConvNormAct(hidden, hidden, 3, stride, groups=groups, act_layer=act)
        self.gate = nn.Identity() if gate is None else gate(hidden)

    def mix(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, hidden, H, W) to (B, hidden, ceil(H / stride), ceil(W / stride))."""
        return self.gate(self.conv2(x))


class AttentionBottleneck(Bottleneck):
    """A bottleneck with attention, followed by BatchNorm and an activation unless `norms` is False."""

    def __init__(
        self,
        in_chans: int,
        hidden: int,
        mixed: int,
        out_chans: int,
        *,
        attn: nn.Module,
        stride: int,
        norms: bool,
        projects: bool | None,
        act: Callable[[], nn.Module],
        acts_last: bool,
        drop_path: float,
    ) -> None:
        super().__init__(
            in_chans,
            hidden,
            mixed,
            out_chans,
            stride=stride,
            projects=projects,
            act=act,
            acts_last=acts_last,
            drop_path=drop_path,
        )
        self.attn = attn
        self.norm = nn.BatchNorm2d(mixed) if norms else nn.Identity()
        self.norm_act = act() if norms else nn.Identity()

    def mix(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, hidden, H, W) to (B, mixed, ceil(H / stride), ceil(W / stride))."""
        x = self.attn(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.norm_act(self.norm(x))


class HaloStage(Stage):
    """Bottlenecks of one resolution; in CPU inference, each one except the first overwrites its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps the output of the previous stage to this stage's output."""
        if not can_run_in_place(self, x):
            return super().forward(x)
        x = self.downsample(x)
        for index, block in enumerate(self.blocks):
            x = block(x, owns_input=index > 0) if isinstance(block, Bottleneck) else block(x)
        return x


class Stem(nn.Sequential):
    """Convolutions with BatchNorm (`conv1`, `conv2`, ...), the first one with stride 2; output is channels-last."""

    def __init__(self, in_chans: int, kernel_size: int, dims: Sequence[int], act: Callable[[], nn.Module]) -> None:
        super().__init__()
        for index, (before, after) in enumerate(zip((in_chans, *dims), dims, strict=False)):
            layer = ConvNormAct(before, after, kernel_size, 1 if index else 2, act_layer=act)
            self.add_module(f"conv{index + 1}", layer)
        self.out_chans = dims[-1]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Maps images (B, in_chans, H, W) to (B, dims[-1], ceil(H / 2), ceil(W / 2))."""
        # Channels-last makes the (B, H, W, C) layout of the attentions a view, and convolutions preserve it.
        return super().forward(channels_last(input))


class HaloNet(Backbone):
    """A residual network whose bottlenecks use convolutions or halo attention.

    Feature maps have strides 2 (stem), 4, 8, 16 and 32. Initialization follows timm: convolutions normal with variance
    2 / fan_out, attention projections truncated normal with std fan_in ** -0.5, relative embeddings with std head_dim
    ** -0.5, zero weights for the last BatchNorm of blocks with a shortcut, and std 0.01 for the classifier.

    Args:
        blocks: Blocks of each stage, one letter each: "c" 3x3 convolution, "h" halo attention, "g" global attention,
            "l" lambda layer.
        embed_dims: Number of channels of each stage.
        hidden_dims: Number of channels inside the bottlenecks of each stage; None if `expansion` sets them.
        num_heads: Number of attention heads of each stage.
        block_size: Side of the query blocks of halo attention.
        halo_size: Number of positions that a window extends beyond its block on each side.
        stem: "tiered" (three 3x3 convolutions with 24, 32 and 64 channels), "7x7" (64) or "3x3" (32).
        stem_pool: How the feature map is halved after the stem: True for a 3x3 max pooling, False for stride 2 in the
            last convolution of a tiered stem, or in the first block otherwise.
        expansion: Ratio of the channels inside a bottleneck to its input channels.
        value_ratio: Ratio of halo attention's value channels to `hidden_dims`; queries and keys have `hidden_dims`.
        qk_ratio: Ratio of query and key channels to `hidden_dims`, rounded to a multiple of 8.
        qk_head_dim: Query and key channels per head; overrides `qk_ratio`.
        group_width: Channels per group of the 3x3 convolutions; None for one group.
        gate: "se" or "eca" after the 3x3 convolutions; None for no gate.
        gate_ratio: Ratio of the hidden channels of "se" to its channels, rounded up to a multiple of 8.
        lambda_kernel_size: Kernel size of the lambda layers' convolution.
        table_size: Side of the feature map that global attention's embeddings are built for.
        attn_norms: Whether BatchNorm and an activation follow each attention.
        shortcut: Where shortcuts are 1x1 convolutions: "changed" (where the shape changes) or "first" (in the first
            block of each stage). "none" removes shortcuts where the shape changes.
        acts_last: Whether a block ends with an activation.
        act: "relu" or "silu".
        final_dim: Number of channels of a final 1x1 convolution in the last stage; None for no convolution.
        num_classes: Number of classes; 0 for no classifier.
        in_chans: Number of channels of the images.
        global_pool: "avg", "max", or "" for no pooling (requires num_classes=0).
        drop_rate: Dropout rate before the classifier.
        drop_path_rate: Stochastic depth rate of the last block; rates increase linearly from 0.
        mask_halo: Whether positions outside the feature map are masked in halo attention.

    Attributes:
        moved_modules: Maps timm's names of modules that are in another place here to their names here.

    Raises:
        ValueError: An argument is out of range or inconsistent with another one.
    """

    stem_is_level = True
    map_layout = "NCHW"
    moved_modules: dict[str, str]

    def __init__(
        self,
        blocks: Sequence[str] = ("cc", "cc", "ch", "hh"),
        embed_dims: Sequence[int] = (256, 512, 1024, 2048),
        hidden_dims: Sequence[int] | None = (64, 128, 256, 512),
        num_heads: Sequence[int] = (8, 8, 8, 8),
        block_size: int = 8,
        halo_size: int = 3,
        *,
        stem: Literal["tiered", "7x7", "3x3"] = "tiered",
        stem_pool: bool = True,
        expansion: int | None = None,
        value_ratio: float = 1.0,
        qk_ratio: float = 1.0,
        qk_head_dim: int | None = None,
        group_width: int | None = None,
        gate: Gate | None = None,
        gate_ratio: float = 1 / 16,
        lambda_kernel_size: int = 13,
        table_size: int = 8,
        attn_norms: bool = True,
        shortcut: Shortcut = "changed",
        acts_last: bool = True,
        act: Activation = "relu",
        final_dim: int | None = None,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        mask_halo: bool = False,
    ) -> None:
        super().__init__()
        _check_arguments(blocks, embed_dims, hidden_dims, num_heads, expansion)
        check_choice("stem", stem, _STEMS)
        check_choice("shortcut", shortcut, _SHORTCUTS)
        check_choice("act", act, _ACTIVATIONS)
        check_positive("in_chans", in_chans)
        check_rates(drop_path_rate=drop_path_rate)
        self.num_classes = num_classes
        self.in_chans = in_chans
        attention = _AttentionFactory(
            block_size, halo_size, mask_halo, qk_ratio, qk_head_dim, table_size, lambda_kernel_size
        )
        bottleneck = _BottleneckFactory(
            attention, value_ratio, attn_norms, group_width, _gate(gate, gate_ratio), _ACTIVATIONS[act], acts_last
        )
        self.stem, downsample, self.moved_modules = _build_stem(stem, stem_pool, in_chans, _ACTIVATIONS[act])
        first_stride = 2 if isinstance(downsample, nn.Identity) else 1
        stem_dim = _STEMS[stem][1][-1]
        shapes = _block_shapes(blocks, embed_dims, hidden_dims, expansion, shortcut, stem_dim, first_stride)
        rates = drop_path_rates(drop_path_rate, [len(kinds) for kinds in blocks])
        self.stages = nn.Sequential()
        for index, heads in enumerate(num_heads):
            built = [bottleneck(shape, heads, rate) for shape, rate in zip(shapes[index], rates[index], strict=True)]
            self.stages.append(HaloStage(nn.Identity() if index else downsample, built))
        self._finish(embed_dims, final_dim, global_pool, drop_rate, _ACTIVATIONS[act])

    def _finish(
        self,
        embed_dims: Sequence[int],
        final_dim: int | None,
        global_pool: str,
        drop_rate: float,
        act: Callable[[], nn.Module],
    ) -> None:
        """Builds the final convolution and the head, describes the feature maps, and initializes all weights."""
        channels = [self.stem.out_chans, *embed_dims]
        if final_dim is not None:
            check_positive("final_dim", final_dim)
            last: Any = self.stages[-1]
            self.moved_modules["final_conv"] = f"stages.{len(self.stages) - 1}.blocks.{len(last.blocks)}"
            last.blocks.append(ConvNormAct(channels[-1], final_dim, act_layer=act))
            channels[-1] = final_dim
        self.norm = nn.Identity()
        self.num_features = self.head_hidden_size = channels[-1]
        self.head = PooledHead(self.num_features, self.num_classes, global_pool, drop_rate)
        names = ("stem", *(f"stages.{index}" for index in range(len(self.stages))))
        self.feature_info = [
            {"num_chs": width, "reduction": 2 ** (level + 1), "module": name}
            for level, (width, name) in enumerate(zip(channels, names, strict=True))
        ]
        self._init_weights()

    def _init_weights(self) -> None:
        """Initializes convolutions, last BatchNorms and the classifier as described for the class."""
        for module in self.modules():
            if isinstance(module, (ConvNormAct, SqueezeExcite)):
                module.apply(init_conv)
            elif isinstance(module, Bottleneck) and module.has_shortcut:
                nn.init.zeros_(module.conv3.bn.weight)
        if isinstance(self.head.fc, nn.Linear):
            nn.init.normal_(self.head.fc.weight, std=0.01)


class _BlockShape(NamedTuple):
    """Kind, channels, stride and shortcut of a block (see `Bottleneck`)."""

    kind: str
    in_chans: int
    hidden: int
    out_chans: int
    stride: int
    projects: bool | None


def _block_shapes(
    blocks: Sequence[str],
    embed_dims: Sequence[int],
    hidden_dims: Sequence[int] | None,
    expansion: int | None,
    shortcut: Shortcut,
    in_chans: int,
    first_stride: int,
) -> list[list[_BlockShape]]:
    """Returns the shape of each block of each stage; `in_chans` and `first_stride` are those of the first one."""
    shapes = []
    for index, (kinds, out_chans) in enumerate(zip(blocks, embed_dims, strict=True)):
        shapes.append([])
        for place, kind in enumerate(kinds):
            stride = 1 if place else 2 if index else first_stride
            hidden = in_chans * expansion if expansion else (hidden_dims or ())[index]
            changes = stride > 1 or in_chans != out_chans
            projects: bool | None = place == 0 if shortcut == "first" else changes
            if shortcut == "none" and changes:
                projects = None
            shapes[-1].append(_BlockShape(kind, in_chans, hidden, out_chans, stride, projects))
            in_chans = out_chans
    return shapes


@dataclass(frozen=True)
class _AttentionFactory:
    """Builds the attention modules of bottlenecks; fields are arguments of `HaloNet`."""

    block_size: int
    halo_size: int
    mask_halo: bool
    qk_ratio: float
    qk_head_dim: int | None
    table_size: int
    lambda_kernel_size: int

    def __call__(self, kind: str, dim: int, dim_out: int, heads: int, stride: int) -> nn.Module:
        if kind == "g":
            return GlobalRelativeAttention(dim, heads, self.table_size, stride=stride)
        if kind == "l":
            return LambdaLayer(dim, heads, self.lambda_kernel_size, stride=stride)
        default = make_divisible(dim * self.qk_ratio, 8) // heads
        return HaloAttention(
            dim,
            heads,
            self.block_size,
            self.halo_size,
            dim_out=dim_out,
            qk_head_dim=default if self.qk_head_dim is None else self.qk_head_dim,
            stride=stride,
            mask_halo=self.mask_halo,
        )


@dataclass(frozen=True)
class _BottleneckFactory:
    """Builds bottlenecks; fields are arguments of `HaloNet`, resolved."""

    attention: _AttentionFactory
    value_ratio: float
    attn_norms: bool
    group_width: int | None
    gate: Callable[[int], nn.Module] | None
    act: Callable[[], nn.Module]
    acts_last: bool

    def __call__(self, shape: _BlockShape, heads: int, drop_path: float) -> Bottleneck:
        kind, in_chans, hidden, out_chans, stride, projects = shape
        options: dict[str, Any] = {
            "stride": stride,
            "projects": projects,
            "act": self.act,
            "acts_last": self.acts_last,
            "drop_path": drop_path,
        }
        if kind == "c":
            if self.group_width and hidden % self.group_width:
                raise ValueError(f"group_width must divide {hidden} channels, got {self.group_width}.")
            groups = hidden // self.group_width if self.group_width else 1
            return ConvBottleneck(in_chans, hidden, out_chans, groups=groups, gate=self.gate, **options)
        mixed = int(hidden * self.value_ratio) if kind == "h" else hidden
        attn = self.attention(kind, hidden, mixed, heads, stride)
        return AttentionBottleneck(in_chans, hidden, mixed, out_chans, attn=attn, norms=self.attn_norms, **options)


def _build_stem(
    stem: str, stem_pool: bool, in_chans: int, act: Callable[[], nn.Module]
) -> tuple[Stem, nn.Module, dict[str, str]]:
    """Builds the stem, the downsampling before the first stage, and the table of timm names that this moves."""
    kernel_size, dims = _STEMS[stem]
    halves_in_stem = len(dims) > 1 and not stem_pool
    built = Stem(in_chans, kernel_size, dims[:-1] if halves_in_stem else dims, act)
    if stem_pool:
        return built, nn.MaxPool2d(3, stride=2, padding=1), {}
    if not halves_in_stem:
        return built, nn.Identity(), {}
    downsample = ConvNormAct(dims[-2], dims[-1], kernel_size, stride=2, act_layer=act)
    return built, downsample, {f"stem.conv{len(dims)}": "stages.0.downsample"}


def _gate(kind: Gate | None, ratio: float) -> Callable[[int], nn.Module] | None:
    """Returns a constructor of gates for a number of channels."""
    if kind is None:
        return None
    check_choice("gate", kind, _GATES)
    if kind == "eca":
        return EfficientChannelAttention
    return lambda channels: SqueezeExcite(channels, make_divisible(channels * ratio, 8, round_limit=0.0))


def _check_arguments(
    blocks: Sequence[str],
    embed_dims: Sequence[int],
    hidden_dims: Sequence[int] | None,
    num_heads: Sequence[int],
    expansion: int | None,
) -> None:
    """Raises a ValueError unless the arguments have one entry per stage and all letters are known."""
    if (hidden_dims is None) == (expansion is None):
        raise ValueError(
            f"Exactly one of hidden_dims and expansion must be given, got {hidden_dims!r} and {expansion!r}."
        )
    hidden = {} if hidden_dims is None else {"hidden_dims": hidden_dims}
    check_stages(embed_dims=embed_dims, others={"blocks": blocks, "num_heads": num_heads, **hidden})
    for kinds in blocks:
        wrong = sorted(set(kinds) - _KINDS.keys())
        if wrong or not kinds:
            allowed = ", ".join(f"{letter!r} ({meaning})" for letter, meaning in _KINDS.items())
            raise ValueError(f"Each stage of blocks must consist of the letters {allowed}, got {kinds!r}.")
