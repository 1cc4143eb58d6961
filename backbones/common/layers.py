"""What backbones share: their contract, the head, feature maps for dense prediction, padding, checks of arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, overload

import torch
import torch.nn.functional as F
from timm import layers as timm_layers
from timm.models import FeatureInfo, checkpoint
from torch import nn

from ...names import unknown_name
from ..registry import checkpoint_filter
from .linear import Mlp

__all__ = [
    "Backbone",
    "DropPath",
    "FeatureMaps",
    "LayerScale",
    "Mlp",
    "PatchMerging",
    "PatchStem",
    "PooledHead",
    "Stage",
    "check_heads",
    "check_image_size",
    "check_positive",
    "check_rate",
    "check_stages",
    "drop_path_rates",
    "init_linear",
    "pad_bottom_right",
    "strip_prefixes",
    "take_indices",
    "trunc_normal_",
]

# timm.layers is where timm documents these, but it does not mark them as exported, so pyright takes them for private.
DropPath = timm_layers.DropPath  # pyright: ignore[reportPrivateImportUsage]
LayerScale = timm_layers.LayerScale  # pyright: ignore[reportPrivateImportUsage]
_timm_trunc_normal_ = timm_layers.trunc_normal_  # pyright: ignore[reportPrivateImportUsage]

POOLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "": lambda x: x,
    "avg": lambda x: x.mean(dim=(2, 3)),
    "max": lambda x: x.amax(dim=(2, 3)),
}
"""How a head makes a vector (B, C) of a map (B, C, H, W); the empty name keeps the map."""


def trunc_normal_(tensor: torch.Tensor, std: float) -> torch.Tensor:
    """Fills a tensor from a normal distribution of mean 0, cut at -2 and 2, and returns it.

    On the meta device, which holds no values, nothing is drawn: it would be most of a model's building time there.
    """
    return tensor if tensor.is_meta else _timm_trunc_normal_(tensor, std=std)


def check_rate(name: str, rate: float) -> None:
    """Raises a ValueError unless 0 <= rate < 1."""
    if not 0 <= rate < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, but is {rate!r}.")


def check_positive(name: str, value: int, least: int = 1) -> None:
    """Raises a ValueError unless `value` is an int and at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, but is {value!r}.")


def check_heads(dim: int, num_heads: int) -> None:
    """Raises a ValueError unless the heads divide the channels."""
    check_positive("dim", dim)
    check_positive("num_heads", num_heads)
    if dim % num_heads:
        raise ValueError(f"num_heads must divide the channels, but {dim} channels have {num_heads} heads.")


def check_stages(depths: Sequence[int], embed_dims: Sequence[int], num_heads: Sequence[int], least: int = 1) -> None:
    """Raises a ValueError unless the three name the same stages, of at least one block and `least` channels each."""
    if not len(depths) or not len(depths) == len(embed_dims) == len(num_heads):
        raise ValueError(
            "depths, embed_dims and num_heads need one number a stage, "
            f"but have {len(depths)}, {len(embed_dims)} and {len(num_heads)}."
        )
    for index, (depth, dim, heads) in enumerate(zip(depths, embed_dims, num_heads, strict=True)):
        check_positive(f"depths[{index}]", depth)
        check_positive(f"embed_dims[{index}]", dim, least)
        check_positive(f"num_heads[{index}]", heads)
        if dim % heads:
            raise ValueError(f"num_heads[{index}] = {heads} must divide embed_dims[{index}] = {dim}.")


def check_image_size(x: torch.Tensor, least: int) -> None:
    """Raises a ValueError unless the images (B, C, H, W) are at least `least` pixels high and wide."""
    if x.ndim != 4:
        raise ValueError(f"Images must have the shape (batch, channels, height, width), but have {tuple(x.shape)}.")
    if min(x.shape[2:]) < least:
        raise ValueError(
            f"Images must be at least {least} pixels high and wide for this model, "
            f"but are {x.shape[2]} high and {x.shape[3]} wide."
        )


