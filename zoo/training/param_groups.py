"""Parameter groups: learning rate and weight decay of each parameter."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ...backbones.common.features import FeatureMaps
from ...names import unknown_name

OPTIONS: dict[str, Any] = {
    "norm_decay_mult": 0.0,
    "bias_decay_mult": 0.0,
    "flat_decay_mult": 0.0,
    "use_no_weight_decay": True,
    "layer_decay_rate": None,
    "custom_keys": {},
}
"""Keys of `paramwise_cfg` and their defaults, see `parameter_groups`."""

_CUSTOM = ("lr_mult", "decay_mult")
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, options: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Groups the trainable parameters by learning rate and weight decay.

    Args:
        model: A task or any module. The methods `no_weight_decay()` and `group_matcher()` of its submodules, such as
            the backbone, are used.
        lr: Base learning rate.
        weight_decay: Base weight decay.
        options: Options that differ from `OPTIONS`:
            norm_decay_mult: Factor on the weight decay of the parameters of normalization layers.
            bias_decay_mult: Factor for the biases of other layers.
            flat_decay_mult: Factor for all other parameters with at most one dimension, such as layer scales.
            use_no_weight_decay: Do not decay parameters that modules list in `no_weight_decay()` (names or patterns).
            layer_decay_rate: Learning rate of a layer relative to the next layer (BEiT, Bao et al. 2022). As in timm,
                `group_matcher()` defines the layers; the last one, and all parameters outside of the module, have the
                full rate. The classifier of a backbone, the norms of its maps and other heads are last layers.
            custom_keys: {part of a parameter's name: dict(lr_mult=..., decay_mult=...)}. If several parts match, the
                longest one is used. Its decay_mult replaces the factors above, its lr_mult multiplies the layer's.

    Returns:
        Groups for an optimizer: `params`, `lr`, `weight_decay`, `lr_scale` (lr divided by the base learning rate;
        schedules multiply by it) and `param_names`. They do not contain frozen parameters.

    Raises:
        ValueError: An option is unknown, a custom key is in no parameter's name, or no parameter is trainable.
    """
    settings = _check_options(options or {})
    custom_keys: Mapping[str, Any] = settings["custom_keys"]
    by_length = sorted(sorted(custom_keys), key=len, reverse=True)
    unused = set(custom_keys)
    no_decay = _no_weight_decay_names(model) if settings["use_no_weight_decay"] else set()
    layer_scales = _layer_scales(model, settings["layer_decay_rate"])
    in_norm = {id(p) for m in model.modules() if isinstance(m, _NORMS) for p in m.parameters(recurse=False)}
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        custom_key = next((key for key in by_length if key in name), None)
        unused.discard(custom_key or "")
        if not parameter.requires_grad:
            continue
        custom = custom_keys.get(custom_key or "", {})
        decay_mult = custom.get("decay_mult")
        if decay_mult is None:
            is_norm = id(parameter) in in_norm
            decay_mult = 0.0 if name in no_decay else _decay_factor(name, parameter, is_norm, settings)
        lr_scale = layer_scales.get(name, 1.0) * custom.get("lr_mult", 1.0)
        group = groups.setdefault(
            (lr_scale, float(decay_mult)),
            {
                "params": [],
                "lr": lr * lr_scale,
                "weight_decay": weight_decay * decay_mult,
                "lr_scale": lr_scale,
                "param_names": [],
            },
        )
        group["params"].append(parameter)
        group["param_names"].append(name)
    if unused:
        names = [name for name, _ in model.named_parameters()]
        raise ValueError(unknown_name("parameter for paramwise_cfg.custom_keys", sorted(unused)[0], names))
    if not groups:
        raise ValueError("The model has no trainable parameters: all are frozen.")
    return list(groups.values())


def _check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options with defaults; raises a ValueError for unknown keys."""
    for key in options:
        if key not in OPTIONS:
            raise ValueError(unknown_name("key of paramwise_cfg", key, OPTIONS))
    settings = {**OPTIONS, **options}
    for pattern, custom in settings["custom_keys"].items():
        for key in custom:
            if key not in _CUSTOM:
                raise ValueError(unknown_name(f"key of paramwise_cfg.custom_keys[{pattern!r}]", key, _CUSTOM))
    return settings


def _decay_factor(name: str, parameter: nn.Parameter, is_norm: bool, settings: Mapping[str, Any]) -> float:
    """Returns the factor on the weight decay of a parameter to which no custom key and no pattern applies."""
    if is_norm:
        return settings["norm_decay_mult"]
    if name == "bias" or name.endswith(".bias"):
        return settings["bias_decay_mult"]
    return settings["flat_decay_mult"] if parameter.ndim <= 1 else 1.0


def _no_weight_decay_names(model: nn.Module) -> set[str]:
    """Returns the full names of the parameters that submodules exclude from weight decay."""
    names = set()
    for prefix, module in model.named_modules():
        listed = getattr(module, "no_weight_decay", None)
        if not callable(listed):
            continue
        patterns = [str(pattern) for pattern in listed()]  # type: ignore[union-attr]  # a method, pyright sees a Module
        for name, _ in module.named_parameters():
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                names.add(f"{prefix}.{name}" if prefix else name)
    return names


def _layer_scales(model: nn.Module, rate: float | None) -> dict[str, float]:
    """Returns the learning-rate factors of the parameters of every submodule with a `group_matcher()`."""
    if rate is None:
        return {}
    if not 0.0 < rate <= 1.0:
        raise ValueError(f"paramwise_cfg.layer_decay_rate must be in (0, 1], got {rate}.")
    scales: dict[str, float] = {}
    inside: list[str] = []
    for prefix, module in model.named_modules():
        matcher = getattr(module, "group_matcher", None)
        if not callable(matcher) or any(not outer or prefix.startswith(f"{outer}.") for outer in inside):
            continue
        inside.append(prefix)
        layers: Any = group_parameters(module, matcher(coarse=False), reverse=True)  # reverse=True maps names to layers
        last = max(layers.values())
        if isinstance(module, FeatureMaps) and not module.norm_names:
            last += 1  # it ends with a block, so the heads are one layer further, as a classifier is
        for name, layer in layers.items():
            scales[f"{prefix}.{name}" if prefix else name] = rate ** (last - layer)
    if not inside:
        raise ValueError("paramwise_cfg.layer_decay_rate needs a backbone with group_matcher(); the model has none.")
    return scales
