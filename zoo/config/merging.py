"""Merges dicts of a config as mmengine does: key by key, however deep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import ConfigError

DELETE = "_delete_"


def merge(own: Mapping[str, Any], base: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Merges a dict into another one.

    Args:
        own: What is changed. A dict with `_delete_=True` replaces that of the base; other dicts are merged with it, and
            all other values replace it.
        base: What it is merged into. It is not modified.
        where: Dotted key of the dicts, for messages.

    Returns:
        New dicts and lists.

    Raises:
        ConfigError: A dict without `_delete_` would be merged into another kind of value than a dict or None.
    """
    merged = copied(base)
    for key, value in own.items():
        if key == DELETE:
            continue
        place = f"{where}.{key}" if where else str(key)
        if not isinstance(value, Mapping):
            merged[key] = copied(value)
            continue
        inherited = None if value.get(DELETE, False) else base.get(key)
        if not isinstance(inherited, Mapping | None):
            raise ConfigError(
                f"{place}: is a dict, but {inherited!r} in a base. To replace that, add _delete_=True to the dict."
            )
        merged[key] = merge(value, inherited or {}, place)
    return merged


def copied(value: Any) -> Any:
    """Copies dicts and lists, which the variables of a config may share."""
    if isinstance(value, Mapping):
        return {key: copied(inner) for key, inner in value.items()}
    return type(value)(map(copied, value)) if type(value) in (list, tuple) else value
