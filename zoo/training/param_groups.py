"""Which parameter gets which learning rate and weight decay."""

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
"""Keys of `paramwise_cfg` and their defaults; see `parameter_groups`."""

_CUSTOM = ("lr_mult", "decay_mult")
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, options: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Sorts the trainable parameters into groups of equal learning rate and weight decay.

    Args:
        model: a task or any module. Whatever in it has `no_weight_decay()` or `group_matcher()`, such as a backbone,
            is asked.
        lr: the base learning rate.
        weight_decay: the base weight decay.
        options: what deviates from `OPTIONS`:
            norm_decay_mult: factor on the weight decay of normalisation layers' parameters.
            bias_decay_mult: the same for other layers' biases.
            flat_decay_mult: the same for all other parameters of one dimension or none, such as layer scales.
            use_no_weight_decay: leave what modules list in `no_weight_decay()` (names or patterns) without decay.
            layer_decay_rate: learning rate of a layer relative to the layer after it (BEiT, Bao et al. 2022; timm's
                rule: layers are what `group_matcher()` says, the last one, and all outside, have the full rate). The
                classifier of a backbone, the norms of its maps and the heads beside it are such last layers.
            custom_keys: {part of a parameter's name: dict(lr_mult=..., decay_mult=...)}; of several that occur in a
                name the longest counts, its decay_mult instead of the ones above, its lr_mult on top of the layer's.

    Returns:
        Groups for an optimizer: `params`, `lr`, `weight_decay`, `lr_scale` (lr over the base learning rate; schedules
        multiply by it) and `param_names`. Frozen parameters are in none.

    Raises:
        ValueError: an option is unknown, a custom key occurs in no parameter's name, or nothing is trainable.
    """
    settings = dict(OPTIONS)
    for key, value in (options or {}).items():
        if key not in OPTIONS:
            raise ValueError(unknown_name("key of paramwise_cfg", key, OPTIONS))
        settings[key] = value
    custom_keys = dict(settings["custom_keys"])
    for pattern, custom in custom_keys.items():
        for key in custom:
            if key not in _CUSTOM:
                raise ValueError(unknown_name(f"key of paramwise_cfg.custom_keys[{pattern!r}]", key, _CUSTOM))
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
        custom = custom_keys.get(custom_key, {})
        if "decay_mult" in custom:
            decay_mult = custom["decay_mult"]
        elif name in no_decay:
            decay_mult = 0.0
        elif id(parameter) in in_norm:
            decay_mult = settings["norm_decay_mult"]
        elif name.endswith(".bias") or name == "bias":
            decay_mult = settings["bias_decay_mult"]
        elif parameter.ndim <= 1:
            decay_mult = settings["flat_decay_mult"]
        else:
            decay_mult = 1.0
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
        raise ValueError("No parameter of the model is trainable: all are frozen.")
    return list(groups.values())


def _no_weight_decay_names(model: nn.Module) -> set[str]:
    """Full names of the parameters that a module inside the model wants without weight decay."""
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
    """Learning-rate factors of the parameters of every module with a `group_matcher()`."""
    if rate is None:
        return {}
    if not 0.0 < rate <= 1.0:
        raise ValueError(f"paramwise_cfg.layer_decay_rate lies over 0 and is at most 1, not {rate}.")
    scales: dict[str, float] = {}
    inside: list[str] = []
    for prefix, module in model.named_modules():
        matcher = getattr(module, "group_matcher", None)
        if not callable(matcher) or any(not outer or prefix.startswith(f"{outer}.") for outer in inside):
            continue
        inside.append(prefix)
        layers: Any = group_parameters(module, matcher(coarse=False), reverse=True)  # reversed, it maps names to layers
        last = max(layers.values())
        if isinstance(module, FeatureMaps) and not module.norm_names:
            last += 1  # it ends with a block, which is as far below the heads as below a classifier
        for name, layer in layers.items():
            scales[f"{prefix}.{name}" if prefix else name] = rate ** (last - layer)
    if not inside:
        raise ValueError("paramwise_cfg.layer_decay_rate needs a backbone with group_matcher(); the model has none.")
    return scales
