"""Operands as the kernels receive them."""

from __future__ import annotations

from typing import Any

from ...triton_common import checks
from ...triton_common.addressing import strided
from ..operands import Operands
from .tile_sizes import TABLES


def check_operands(operands: Operands) -> None:
    """Raises a ValueError if the kernels do not support the operands' dtype or dims."""
    checks.check_operands(operands.query, operands.value, TABLES)


def unsupported(operands: Operands) -> str | None:
    """Returns what the kernels support and what was given, or None if they support the operands."""
    return checks.unsupported(operands.query, operands.value, TABLES)


def computable(operands: Operands) -> Operands:
    """Returns the operands that the kernels compute with: the same, except for bfloat16 in Triton's interpreter."""
    return Operands._make(None if one is None else checks.without_bfloat16(one) for one in operands)


def strided_operands(operands: Operands) -> Any:
    """Pairs every operand with its strides; kernels get the bias table separately, padded."""
    return Operands._make(map(strided, operands._replace(rpb=None)))
