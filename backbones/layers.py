"""What backbones share: the classifier's head, feature maps for dense prediction, padding, and checks of arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from timm import layers as timm_layers
from timm.models import FeatureInfo
from torch import nn

from ..names import unknown_name
from .registry import checkpoint_filter

__all__ = [
    "Backbone",
    "DropPath",
    "FeatureMaps",
    "LayerScale",
    "Mlp",
    "PooledHead",
    "check_image_size",
    "check_positive",
    "check_rate",
    "drop_path_rates",
    "pad_bottom_right",
    "strip_prefixes",
    "take_indices",
    "trunc_normal_",
]

# timm.layers is where timm documents these, but it does not mark them as exported, so pyright takes them for private.
DropPath = timm_layers.DropPath  # pyright: ignore[reportPrivateImportUsage]
LayerScale = timm_layers.LayerScale  # pyright: ignore[reportPrivateImportUsage]
Mlp = timm_layers.Mlp  # pyright: ignore[reportPrivateImportUsage]
trunc_normal_ = timm_layers.trunc_normal_  # pyright: ignore[reportPrivateImportUsage]

POOLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "": lambda x: x,
    "avg": lambda x: x.mean(dim=(2, 3)),
    "max": lambda x: x.amax(dim=(2, 3)),
}
"""How a head makes a vector (B, C) of a map (B, C, H, W); the empty name keeps the map."""


class Backbone(Protocol):
    """What this module needs of a backbone; the whole contract is timm's, plus `min_input_size` and `output_norm`.

    Attributes:
        feature_info: one dict a stage: num_chs, reduction (stride in pixels), module.
        output_norm: makes the norm of a stage's output from its channels; None where maps leave without a norm.
    """

    feature_info: list[dict[str, Any]]
    output_norm: Callable[[int], nn.Module] | None

    def forward_intermediates(self, x: torch.Tensor, **kwargs: Any) -> list[torch.Tensor]:
        """Gives the maps of chosen stages."""
        ...

    def prune_intermediate_layers(self, indices: Any, prune_norm: bool = False, prune_head: bool = True) -> list[int]:
        """Removes what chosen stages do not need."""
        ...


def check_rate(name: str, rate: float) -> None:
    """Raises a ValueError unless 0 <= rate < 1."""
    if not 0 <= rate < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, but is {rate!r}.")


def check_positive(name: str, value: int, least: int = 1) -> None:
    """Raises a ValueError unless `value` is an int and at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, but is {value!r}.")


