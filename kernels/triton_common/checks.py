"""Which operands the kernels support."""

from __future__ import annotations

import torch

from . import launch
from .tile_sizes import TileTables, max_dim

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def check_operands(query: torch.Tensor, value: torch.Tensor, tables: TileTables) -> None:
    """Raises a ValueError if the kernels do not support the operands' dtype or dims."""
    if query.dtype not in _DTYPES:
        allowed = ", ".join(str(dtype) for dtype in _DTYPES)
        raise ValueError(
            f'backend="triton" supports {allowed}, got operands of {query.dtype}. '
            'Use backend="torch" or "reference" for this dtype.'
        )
    largest = max_dim(tables, query.dtype)
    for name, dim in (("query and key", query.shape[4]), ("value", value.shape[4])):
        if dim > largest:
            raise ValueError(
                f'backend="triton" supports {query.dtype} dims <= {largest}, got dim {dim} for {name}. '
                'Use backend="torch".'
            )


def without_bfloat16(tensor: torch.Tensor) -> torch.Tensor:
    """Casts bfloat16 to float32 in Triton's interpreter, which computes with its bit patterns; a no-op on a GPU."""
    return tensor.float() if tensor.dtype == torch.bfloat16 and launch.is_interpreted() else tensor
