"""The zoo's backbones in configs of mmdetection and mmsegmentation.

    custom_imports = dict(imports="attnzoo.zoo.openmmlab")
    model = dict(backbone=dict(type="attnzoo_nat_mini", pretrained=True, dense="coco", out_indices=(0, 1, 2, 3)))

Importing this module registers every backbone as `attnzoo_<name>` in mmengine's root registry of models, where the
registries of mmdetection, mmsegmentation and others, its children, find it. docs/openmmlab.md shows whole configs.
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
    """A backbone as detectors and segmentors of OpenMMLab call it; one class a model, which `register` makes.

    Checkpoints load in every published form, whole detectors included: names of the official code are translated as
    they are loaded.

    Args:
        pretrained: load the published weights; or a tag ("in22k"), or where weights come from, as
            `attnzoo.load_weights` takes it.
        out_indices: stages whose maps are returned; None for all.
        frozen_stages: -1 trains everything; 0 freezes the stem; n freezes the stem and the first n stages. What is
            frozen gets no gradients and stays in evaluation mode.
        norm_eval: keep BatchNorm's statistics fixed in training.
        with_cp: recompute activations in the backward pass instead of keeping them.
        init_cfg: dict(type="Pretrained", checkpoint=...), loaded by `attnzoo.load_weights` when the model's weights are
            initialised; not beside `pretrained`.
        **kwargs: of `attnzoo.create_model` and of the model, such as `drop_path_rate` and `dense`.

    Attributes:
        entry_point: the model's name.
        maps: the `FeatureMaps`.
        out_channels: channels of each map that is returned, as a neck's `in_channels` wants them.
        strides: of each map in pixels.

    Raises:
        ValueError: an argument is wrong, or both `pretrained` and `init_cfg` are given.
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
            raise ValueError("Either pretrained or init_cfg, not both: the second would replace the first.")
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
        """Loads the checkpoint of `init_cfg`, once; everything else was initialised, or loaded, as it was built."""
        if not self._is_init and self._checkpoint is not None:
            load_weights(self.maps, self._checkpoint)
        self._is_init = True

    def train(self, mode: bool = True) -> OpenMMLabBackbone:
        """Sets training mode, except for what is frozen."""
        super().train(mode)
        if mode:
            keep_frozen(self, self._frozen, self.norm_eval)
        return self

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps images (B, 3, H, W) to one map (B, C, H / stride, W / stride) an index."""
        return tuple(self.maps(x))


def _checkpoint_of(init_cfg: Any) -> str | None:
    """Reads the checkpoint of an `init_cfg`; raises a ValueError for other ways to initialise."""
    entries = [init_cfg] if isinstance(init_cfg, Mapping) else list(init_cfg or ())
    if not entries:
        return None
    if len(entries) > 1 or entries[0].get("type") != "Pretrained" or not entries[0].get("checkpoint"):
        raise ValueError(
            "init_cfg of a backbone of attnzoo is dict(type='Pretrained', checkpoint=...): it initialises itself as "
            f"published. Given: {init_cfg}."
        )
    return str(entries[0]["checkpoint"])


def _tag_or_source(name: str, given: str) -> tuple[str, str | None]:
    """Tells a tag of a model from a path or address: gives the model's name with the tag, and the source."""
    from ..backbones.registry import get_pretrained_cfg

    if any(sign in given for sign in "/\\:") or given.endswith((".pth", ".pt", ".safetensors", ".bin", ".tar")):
        return name, given
    get_pretrained_cfg(f"{name}.{given}")  # raises where there is no such tag
    return f"{name}.{given}", None


def _translate(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Turns a published form into the module's names, in place, among the other parts of a detector's weights."""
    assert isinstance(module, OpenMMLabBackbone)
    own = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    if not prefix:
        # Of the weights of a whole detector, those below "backbone." are this module's.
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
    """Registers every backbone in mmengine's root registry of models; what is there by that name stays.

    Args:
        prefix: before each name.

    Returns:
        The names.
    """
    names = []
    for name in list_models():
        full_name = prefix + name
        if full_name not in MODELS.module_dict:
            members = {"entry_point": name, "__module__": __name__, "__doc__": f"The backbone `{name}`."}
            made = type(full_name, (OpenMMLabBackbone,), members)
            setattr(sys.modules[__name__], full_name, made)  # where pickle looks for it
            MODELS.register_module(name=full_name, module=made)
        names.append(full_name)
    return names


register()
