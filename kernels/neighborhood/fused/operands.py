"""Operands as the kernels receive them."""

from __future__ import annotations

from typing import Any

import torch

from ...triton_common import checks
from ...triton_common.addressing import strided
from ...triton_common.tile_sizes import max_dim
from ..operands import Operands
from .tile_sizes import TABLES


def check_operands(operands: Operands) -> None:
    """Raises a ValueError if the kernels do not support the operands' dtype or dims."""
    checks.check_operands(operands.query, operands.value, TABLES)


def supports(query: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether the kernels support vectors of these lengths."""
    return max(query.shape[4], value.shape[4]) <= max_dim(TABLES, query.dtype)


def computable(operands: Operands) -> Operands:
    """Returns the operands that the kernels compute with: the same, except for bfloat16 in Triton's interpreter."""
    return Operands._make(None if one is None else checks.without_bfloat16(one) for one in operands)


def strided_operands(operands: Operands) -> Any:
    """Pairs every operand with its strides; kernels get the bias table separately, padded."""
    return Operands._make(map(strided, operands._replace(rpb=None)))
