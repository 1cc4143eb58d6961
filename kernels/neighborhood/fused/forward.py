"""The forward pass: one program for a tile of queries and a head."""

# Kernels are in Triton's language, where a constexpr is a number.
# pyright: reportOperatorIssue=false, reportArgumentType=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...triton_common import launch
from ...triton_common.addressing import (
    LOWEST,
    head_base,
    inside,
    load_terms,
    load_vectors,
    offsets,
    read_tile,
    store_vectors,
)
from ..geometry import AxisRule
from .bias import pad_bias
from .plan import Grid, plan_queries


@triton.jit(do_not_specialize=["query_map", "key_map", "bias_low", "tiles", "col_tiles", "tokens"])
def forward_kernel(
    query,
    key,
    value,
    additional_keys,
    additional_values,
    bias,
    row_terms,
    col_terms,
    out,
    lse,
    row_table,
    col_table,
    query_strides,
    key_strides,
    value_strides,
    additional_key_strides,
    additional_value_strides,
    row_term_strides,
    col_term_strides,
    query_map,
    key_map,
    spread,
    bias_low,
    tiles,
    col_tiles,
    group,
    tokens,
    scale,
    DIM: tl.constexpr,
    DIM_V: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    BLOCK_DIM_V: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    STEP_ROWS: tl.constexpr,
    STEP_COLS: tl.constexpr,
    COL_STEPS: tl.constexpr,
    BIAS_ROWS: tl.constexpr,
    BIAS_COLS: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Attention of the queries of one tile and head; `scale` includes the change to powers of 2, as `bias` does."""
    tile = tl.program_id(0) % tiles
    batch = tl.program_id(0) // tiles
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    key_head = head // group

    lanes = tl.arange(0, TILE_ROWS * TILE_COLS)
    lane_rows = lanes // TILE_COLS
    lane_cols = lanes % TILE_COLS
    row, key_row, row_steps, bias_row, own_rows, row_from, row_to = read_tile(
        row_table, tile // col_tiles, lane_rows, TILE_ROWS
    )
    col, key_col, _, bias_col, own_cols, col_from, col_to = read_tile(col_table, tile % col_tiles, lane_cols, TILE_COLS)
    rows = row + lane_rows * spread[0]
    cols = col + lane_cols * spread[1]
    owned = own_rows & own_cols
    queries = load_vectors(
        head_base(query, batch, head, query_strides),
        offsets(rows, cols, query_strides, WIDE),
        owned,
        query_strides[4],
        DIM,
        BLOCK_DIM,
    )

    keys_base = head_base(key, batch, key_head, key_strides)
    values_base = head_base(value, batch, key_head, value_strides)
    slots = tl.arange(0, STEP_ROWS * STEP_COLS)
    slot_rows = slots // STEP_COLS
    slot_cols = slots % STEP_COLS
    if bias is not None:
        bias += head * (BIAS_ROWS * BIAS_COLS) + (bias_row - bias_low[0]) * BIAS_COLS + (bias_col - bias_low[1])
        lane_bias = lane_rows * BIAS_COLS + lane_cols
        slot_bias = slot_rows * BIAS_COLS + slot_cols
    if row_terms is not None:
        row_terms = head_base(row_terms, batch, head, row_term_strides)
        lane_row_terms = offsets(rows, cols, row_term_strides, WIDE) + (bias_row - lane_rows) * row_term_strides[4]
    if col_terms is not None:
        col_terms = head_base(col_terms, batch, head, col_term_strides)
        lane_col_terms = offsets(rows, cols, col_term_strides, WIDE) + (bias_col - lane_cols) * col_term_strides[4]

    largest = tl.full([TILE_ROWS * TILE_COLS], LOWEST, tl.float32)
    total = tl.zeros([TILE_ROWS * TILE_COLS], tl.float32)
    weighted = tl.zeros([TILE_ROWS * TILE_COLS, BLOCK_DIM_V], tl.float32)
    for step in range(row_steps * COL_STEPS):
        first_row = step // COL_STEPS * STEP_ROWS
        first_col = step % COL_STEPS * STEP_COLS
        key_slot_rows = first_row + slot_rows
        key_slot_cols = first_col + slot_cols
        key_rows = key_row + key_slot_rows * spread[0]
        key_cols = key_col + key_slot_cols * spread[1]
        on_map = inside(key_rows, key_cols, key_map[0], key_map[1])
        keys = load_vectors(
            keys_base, offsets(key_rows, key_cols, key_strides, WIDE), on_map, key_strides[4], DIM, BLOCK_DIM
        )
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale
        if bias is not None:
            first_bias = first_row * BIAS_COLS + first_col
            scores += tl.load(bias + first_bias + (slot_bias[None, :] - lane_bias[:, None]))
        visible = (key_slot_rows[None, :] >= row_from[:, None]) & (key_slot_rows[None, :] < row_to[:, None])
        visible &= (key_slot_cols[None, :] >= col_from[:, None]) & (key_slot_cols[None, :] < col_to[:, None])
        if row_terms is not None:
            scores += load_terms(row_terms, lane_row_terms, key_slot_rows * row_term_strides[4], visible)
        if col_terms is not None:
            scores += load_terms(col_terms, lane_col_terms, key_slot_cols * col_term_strides[4], visible)
        scores = tl.where(visible, scores, -float("inf"))
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp2(scores - new_largest[:, None])
        shrink = tl.exp2(largest - new_largest)
        total = total * shrink + tl.sum(weights, 1)
        weighted *= shrink[:, None]
        values = load_vectors(
            values_base, offsets(key_rows, key_cols, value_strides, WIDE), on_map, value_strides[4], DIM_V, BLOCK_DIM_V
        )
        weighted = tl.dot(weights.to(values.dtype), values, weighted, input_precision=PRECISION)
        largest = new_largest

    if additional_keys is not None:
        keys_base = additional_keys + batch.to(tl.int64) * additional_key_strides[0]
        keys_base += key_head.to(tl.int64) * additional_key_strides[2]
        values_base = additional_values + batch.to(tl.int64) * additional_value_strides[0]
        values_base += key_head.to(tl.int64) * additional_value_strides[2]
        for first in range(0, tokens, STEP_ROWS * STEP_COLS):
            token = first + slots
            present = token < tokens
            token = token.to(tl.int64)
            keys = load_vectors(
                keys_base, token * additional_key_strides[1], present, additional_key_strides[3], DIM, BLOCK_DIM
            )
            scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale
            scores = tl.where(present[None, :], scores, -float("inf"))
            new_largest = tl.maximum(largest, tl.max(scores, 1))
            weights = tl.exp2(scores - new_largest[:, None])
            shrink = tl.exp2(largest - new_largest)
            total = total * shrink + tl.sum(weights, 1)
            weighted *= shrink[:, None]
            values = load_vectors(
                values_base,
                token * additional_value_strides[1],
                present,
                additional_value_strides[3],
                DIM_V,
                BLOCK_DIM_V,
            )
            weighted = tl.dot(weights.to(values.dtype), values, weighted, input_precision=PRECISION)
            largest = new_largest

    # (B, H, W, heads) and (B, H, W, heads, dim_v), contiguous.
    image = batch.to(tl.int64) * query_map[0] * query_map[1] * heads
    place = (rows * query_map[1] + cols) * heads + head
    if WIDE:
        place = (rows.to(tl.int64) * query_map[1] + cols) * heads + head
    # Lanes that the tile does not own have seen no key.
    total = tl.where(owned, total, 1.0)
    tl.store(lse + image + place, (largest + tl.log2(total)) * 0.6931471805599453, mask=owned)
    store_vectors(out + image * DIM_V, place * DIM_V, owned, weighted / total[:, None], DIM_V, BLOCK_DIM_V)


def attend(
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
    """Runs the forward pass.

    Args:
        query: (B, Hq, Wq, heads, dim), as all operands with any strides.
        key: (B, Hk, Wk, heads_kv, dim).
        value: (B, Hk, Wk, heads_kv, dim_v).
        rpb: (heads, row offsets, column offsets) or None.
        row_terms: (B, Hq, Wq, heads, row offsets) or None.
        col_terms: (B, Hq, Wq, heads, column offsets) or None.
        additional_keys: (B, tokens, heads_kv, dim) or None.
        additional_values: (B, tokens, heads_kv, dim_v) or None.
        rows: which rows of keys a row of queries sees.
        cols: which columns of keys a column of queries sees.
        scale: multiplies the scores.

    Returns:
        The output (B, Hq, Wq, heads, dim_v), and the logarithms of the softmax's denominators (B, Hq, Wq, heads) in
        float32, both contiguous.
    """
    batch, height, width, heads, _ = query.shape
    out = query.new_empty((batch, height, width, heads, value.shape[4]))
    lse = query.new_empty((batch, height, width, heads), dtype=torch.float32)
    sizes = launch.sizes("forward", query, value, row_terms is not None or col_terms is not None)
    key_map = Grid(*key.shape[1:3])
    plan = plan_queries((rows, cols), Grid(height, width), key_map, sizes.tile, sizes.step, query.device)
    bias = pad_bias(rpb, plan)
    launch.run(
        forward_kernel,
        (batch * plan.tiles, heads),
        (
            query,
            key,
            value,
            additional_keys,
            additional_values,
            bias.table,
            row_terms,
            col_terms,
            out,
            lse,
            plan.rows.table,
            plan.cols.table,
            query.stride(),
            key.stride(),
            value.stride(),
            launch.strides(additional_keys),
            launch.strides(additional_values),
            launch.strides(row_terms),
            launch.strides(col_terms),
            (height, width),
            tuple(key_map),
            plan.spread,
            tuple(bias.low),
            plan.tiles,
            plan.cols.tiles,
            heads // key.shape[3],
            0 if additional_keys is None else additional_keys.shape[1],
            scale * launch.LOG2_E,
        ),
        **launch.dims(query, value),
        **plan.sizes,
        BIAS_ROWS=bias.size.rows,
        BIAS_COLS=bias.size.cols,
        WIDE=launch.is_wide(query, key, value, out, row_terms, col_terms),
        **launch.tuned(sizes, plan.tile),
    )
    return out, lse
