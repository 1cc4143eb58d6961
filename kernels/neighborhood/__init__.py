"""Attention of a 2-D map whose queries see a neighborhood of keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar, Union, overload

import torch

from ..backends import plain_operators_requested, requested_backend
from . import flops as _flops  # noqa: F401 - registers formulas
from .operator import autocast_dtype, ranged_attention_2d_operator, without_autocast
from .plain import ranged_attention_2d_plain
from .reference import ranged_attention_2d_reference
from .tables import AxisRule, Neighborhood, check_rule

_T = TypeVar("_T", int, bool)
Pair = Union[_T, tuple[_T, _T], list[_T]]  # noqa: UP007 - generic alias, evaluated at import


@overload
def neighborhood_attention_2d(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    kernel_size: Pair[int],
    stride: Pair[int] = 1,
    dilation: Pair[int] = 1,
    is_causal: Pair[bool] = False,
    rpb: torch.Tensor | None = None,
    scale: float | None = None,
    additional_keys: torch.Tensor | None = None,
    additional_values: torch.Tensor | None = None,
    return_lse: Literal[False] = False,
    backend: str = "auto",
) -> torch.Tensor: ...
@overload
def neighborhood_attention_2d(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    kernel_size: Pair[int],
    stride: Pair[int] = 1,
    dilation: Pair[int] = 1,
    is_causal: Pair[bool] = False,
    rpb: torch.Tensor | None = None,
    scale: float | None = None,
    additional_keys: torch.Tensor | None = None,
    additional_values: torch.Tensor | None = None,
    *,
    return_lse: Literal[True],
    backend: str = "auto",
) -> tuple[torch.Tensor, torch.Tensor]: ...
def neighborhood_attention_2d(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    kernel_size: Pair[int],
    stride: Pair[int] = 1,
    dilation: Pair[int] = 1,
    is_causal: Pair[bool] = False,
    rpb: torch.Tensor | None = None,
    scale: float | None = None,
    additional_keys: torch.Tensor | None = None,
    additional_values: torch.Tensor | None = None,
    return_lse: bool = False,
    backend: str = "auto",
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Generalized neighborhood attention: each query sees `kernel_size` keys around it, along both axes.

    Windows are moved inwards at the borders, never shrunk, so every query sees the same number of keys (a causal axis
    shows fewer at its start). Exact definition: `tables.Neighborhood`. Gradients reach every tensor argument.

    Args:
        query: (B, H, W, heads, dim), contiguous or strided; float64, float32, float16 or bfloat16.
        key: (B, H, W, heads_kv, dim). heads_kv divides heads; query head h uses head h // (heads // heads_kv).
        value: (B, H, W, heads_kv, dim_v).
        kernel_size: keys that a query sees along an axis, at least 2; an int or a pair
            (rows, columns), as the next three.
        stride: queries that share one window along an axis, at most kernel_size. 1 is a sliding window, kernel_size
            makes blocks.
        dilation: distance of the keys in a window; kernel_size * dilation must fit the map.
        is_causal: whether a query sees only keys up to its own position along an axis.
        rpb: relative position bias (heads, 2 * kernel_size - 1, 2 * kernel_size - 1), added to the scaled scores; its
            centre entry is a query's own position. Offsets count inside the dilation group.
        scale: multiplies the scores; dim ** -0.5 by default.
        additional_keys: (B, tokens, heads_kv, dim) seen by every query, without bias.
        additional_values: (B, tokens, heads_kv, dim_v).
        return_lse: whether to return the logarithms of the softmax's denominators as well.
        backend: "auto", "triton", "torch" or "reference"; see `attnzoo.kernels.use_backend`.

    Returns:
        The output (B, H, W, heads, dim_v) in the query's dtype; with `return_lse` a pair of it and (B, H, W, heads)
        natural logarithms, in float32 (float64 for float64 operands).

    Raises:
        ValueError: if shapes, dtypes, devices or window arguments do not fit; the message says what was given.

    Source: Hassani et al., "Generalized Neighborhood Attention" (2025); with `rpb`, "Neighborhood Attention
    Transformer" (CVPR 2023), section 3.
    """
    rules = [
        Neighborhood(*arguments)
        for arguments in zip(
            _pair("kernel_size", kernel_size, int),
            _pair("stride", stride, int),
            _pair("dilation", dilation, int),
            _pair("is_causal", is_causal, bool),
            strict=True,
        )
    ]
    return ranged_attention_2d(
        query,
        key,
        value,
        rules[0],
        rules[1],
        rpb=rpb,
        scale=scale,
        additional_keys=additional_keys,
        additional_values=additional_values,
        return_lse=return_lse,
        backend=backend,
    )


