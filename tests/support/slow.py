"""Marks all but a few parameters of a test slow."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_except(names: Iterable[str], quick: Collection[str]) -> list[Any]:
    """Returns names for `parametrize`, marked slow unless they are in `quick`.

    Raises:
        ValueError: A name in `quick` is not among the names, which would leave nothing to the default suite unnoticed.
    """
    names = list(names)
    unknown = set(quick) - set(names)
    if unknown:
        raise ValueError(f"quick contains names that the test does not have: {sorted(unknown)}.")
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
