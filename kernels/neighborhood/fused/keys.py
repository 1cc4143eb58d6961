"""Gradients of keys and values: one program for a tile of keys, walking over the queries that see it."""

# Kernels are in Triton's language, where a constexpr is a number.
# pyright: reportOperatorIssue=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl

from ...triton_common.addressing import (
    first_of_step,
    head_base,
    inside,
    load_terms,
    load_vectors,
    offsets,
    read_tile,
    score_gradients,
    store_vectors,
)


@triton.jit(do_not_specialize=["query_map", "key_map", "bias_low", "tiles", "col_tiles"])
def keys_kernel(
    query,
    key,
    value,
    bias,
    row_terms,
    col_terms,
    lse,
    delta,
    grad_out,
    grad_key,
    grad_value,
    row_table,
    col_table,
    query_strides,
    key_strides,
    value_strides,
    row_term_strides,
    col_term_strides,
    grad_out_strides,
    query_map,
    key_map,
    spread,
    bias_low,
    tiles,
    col_tiles,
    group,
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
    ROW_RUN: tl.constexpr,
    ROW_STEPS_PER_RUN: tl.constexpr,
    ROW_RUN_LENGTH: tl.constexpr,
    ROW_ORIGIN_RUN: tl.constexpr,
    COL_RUN: tl.constexpr,
    COL_STEPS_PER_RUN: tl.constexpr,
    COL_RUN_LENGTH: tl.constexpr,
    COL_ORIGIN_RUN: tl.constexpr,
    BIAS_ROWS: tl.constexpr,
    BIAS_COLS: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradients of the keys and values of one tile and key head, over the queries of all heads that share it."""
    tile = tl.program_id(0) % tiles
    batch = tl.program_id(0) // tiles
    key_head = tl.program_id(1)
    key_heads = tl.num_programs(1)
    heads = key_heads * group

    lanes = tl.arange(0, TILE_ROWS * TILE_COLS)
    lane_rows = lanes // TILE_COLS
    lane_cols = lanes % TILE_COLS
    row, query_row, row_steps, bias_row, own_rows, row_from, row_to = read_tile(
        row_table, tile // col_tiles, lane_rows, TILE_ROWS
    )
    col, query_col, _, bias_col, own_cols, col_from, col_to = read_tile(
        col_table, tile % col_tiles, lane_cols, TILE_COLS
    )
    rows = row + lane_rows * spread[0]
    cols = col + lane_cols * spread[1]
    owned = own_rows & own_cols
    keys = load_vectors(
        head_base(key, batch, key_head, key_strides),
        offsets(rows, cols, key_strides, WIDE),
        owned,
        key_strides[4],
        DIM,
        BLOCK_DIM,
    )
    values = load_vectors(
        head_base(value, batch, key_head, value_strides),
        offsets(rows, cols, value_strides, WIDE),
        owned,
        value_strides[4],
        DIM_V,
        BLOCK_DIM_V,
    )
    slots = tl.arange(0, STEP_ROWS * STEP_COLS)
    slot_rows = slots // STEP_COLS
    slot_cols = slots % STEP_COLS
    if bias is not None:
        lane_bias = lane_rows * BIAS_COLS + lane_cols
        slot_bias = slot_rows * BIAS_COLS + slot_cols
    image = batch.to(tl.int64) * query_map[0] * query_map[1] * heads

    grad_keys = tl.zeros([TILE_ROWS * TILE_COLS, BLOCK_DIM], tl.float32)
    grad_values = tl.zeros([TILE_ROWS * TILE_COLS, BLOCK_DIM_V], tl.float32)
    for member in range(group):
        head = key_head * group + member
        queries_base = head_base(query, batch, head, query_strides)
        upstream_base = head_base(grad_out, batch, head, grad_out_strides)
        if bias is not None:
            head_bias = bias + head * (BIAS_ROWS * BIAS_COLS)
            head_bias += (bias_row - bias_low[0]) * BIAS_COLS + (bias_col - bias_low[1])
        for step in range(row_steps * COL_STEPS):
            row_step = step // COL_STEPS
            col_step = step % COL_STEPS
            query_slot_rows = first_of_step(row_step, STEP_ROWS, ROW_RUN, ROW_STEPS_PER_RUN) + slot_rows
            query_slot_cols = first_of_step(col_step, STEP_COLS, COL_RUN, COL_STEPS_PER_RUN) + slot_cols
            query_rows = query_row + query_slot_rows * spread[0]
            query_cols = query_col + query_slot_cols * spread[1]
            known = inside(query_rows, query_cols, query_map[0], query_map[1])
            if ROW_RUN_LENGTH > 0:
                known &= row_step % ROW_STEPS_PER_RUN * STEP_ROWS + slot_rows < ROW_RUN_LENGTH
            if COL_RUN_LENGTH > 0:
                known &= col_step % COL_STEPS_PER_RUN * STEP_COLS + slot_cols < COL_RUN_LENGTH
            queries = load_vectors(
                queries_base,
                offsets(query_rows, query_cols, query_strides, WIDE),
                known,
                query_strides[4],
                DIM,
                BLOCK_DIM,
            )
            upstream = load_vectors(
                upstream_base,
                offsets(query_rows, query_cols, grad_out_strides, WIDE),
                known,
                grad_out_strides[4],
                DIM_V,
                BLOCK_DIM_V,
            )
            place = (query_rows * query_map[1] + query_cols) * heads + head
            if WIDE:
                place = (query_rows.to(tl.int64) * query_map[1] + query_cols) * heads + head
            logs = tl.load(lse + image + place, mask=known, other=0.0) * 1.4426950408889634
            taken_off = tl.load(delta + image + place, mask=known, other=0.0)
            biases = None
            if bias is not None:
                first_bias = first_of_step(row_step, STEP_ROWS, ROW_ORIGIN_RUN, ROW_STEPS_PER_RUN) * BIAS_COLS
                first_bias += first_of_step(col_step, STEP_COLS, COL_ORIGIN_RUN, COL_STEPS_PER_RUN)
                biases = tl.load(head_bias - first_bias + (lane_bias[:, None] - slot_bias[None, :]))
            visible = (query_slot_rows[None, :] >= row_from[:, None]) & (query_slot_rows[None, :] < row_to[:, None])
            visible &= (query_slot_cols[None, :] >= col_from[:, None]) & (query_slot_cols[None, :] < col_to[:, None])
            visible &= known[None, :]
            if row_terms is not None:
                row_origin = first_of_step(row_step, STEP_ROWS, ROW_ORIGIN_RUN, ROW_STEPS_PER_RUN) + slot_rows
                terms = load_terms(
                    head_base(row_terms, batch, head, row_term_strides),
                    (bias_row + lane_rows) * row_term_strides[4],
                    offsets(query_rows, query_cols, row_term_strides, WIDE) - row_origin * row_term_strides[4],
                    visible,
                )
                biases = terms if biases is None else biases + terms
            if col_terms is not None:
                col_origin = first_of_step(col_step, STEP_COLS, COL_ORIGIN_RUN, COL_STEPS_PER_RUN) + slot_cols
                terms = load_terms(
                    head_base(col_terms, batch, head, col_term_strides),
                    (bias_col + lane_cols) * col_term_strides[4],
                    offsets(query_rows, query_cols, col_term_strides, WIDE) - col_origin * col_term_strides[4],
                    visible,
                )
                biases = terms if biases is None else biases + terms
            weights, grad_scores = score_gradients(
                keys, queries, values, upstream, biases, visible, logs[None, :], taken_off[None, :], scale, PRECISION
            )
            grad_values = tl.dot(weights.to(upstream.dtype), upstream, grad_values, input_precision=PRECISION)
            grad_keys = tl.dot(grad_scores.to(queries.dtype), queries, grad_keys, input_precision=PRECISION)

    image = batch.to(tl.int64) * key_map[0] * key_map[1] * key_heads
    place = (rows * key_map[1] + cols) * key_heads + key_head
    if WIDE:
        place = (rows.to(tl.int64) * key_map[1] + cols) * key_heads + key_head
    store_vectors(grad_key + image * DIM, place * DIM, owned, grad_keys * (scale * 0.6931471805599453), DIM, BLOCK_DIM)
    store_vectors(grad_value + image * DIM_V, place * DIM_V, owned, grad_values, DIM_V, BLOCK_DIM_V)
