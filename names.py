"""Messages for names that do not exist: what was given, the nearest right ones, and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_names(given: str, allowed: Iterable[str], count: int = 3) -> list[str]:
    """Finds the allowed names most like `given`, best first; letter case and underscores do not count."""

    def plain(name: str) -> str:
        return name.lower().replace("_", "").replace("-", "")

    by_plain: dict[str, list[str]] = {}
    for name in allowed:
        by_plain.setdefault(plain(name), []).append(name)
    near = difflib.get_close_matches(plain(given), by_plain, n=count, cutoff=0.5)
    return [name for key in near for name in by_plain[key]][:count]


def unknown_name(kind: str, given: object, allowed: Iterable[str], most: int = 20) -> str:
    """Says that there is no `kind` called `given`.

    Args:
        kind: what the name should have named, in the singular: "model", "backend", "key of train_cfg".
        given: what was given.
        allowed: every right name.
        most: from how many names on the full list is left out, because nobody would read it.

    Returns:
        One sentence or two, for an exception's message.
    """
    allowed = sorted(allowed)
    near = nearest_names(str(given), allowed)
    message = f"There is no {kind} {given!r}."
    if near:
        message += f" Did you mean {' or '.join(repr(name) for name in near)}?"
    if len(allowed) <= most:
        message += f" Allowed: {', '.join(repr(name) for name in allowed) or 'none'}."
    return message
