"""Ranged attention as fused Triton kernels (backend "triton"): no score is ever stored, and no gathered key."""

from __future__ import annotations

from typing import Any, cast

import torch

from ...triton_common import launch
from ..geometry import Geometry
from ..operands import Operands
from . import tile_sizes as tuning
from .backward import differentiate
from .forward import attend, forward_kernel

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def forward(operands: Operands, geometry: Geometry, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes attention; arguments as in `forward_pass.attend`, which see.

    Returns:
        The output in the query's dtype, and the logarithms of the softmax's denominators in float32.

    Raises:
        ValueError: if the operands' dtype or dims are not among those that the kernels take.
    """
    _check(operands.query, operands.value)
    tensors = [_computable(one) for one in operands]
    out, lse = attend(*cast(Any, tensors), rows=geometry.rows, cols=geometry.cols, scale=scale)
    return out.to(operands.query.dtype), lse


def backward(
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor | None,
    operands: Operands,
    out: torch.Tensor,
    lse: torch.Tensor,
    geometry: Geometry,
    scale: float,
) -> tuple[torch.Tensor | None, ...]:
    """Computes the gradients; arguments as in `backward_pass.differentiate`, which see.

    Returns:
        The gradients of query, key, value, rpb, row_terms, col_terms, additional_keys and additional_values, None for
        those that are None.

    Raises:
        ValueError: if the operands' dtype or dims are not among those that the kernels take.
    """
    _check(operands.query, operands.value)
    tensors = [_computable(one) for one in (grad_out, grad_lse, *operands, out, lse)]
    gradients = differentiate(*cast(Any, tensors), rows=geometry.rows, cols=geometry.cols, scale=scale)
    return tuple(
        None if operand is None or gradient is None else gradient.to(operand.dtype)
        for operand, gradient in zip(operands, gradients, strict=True)
    )


def takes(query: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether the kernels take vectors of these lengths."""
    return max(query.shape[4], value.shape[4]) <= tuning.largest_dim(query.dtype)


def _check(query: torch.Tensor, value: torch.Tensor) -> None:
    """Raises a ValueError for operands that the kernels do not take."""
    if query.dtype not in _DTYPES:
        allowed = ", ".join(str(dtype) for dtype in _DTYPES)
        raise ValueError(
            f'backend="triton" takes {allowed}, but the operands are {query.dtype}. '
            'For these use backend="torch" or "reference".'
        )
    for name, dim in (("query and key", query.shape[4]), ("value", value.shape[4])):
        largest = tuning.largest_dim(query.dtype)
        if dim > largest:
            raise ValueError(
                f'backend="triton" takes {query.dtype} dims of up to {largest}, but {name} have {dim}. '
                'Use backend="torch".'
            )


def _computable(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """What the kernels compute with: the tensor itself, on a GPU.

    Triton's interpreter takes bfloat16 for the integers that have the same bits, so there it becomes float32.
    """
    if tensor is None or tensor.dtype != torch.bfloat16 or not launch.is_interpreted(forward_kernel):
        return tensor
    return tensor.float()
