"""The base class of all backbones, which implements timm's model API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, overload

import torch
from torch import nn

from .blocks import Stage
from .checks import check_choice, check_image_size, check_positive
from .head import PooledHead

__all__ = ["Backbone", "take_indices"]


class Backbone(nn.Module):
    """Base class of all backbones: timm's model API, implemented on a stem, stages, a norm and a head.

    Subclasses build these modules and set the attributes in their constructors. They override methods where their
    design differs.

    Attributes:
        stem: Maps images to the first feature map.
        stages: Map the stem's feature map, one after another.
        norm: Final norm, applied to the last stage's map.
        head: Pooling and classifier.
        num_classes: Number of classes; 0 if there is no classifier.
        in_chans: Number of image channels.
        num_features: Number of channels of the last feature map.
        head_hidden_size: Number of input channels of the classifier.
        feature_info: One dict per stage: num_chs (channels), reduction (stride in pixels), module (name).
        stem_is_level: Whether the stem's map is the first entry of `feature_info`, as in ResNets, where it has stride
            2. Stage indices then count it as 0.
        num_prefix_tokens: Number of tokens, such as a class token, before those of the map. If it is not 0,
            `forward_features` returns (B, num_prefix_tokens + H * W, C) instead of a map.
        cuts_edges: Whether rows and columns that do not fill a stride are dropped; otherwise map sizes are rounded up.
        min_input_size: Minimum height and width of images in pixels.
        output_norm: Builds the norm of a map that `FeatureMaps` returns from its number of channels; None for no norms.
        is_isotropic: Whether all stages have the same resolution and width, so that `norm` fits every stage's map.
        map_layout: Layout of the maps between stem, stages and norm.
        pretrained_cfg: Configuration of the default published checkpoint, set by `register_model`.
        model_args: Arguments that the model was built with, set by `register_model`.
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

    def _set_sizes(self, num_classes: int, in_chans: int, num_features: int) -> None:
        """Sets the attributes that all backbones have, with an empty `feature_info`. For constructors."""
        check_positive("in_chans", in_chans)
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = num_features
        self.feature_info = []

    def _append_stage(self, stage: nn.Module, num_chs: int, reduction: int) -> None:
        """Appends a stage and its entry in `feature_info`. For constructors.

        Args:
            stage: The stage.
            num_chs: Number of channels of its map.
            reduction: Stride of its map in pixels.
        """
        self.feature_info.append({"num_chs": num_chs, "reduction": reduction, "module": f"stages.{len(self.stages)}"})
        self.stages.append(stage)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Enables or disables gradient checkpointing of the blocks."""
        for module in self.modules():
            if isinstance(module, Stage):
                module.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Returns the names of the parameters without weight decay."""
        return set()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Returns the layer groups in order, for timm's `group_parameters` and layer-wise decay."""
        fine = [
            (r"^stages\.(\d+)\.downsample", (0,)),
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^norm", (99999,)),
        ]
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else fine}

    def get_classifier(self) -> nn.Module:
        """Returns the classifier, an `nn.Identity` if there are no classes."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the classifier, or removes it for 0 classes; `global_pool=None` keeps the pooling."""
        self.head.reset(num_classes, global_pool)
        self.num_classes = num_classes

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Removes the stages after the last selected one, and then, or on request, the norm and the head.

        Args:
            indices: Selected stages, as for `forward_intermediates`.
            prune_norm: Whether to remove the final norm in any case.
            prune_head: Whether to remove the head in any case.

        Returns:
            The indices of the selected stages, in order.
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
        """Returns the feature maps of selected stages.

        Args:
            x: Images (B, in_chans, H, W).
            indices: Selected stages: None for all, an int n for the last n, or a list of indices.
            norm: Whether to apply the final norm to the last stage's map (isotropic models: to every map).
            stop_early: Whether to skip the stages after the last selected one.
            output_fmt: "NCHW" or "NHWC".
            intermediates_only: Whether to return only the list of maps.

        Returns:
            A list of maps (B, C, H / stride, W / stride). Unless `intermediates_only`, a tuple of the output of
            `forward_features` (with `stop_early`, the last map) and this list.
        """
        check_choice("output_fmt", output_fmt, ("NCHW", "NHWC"))
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
        """Maps images (B, in_chans, H, W) to the normalized last map (B, C, H / stride, W / stride)."""
        check_image_size(x, self.min_input_size)
        return _to_layout(self.norm(self.stages(self.stem(x))), self.map_layout, "NCHW")

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Maps features to logits (B, num_classes), or with `pre_logits` to the classifier's input."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps images (B, in_chans, H, W) to logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))


def _to_layout(x: torch.Tensor, given: str, wanted: str) -> torch.Tensor:
    """Returns a view of a map in another layout."""
    if given == wanted:
        return x
    return x.permute(0, 3, 1, 2) if given == "NHWC" else x.permute(0, 2, 3, 1)


def take_indices(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """Returns the indices of the selected stages in ascending order.

    Args:
        count: Number of stages.
        indices: None for all, an int n for the last n, or a list of indices, where negative ones count from the end.

    Raises:
        ValueError: An index is out of range or given twice, or there is none.
    """
    if indices is None:
        return list(range(count))
    if isinstance(indices, int):
        if not 0 < indices <= count:
            raise ValueError(f"The number of last stages must be >= 1 and <= {count}, got {indices}.")
        return list(range(count - indices, count))
    wrong = [index for index in indices if not -count <= index < count]
    if wrong:
        raise ValueError(f"Stage indices must be >= -{count} and < {count}, got {wrong}.")
    taken = sorted(index % count for index in indices)
    if not taken or len(set(taken)) < len(taken):
        raise ValueError(f"Stage indices must be distinct, and at least one is needed, got {list(indices)}.")
    return taken
