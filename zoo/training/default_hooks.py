"""The hooks that every run has, by the names that a config's `default_hooks` uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULT_HOOKS = {
    "runtime_info": "RuntimeInfoHook",
    "timer": "IterTimerHook",
    "guard": "NonFiniteGuardHook",
    "param_scheduler": "ParamSchedulerHook",
    "logger": "LoggerHook",
    "broken_images": "BrokenImagesHook",
    "progress": "ProgressBarHook",
    "checkpoint": "CheckpointHook",
}
"""Registered type by name. A config names a type only to replace it."""


def merge_default_hooks(changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Applies a config's `default_hooks` to the hooks that every run has.

    Args:
        changes: By name, arguments of the hook, a dict(type=...) or a hook that replaces it, or None to remove it.

    Returns:
        Configs of hooks, or hooks, by name, in the order in which they are registered.

    Raises:
        ValueError: The guard against losses that are not finite is removed.
    """
    hooks: dict[str, Any] = {name: {"type": kind} for name, kind in DEFAULT_HOOKS.items()}
    for name, hook in (changes or {}).items():
        if name == "guard" and hook is None:
            raise ValueError(
                "default_hooks.guard cannot be None; the strictest is dict(type='NonFiniteGuardHook', max_skips=0)."
            )
        hooks[name] = (
            {**hooks[name], **hook} if isinstance(hook, dict) and "type" not in hook and name in hooks else hook
        )
    return {name: hook for name, hook in hooks.items() if hook is not None}
