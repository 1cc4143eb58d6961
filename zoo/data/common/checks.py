"""What the checks of all data sets share: choosing samples to look at, and listing what they find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...seeding import derive_seed

MOST_NAMED = 5
"""Number of findings of one sort that are named; the others are counted."""


def choose(count: int, most: int, seed: int) -> list[int]:
    """Chooses `most` of `count` indices at random, in ascending order; all if there are no more."""
    if count <= most:
        return list(range(count))
    generator = np.random.default_rng(derive_seed(seed, stream="checks"))
    return sorted(int(index) for index in generator.choice(count, most, replace=False))


def first_lines(lines: Sequence[str]) -> str:
    """Joins the first few lines, and a line that counts the others."""
    more = [f"and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else []
    return "\n".join([*lines[:MOST_NAMED], *more])


def first_names(names: Sequence[Any]) -> str:
    """Joins the first few names by commas, and counts the others: "a, b, ... (3 more)"."""
    more = f", ... ({len(names) - MOST_NAMED} more)" if len(names) > MOST_NAMED else ""
    return ", ".join(str(name) for name in names[:MOST_NAMED]) + more
