"""What every task does alike: building its parts, freezing its backbone, weights to start from."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import nn

from ...backbones.registry import checkpoint_filter
from ..registry import MODELS
from .freezing import freeze_stages, keep_frozen

MODES = ("loss", "predict", "tensor")
"""What a task's `forward` can be asked for."""

_CLASS_LAYERS = ("fc_cls", "fc_reg", "conv_logits", "conv_seg", "retina_cls")


def build_part(config: Any, default: str | None = None, **missing: Any) -> Any:
    """Builds a part of a task.

    Args:
        config: of MODELS; a module is taken as it is, None as an empty config.
        default: the type where the config names none.
        **missing: arguments for where the config does not have them.
    """
    if isinstance(config, nn.Module):
        return config
    return MODELS.build({**({"type": default} if default else {}), **missing, **(config or {})})


class Task(BaseModel):
    """A backbone and what stands on it: modes "loss", "predict" and "tensor" of a batch.

    Args:
        backbone: a config of MODELS, or a module.
        data_preprocessor: a config of MODELS, or a module.
        default_preprocessor: the type of data preprocessor where the config names none.
        frozen_stages: -1 trains everything; 0 freezes the backbone's stem; n freezes the stem and the first n stages.
            What is frozen gets no gradients and stays in evaluation mode (no drop path, fixed statistics of BatchNorm).
        norm_eval: keep the statistics of every BatchNorm fixed in training; its weights are trained.
        init_weights: a checkpoint of the backbone to start from, anything that `attnzoo.load_weights` takes; loaded
            before training starts, not where a finished checkpoint is only evaluated. A head for other classes is left
            as it is.

    Attributes:
        classes_key: of the number of classes in a config.

    Raises:
        ValueError: arguments are out of range.
    """

    classes_key = "model.backbone.num_classes"

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
        """Loads the checkpoint to start from, once. All parts have initialised everything else themselves."""
        # mmengine's own would call init_weights of the modules below, and with that undo weights that are already
        # loaded.
        if self._is_init or self._weights_source is None:
            return
        from ..weights import load_weights

        load_weights(self.backbone, self._weights_source)
        self._is_init = True

    def train(self, mode: bool = True) -> Task:
        """Sets training mode, except for what is frozen."""
        super().train(mode)
        if mode:
            keep_frozen(self, self._frozen, self.norm_eval)
        return self


class HeadedTask(Task):
    """A task whose heads stand beside its backbone, so that its checkpoints hold both; arguments of `Task`.

    `load_weights` loads a published checkpoint of OpenMMLab's whole into it: the names of necks and heads are the same,
    the backbone's are translated.
    """

    takes_whole_checkpoints = True

    def filter_checkpoint(self, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Turns a checkpoint of the whole task, its backbone in any published form, into this task's names."""
        body = {name.removeprefix("backbone."): x for name, x in state_dict.items() if name.startswith("backbone.")}
        rest = {name: x for name, x in state_dict.items() if not name.startswith("backbone.")}
        with contextlib.suppress(ValueError):  # of a backbone that is not the zoo's, names must be right as they are
            body = checkpoint_filter(self.backbone)(body)
        return {**{f"backbone.{name}": x for name, x in body.items()}, **rest}

    def class_layers(self) -> list[str]:
        """Names the layers whose outputs are counted in classes; for other classes they keep their initial values."""
        return [name for name, _ in self.named_modules() if name.rpartition(".")[2] in _CLASS_LAYERS]


def map_channels(backbone: Any) -> list[int]:
    """Gives the channels of a backbone's feature maps.

    Raises:
        ValueError: the backbone does not tell, because it was built without `features_only=True`.
    """
    info = getattr(backbone, "feature_info", None)
    if info is None or not callable(getattr(info, "channels", None)):
        raise ValueError(
            f"{type(backbone).__name__} gives no feature maps: build the backbone with features_only=True, or give the "
            "part behind it its in_channels."
        )
    return list(info.channels())