def init_linear(module: nn.Module) -> None:
    """Initialises a linear layer: weights from a truncated normal of std 0.02, no bias. For `Module.apply`."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def drop_path_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Spaces the rates of stochastic depth linearly over all blocks, from 0 to `rate`; one list a stage."""
    total = sum(depths)
    rates = [rate * index / max(total - 1, 1) for index in range(total)]
    starts = [sum(depths[:index]) for index in range(len(depths))]
    return [rates[start : start + depth] for start, depth in zip(starts, depths, strict=True)]


def pad_bottom_right(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pads maps (B, H, W, C) with zeros below and on the right to at least (B, height, width, C)."""
    rows, cols = max(0, height - x.shape[1]), max(0, width - x.shape[2])
    return F.pad(x, (0, 0, 0, cols, 0, rows)) if rows or cols else x


def take_indices(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """Says which of `count` stages are meant, in the network's order.

    Args:
        count: number of stages.
        indices: None for all, an int for the last n, or their indices (negative ones count from the end).

    Raises:
        ValueError: an index is out of range or given twice, or none is given.
    """
    if indices is None:
        return list(range(count))
    if isinstance(indices, int):
        if not 0 < indices <= count:
            raise ValueError(f"The number of stages to take must be 1 to {count}, but is {indices}.")
        return list(range(count - indices, count))
    wrong = [index for index in indices if not -count <= index < count]
    if wrong:
        raise ValueError(f"There are {count} stages, 0 to {count - 1}; {wrong} are none of them.")
    taken = sorted(index % count for index in indices)
    if not taken or len(set(taken)) < len(taken):
        raise ValueError(f"Each stage can be taken once, and at least one must be; given was {list(indices)}.")
    return taken


class PooledHead(nn.Module):
    """Pools a feature map and classifies it: pooling, a norm if the design has one here, dropout, a linear layer `fc`.

    Args:
        in_features: channels of the map.
        num_classes: 0 leaves the layer out.
        global_pool: "avg", "max", or "" to return the map itself, which needs `num_classes` 0.
        drop_rate: of the dropout before the linear layer.
        norm_layer: makes the norm of what was pooled from its channels; None for none.

    Attributes:
        poolings: how a vector is made of what the head is given, by name.
    """

    poolings: ClassVar[Mapping[str, Callable[[torch.Tensor], torch.Tensor]]] = POOLINGS

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        norm_layer: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        check_rate("drop_rate", drop_rate)
        self.in_features = in_features
        self.norm = nn.Identity() if norm_layer is None else norm_layer(in_features)
        self.drop = nn.Dropout(drop_rate)
        self.global_pool = global_pool
        self.reset(num_classes)

    def reset(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the classifier by a new one, initialised with a truncated normal of std 0.02 and zero biases.

        Args:
            num_classes: 0 removes the classifier.
            global_pool: None leaves the pooling as it is.

        Raises:
            ValueError: there is no such pooling, `num_classes` is negative, or a classifier would see an unpooled map.
        """
        global_pool = self.global_pool if global_pool is None else global_pool
        check_positive("num_classes", num_classes, least=0)
        if global_pool not in self.poolings:
            raise ValueError(unknown_name("global_pool", global_pool, self.poolings))
        if num_classes and not global_pool:
            raise ValueError(f"global_pool='' returns maps, which {num_classes} classes cannot be told from.")
        old = getattr(self, "fc", None)
        place = {"device": old.weight.device, "dtype": old.weight.dtype} if isinstance(old, nn.Linear) else {}
        self.global_pool = global_pool
        self.fc = nn.Linear(self.in_features, num_classes, **place) if num_classes else nn.Identity()
        init_linear(self.fc)

    def forward(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Maps (B, C, H, W) to (B, num_classes), or with `pre_logits` (or without classes) to what the layer sees."""
        x = self.poolings[self.global_pool](x)
        # Channels are last in a vector, but not in a map that is returned as it is.
        x = self.norm(x) if x.ndim == 2 else self.norm(x.movedim(1, -1)).movedim(-1, 1)
        x = self.drop(x)
        return x if pre_logits else self.fc(x)

    def extra_repr(self) -> str:
        """Says what printing the module shows."""
        return f"global_pool={self.global_pool!r}"


class Stage(nn.Module):
    """Blocks of one resolution, with the downsampling layer that leads to them.

    Args:
        downsample: makes the map of the stage before smaller; an identity where nothing is to be done.
        blocks: what follows.
    """

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps the output of the stage before to this stage's."""
        x = self.downsample(x)
        for block in self.blocks:
            x = checkpoint(block, x) if self.grad_checkpointing and torch.is_grad_enabled() else block(x)
        return x


class PatchStem(nn.Module):
    """Patches of stride x stride pixels, zero-padded below and on the right, then a layer norm, as Swin has it."""

    def __init__(self, in_chans: int, dim: int, stride: int, norm_eps: float) -> None:
        super().__init__()
        check_positive("stem_stride", stride)
        self.stride = stride
        self.proj = nn.Conv2d(in_chans, dim, stride, stride=stride)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, ceil(H / stride), ceil(W / stride), dim)."""
        rows, cols = -x.shape[2] % self.stride, -x.shape[3] % self.stride
        if rows or cols:
            x = F.pad(x, (0, cols, 0, rows))
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Swin's downsampling: the four positions of a 2x2 patch side by side, a layer norm, a linear layer."""

    def __init__(self, in_dim: int, dim: int, norm_eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * in_dim, eps=norm_eps)
        self.reduction = nn.Linear(4 * in_dim, dim, bias=False)
        init_linear(self.reduction)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, in_dim) to (B, ceil(H / 2), ceil(W / 2), dim)."""
        x = pad_bottom_right(x, x.shape[1] + x.shape[1] % 2, x.shape[2] + x.shape[2] % 2)
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], dim=-1)
        return self.reduction(self.norm(x))


class Backbone(nn.Module):
    """What every backbone does alike: timm's model contract, on a stem, stages, a norm and a head.

    A subclass builds the modules and sets the attributes in its constructor; where its design differs, it overrides.

    Attributes:
        stem: makes the first map of the images.
        stages: each makes its map of the one before.
        norm: of the last map.
        head: pools and classifies.
        num_classes: 0 where there is no classifier.
        in_chans: channels of the images.
        num_features: channels of the last map.
        head_hidden_size: channels that the classifier sees.
        feature_info: one dict a stage: num_chs (channels), reduction (stride in pixels), module (name).
        stem_is_level: whether the stem's map comes before the stages' in `feature_info`, as in ResNets at stride 2;
            then it is index 0 wherever stages are chosen by index.
        num_prefix_tokens: tokens, such as a class token, that come before those of the map in what `forward_features`
            returns, (B, num_prefix_tokens + H * W, C) then. 0 where it returns a map.
        cuts_edges: whether rows and columns that do not fill a stride are left out; otherwise they count as if whole.
        min_input_size: least height and width of an image in pixels.
        output_norm: makes the norm of a map that `FeatureMaps` returns from its channels; None for maps without norms.
        is_isotropic: whether all stages have one resolution and width, so that the norm fits each of their maps.
        map_layout: of the maps between stem, stages and norm.
        pretrained_cfg: what was published for the model; `register_model` sets it.
        model_args: the arguments that the model was built with; `register_model` sets them.
    """

    stem: nn.Module
    stages: nn.Sequential
    norm: nn.Module
    head: PooledHead
    num_classes: int
    in_chans: int
    num_features: int
    head_hidden_size: int
    feature_info: list[dict[str, Any]]
    num_prefix_tokens: int = 0
    cuts_edges: bool = False
    min_input_size: int = 1
    output_norm: Callable[[int], nn.Module] | None = None
    is_isotropic: bool = False
    stem_is_level: bool = False
    map_layout: ClassVar[Literal["NCHW", "NHWC"]] = "NHWC"
    pretrained_cfg: dict[str, Any] | None = None
    default_cfg: dict[str, Any] | None = None
    model_args: dict[str, Any] | None = None

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes the blocks' activations in the backward pass instead of keeping them."""
        for module in self.modules():
            if isinstance(module, Stage):
                module.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Names the parameters that weight decay leaves alone."""
        return set()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Gives the layer groups in order, for layer-wise learning rates and freezing; see timm's group_parameters."""
        fine = [
            (r"^stages\.(\d+)\.downsample", (0,)),
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^norm", (99999,)),
        ]
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else fine}

    def get_classifier(self) -> nn.Module:
        """Gives the last layer, an identity where there are no classes."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the classifier; 0 classes remove it. None leaves the pooling as it is."""
        self.head.reset(num_classes, global_pool)
        self.num_classes = num_classes

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Removes the stages after the last one that is asked for; with them, or when asked to, norm and head.

        Returns:
            The stages that are asked for, in order.
        """
        first = int(self.stem_is_level)
        taken = take_indices(first + len(self.stages), indices)
        ends_early = taken[-1] + 1 < first + len(self.stages)
        self.stages = self.stages[: taken[-1] + 1 - first]
        if prune_norm or ends_early:
            self.norm = nn.Identity()
        if prune_head or ends_early:
            self.reset_classifier(0, "")
            self.head.norm = nn.Identity()
        self.num_features = self.head_hidden_size = self.feature_info[taken[-1]]["num_chs"]
        return taken

    @overload
    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: Literal[False] = False,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]: ...
    @overload
    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        *,
        intermediates_only: Literal[True],
    ) -> list[torch.Tensor]: ...
    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[torch.Tensor] | tuple[torch.Tensor, list[torch.Tensor]]:
        """Gives the outputs of chosen stages.

        Args:
            x: images (B, in_chans, H, W).
            indices: stages: None for all, an int for the last n, or their indices.
            norm: whether the final norm is applied to the last stage's map (isotropic bodies: to every map).
            stop_early: whether to leave out the stages after the last one that is asked for.
            output_fmt: "NCHW" or "NHWC".
            intermediates_only: whether to return the list alone.

        Returns:
            The maps, (B, C, H / stride, W / stride) each; before them, unless `intermediates_only`, what
            `forward_features` returns (with `stop_early`, the last map).
        """
        if output_fmt not in ("NCHW", "NHWC"):
            raise ValueError(unknown_name("output_fmt", output_fmt, ("NCHW", "NHWC")))
        check_image_size(x, self.min_input_size)
        first = int(self.stem_is_level)
        taken = take_indices(first + len(self.stages), indices)
        last = first + len(self.stages) - 1
        x = self.stem(x)
        maps = [x] if self.stem_is_level and 0 in taken else []
        for index, stage in enumerate(self.stages, start=first):
            if stop_early and index > taken[-1]:
                break
            x = stage(x)
            if index in taken:
                maps.append(self.norm(x) if norm and (index == last or self.is_isotropic) else x)
        maps = [_to_layout(one, self.map_layout, output_fmt) for one in maps]
        if intermediates_only:
            return maps
        if not stop_early or taken[-1] == last:
            x = self.norm(x)
        return _to_layout(x, self.map_layout, "NCHW"), maps

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Maps images (B, in_chans, H, W) to the normalised last map (B, C, H / stride, W / stride)."""
        check_image_size(x, self.min_input_size)
        return _to_layout(self.norm(self.stages(self.stem(x))), self.map_layout, "NCHW")

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Maps what `forward_features` returns to logits (B, num_classes), or with `pre_logits` to what they see."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps images (B, in_chans, H, W) to logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))


