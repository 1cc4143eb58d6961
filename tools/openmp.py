"""Limits how long OpenMP's threads spin while they wait; importing it applies the limit to this process.

OpenMP reads its settings when torch is imported, so every script imports this module first. By default, idle threads
spin for a long time, and if other programs need the same cores, training is many times slower.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

SPIN_COUNT = "1000"


def limit_spinning(environment: MutableMapping[str, str]) -> None:
    """Sets GOMP_SPINCOUNT, unless the user chose how threads wait."""
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


limit_spinning(os.environ)
