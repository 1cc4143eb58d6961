"""Which operands the kernels support."""

from __future__ import annotations

import torch

from . import launch
from .tile_sizes import TileTables, device_limits, max_dim

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def check_operands(query: torch.Tensor, value: torch.Tensor, tables: TileTables) -> None:
    """Raises a ValueError if the kernels do not support the operands."""
    problem = unsupported(query, value, tables)
    if problem is not None:
        raise ValueError(f'backend="triton" supports {problem} Use backend="torch".')


def unsupported(query: torch.Tensor, value: torch.Tensor, tables: TileTables) -> str | None:
    """Returns what the kernels support and what was given, or None if they support the operands on their device."""
    if query.dtype not in _DTYPES:
        allowed = ", ".join(str(dtype) for dtype in _DTYPES)
        return f"{allowed}, got operands of {query.dtype}."
    limits = device_limits(query.device)
    largest = max_dim(tables, query.dtype, limits)
    where = (
        "" if limits is None or limits.capability >= 80 else f" on a GPU of compute capability {limits.capability / 10}"
    )
    if largest == 0:
        return f"no operands of {query.dtype}{where}; it needs a newer GPU."
    for name, dim in (("query and key", query.shape[4]), ("value", value.shape[4])):
        if dim > largest:
            return f"{query.dtype} dims <= {largest}{where}, got dim {dim} for {name}."
    return None


def without_bfloat16(tensor: torch.Tensor) -> torch.Tensor:
    """Casts bfloat16 to float32 in Triton's interpreter, which computes with its bit patterns; a no-op on a GPU."""
    return tensor.float() if tensor.dtype == torch.bfloat16 and launch.is_interpreted() else tensor
