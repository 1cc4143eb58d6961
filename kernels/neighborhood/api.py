"""Public functions of ranged attention."""

from __future__ import annotations

from typing import Literal, overload

import torch

from ..checks import Pair, check_flag, to_pair
from ..tracing import fx_leaf
from .checks import check_bias, check_geometry, check_operands, check_windows, prepare
from .geometry import AxisRule, Blocks, Geometry, Neighborhood
from .operands import Operands
from .operator import ranged_attention


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
@fx_leaf
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
    """Computes generalized neighborhood attention: each query sees the `kernel_size` keys around it, on both axes.

    Windows are shifted inwards at the borders, not shrunk, so every query sees the same number of keys (a causal axis
    shows fewer at its start). Exact definition: `geometry.Neighborhood`. All tensor arguments receive gradients.

    Args:
        query: (B, H, W, heads, dim), contiguous or strided; float64, float32, float16 or bfloat16.
        key: (B, H, W, heads_kv, dim). heads_kv divides heads; query head h uses head h // (heads // heads_kv).
        value: (B, H, W, heads_kv, dim_v).
        kernel_size: Number of keys that a query sees along an axis, >= 2; an int or a pair (rows, columns), as are
            `stride`, `dilation` and `is_causal`.
        stride: Number of queries that share one window along an axis, at most kernel_size. 1 is a sliding window,
            kernel_size gives blocks.
        dilation: Distance between neighboring keys of a window. kernel_size * dilation must not exceed the map.
        is_causal: Whether a query sees only keys up to its own position along an axis.
        rpb: Relative position bias (heads, 2 * kernel_size - 1, 2 * kernel_size - 1), added to the scaled scores. Its
            center entry is a query's own position. Offsets count positions inside the dilation group.
        scale: Factor of the scores, dim ** -0.5 by default.
        additional_keys: (B, tokens, heads_kv, dim) keys that every query sees, without bias.
        additional_values: (B, tokens, heads_kv, dim_v).
        return_lse: Whether to return the log-sum-exp of each query's scores as well.
        backend: "auto", "triton", "torch" or "reference"; see `attnzoo.kernels.use_backend`.

    Returns:
        The output (B, H, W, heads, dim_v) in the query's dtype. With `return_lse`, a tuple of the output and the
        log-sum-exps (B, H, W, heads), natural logarithms in float32 (float64 for float64 operands).

    Raises:
        ValueError: If shapes, dtypes, devices or window arguments do not fit.

    Source: Hassani et al., "Generalized Neighborhood Attention" (2025); with `rpb`, "Neighborhood Attention
    Transformer" (CVPR 2023), section 3.
    """
    check_flag("return_lse", return_lse)
    sizes, strides = to_pair("kernel_size", kernel_size, int), to_pair("stride", stride, int)
    dilations, causal = to_pair("dilation", dilation, int), to_pair("is_causal", is_causal, bool)
    geometry = Geometry(*map(Neighborhood, sizes, strides, dilations, causal))
    operands = Operands(query, key, value, rpb, additional_keys=additional_keys, additional_values=additional_values)
    out, lse = ranged_attention(*prepare(operands, geometry, scale), backend=backend)
    return (out, lse) if return_lse else out


@fx_leaf
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
    """Computes attention inside windows that tile the map: each query sees the keys of its own window.

    With a shift s along an axis, windows begin at s, s + window_size, ..., and the first and the last window are cut.
    This equals Swin's cyclic shift with its mask, without rolling or masking (note that Swin rolls the map by -s). All
    tensor arguments receive gradients.

    Args:
        query: (B, H, W, heads, dim), contiguous or strided; float64, float32, float16 or bfloat16. H and W must be
            multiples of window_size.
        key: (B, H, W, heads_kv, dim). heads_kv divides heads; query head h uses head h // (heads // heads_kv).
        value: (B, H, W, heads_kv, dim_v).
        window_size: Side lengths of a window, an int or a pair (rows, columns).
        shift_size: Position of the first window border, between 0 and window_size - 1; an int or a pair.
        rpb: Swin's relative position bias table (heads, 2 * window_size - 1, 2 * window_size - 1), added to the scaled
            scores at index (query position - key position + window_size - 1). The table of
            `neighborhood_attention_2d` has the opposite sign, as NAT's checkpoints do.
        scale: Factor of the scores, dim ** -0.5 by default.
        backend: "auto", "triton", "torch" or "reference"; see `attnzoo.kernels.use_backend`.

    Returns:
        The output (B, H, W, heads, dim_v) in the query's dtype.

    Raises:
        ValueError: If shapes, dtypes, devices or window arguments do not fit.

    Source: Liu et al., "Swin Transformer" (ICCV 2021), section 3.2.
    """
    check_operands(Operands(query, key, value))
    sizes, shifts = to_pair("window_size", window_size, int), to_pair("shift_size", shift_size, int)
    rows, cols = (Blocks(size, shift=shift) for size, shift in zip(sizes, shifts, strict=True))
    check_windows(query, (rows, cols))
    if rpb is not None:
        expected = (query.shape[3], rows.bias_length, cols.bias_length)
        check_bias("rpb", rpb, query, "(heads, 2 * window_size - 1, 2 * window_size - 1)", expected)
        rpb = rpb.flip(1, 2)
    operands = Operands(query, key, value, rpb)
    return ranged_attention(*prepare(operands, Geometry(rows, cols), scale), backend=backend)[0]


