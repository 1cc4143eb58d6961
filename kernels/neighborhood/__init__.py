"""Attention of a 2-D map whose queries see a neighborhood of keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar, Union, overload

import torch

from ..backends import plain_operators_requested, requested_backend
from ..dispatch import autocast_dtype, cast_for_autocast, without_autocast
from . import flops as _flops  # noqa: F401 - registers formulas
from .exportable import ranged_attention_2d_plain
from .geometry import AxisRule, Blocks, Neighborhood, check_rule
from .operator import ranged_attention_2d_operator
from .reference import ranged_attention_2d_reference

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


def window_attention_2d(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    window_size: Pair[int],
    shift_size: Pair[int] = 0,
    rpb: torch.Tensor | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """Attention inside windows that tile the map: every query sees the keys of its own window.

    With a shift s along an axis the borders of windows lie at s, s + window_size, ..., and the first and the last
    window are cut. That is Swin's cyclic shift under its mask, with nothing rolled and nothing masked; note that Swin
    rolls a map by -s for it. Gradients reach every tensor argument.

    Args:
        query: (B, H, W, heads, dim), contiguous or strided; float64, float32, float16 or bfloat16. The sides must be
            multiples of window_size.
        key: (B, H, W, heads_kv, dim). heads_kv divides heads; query head h uses head h // (heads // heads_kv).
        value: (B, H, W, heads_kv, dim_v).
        window_size: sides of a window; an int or a pair (rows, columns), as the next one.
        shift_size: where the first border lies, from 0 to window_size - 1.
        rpb: Swin's table of relative position biases, (heads, 2 * window_size - 1, 2 * window_size - 1), added to the
            scaled scores at the query's position less the key's, plus window_size - 1: its centre entry is a query's
            own position. (That of `neighborhood_attention_2d` is looked up the other way, as NAT's is published.)
        scale: multiplies the scores; dim ** -0.5 by default.
        backend: "auto", "triton", "torch" or "reference"; see `attnzoo.kernels.use_backend`.

    Returns:
        The output (B, H, W, heads, dim_v) in the query's dtype.

    Raises:
        ValueError: if shapes, dtypes, devices or window arguments do not fit; the message says what was given.

    Source: Liu et al., "Swin Transformer" (ICCV 2021), section 3.2.
    """
    rules = [
        Blocks(size, shift=shift)
        for size, shift in zip(
            _pair("window_size", window_size, int), _pair("shift_size", shift_size, int), strict=True
        )
    ]
    for rule, length, axis in zip(rules, query.shape[1:3], ("height", "width"), strict=False):
        if not 0 <= rule.shift < max(1, rule.block_size):
            raise ValueError(
                f"shift_size must be from 0 to window_size - 1 = {rule.block_size - 1}, "
                f"but is {rule.shift} along the {axis}."
            )
        if rule.block_size < 1 or length % rule.block_size:
            raise ValueError(
                f"window_size must be at least 1 and divide the map, but is {rule.block_size} "
                f"and the {axis} is {length}: pad the map, or choose another window."
            )
    if rpb is not None:
        sizes = "(heads, 2 * window_size - 1, 2 * window_size - 1)"
        _check_bias("rpb", rpb, query, sizes, (query.shape[3], *(rule.bias_length for rule in rules)))
        rpb = rpb.flip(1, 2)
    out = ranged_attention_2d(query, key, value, *rules, rpb=rpb, scale=scale, backend=backend)
    assert isinstance(out, torch.Tensor)
    return out


def halo_attention_2d(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    block_size: Pair[int],
    halo_size: Pair[int],
    query_stride: Pair[int] = 1,
    row_embedding: torch.Tensor | None = None,
    col_embedding: torch.Tensor | None = None,
    mask_halo: bool = False,
    scale: float | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """Attention of blocks of queries to their own block of keys and a halo around it, as in HaloNet.

    The scores are scale * q . k + q . row_embedding[jy - iy + win - 1] + q . col_embedding[jx - ix + win - 1], where i
    is the query's place in its block, j the key's in the window of win = block_size + 2 * halo_size, and the query in
    the last two products is not scaled. Queries on a coarser grid step by 1 in the embeddings: i counts queries. Blocks
    begin at the map's first row and column; the last ones are cut where the map ends, and a window reaches at most
    `halo_size` beyond the map. Gradients reach every tensor argument.

    Args:
        query: (B, ceil(H / query_stride), ceil(W / query_stride), heads, dim), contiguous or strided; float64, float32,
            float16 or bfloat16.
        key: (B, H, W, heads_kv, dim), of any height and width. heads_kv divides heads; query head h uses head
            h // (heads // heads_kv).
        value: (B, H, W, heads_kv, dim_v).
        block_size: sides of a block, in keys; an int or a pair (rows, columns), as the next two.
        halo_size: keys that a window reaches beyond its block on every side.
        query_stride: keys from one query to the next; it divides block_size.
        row_embedding: (2 * win - 1, dim) for win of the rows, shared by all heads; None for no such term. Its first
            win - block_size // query_stride vectors are never used, but published tables have them.
        col_embedding: the same for columns.
        mask_halo: whether keys outside the map are hidden. Otherwise they are zeros that take part in the softmax, as
            in the published models.
        scale: multiplies the products of queries and keys; dim ** -0.5 by default.
        backend: "auto", "triton", "torch" or "reference"; see `attnzoo.kernels.use_backend`.

    Returns:
        The output in the query's shape, with dim_v, and dtype.

    Raises:
        ValueError: if shapes, dtypes, devices or block arguments do not fit; the message says what was given.

    Source: Vaswani et al., "Scaling Local Self-Attention for Parameter Efficient Visual Backbones" (CVPR 2021).
    """
    rules = [
        Blocks(*arguments, clip=bool(mask_halo))
        for arguments in zip(
            _pair("block_size", block_size, int),
            _pair("halo_size", halo_size, int),
            _pair("query_stride", query_stride, int),
            strict=True,
        )
    ]
    _check_operands(query, key, value)
    for rule, axis, name in zip(rules, (1, 2), ("height", "width"), strict=True):
        check_rule(rule, query.shape[axis], key.shape[axis], name)
    terms = [
        _embedded(name, query, embedding, rule)
        for name, embedding, rule in zip(
            ("row_embedding", "col_embedding"), (row_embedding, col_embedding), rules, strict=True
        )
    ]
    out = ranged_attention_2d(
        query, key, value, *rules, row_terms=terms[0], col_terms=terms[1], scale=scale, backend=backend
    )
    assert isinstance(out, torch.Tensor)
    return out


def _embedded(name: str, query: torch.Tensor, embedding: torch.Tensor | None, rule: Blocks) -> torch.Tensor | None:
    """Products of queries with those relative embeddings that the rule looks up: (B, Hq, Wq, heads, bias_length)."""
    if embedding is None:
        return None
    window = rule.block_size + 2 * rule.halo
    _check_bias(name, embedding, query, "(2 * window - 1, dim)", (2 * window - 1, query.shape[4]))
    return query @ embedding[window - rule.queries_per_block :].to(query.dtype).mT


def ranged_attention_2d(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rows: AxisRule,
    cols: AxisRule,
    *,
    rpb: torch.Tensor | None = None,
    row_terms: torch.Tensor | None = None,
    col_terms: torch.Tensor | None = None,
    scale: float | None = None,
    additional_keys: torch.Tensor | None = None,
    additional_values: torch.Tensor | None = None,
    return_lse: bool = False,
    backend: str = "auto",
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Attention whose queries see a range of rows and a range of columns; the one operation behind the public ones.

    Arguments as in `neighborhood_attention_2d`, but the grids of queries (B, Hq, Wq, heads, dim) and of keys
    (B, Hk, Wk, heads_kv, dim) may differ, and a rule an axis says which keys a query sees.

    Args:
        query: see there, as what is not explained here.
        key: see there.
        value: see there.
        rows: which rows of keys a row of queries sees.
        cols: which columns of keys a column of queries sees.
        rpb: (heads, rows.bias_length, cols.bias_length).
        row_terms: (B, Hq, Wq, heads, rows.bias_length), a bias that depends on the query: added to the scaled score of
            a query and a key at [query, key row slot - row origin of the query].
        col_terms: (B, Hq, Wq, heads, cols.bias_length), the same for columns.
        scale: see there.
        additional_keys: see there.
        additional_values: see there.
        return_lse: see there.
        backend: see there.
    """
    backend = requested_backend(backend)
    dtype = autocast_dtype(query.device.type)
    if dtype is not None:
        query, key, value = (cast_for_autocast(one, dtype) for one in (query, key, value))
        additional_keys, additional_values = (
            None if one is None else cast_for_autocast(one, dtype) for one in (additional_keys, additional_values)
        )
    _check_operands(query, key, value, additional_keys, additional_values)
    check_rule(rows, query.shape[1], key.shape[1], "height")
    check_rule(cols, query.shape[2], key.shape[2], "width")
    heads = query.shape[3]
    if rpb is not None:
        sizes = "(heads, row offsets, column offsets)"
        _check_bias("rpb", rpb, query, sizes, (heads, rows.bias_length, cols.bias_length))
    for name, terms, rule in (("row_terms", row_terms, rows), ("col_terms", col_terms, cols)):
        if terms is not None:
            sizes = "(batch, query rows, query columns, heads, offsets)"
            _check_bias(name, terms, query, sizes, (*query.shape[:4], rule.bias_length))
    factor = query.shape[4] ** -0.5 if scale is None else float(scale)
    arguments = (query, key, value, rpb, row_terms, col_terms, additional_keys, additional_values, rows, cols, factor)
    if backend == "reference":
        out, lse = _in_float32(ranged_attention_2d_reference, *arguments)
    elif plain_operators_requested():
        out, lse = _in_float32(ranged_attention_2d_plain, *arguments)
    else:
        out, lse = ranged_attention_2d_operator(*arguments, backend)
    return (out, lse) if return_lse else out


def _in_float32(
    attention: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rpb: torch.Tensor | None,
    row_terms: torch.Tensor | None,
    col_terms: torch.Tensor | None,
    additional_keys: torch.Tensor | None,
    additional_values: torch.Tensor | None,
    rows: AxisRule,
    cols: AxisRule,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Runs an implementation that works in its operands' dtype in float32 at least, as the operator does."""
    dtype = query.dtype
    tensors = (rpb, additional_keys, additional_values, row_terms, col_terms)
    if dtype in (torch.float16, torch.bfloat16):
        query, key, value = query.float(), key.float(), value.float()
        tensors = tuple(None if one is None else one.float() for one in tensors)
    rpb, *others = tensors
    with without_autocast(query.device.type):
        out, lse = attention(query, key, value, rows, cols, rpb, scale, *others)
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
    additional_keys: torch.Tensor | None = None,
    additional_values: torch.Tensor | None = None,
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


def _check_bias(name: str, bias: torch.Tensor, query: torch.Tensor, sizes: str, expected: tuple[int, ...]) -> None:
    """Raises a ValueError unless a bias, or what one is made of, has the expected shape and goes with the query."""
    if tuple(bias.shape) != expected:
        raise ValueError(f"{name} must have the shape {sizes} = {expected}, but has {tuple(bias.shape)}.")
    half = query.dtype in (torch.float16, torch.bfloat16)
    if bias.device != query.device or not (bias.dtype == query.dtype or (half and bias.dtype == torch.float32)):
        raise ValueError(
            f"{name} must have the query's dtype and device ({query.dtype}, {query.device}), or be float32 beside "
            f"float16 or bfloat16 operands, but has {bias.dtype}, {bias.device}."
        )
