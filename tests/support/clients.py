"""Imports of libraries that use attnzoo's models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]


def import_client(name: str) -> Any:
    """Imports a library, or skips the test module if it is not installed.

    The root of the checkout is not searched: transformers, and what imports it, would take our folder `kernels` for the
    package of that name.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [path for path in sys.path if Path(path or ".").resolve() != _ROOT])
        return pytest.importorskip(name)
