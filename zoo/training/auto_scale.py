"""Scaling of learning rates to the batch size, including absolute rates in schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...names import unknown_name

_KEYS = ("enable", "base_batch_size", "rule")
_RULES = ("linear", "sqrt")

ABSOLUTE_RATES = ("warmup_lr", "min_lr", "eta_min")
"""Arguments of schedules that are absolute learning rates."""


def lr_factor(options: Mapping[str, Any] | None, batch_size: int) -> float:
    """Returns the factor by which learning rates are multiplied.

    Args:
        options: dict(enable=True, base_batch_size=..., rule="linear"): the batch size of the recipe, and the scaling
            rule, "linear" (Goyal et al., Accurate, Large Minibatch SGD, 2017) or "sqrt".
        batch_size: Number of images per step, over all processes and accumulated batches.

    Raises:
        ValueError: A key is unknown, missing or wrong.
    """
    for key in options or ():
        if key not in _KEYS:
            raise ValueError(unknown_name("key of auto_scale_lr", key, _KEYS))
    if not options or not options.get("enable", False):
        return 1.0
    base, rule = options.get("base_batch_size"), options.get("rule", "linear")
    if not isinstance(base, int) or base < 1:
        raise ValueError(f"auto_scale_lr.base_batch_size must be an integer >= 1, got {base!r}.")
    if rule not in _RULES:
        raise ValueError(unknown_name("rule of auto_scale_lr", rule, _RULES))
    ratio = batch_size / base
    return ratio if rule == "linear" else ratio**0.5


def scale_schedule(schedule: Mapping[str, Any], factor: float) -> tuple[dict[str, Any], str]:
    """Scales the absolute rates in the config of a schedule.

    Returns:
        A scaled copy of the config, and a log message ("" if nothing changed).
    """
    scaled = dict(schedule)
    changes = []
    for name in ABSOLUTE_RATES:
        if scaled.get(name) and factor != 1.0:
            scaled[name] = schedule[name] * factor
            changes.append(f"{name} {schedule[name]:g} becomes {scaled[name]:g}")
    return scaled, f"{schedule['type']}: {', '.join(changes)}." if changes else ""
