"""The contract of all backbones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, overload

import torch
from torch import nn

from .blocks import Stage
from .checks import check_choice, check_image_size
from .head import PooledHead

__all__ = ["Backbone", "take_indices"]


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
