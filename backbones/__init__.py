"""Backbones: one module a family of models, the registry that lists them, and the layers that they share.

`attnzoo.backbones.registry` finds every model by name; families are imported when it is first asked for one.
"""

from .registry import (
    PretrainedCfg,
    checkpoint_filter,
    get_pretrained_cfg,
    is_model,
    list_families,
    list_models,
    model_entrypoint,
    register_model,
    split_model_name_tag,
)

__all__ = [
    "PretrainedCfg",
    "checkpoint_filter",
    "get_pretrained_cfg",
    "is_model",
    "list_families",
    "list_models",
    "model_entrypoint",
    "register_model",
    "split_model_name_tag",
]
