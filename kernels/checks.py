"""Argument checks that operations share. They raise a ValueError that states what was given and what is allowed."""

from __future__ import annotations

import sys
from collections.abc import Collection
from numbers import Real
from typing import Any, TypeVar, Union

import torch

_T = TypeVar("_T", int, bool)
Pair = Union[_T, tuple[_T, _T], list[_T]]  # noqa: UP007 - generic alias, evaluated at import

_LIMIT = 1 << 31

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""Dtypes that every operation accepts on backends "torch" and "reference"."""


def to_pair(name: str, value: Pair[_T], kind: type[_T]) -> tuple[_T, _T]:
    """Converts an int (or bool) or a pair of them to (rows, columns); `name` is the argument's name in the error."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if any(isinstance(one, int) and abs(one) >= _LIMIT for one in pair):
        raise ValueError(f"{name} must be below 2^31, got {value!r}.")
    if len(pair) != 2 or not all(isinstance(one, int) and (kind is bool) == isinstance(one, bool) for one in pair):
        article = "an int" if kind is int else "a bool"
        raise ValueError(f"{name} must be {article} or a pair (rows, columns) of {kind.__name__}s, got {value!r}.")
    return pair


def check_tensors(tensors: dict[str, Any], optional: Collection[str] = ()) -> None:
    """Checks that arguments, by name, are tensors; those in `optional` may be None."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) and not (tensor is None and name in optional):
            raise ValueError(f"{name} must be a tensor{' or None' * (name in optional)}, got {_shortened(tensor)}.")


def check_flag(name: str, value: Any) -> None:
    """Checks that an argument is a bool."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {_shortened(value)}.")


def to_scale(scale: Any, dim: int) -> Any:
    """Returns the factor of the scores: `scale`, or dim ** -0.5 if it is None."""
    if scale is None:
        return dim**-0.5
    if isinstance(scale, bool) or not isinstance(scale, (float, int, torch.SymFloat, torch.SymInt, Real)):
        raise ValueError(f"scale must be a number or None, got {_shortened(scale)}.")
    if isinstance(scale, (float, int)) and not abs(scale) <= sys.float_info.max:
        raise ValueError(f"scale must be finite, got {_shortened(scale)}.")
    return float(scale)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"an object of type {type(value).__name__}"


def check_map(name: str, tensor: torch.Tensor) -> None:
    """Checks that a tensor has five dimensions (batch, height, width, heads, dim)."""
    if tensor.ndim != 5:
        raise ValueError(
            f"{name} must have the shape (batch, height, width, heads, dim), got shape {tuple(tensor.shape)}."
        )


def check_not_empty(sizes: dict[str, int]) -> None:
    """Checks that sizes, by the name of what they measure, are at least 1."""
    for name, size in sizes.items():
        if size == 0:
            raise ValueError(f"{name} must be >= 1, got 0.")


def check_dtype(query: torch.Tensor) -> None:
    """Checks that operands have a dtype that is computed with."""
    if query.dtype not in DTYPES:
        raise ValueError(
            f"query and the other operands must be float64, float32, float16 or bfloat16, got {query.dtype}."
        )


def check_matches_query(name: str, tensor: torch.Tensor, query: torch.Tensor) -> None:
    """Checks that a tensor has the query's dtype and device."""
    if tensor.dtype != query.dtype or tensor.device != query.device:
        raise ValueError(
            f"{name} must have the query's dtype and device ({query.dtype}, {query.device}), "
            f"got {tensor.dtype}, {tensor.device}."
        )
