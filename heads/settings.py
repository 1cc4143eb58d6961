"""Settings of a head that are given as a dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..names import unknown_name


def filled(what: str, given: Mapping[str, Any] | None, allowed: type, **defaults: Any) -> dict[str, Any]:
    """Returns settings completed with defaults.

    Args:
        what: Key of the settings in a config, for the error message: "assigner".
        given: Settings from a config; None for none.
        allowed: TypedDict whose keys are allowed.
        **defaults: Values of keys that are not given.

    Raises:
        ValueError: A key is unknown.
    """
    for key in given or {}:
        if key not in allowed.__annotations__:
            raise ValueError(unknown_name(f"setting of {what}", key, allowed.__annotations__))
    return {**defaults, **(given or {})}
