"""Settings that a config gives a head as a dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..names import unknown_name


def filled(what: str, given: Mapping[str, Any] | None, allowed: type, **defaults: Any) -> dict[str, Any]:
    """Fills defaults into settings.

    Args:
        what: the settings are of, for the message: "assigner".
        given: by a config; None as an empty dict.
        allowed: the TypedDict that they are meant to be.
        **defaults: for keys that are not given.

    Raises:
        ValueError: a key that there is not.
    """
    for key in given or {}:
        if key not in allowed.__annotations__:
            raise ValueError(unknown_name(f"setting of the {what}", key, allowed.__annotations__))
    return {**defaults, **(given or {})}
