"""Routed attention as fused Triton kernels (backend "triton"): no score is ever stored, and no gathered key."""

from __future__ import annotations

import torch

from ...triton_common import launch
from ..geometry import Grid
from ..operands import Operands
from . import tile_sizes as tuning
from .backward import differentiate
from .forward import attend, forward_kernel

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def forward(operands: Operands, grid: Grid, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes attention; arguments as in `forward_pass.attend`, which see.

    Returns:
        The output in the query's dtype, and the logarithms of the softmax's denominators in float32.

    Raises:
        ValueError: if the operands' dtype or dims are not among those that the kernels take.
    """
    query, key, value, routes = operands
    _check(query, value)
    out, lse = attend(_computable(query), _computable(key), _computable(value), routes, grid, scale)
    return out.to(query.dtype), lse


def backward(
    grad_out: torch.Tensor, operands: Operands, out: torch.Tensor, lse: torch.Tensor, grid: Grid, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
    """Computes the gradients; arguments as in `backward_pass.differentiate`, which see.

    Returns:
        The gradients in the order of `Operands`; None for the routes.

    Raises:
        ValueError: if the operands' dtype or dims are not among those that the kernels take.
    """
    query, key, value, routes = operands
    _check(query, value)
    tensors = (_computable(query), _computable(key), _computable(value))
    gradients = differentiate(_computable(grad_out), *tensors, routes, _computable(out), lse, grid, scale)
    return (
        gradients[0].to(query.dtype),
        gradients[1].to(key.dtype),
        gradients[2].to(value.dtype),
        None,
    )


def _check(query: torch.Tensor, value: torch.Tensor) -> None:
    """Raises a ValueError for operands that the kernels do not take."""
    if query.dtype not in _DTYPES:
        allowed = ", ".join(str(dtype) for dtype in _DTYPES)
        raise ValueError(
            f'backend="triton" takes {allowed}, but the operands are {query.dtype}. '
            'For these use backend="torch" or "reference".'
        )
    largest = tuning.largest_dim(query.dtype)
    for name, dim in (("query and key", query.shape[4]), ("value", value.shape[4])):
        if dim > largest:
            raise ValueError(
                f'backend="triton" takes {query.dtype} dims of up to {largest}, but {name} have {dim}. '
                'Use backend="torch".'
            )


def _computable(tensor: torch.Tensor) -> torch.Tensor:
    """What the kernels compute with: the tensor itself, on a GPU.

    Triton's interpreter takes bfloat16 for the integers that have the same bits, so there it becomes float32.
    """
    if tensor.dtype == torch.bfloat16 and launch.is_interpreted(forward_kernel):
        return tensor.float()
    return tensor
