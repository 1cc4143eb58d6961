"""Builds an optimizer and its wrapper from a config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from timm.optim.lamb import Lamb
from timm.optim.rmsprop_tf import RMSpropTF
from torch import nn

from ...names import unknown_name
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from .model_setup import unwrap_model
from .optim_wrappers import OptimWrapper
from .param_groups import parameter_groups

OPTIMIZERS.register_module(name="LAMB", module=Lamb)

OPTIMIZERS.register_module(name="RMSpropTF", module=RMSpropTF)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class OptimWrapperConstructor:
    """Builds an optimizer wrapper from a config, with the parameter groups of `parameter_groups`.

    Args:
        optim_wrapper_cfg: dict(type="OptimWrapper" | "AmpOptimWrapper", optimizer=dict(type="AdamW", lr=...), ...).
            clip_grad=dict(type="adaptive", ..., exclude=("head.fc",)) excludes parameters whose names contain one of
            these strings from clipping. The authors of adaptive clipping exclude the classifier.
        paramwise_cfg: Options of `parameter_groups`.

    Raises:
        ValueError: There is no optimizer, it has no learning rate, or no parameter's name contains a string of
            `exclude`.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.wrapper = dict(optim_wrapper_cfg)
        self.wrapper.setdefault("type", "OptimWrapper")
        optimizer = self.wrapper.pop("optimizer", None)
        if not isinstance(optimizer, Mapping) or "type" not in optimizer:
            raise ValueError(f"optim_wrapper.optimizer must be dict(type=..., lr=...), got {optimizer!r}.")
        if "lr" not in optimizer:
            raise ValueError(f"optim_wrapper.optimizer needs the key 'lr', got {sorted(optimizer)}.")
        self.optimizer = dict(optimizer)
        self.paramwise = paramwise_cfg

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Builds the wrapper for a model, or for a model in its distributed wrapper."""
        lr, weight_decay = self.optimizer["lr"], self.optimizer.get("weight_decay", 0.0)
        groups = parameter_groups(unwrap_model(model), lr, weight_decay, self.paramwise)
        # Optimizers do not accept parameter names.
        parameters = [{key: value for key, value in group.items() if key != "param_names"} for group in groups]
        optimizer = OPTIMIZERS.build({**self.optimizer, "params": parameters})
        settings = dict(self.wrapper)
        if not (settings.get("clip_grad") or {}).get("exclude"):
            return OPTIM_WRAPPERS.build({**settings, "optimizer": optimizer})
        clip = dict(settings["clip_grad"])
        excluded = clip.pop("exclude")
        if clip.get("type") != "adaptive":
            raise ValueError("clip_grad.exclude needs clip_grad.type='adaptive'.")
        wrapper = OPTIM_WRAPPERS.build({**settings, "clip_grad": clip, "optimizer": optimizer})
        wrapper.exclude_from_clipping(_find_parameters(groups, excluded))
        return wrapper


def _find_parameters(groups: Iterable[Mapping[str, Any]], parts: Iterable[str]) -> list[torch.Tensor]:
    """Returns the parameters whose names contain one of the given strings.

    Raises:
        ValueError: No name contains a string.
    """
    found: list[torch.Tensor] = []
    by_name = {
        name: parameter
        for group in groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
    }
    for part in parts:
        matching = [parameter for name, parameter in by_name.items() if part in name]
        if not matching:
            raise ValueError(unknown_name("parameter for clip_grad.exclude", part, by_name))
        found += matching
    return found