def _to_layout(x: torch.Tensor, given: str, wanted: str) -> torch.Tensor:
    """Views a map in another layout."""
    if given == wanted:
        return x
    return x.permute(0, 3, 1, 2) if given == "NHWC" else x.permute(0, 2, 3, 1)


class FeatureMaps(nn.Module):
    """A backbone that returns the maps of its stages, for detection and segmentation; what `features_only=True` builds.

    The backbone is taken over and loses what the maps do not need: its head, its final norm, its later stages. Where it
    was built for dense prediction (its `output_norm`), each map passes a norm of its own, `norm0`, `norm1`, ...

    Args:
        model: the backbone.
        out_indices: stages to return; None for all, an int for the last n.

    Attributes:
        body: the backbone.
        feature_info: timm's FeatureInfo: `channels()`, `reduction()` (strides in pixels), `module_name()`.
        out_indices: the stages that are returned, in order.
    """

    def __init__(self, model: Backbone, out_indices: int | Sequence[int] | None = None) -> None:
        super().__init__()
        names = set(model.state_dict())
        self.out_indices = take_indices(len(model.feature_info), out_indices)
        self.feature_info = FeatureInfo([dict(stage) for stage in model.feature_info], tuple(self.out_indices))
        model.prune_intermediate_layers(self.out_indices, prune_norm=True, prune_head=True)
        self._pruned = frozenset(names - set(model.state_dict()))
        self.body = model
        self.norm_names = []
        if model.output_norm is not None:
            for index, channels in zip(self.out_indices, self.feature_info.channels(), strict=True):
                self.norm_names.append(f"norm{index}")
                self.add_module(f"norm{index}", model.output_norm(channels))
        self.pretrained_cfg = model.pretrained_cfg
        self.default_cfg = model.default_cfg

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Maps images (B, 3, H, W) to one map (B, C, H / stride, W / stride) an index, channels last in memory."""
        maps = self.body.forward_intermediates(x, self.out_indices, stop_early=True, intermediates_only=True)
        if not self.norm_names:
            return maps
        norms = [self.get_submodule(name) for name in self.norm_names]
        return [norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for norm, x in zip(norms, maps, strict=True)]

    def filter_checkpoint(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Turns any published form of the backbone's checkpoints into this module's names.

        What was removed from the backbone is left out. A classification checkpoint knows nothing of output norms: they
        then keep the values that they have, so that it loads strictly.
        """
        renamed = checkpoint_filter(self.body)(state_dict)
        norms = {name: value for name, value in renamed.items() if re.match(r"norm\d+\.", name)}
        body = {
            f"body.{name}": value
            for name, value in renamed.items()
            if name not in norms and name not in self._pruned and not name.startswith("head.")
        }
        if not self.norm_names:
            return body | norms  # norms that this model does not have are for strict loading to report
        own = {name: value for name, value in self.state_dict().items() if name.partition(".")[0] in self.norm_names}
        given = {name: value for name, value in norms.items() if name.partition(".")[0] in self.norm_names}
        return body | (given or own)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes the blocks' activations in the backward pass instead of keeping them."""
        self.body.set_grad_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        """Names the parameters that weight decay leaves alone."""
        return {f"body.{name}" for name in self.body.no_weight_decay()}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Gives the backbone's layer groups; the output norms belong to a group after them."""

        def below_body(pattern: str) -> str:
            return pattern.replace("^", r"^body\.", 1)

        groups = {
            name: below_body(spec) if isinstance(spec, str) else [(below_body(one), order) for one, order in spec]
            for name, spec in self.body.group_matcher(coarse=coarse).items()
        }
        return {**groups, "output_norms": r"^norm\d+"}


def strip_prefixes(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Removes what wrappers put before a backbone's names, repeatedly.

    "module." (data parallel), "_orig_mod." (torch.compile), "model." and "body." are taken off the names that have
    them. Where any name begins with "backbone.", the checkpoint is of a task: only the backbone's entries are kept, and
    the classifier `head.fc`, which stands beside the backbone in OpenMMLab's classification checkpoints.
    """
    state_dict = dict(state_dict)
    while True:
        if any(name.startswith("backbone.") for name in state_dict):
            classifier = {name: value for name, value in state_dict.items() if name.startswith("head.fc.")}
            state_dict = classifier | {
                name.removeprefix("backbone."): value
                for name, value in state_dict.items()
                if name.startswith("backbone.")
            }
            continue
        stripped = {re.sub(r"^(module|_orig_mod|model|body)\.", "", name): value for name, value in state_dict.items()}
        if stripped.keys() == state_dict.keys():
            return stripped
        state_dict = stripped
