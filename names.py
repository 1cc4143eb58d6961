"""Error messages for unknown names, with the closest matches and the allowed names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_names(given: str, allowed: Iterable[str], count: int = 3) -> list[str]:
    """Returns the allowed names most similar to `given`, best first. Case, underscores and hyphens are ignored."""

    def normalize(name: str) -> str:
        return name.lower().replace("_", "").replace("-", "")

    by_normalized: dict[str, list[str]] = {}
    for name in allowed:
        by_normalized.setdefault(normalize(name), []).append(name)
    near = difflib.get_close_matches(normalize(given), by_normalized, n=count, cutoff=0.5)
    return [name for key in near for name in by_normalized[key]][:count]


def unknown_name(kind: str, given: object, allowed: Iterable[str], most: int = 20) -> str:
    """Returns an error message for an unknown name.

    Args:
        kind: What the name refers to, in the singular: "model", "backend", "key of train_cfg".
        given: The unknown name.
        allowed: All allowed names.
        most: Maximum number of allowed names that are listed; longer lists are omitted.
    """
    allowed = sorted(allowed)
    near = nearest_names(str(given), allowed)
    message = f"There is no {kind} {given!r}."
    if near:
        message += f" Did you mean {' or '.join(repr(name) for name in near)}?"
    if len(allowed) <= most:
        message += f" Allowed: {', '.join(repr(name) for name in allowed) or 'none'}."
    return message