@fx_leaf
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
    """Computes HaloNet's attention: blocks of queries see their own block of keys and a halo around it.

    The scores are scale * q . k + q . row_embedding[jy - iy + win - 1] + q . col_embedding[jx - ix + win - 1], where i
    is the query's position in its block, j the key's position in the window of win = block_size + 2 * halo_size, and
    the query in the last two products is not scaled. On a coarser query grid, i counts queries, so each query is one
    step in the embeddings. The first block begins at the map's first row and column, the last blocks end where the map
    ends, and a window reaches at most `halo_size` beyond the map. All tensor arguments receive gradients.

    Args:
        query: (B, ceil(H / query_stride), ceil(W / query_stride), heads, dim), contiguous or strided; float64, float32,
            float16 or bfloat16.
        key: (B, H, W, heads_kv, dim), of any height and width. heads_kv divides heads; query head h uses head
            h // (heads // heads_kv).
        value: (B, H, W, heads_kv, dim_v).
        block_size: Side lengths of a block, in keys; an int or a pair (rows, columns), as are `halo_size` and
            `query_stride`.
        halo_size: Number of keys by which a window extends beyond its block on every side.
        query_stride: Distance between neighboring queries, in keys. It must divide block_size.
        row_embedding: (2 * win - 1, dim) relative embedding by row offset, with win of the rows; shared by all heads.
            Its first win - block_size // query_stride vectors are never used, but published tables contain them.
        col_embedding: (2 * win - 1, dim) relative embedding by column offset, with win of the columns.
        mask_halo: Whether keys outside the map are hidden. Otherwise they are zeros that take part in the softmax, as
            in the published models.
        scale: Factor of the products of queries and keys, dim ** -0.5 by default.
        backend: "auto", "triton", "torch" or "reference"; see `attnzoo.kernels.use_backend`.

    Returns:
        (B, ceil(H / query_stride), ceil(W / query_stride), heads, dim_v) in the query's dtype.

    Raises:
        ValueError: If shapes, dtypes, devices or block arguments do not fit.

    Source: Vaswani et al., "Scaling Local Self-Attention for Parameter Efficient Visual Backbones" (CVPR 2021).
    """
    check_flag("mask_halo", mask_halo)
    sizes, halos = to_pair("block_size", block_size, int), to_pair("halo_size", halo_size, int)
    strides = to_pair("query_stride", query_stride, int)
    rows, cols = (Blocks(*one, clip=mask_halo) for one in zip(sizes, halos, strides, strict=True))
    operands, geometry = Operands(query, key, value), Geometry(rows, cols)
    check_operands(operands)
    check_geometry(operands, geometry)
    operands = operands._replace(
        row_terms=_embedding_terms("row_embedding", row_embedding, query, rows),
        col_terms=_embedding_terms("col_embedding", col_embedding, query, cols),
    )
    return ranged_attention(*prepare(operands, geometry, scale), backend=backend)[0]


@fx_leaf
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
    """Computes attention under any two axis rules: the general form of the other functions.

    Shapes of the tensors are those of `Operands`. The query grid and the key grid may differ.

    Args:
        query: (B, Hq, Wq, heads, dim).
        key: (B, Hk, Wk, heads_kv, dim).
        value: (B, Hk, Wk, heads_kv, dim_v).
        rows: Rule that determines which rows of keys a row of queries sees.
        cols: Rule that determines which columns of keys a column of queries sees.
        rpb: Bias (heads, rows.bias_length, cols.bias_length), added to the scaled scores.
        row_terms: (B, Hq, Wq, heads, rows.bias_length) bias that depends on the query, added to its scaled score with
            a key at index key row slot - row origin of the query.
        col_terms: (B, Hq, Wq, heads, cols.bias_length) bias of the same kind by column.
        scale: Factor of the products of queries and keys, dim ** -0.5 by default.
        additional_keys: (B, tokens, heads_kv, dim) keys that every query sees, without bias.
        additional_values: (B, tokens, heads_kv, dim_v).
        return_lse: Whether to return the log-sum-exps (B, Hq, Wq, heads) as well.
        backend: "auto", "triton", "torch" or "reference"; see `attnzoo.kernels.use_backend`.

    Returns:
        The output (B, Hq, Wq, heads, dim_v); with `return_lse`, a tuple of the output and the log-sum-exps.

    Raises:
        ValueError: If shapes, dtypes, devices or rules do not fit.
    """
    check_flag("return_lse", return_lse)
    operands = Operands(query, key, value, rpb, row_terms, col_terms, additional_keys, additional_values)
    out, lse = ranged_attention(*prepare(operands, Geometry(rows, cols), scale), backend=backend)
    return (out, lse) if return_lse else out


def _embedding_terms(
    name: str, embedding: torch.Tensor | None, query: torch.Tensor, rule: Blocks
) -> torch.Tensor | None:
    """Computes products of the queries with the embeddings that the rule uses: (B, Hq, Wq, heads, bias_length)."""
    if embedding is None:
        return None
    window = rule.block_size + 2 * rule.halo
    check_bias(name, embedding, query, "(2 * window - 1, dim)", (2 * window - 1, query.shape[4]))
    return query @ embedding[window - rule.queries_per_block :].to(query.dtype).mT
