"""Argument checks that operations share. They raise a ValueError that states what was given and what is allowed."""

from __future__ import annotations

from typing import TypeVar, Union

import torch

_T = TypeVar("_T", int, bool)
Pair = Union[_T, tuple[_T, _T], list[_T]]  # noqa: UP007 - generic alias, evaluated at import

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""Dtypes that every operation accepts on backends "torch" and "reference"."""


def to_pair(name: str, value: Pair[_T], kind: type[_T]) -> tuple[_T, _T]:
    """Converts an int (or bool) or a pair of them to (rows, columns); `name` is the argument's name in the error."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(isinstance(one, int) and (kind is bool) == isinstance(one, bool) for one in pair):
        article = "an int" if kind is int else "a bool"
        raise ValueError(f"{name} must be {article} or a pair (rows, columns) of {kind.__name__}s, got {value!r}.")
    return pair


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
        raise ValueError(f"Operands must be float64, float32, float16 or bfloat16, got {query.dtype}.")


def check_matches_query(name: str, tensor: torch.Tensor, query: torch.Tensor) -> None:
    """Checks that a tensor has the query's dtype and device."""
    if tensor.dtype != query.dtype or tensor.device != query.device:
        raise ValueError(
            f"{name} must have the query's dtype and device ({query.dtype}, {query.device}), "
            f"got {tensor.dtype}, {tensor.device}."
        )
