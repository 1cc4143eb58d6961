"""Registers the zoo's models in timm, so that timm's functions and scripts create, train and load them."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import timm.models
import torch
from timm.models import PretrainedCfg as TimmCfg
from torch import nn

from ..backbones.registry import (
    PretrainedCfg,
    checkpoint_filter,
    get_pretrained_cfg,
    get_tags,
    list_families,
    list_models,
    model_arguments,
)
from .factory import create_model
from .weights import CheckpointError, extract_state_dict
from .weights.saved_config import TIMM_PREFIX as PREFIX

_TIMM_FIELDS = {field.name for field in dataclasses.fields(TimmCfg)}
_registered: dict[str, str] = {}  # names in timm's registry and in ours

# Arguments of `create_model` that every model accepts.
_COMMON_ARGUMENTS = (
    "in_chans", "num_classes", "features_only", "out_indices", "feature_cls", "output_stride", "drop_path_rate"
)  # fmt: skip
# Arguments that timm's scripts pass to every model, with the values that have no effect.
_IGNORED_DEFAULTS = {"drop_rate": 0.0, "drop_path_rate": 0.0, "drop_block_rate": 0.0}


def register_in_timm(prefix: str = PREFIX) -> list[str]:
    """Registers every model of the zoo in timm: `timm.create_model("attnzoo_nat_mini.in1k", ...)`.

    `pretrained`, tags, `features_only`, `out_indices`, `feature_cls`, `num_classes`, `in_chans`, `drop_path_rate`,
    `pretrained_cfg`, `pretrained_cfg_overlay` and `checkpoint_path` (in every form that `load_weights` reads) work as
    with timm's models.
    Prefix and family form the module name: `timm.list_models(module="attnzoo_nat")`.

    Further calls add models that were registered in the zoo since. timm's own models are never replaced.

    Args:
        prefix: Prefix of every name.

    Returns:
        The names in timm's registry, in the order of `list_models`.

    Raises:
        ValueError: timm has a model of one of these names. No model is registered then.
    """
    names = {prefix + name: (name, family) for family in list_families() for name in list_models(family=family)}
    taken = [name for name in names if name not in _registered and timm.models.is_model(name)]
    if taken:
        raise ValueError(
            f"timm already has {len(taken)} models of these names: {', '.join(taken[:8])}. "
            f"Choose a prefix other than {prefix!r}."
        )
    for full_name, (name, family) in names.items():
        if full_name not in _registered:
            _register(full_name, name, prefix + family)
            _registered[full_name] = name
    return [prefix + name for name in list_models()]


def _register(full_name: str, name: str, module_key: str) -> None:
    """Registers one model in timm.

    timm reads an entry point's checkpoints from `default_cfgs` of the module that `__module__` names, lists the model
    under the last part of that name, and extends the module's `__all__`. Therefore each family gets a module of its
    own, which also separates our families from timm's modules of the same name.
    """
    module_name = f"{__name__}.{module_key}"
    module = sys.modules.setdefault(module_name, types.ModuleType(module_name, "Entry points for timm's registry."))
    cfgs: dict[str, dict[str, Any] | TimmCfg] = {
        f"{full_name}.{tag}": timm_cfg(get_pretrained_cfg(f"{name}.{tag}")) for tag in get_tags(name)
    }
    module.__dict__.setdefault("default_cfgs", {}).update(timm.models.generate_default_cfgs(cfgs))
    entry = _entry_point(full_name, name)
    entry.__module__ = module_name
    setattr(module, full_name, timm.models.register_model(entry))


def timm_cfg(cfg: PretrainedCfg) -> TimmCfg:
    """Converts a configuration to timm's class; fields that timm does not have are left out."""
    fields = {name: value for name, value in dataclasses.asdict(cfg).items() if name in _TIMM_FIELDS}
    notes = (cfg.note,) if cfg.note else None
    return TimmCfg(**fields, paper_name=cfg.paper, paper_ids=cfg.paper_url, notes=notes)


def _entry_point(full_name: str, name: str) -> Callable[..., nn.Module]:
    def build(
        pretrained: bool = False,
        pretrained_cfg: str | Mapping[str, Any] | TimmCfg | None = None,
        pretrained_cfg_overlay: Mapping[str, Any] | None = None,
        cache_dir: Any = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> nn.Module:
        kwargs.pop("pretrained_model_args", None)  # timm's record of the arguments of a hub model
        known = {*(model_arguments(name) or ()), *_COMMON_ARGUMENTS}
        kwargs = {
            key: value for key, value in kwargs.items() if key in known or _IGNORED_DEFAULTS.get(key, ...) != value
        }
        if isinstance(pretrained_cfg, TimmCfg):
            pretrained_cfg = dataclasses.asdict(pretrained_cfg)
        if isinstance(pretrained_cfg, Mapping):  # fields that are not set in timm's class are None
            pretrained_cfg = {key: value for key, value in pretrained_cfg.items() if value is not None}
        model: Any = create_model(
            name,
            pretrained,
            pretrained_cfg=pretrained_cfg,
            pretrained_cfg_overlay=pretrained_cfg_overlay,
            cache_dir=cache_dir,
            **kwargs,
        )
        cfg = {key: value for key, value in model.pretrained_cfg.items() if key in _TIMM_FIELDS}
        model.pretrained_cfg = model.default_cfg = {**cfg, "architecture": full_name}
        model.register_load_state_dict_pre_hook(_translate)
        return model.to(device=device, dtype=dtype) if device is not None or dtype is not None else model

    build.__name__ = build.__qualname__ = full_name
    build.__doc__ = f"Builds `{name}` of attnzoo."
    return build


def _translate(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Translates a published state dict, which timm's loader passes to `load_state_dict`, to the model's names."""
    if prefix:  # the state dict of a module that contains the model: the names are that module's
        return
    try:
        translated = checkpoint_filter(module)(extract_state_dict(state_dict))
    except CheckpointError:  # no weights: load_state_dict raises an error itself
        return
    state_dict.clear()
    state_dict.update(translated)
