"""Base classes of tasks: building parts, freezing the backbone, initial weights, parts to export."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from mmengine.model import BaseModel
from torch import nn

from ...backbones.common.features import FeatureMaps
from ...backbones.registry import checkpoint_filter
from ..preprocessing import Preprocessing
from ..registry import MODELS
from .freezing import freeze_stages, keep_frozen

MODES = ("loss", "predict", "tensor")
"""Modes of a task's `forward`."""

TaskKind = Literal["classification", "detection", "segmentation", "panoptic"]
"""Kind of a task, which determines the form of its predictions and of its data."""

TASK_KINDS: tuple[TaskKind, ...] = get_args(TaskKind)


@dataclass(frozen=True)
class ExportPart:
    """A part of a task that maps images to tensors and nothing else, as exporters need it.

    Attributes:
        run: Maps the task and images (B, C, H, W) to a tensor, or to nested sequences of tensors.
        outputs: Names of the outputs. The tensors of a sequence get the sequence's name and a number.
        description: What the outputs are, for messages.
    """

    run: Callable[[Any, torch.Tensor], Any]
    outputs: tuple[str, ...]
    description: str


def build_part(config: Any, default: str | None = None, **missing: Any) -> Any:
    """Builds a part of a task.

    Args:
        config: Config of a type in MODELS, or a module, which is returned as it is. None is an empty config.
        default: Type to build if the config has none.
        **missing: Arguments that are used if the config does not have them.
    """
    if isinstance(config, nn.Module):
        return config
    return MODELS.build({**({"type": default} if default else {}), **missing, **(config or {})})


class Task(BaseModel):
    """A backbone with a loss or heads, called in the modes "loss", "predict" and "tensor".

    Args:
        backbone: Config of a type in MODELS, or a module.
        data_preprocessor: Config of a type in MODELS, or a module.
        default_preprocessor: Type of the data preprocessor if its config has none.
        frozen_stages: -1 trains all stages, 0 freezes the stem, and n freezes the stem and the first n stages. Frozen
            layers get no gradients and stay in evaluation mode (no drop path, fixed BatchNorm statistics).
        norm_eval: Keep the statistics of all BatchNorm layers fixed during training. Their weights are trained.
        init_weights: Checkpoint of the backbone to start training from, in any form that `attnzoo.load_weights`
            accepts. It is not loaded if the task is only evaluated. A classifier for other classes keeps its initial
            values.

    Attributes:
        kind: What the task predicts.
        filled_arguments: By the name of a part, the arguments that the task fills in if a config does not have them.
        classes_key: Dotted key of the number of classes in a config.
        tensor_outputs: Names of the outputs in mode "tensor".
        not_exportable: Parts that cannot be exported, each with the reason.
        preprocessing: How images are prepared for the weights, if training or a checkpoint has told.

    Raises:
        ValueError: Arguments are out of range.
    """

    kind: TaskKind
    filled_arguments: Mapping[str, tuple[str, ...]] = {}
    classes_key = "model.backbone.num_classes"
    tensor_outputs: tuple[str, ...] = ("logits",)
    not_exportable: Mapping[str, str] = {}
    preprocessing: Preprocessing | None = None

    def __init__(
        self,
        backbone: dict | nn.Module,
        data_preprocessor: Any,
        default_preprocessor: str,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_weights: str | None = None,
    ) -> None:
        super().__init__(data_preprocessor=build_part(data_preprocessor, default_preprocessor))
        self.backbone: Any = build_part(backbone)
        self.norm_eval = norm_eval
        self._weights_source = init_weights
        self._frozen = freeze_stages(self.backbone, frozen_stages)

    def init_weights(self) -> None:
        """Loads the initial checkpoint, once. All other weights are initialized by the constructors."""
        # mmengine's implementation would call init_weights of the children, which would overwrite loaded weights.
        if self._is_init or self._weights_source is None:
            return
        from ..weights import load_weights

        load_weights(self.backbone, self._weights_source)
        self._is_init = True

    def export_parts(self) -> dict[str, ExportPart]:
        """Lists what can be exported: "whole", the tensors before any decoding, and parts such as "backbone"."""
        return {
            "whole": ExportPart(_run_tensor_mode, self.tensor_outputs, "the raw outputs"),
            "backbone": ExportPart(
                lambda task, image: task.backbone(image), (backbone_output(self.backbone),), "the backbone's outputs"
            ),
        }

    def forward_dummy(self, image: torch.Tensor, proposals: int, detections: int) -> dict[str, int]:
        """Runs every layer that an inference runs, to count its operations.

        Args:
            image: (1, C, H, W).
            proposals: Number of regions to run box heads on.
            detections: Number of regions to run mask heads on.

        Returns:
            The numbers of regions that were used: "proposals" if the task has box heads on regions, "detections" if it
            has mask heads.
        """
        _run_tensor_mode(self, image)
        return {}

    def train(self, mode: bool = True) -> Task:
        """Sets training mode, except for frozen layers."""
        super().train(mode)
        if mode:
            keep_frozen(self, self._frozen, self.norm_eval)
        return self


class HeadedTask(Task):
    """A task with heads outside of its backbone, so that its checkpoints contain both; see `Task` for the arguments.

    `load_weights` loads complete OpenMMLab checkpoints into it: necks and heads have the same parameter names, and
    those of the backbone are converted.
    """

    has_separate_heads = True

    def filter_checkpoint(self, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Converts the names in a checkpoint of the complete task, whose backbone may be in any published form."""
        body = {name.removeprefix("backbone."): x for name, x in state_dict.items() if name.startswith("backbone.")}
        rest = {name: x for name, x in state_dict.items() if not name.startswith("backbone.")}
        with contextlib.suppress(ValueError):  # backbones from elsewhere have no conversion
            body = checkpoint_filter(self.backbone)(body)
        return {**{f"backbone.{name}": x for name, x in body.items()}, **rest}

    def class_layers(self) -> list[str]:
        """Lists the layers whose size depends on the number of classes: the `class_layers` of every head.

        With a checkpoint for other classes they keep their initial values.
        """
        return [
            f"{name}.{layer}"
            for name, module in self.named_modules()
            if module is not self
            for layer in getattr(module, "class_layers", ())
        ]


def is_task(model: Any) -> bool:
    """Whether a module is a task: it takes batches in mmengine's three modes, not only images."""
    return isinstance(model, BaseModel)


def task_kind(model: nn.Module) -> TaskKind:
    """Returns the kind of a task; anything else, such as a backbone, is a classifier."""
    return getattr(model, "kind", "classification")


def backbone_output(backbone: nn.Module) -> str:
    """Names what a backbone returns: "map" (a list), "logits", or "features" if it has no classes."""
    if isinstance(backbone, FeatureMaps):
        return "map"
    return "logits" if getattr(backbone, "num_classes", 1) else "features"


def _run_tensor_mode(task: Any, image: torch.Tensor) -> Any:
    return task.forward(image=image, mode="tensor")


def map_channels(backbone: Any) -> list[int]:
    """Returns the number of channels of each feature map of a backbone.

    Raises:
        ValueError: The backbone does not return feature maps.
    """
    info = getattr(backbone, "feature_info", None)
    if info is None or not callable(getattr(info, "channels", None)):
        raise ValueError(
            f"{type(backbone).__name__} returns no feature maps. Build the backbone with features_only=True, or set "
            "in_channels of the neck or head."
        )
    return list(info.channels())
