"""Argument checks of ranged attention. They raise a ValueError that states what was given and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..checks import check_dtype, check_map, check_matches_query, check_not_empty, check_tensors, to_scale
from ..dispatch import cast_for_autocast
from .geometry import Blocks, Geometry, check_rule
from .operands import Operands

_OPTIONAL = tuple(Operands._field_defaults)
_CAST_FIELDS = ("query", "key", "value", "additional_keys", "additional_values")


def prepare(operands: Operands, geometry: Geometry, scale: float | None) -> tuple[Operands, Geometry, float]:
    """Casts operands for autocast, checks all arguments, and replaces a scale of None by dim ** -0.5."""
    check_tensors(operands._asdict(), _OPTIONAL)
    operands = cast_for_autocast(operands, _CAST_FIELDS)
    check_operands(operands)
    check_geometry(operands, geometry)
    query, rows, cols = operands.query, geometry.rows, geometry.cols
    check_bias(
        "rpb",
        operands.rpb,
        query,
        "(heads, row offsets, column offsets)",
        (query.shape[3], rows.bias_length, cols.bias_length),
    )
    for name, terms, rule in (("row_terms", operands.row_terms, rows), ("col_terms", operands.col_terms, cols)):
        sizes = "(batch, query rows, query columns, heads, offsets)"
        check_bias(name, terms, query, sizes, (*query.shape[:4], rule.bias_length))
    return operands, geometry, to_scale(scale, query.shape[4])


def check_operands(operands: Operands) -> None:
    """Checks that query, key, value and additional tokens match in shape, dtype and device."""
    check_tensors(operands._asdict(), _OPTIONAL)
    query, key, value = operands[:3]
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        check_map(name, tensor)
    if key.shape[:4] != value.shape[:4]:
        raise ValueError(
            f"key and value must have equal shapes except for dim, got {tuple(key.shape)} and {tuple(value.shape)}."
        )
    if query.shape[0] != key.shape[0] or query.shape[4] != key.shape[4]:
        raise ValueError(
            f"query and key must have equal batch sizes and dims, got {tuple(query.shape)} and {tuple(key.shape)}."
        )
    if key.shape[3] == 0 or query.shape[3] % key.shape[3]:
        raise ValueError(
            f"The key's heads must divide the query's heads, got {key.shape[3]} key heads and {query.shape[3]} query "
            "heads."
        )
    _check_additional_shapes(operands)
    check_not_empty(
        {"The query's heads": query.shape[3], "The query's dim": query.shape[4], "The value's dim": value.shape[4]}
    )
    for name in ("key", "value", "additional_keys", "additional_values"):
        tensor = getattr(operands, name)
        if tensor is not None:
            check_matches_query(name, tensor, query)
    check_dtype(query)


def check_geometry(operands: Operands, geometry: Geometry) -> None:
    """Checks that the rules fit the map."""
    query, key = operands.query, operands.key
    check_rule(geometry.rows, query.shape[1], key.shape[1], "height")
    check_rule(geometry.cols, query.shape[2], key.shape[2], "width")


def check_bias(
    name: str, bias: torch.Tensor | None, query: torch.Tensor, sizes: str, expected: tuple[int, ...]
) -> None:
    """Checks the shape, dtype and device of a bias or of a table that a bias is computed from; None passes."""
    check_tensors({name: bias}, {name})
    if bias is None:
        return
    if tuple(bias.shape) != expected:
        raise ValueError(f"{name} must have the shape {sizes} = {expected}, got {tuple(bias.shape)}.")
    half = query.dtype in (torch.float16, torch.bfloat16)
    if bias.device != query.device or not (bias.dtype == query.dtype or (half and bias.dtype == torch.float32)):
        raise ValueError(
            f"{name} must have the query's dtype and device ({query.dtype}, {query.device}), or be float32 for "
            f"float16 or bfloat16 operands, got {bias.dtype}, {bias.device}."
        )


def check_windows(query: torch.Tensor, rules: Sequence[Blocks]) -> None:
    """Checks that windows of these sizes and shifts tile the query's map."""
    for rule, length, axis in zip(rules, query.shape[1:3], ("height", "width"), strict=False):
        if not 0 <= rule.shift < max(1, rule.block_size):
            raise ValueError(
                f"shift_size must be between 0 and window_size - 1 = {rule.block_size - 1}, "
                f"got {rule.shift} for the {axis}."
            )
        if rule.block_size < 1 or length % rule.block_size:
            raise ValueError(
                f"window_size must be >= 1 and divide the map's sides, got {rule.block_size} for a {axis} of {length}. "
                "Pad the map or choose another window size."
            )


def _check_additional_shapes(operands: Operands) -> None:
    keys, values, key = operands.additional_keys, operands.additional_values, operands.key
    if keys is None and values is None:
        return
    if keys is None or values is None:
        raise ValueError("additional_keys and additional_values must be given together, got only one of them.")
    for name, tensor, like in (("additional_keys", keys, key), ("additional_values", values, operands.value)):
        tokens = keys.shape[1] if keys.ndim > 1 else 1
        expected = (key.shape[0], tokens, like.shape[3], like.shape[4])
        if tensor.ndim != 4 or tuple(tensor.shape) != expected:
            raise ValueError(
                f"{name} must have the shape (batch, tokens, key heads, dim) = {expected}, got {tuple(tensor.shape)}."
            )
