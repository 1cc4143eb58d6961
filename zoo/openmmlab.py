"""Backbones of the zoo in configs of mmdetection and mmsegmentation.

    custom_imports = dict(imports="attnzoo.zoo.openmmlab")
    model = dict(backbone=dict(type="attnzoo_nat_mini", pretrained=True, dense="coco", out_indices=(0, 1, 2, 3)))

Importing this module registers every backbone as `attnzoo_<name>` in mmengine's root registry of models, from which the
registries of mmdetection, mmsegmentation and others inherit. docs/openmmlab.md shows complete configs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn

from ..backbones.common.features import FeatureMaps
from ..backbones.registry import list_models
from .factory import create_model
from .tasks.freezing import freeze_stages, keep_frozen
from .weights import load_weights

PREFIX = "attnzoo_"


class OpenMMLabBackbone(BaseModule):
    """A backbone with the interface of OpenMMLab's backbones. `register` creates one subclass per model.

    Checkpoints load in every published form, including complete detectors: the names of the official code are
    translated by `load_state_dict`.

    Args:
        pretrained: True for the published weights, a tag ("in22k"), or a source that `attnzoo.load_weights` accepts.
        out_indices: Stages whose maps are returned; by default all.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages. Frozen layers get no gradients
            and stay in evaluation mode.
        norm_eval: Whether the statistics of BatchNorm stay fixed in training.
        with_cp: Whether to recompute activations in the backward pass to save memory (gradient checkpointing).
        init_cfg: dict(type="Pretrained", checkpoint=...), loaded by `attnzoo.load_weights` when the model's weights are
            initialized. It cannot be combined with `pretrained`.
        **kwargs: Arguments of `attnzoo.create_model` and of the model, such as `drop_path_rate` and `dense`.

    Attributes:
        entry_point: Name of the model.
        maps: The `FeatureMaps`.
        out_channels: Number of channels of each returned map, for a neck's `in_channels`.
        strides: Stride of each returned map in pixels.

    Raises:
        ValueError: An argument is wrong, or both `pretrained` and `init_cfg` are given.
    """

    entry_point: ClassVar[str] = ""

    def __init__(
        self,
        pretrained: bool | str | None = None,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self._checkpoint = _checkpoint_of(init_cfg)
        if pretrained and self._checkpoint is not None:
            raise ValueError("Pass either pretrained or init_cfg, not both.")
        self.init_cfg = init_cfg
        name, source = self.entry_point, None
        if isinstance(pretrained, str):
            name, source = _tag_or_source(name, pretrained)
        self.maps: Any = create_model(
            name, bool(pretrained) and source is None, features_only=True, out_indices=out_indices, **kwargs
        )
        assert isinstance(self.maps, FeatureMaps)
        if source is not None:
            load_weights(self.maps, source)
        self.out_channels: list[int] = self.maps.feature_info.channels()
        self.strides: list[int] = self.maps.feature_info.reduction()
        self.norm_eval = norm_eval
        if with_cp:
            self.maps.set_grad_checkpointing()
        self._frozen = freeze_stages(self.maps, frozen_stages)
        self.register_load_state_dict_pre_hook(_translate)

    def init_weights(self) -> None:
        """Loads the checkpoint of `init_cfg`, once. All other weights were initialized or loaded by the constructor."""
        if not self._is_init and self._checkpoint is not None:
            load_weights(self.maps, self._checkpoint)
        self._is_init = True

    def train(self, mode: bool = True) -> OpenMMLabBackbone:
        """Sets training mode, except for frozen layers."""
        super().train(mode)
        if mode:
            keep_frozen(self, self._frozen, self.norm_eval)
        return self

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps images (B, 3, H, W) to one map (B, C, H / stride, W / stride) per index."""
        return tuple(self.maps(x))


def _checkpoint_of(init_cfg: Any) -> str | None:
    """Returns the checkpoint of an `init_cfg`; raises a ValueError for other kinds of initialization."""
    entries = [init_cfg] if isinstance(init_cfg, Mapping) else list(init_cfg or ())
    if not entries:
        return None
    if len(entries) > 1 or entries[0].get("type") != "Pretrained" or not entries[0].get("checkpoint"):
        raise ValueError(
            f"init_cfg must be dict(type='Pretrained', checkpoint=...), got {init_cfg}. Without it, the backbone "
            "initializes itself as published."
        )
    return str(entries[0]["checkpoint"])


def _tag_or_source(name: str, given: str) -> tuple[str, str | None]:
    """Distinguishes a tag from a path or URL; returns the model's name, with the tag if it is one, and the source."""
    from ..backbones.registry import get_pretrained_cfg

    if any(sign in given for sign in "/\\:") or given.endswith((".pth", ".pt", ".safetensors", ".bin", ".tar")):
        return name, given
    get_pretrained_cfg(f"{name}.{given}")  # raises if there is no such tag
    return f"{name}.{given}", None


def _translate(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Translates the backbone's part of a state dict to the module's names, in place."""
    assert isinstance(module, OpenMMLabBackbone)
    own = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    if not prefix:
        # In the weights of a complete detector, those under "backbone." belong to this module.
        below = {name.removeprefix("backbone."): value for name, value in own.items() if name.startswith("backbone.")}
        own = below or own
    if not own or all(name.startswith("maps.") for name in own):
        return
    own = {name.removeprefix("maps."): value for name, value in own.items()}
    translated = module.maps.filter_checkpoint(own)
    for name in [name for name in state_dict if name.startswith(prefix)]:
        del state_dict[name]
    state_dict.update({f"{prefix}maps.{name}": value for name, value in translated.items()})


def register(prefix: str = PREFIX) -> list[str]:
    """Registers every backbone in mmengine's root registry of models, unless the name is taken.

    Args:
        prefix: Prefix of every name.

    Returns:
        The names.
    """
    names = []
    for name in list_models():
        full_name = prefix + name
        if full_name not in MODELS.module_dict:
            members = {"entry_point": name, "__module__": __name__, "__doc__": f"The backbone `{name}`."}
            made = type(full_name, (OpenMMLabBackbone,), members)
            setattr(sys.modules[__name__], full_name, made)  # where pickle finds it
            MODELS.register_module(name=full_name, module=made)
        names.append(full_name)
    return names


register()
