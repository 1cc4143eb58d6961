"""Error messages for unknown names: what was given, the closest matches, and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_names(given: str, allowed: Iterable[str], count: int = 3) -> list[str]:
    """Returns the allowed names closest to `given`, best first, ignoring case, underscores and hyphens."""

    def normalized(name: str) -> str:
        return name.lower().replace("_", "").replace("-", "")

    by_normalized: dict[str, list[str]] = {}
    for name in allowed:
        by_normalized.setdefault(normalized(name), []).append(name)
    matches = difflib.get_close_matches(normalized(given), by_normalized, n=count, cutoff=0.5)
    return [name for match in matches for name in by_normalized[match]][:count]


def unknown_name(kind: str, given: object, allowed: Iterable[str], max_listed: int = 20) -> str:
    """Returns the message of an exception about an unknown name.

        Unknown model 'nat_mny'. Did you mean 'nat_mini'?
        nat_mini has no argument 'droprate'. Did you mean 'drop_rate'?

    Args:
        kind: What the name stands for, in the singular: "model", or with its owner "argument of nat_mini".
        given: The unknown name.
        allowed: All allowed names.
        max_listed: Number of allowed names up to which the message lists all of them.
    """
    allowed = sorted(allowed)
    nearest = nearest_names(str(given), allowed)
    thing, _, owner = kind.partition(" of ")
    owner = f"The {owner[4:]}" if owner.startswith("the ") else owner
    message = f"{owner} has no {thing} {given!r}." if owner else f"Unknown {kind} {given!r}."
    if nearest:
        message += f" Did you mean {' or '.join(repr(name) for name in nearest)}?"
    if len(allowed) <= max_listed:
        message += f" Allowed: {', '.join(repr(name) for name in allowed) or 'none'}."
    return message