def ranged_attention_2d(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rows: AxisRule,
    cols: AxisRule,
    *,
    rpb: torch.Tensor | None = None,
    scale: float | None = None,
    additional_keys: torch.Tensor | None = None,
    additional_values: torch.Tensor | None = None,
    return_lse: bool = False,
    backend: str = "auto",
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Attention whose queries see a range of rows and a range of columns; the one operation behind the public ones.

    Arguments as in `neighborhood_attention_2d`, but the grids of queries (B, Hq, Wq, heads, dim) and of keys
    (B, Hk, Wk, heads_kv, dim) may differ, and a rule an axis says which keys a query sees.
    """
    backend = requested_backend(backend)
    dtype = autocast_dtype(query.device.type)
    if dtype is not None:
        query, key, value = (_cast(one, dtype) for one in (query, key, value))
        additional_keys, additional_values = (
            None if one is None else _cast(one, dtype) for one in (additional_keys, additional_values)
        )
    _check_operands(query, key, value, additional_keys, additional_values)
    check_rule(rows, query.shape[1], key.shape[1], "height")
    check_rule(cols, query.shape[2], key.shape[2], "width")
    if rpb is not None:
        _check_bias(rpb, query, rows, cols)
    factor = query.shape[4] ** -0.5 if scale is None else float(scale)
    arguments = (query, key, value, rpb, additional_keys, additional_values, rows, cols, factor)
    if backend == "reference":
        out, lse = _in_float32(ranged_attention_2d_reference, *arguments)
    elif plain_operators_requested():
        out, lse = _in_float32(ranged_attention_2d_plain, *arguments)
    else:
        out, lse = ranged_attention_2d_operator(*arguments, backend)
    return (out, lse) if return_lse else out


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Casts an operand to autocast's dtype where autocast would: float64 and integers stay as they are."""
    return tensor.to(dtype) if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor


def _in_float32(
    attention: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rpb: torch.Tensor | None,
    additional_keys: torch.Tensor | None,
    additional_values: torch.Tensor | None,
    rows: AxisRule,
    cols: AxisRule,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Runs an implementation that works in its operands' dtype in float32 at least, as the operator does."""
    dtype = query.dtype
    if dtype in (torch.float16, torch.bfloat16):
        query, key, value = query.float(), key.float(), value.float()
        rpb, additional_keys, additional_values = (
            None if one is None else one.float() for one in (rpb, additional_keys, additional_values)
        )
    with without_autocast(query.device.type):
        out, lse = attention(query, key, value, rows, cols, rpb, scale, additional_keys, additional_values)
    return out.to(dtype), lse


def _pair(name: str, value: Pair[_T], kind: type[_T]) -> tuple[_T, _T]:
    """Makes (rows, columns) of an int or bool, or of a pair of them."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(isinstance(one, int) and (kind is bool) == isinstance(one, bool) for one in pair):
        raise ValueError(f"{name} must be {kind.__name__} or a pair of them (rows, columns), but is {value!r}.")
    return pair


def _check_operands(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    additional_keys: torch.Tensor | None,
    additional_values: torch.Tensor | None,
) -> None:
    """Raises a ValueError unless the operands' shapes, dtypes and devices fit each other."""
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.ndim != 5:
            raise ValueError(
                f"{name} must have the shape (batch, height, width, heads, dim), but has {tuple(tensor.shape)}."
            )
    if key.shape[:4] != value.shape[:4]:
        raise ValueError(
            f"key and value must agree in all but dim, but have {tuple(key.shape)} and {tuple(value.shape)}."
        )
    if query.shape[0] != key.shape[0] or query.shape[4] != key.shape[4]:
        raise ValueError(
            f"query and key must agree in batch and dim, but have {tuple(query.shape)} and {tuple(key.shape)}."
        )
    if key.shape[3] == 0 or query.shape[3] % key.shape[3]:
        raise ValueError(f"key heads must divide query heads, but there are {key.shape[3]} and {query.shape[3]}.")
    if (additional_keys is None) != (additional_values is None):
        raise ValueError("additional_keys and additional_values come together: give both or neither.")
    operands = {"key": key, "value": value}
    if additional_keys is not None and additional_values is not None:
        operands |= {"additional_keys": additional_keys, "additional_values": additional_values}
        for name, tensor, like in (
            ("additional_keys", additional_keys, key),
            ("additional_values", additional_values, value),
        ):
            expected = (key.shape[0], additional_keys.shape[1], like.shape[3], like.shape[4])
            if tensor.ndim != 4 or tuple(tensor.shape) != expected:
                raise ValueError(
                    f"{name} must have the shape (batch, tokens, key heads, dim) = {expected}, "
                    f"but has {tuple(tensor.shape)}."
                )
    for name, size in (("heads", query.shape[3]), ("dim", query.shape[4]), ("the value's dim", value.shape[4])):
        if size == 0:
            raise ValueError(f"{name} must be at least 1, but is 0.")
    for name, tensor in operands.items():
        if tensor.dtype != query.dtype or tensor.device != query.device:
            raise ValueError(
                f"{name} must have the query's dtype and device ({query.dtype}, {query.device}), "
                f"but has {tensor.dtype}, {tensor.device}."
            )
    if query.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"operands must be float64, float32, float16 or bfloat16, but are {query.dtype}.")


def _check_bias(rpb: torch.Tensor, query: torch.Tensor, rows: AxisRule, cols: AxisRule) -> None:
    """Raises a ValueError unless the relative position bias fits the query and the rules."""
    expected = (query.shape[3], rows.bias_length, cols.bias_length)
    if tuple(rpb.shape) != expected:
        raise ValueError(
            f"rpb must have the shape (heads, row offsets, column offsets) = {expected}, but has {tuple(rpb.shape)}."
        )
    half = query.dtype in (torch.float16, torch.bfloat16)
    if rpb.device != query.device or not (rpb.dtype == query.dtype or (half and rpb.dtype == torch.float32)):
        raise ValueError(
            f"rpb must have the query's dtype and device ({query.dtype}, {query.device}), or be float32 beside float16 "
            f"or bfloat16 operands, but has {rpb.dtype}, {rpb.device}."
        )