def check_image_size(x: torch.Tensor, least: int) -> None:
    """Raises a ValueError unless the images (B, C, H, W) are at least `least` pixels high and wide."""
    if x.ndim != 4:
        raise ValueError(f"Images must have the shape (batch, channels, height, width), but have {tuple(x.shape)}.")
    if min(x.shape[2:]) < least:
        raise ValueError(
            f"Images must be at least {least} pixels high and wide for this model, "
            f"but are {x.shape[2]} high and {x.shape[3]} wide."
        )


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
    """Pools a feature map and classifies it: pooling, dropout, one linear layer `fc`.

    Args:
        in_features: channels of the map.
        num_classes: 0 leaves the layer out.
        global_pool: "avg", "max", or "" to return the map itself, which needs `num_classes` 0.
        drop_rate: of the dropout before the linear layer.
    """

    def __init__(self, in_features: int, num_classes: int, global_pool: str = "avg", drop_rate: float = 0.0) -> None:
        super().__init__()
        check_rate("drop_rate", drop_rate)
        self.in_features = in_features
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
        if global_pool not in POOLINGS:
            raise ValueError(unknown_name("global_pool", global_pool, POOLINGS))
        if num_classes and not global_pool:
            raise ValueError(f"global_pool='' returns maps, which {num_classes} classes cannot be told from.")
        old = getattr(self, "fc", None)
        place = {"device": old.weight.device, "dtype": old.weight.dtype} if isinstance(old, nn.Linear) else {}
        self.global_pool = global_pool
        self.fc = nn.Linear(self.in_features, num_classes, **place) if num_classes else nn.Identity()
        if isinstance(self.fc, nn.Linear):
            trunc_normal_(self.fc.weight, std=0.02)
            nn.init.zeros_(self.fc.bias)

    def forward(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Maps (B, C, H, W) to (B, num_classes), or with `pre_logits` (or without classes) to what the layer sees."""
        x = self.drop(POOLINGS[self.global_pool](x))
        return x if pre_logits else self.fc(x)

    def extra_repr(self) -> str:
        """Says what printing the module shows."""
        return f"global_pool={self.global_pool!r}"


class FeatureMaps(nn.Module):
    """A backbone that returns the maps of its stages, for detection and segmentation; what `features_only=True` builds.

    The backbone is taken over and loses what the maps do not need: its head, its final norm, its later stages. Where it
    was built for dense prediction (its `output_norm`), each map passes a norm of its own, `norm0`, `norm1`, ...

    Args:
        model: the backbone.
        out_indices: stages to return; None for all, an int for the last n.

    Attributes:
        feature_info: timm's FeatureInfo: `channels()`, `reduction()` (strides in pixels), `module_name()`.
        out_indices: the stages that are returned, in order.
    """

    def __init__(self, model: nn.Module, out_indices: int | Sequence[int] | None = None) -> None:
        super().__init__()
        names = set(model.state_dict())
        info: list[dict[str, Any]] = [dict(stage) for stage in model.feature_info]  # pyright: ignore[reportGeneralTypeIssues]
        self.out_indices = take_indices(len(info), out_indices)
        self.feature_info = FeatureInfo(info, tuple(self.out_indices))
        model.prune_intermediate_layers(self.out_indices, prune_norm=True, prune_head=True)  # pyright: ignore[reportCallIssue]
        self._pruned = frozenset(names - set(model.state_dict()))
        self.body = model
        make_norm = getattr(model, "output_norm", None)
        self.has_output_norms = make_norm is not None
        if make_norm is not None:
            for index, channels in zip(self.out_indices, self.feature_info.channels(), strict=True):
                self.add_module(f"norm{index}", make_norm(channels))
        self.pretrained_cfg = getattr(model, "pretrained_cfg", None)
        self.default_cfg = self.pretrained_cfg

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Maps images (B, 3, H, W) to one map (B, C, H / stride, W / stride) an index, channels last in memory."""
        maps = self.body.forward_intermediates(  # pyright: ignore[reportCallIssue]
            x, indices=self.out_indices, stop_early=True, intermediates_only=True
        )
        if not self.has_output_norms:
            return maps
        norms = [self.get_submodule(f"norm{index}") for index in self.out_indices]
        return [norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for norm, x in zip(norms, maps, strict=True)]

    def filter_checkpoint(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Turns any published form of the backbone's checkpoints into this module's names.

        What was removed from the backbone is left out. A classification checkpoint knows nothing of output norms: they
        then keep the values that they have, so that it loads strictly.
        """
        renamed = checkpoint_filter(self.body)(state_dict)
        output_norms = {key: value for key, value in renamed.items() if re.match(r"norm\d+\.", key)}
        body = {
            f"body.{key}": value
            for key, value in renamed.items()
            if key not in output_norms and key not in self._pruned and not key.startswith("head.")
        }
        if self.has_output_norms:
            indices = {f"norm{index}" for index in self.out_indices}
            own = {key: value for key, value in self.state_dict().items() if key.partition(".")[0] in indices}
            given = {key: value for key, value in output_norms.items() if key.partition(".")[0] in indices}
            output_norms = given or own
        return body | output_norms

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes the blocks' activations in the backward pass instead of keeping them."""
        self.body.set_grad_checkpointing(enable)  # pyright: ignore[reportCallIssue]

    def no_weight_decay(self) -> set[str]:
        """Names the parameters that weight decay leaves alone."""
        return {f"body.{name}" for name in self.body.no_weight_decay()}  # pyright: ignore[reportCallIssue,reportGeneralTypeIssues]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Gives the backbone's layer groups; the output norms belong to the last one."""

        def below_body(pattern: str) -> str:
            return pattern.replace("^", r"^body\.", 1)

        groups = {
            name: below_body(spec)
            if isinstance(spec, str)
            else [(below_body(pattern), order) for pattern, order in spec]
            for name, spec in self.body.group_matcher(coarse=coarse).items()  # pyright: ignore[reportCallIssue,reportAttributeAccessIssue]
        }
        return {**groups, "output_norms": r"^norm\d+"}


def strip_prefixes(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Removes what wrappers put before a backbone's names, repeatedly.

    "module." (data parallel), "_orig_mod." (torch.compile), "model." and "body." are taken off the names that have
    them. Where any name begins with "backbone.", the checkpoint is of a task: only the backbone's entries are kept.
    """
    state_dict = dict(state_dict)
    while True:
        if any(name.startswith("backbone.") for name in state_dict):
            state_dict = {
                name.removeprefix("backbone."): value
                for name, value in state_dict.items()
                if name.startswith("backbone.")
            }
            continue
        stripped = {re.sub(r"^(module|_orig_mod|model|body)\.", "", name): value for name, value in state_dict.items()}
        if stripped.keys() == state_dict.keys():
            return stripped
        state_dict = stripped
