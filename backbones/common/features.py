"""Backbones that return feature maps, for detection and segmentation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.models import FeatureInfo
from torch import nn

from ..registry import checkpoint_filter
from .backbone import Backbone, take_indices
from .checks import check_choice

__all__ = ["FEATURE_CLASSES", "FeatureMaps"]

FEATURE_CLASSES = ("list", "dict", "getter", "hook", "fx")
"""timm's names of what `features_only=True` builds. All but "dict" are ways to return the same list of maps."""


class FeatureMaps(nn.Module):
    """A backbone that returns the feature maps of its stages, as `features_only=True` builds it.

    The backbone is modified: it loses its head, its final norm and the stages after the last selected one. If it was
    built for dense prediction (`output_norm` is set), each map has a norm of its own: `norm0`, `norm1`, ...

    Args:
        model: The backbone.
        out_indices: Stages to return: None for all, an int n for the last n, or a list of indices.
        feature_cls: "dict" to return a dict of maps by index of the stage. timm's other names ("list", "getter", "hook"
            and "fx") return a list of maps.

    Raises:
        ValueError: An index is out of range, or there is no such `feature_cls`.

    Attributes:
        body: The backbone.
        feature_info: timm's FeatureInfo: `channels()`, `reduction()` (strides in pixels), `module_name()`.
        out_indices: Indices of the returned stages, in order.
        returns_dict: Whether maps are returned in a dict.
    """

    def __init__(
        self, model: Backbone, out_indices: int | Sequence[int] | None = None, feature_cls: str = "list"
    ) -> None:
        super().__init__()
        check_choice("feature_cls", feature_cls, FEATURE_CLASSES)
        self.returns_dict = feature_cls == "dict"
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

    def forward(self, x: torch.Tensor) -> list[torch.Tensor] | dict[int, torch.Tensor]:
        """Maps images (B, C, H, W) to one map (B, C, H / stride, W / stride) per index, in channels-last format."""
        maps = self._normed_maps(x)
        return dict(zip(self.out_indices, maps, strict=True)) if self.returns_dict else maps

    def _normed_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Returns the selected maps, normalized if there are output norms."""
        maps = self.body.forward_intermediates(x, self.out_indices, stop_early=True, intermediates_only=True)
        if not self.norm_names:
            return maps
        norms = [self.get_submodule(name) for name in self.norm_names]
        return [norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for norm, x in zip(norms, maps, strict=True)]

    def filter_checkpoint(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Converts any published form of the backbone's checkpoints to this module's names.

        Parameters that were removed from the backbone are dropped. If the checkpoint has no output norms, because it
        is one of a classifier, the result holds their current values, so that it loads strictly.
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
        """Enables or disables gradient checkpointing of the blocks."""
        self.body.set_grad_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        """Returns the names of the parameters without weight decay."""
        return {f"body.{name}" for name in self.body.no_weight_decay()}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Returns the backbone's layer groups, and one for the output norms after them."""

        def below_body(pattern: str) -> str:
            return pattern.replace("^", r"^body\.", 1)

        groups = {
            name: below_body(spec) if isinstance(spec, str) else [(below_body(one), order) for one, order in spec]
            for name, spec in self.body.group_matcher(coarse=coarse).items()
        }
        return {**groups, "output_norms": r"^norm\d+"}
