"""Which operands the kernels support."""

from __future__ import annotations

from ...triton_common import checks
from ..operands import Operands
from .tile_sizes import TABLES


def check_operands(operands: Operands) -> None:
    """Raises a ValueError if the kernels do not support the operands' dtype or dims."""
    checks.check_operands(operands.query, operands.value, TABLES)


def unsupported(operands: Operands) -> str | None:
    """Returns what the kernels support and what was given, or None if they support the operands."""
    return checks.unsupported(operands.query, operands.value, TABLES)
