"""Gradients of keys and values: one program per tile of keys and key head."""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportAssignmentType=false

from __future__ import annotations

import triton
import triton.language as tl

from ...triton_common import launch
from ...triton_common.addressing import (
    load_pixels,
    pixel_index,
    pixel_offsets,
    select_head,
    store_vectors,
    strided,
    zero_vectors,
)
from ...triton_common.constants import LN_2, LOG2_E
from ...triton_common.softmax import scaled_scores, score_gradients
from .addressing import first_bias, load_terms, query_step, read_tile, visible_pairs
from .backward_inputs import BackwardInputs
from .operands import strided_operands
from .plan import LaunchPlan


@triton.jit(do_not_specialize=["query_rows", "query_cols", "key_rows", "key_cols", "tiles", "col_tiles"])
def dkv_kernel(
    operands,
    bias,
    lse,
    delta,
    grad_out,
    grad_key,
    grad_value,
    plan,
    query_rows,
    query_cols,
    key_rows,
    key_cols,
    tiles,
    col_tiles,
    group,
    scale,
    QK_DIM: tl.constexpr,
    V_DIM: tl.constexpr,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
    COL_STEPS: tl.constexpr,
    ROW_RUNS: tl.constexpr,
    COL_RUNS: tl.constexpr,
    BIAS_SHAPE: tl.constexpr,
    INT64_OFFSETS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Computes the gradients of one tile and key head from the queries of all heads that share it."""
    query_map = (query_rows, query_cols)
    key_map = (key_rows, key_cols)
    TILE_SIZE: tl.constexpr = TILE.rows * TILE.cols
    HAS_BIASES: tl.constexpr = bias is not None or operands.row_terms is not None or operands.col_terms is not None
    batch = tl.program_id(0) // tiles
    key_head = tl.program_id(1)
    key_heads = tl.num_programs(1)
    heads = key_heads * group
    tile = read_tile(plan, tl.program_id(0) % tiles, col_tiles, TILE)
    key = select_head(operands.key, batch, key_head)
    keys = load_pixels(key, tile.rows, tile.cols, tile.owned, QK_DIM, INT64_OFFSETS)
    value = select_head(operands.value, batch, key_head)
    values = load_pixels(value, tile.rows, tile.cols, tile.owned, V_DIM, INT64_OFFSETS)
    image = batch.to(tl.int64) * query_map[0] * query_map[1] * heads

    grad_keys = zero_vectors(TILE_SIZE, QK_DIM)
    grad_values = zero_vectors(TILE_SIZE, V_DIM)
    for member in range(group):
        head = key_head * group + member
        query = select_head(operands.query, batch, head)
        grad_out_head = select_head(grad_out, batch, head)
        head_bias = None
        if bias is not None:
            head_bias = first_bias(bias, tile, head, BIAS_SHAPE)
        for number in range(tile.row.steps * COL_STEPS):
            step = query_step(tile, number, plan, query_map, STEP, COL_STEPS, ROW_RUNS, COL_RUNS)
            queries = load_pixels(query, step.rows, step.cols, step.known, QK_DIM, INT64_OFFSETS)
            upstream = load_pixels(grad_out_head, step.rows, step.cols, step.known, V_DIM, INT64_OFFSETS)
            index = pixel_index(step.rows, step.cols, head, query_map[1], heads, INT64_OFFSETS)
            step_lse = tl.load(lse + image + index, mask=step.known, other=0.0) * LOG2_E
            step_delta = tl.load(delta + image + index, mask=step.known, other=0.0)
            visible = visible_pairs(tile, step) & step.known[None, :]
            # Loaded before the product: then kernels need fewer registers.
            if HAS_BIASES:
                biases = load_key_terms(
                    operands, head_bias, tile, step, batch, head, visible, BIAS_SHAPE, INT64_OFFSETS
                )
            scores = scaled_scores(keys, queries, scale, PRECISION)
            if HAS_BIASES:
                scores += biases
            probs, grad_scores = score_gradients(
                scores, values, upstream, visible, step_lse[None, :], step_delta[None, :], PRECISION
            )
            grad_values = tl.dot(probs.to(upstream.dtype), upstream, grad_values, input_precision=PRECISION)
            grad_keys = tl.dot(grad_scores.to(queries.dtype), queries, grad_keys, input_precision=PRECISION)

    image = batch.to(tl.int64) * key_map[0] * key_map[1] * key_heads
    index = pixel_index(tile.rows, tile.cols, key_head, key_map[1], key_heads, INT64_OFFSETS)
    store_vectors(grad_key + image * QK_DIM.size, index, tile.owned, grad_keys * (scale * LN_2), QK_DIM)
    store_vectors(grad_value + image * V_DIM.size, index, tile.owned, grad_values, V_DIM)


@triton.jit
def load_key_terms(
    operands,
    head_bias,
    tile,
    step,
    batch,
    head,
    visible,
    BIAS_SHAPE: tl.constexpr,
    INT64_OFFSETS: tl.constexpr,
):
    """Loads what is added to the scores (keys, queries) of a tile and a step: the sum of biases and terms.

    Only for calls that have one of them.
    """
    biases = None
    if head_bias is not None:
        first = step.bias_row * BIAS_SHAPE.cols + step.bias_col
        tile_offsets = tile.row.offs * BIAS_SHAPE.cols + tile.col.offs
        step_offsets = step.row_offs * BIAS_SHAPE.cols + step.col_offs
        biases = tl.load(head_bias - first + (tile_offsets[:, None] - step_offsets[None, :]))
    if operands.row_terms is not None:
        terms = select_head(operands.row_terms, batch, head)
        tile_offsets = (tile.row.bias + tile.row.offs) * terms.strides[4]
        step_offsets = pixel_offsets(step.rows, step.cols, terms.strides, INT64_OFFSETS)
        step_offsets -= (step.bias_row + step.row_offs) * terms.strides[4]
        values = load_terms(terms.data, tile_offsets, step_offsets, visible)
        biases = values if biases is None else biases + values
    if operands.col_terms is not None:
        terms = select_head(operands.col_terms, batch, head)
        tile_offsets = (tile.col.bias + tile.col.offs) * terms.strides[4]
        step_offsets = pixel_offsets(step.rows, step.cols, terms.strides, INT64_OFFSETS)
        step_offsets -= (step.bias_col + step.col_offs) * terms.strides[4]
        values = load_terms(terms.data, tile_offsets, step_offsets, visible)
        biases = values if biases is None else biases + values
    return biases


def launch_dkv(inputs: BackwardInputs, plan: LaunchPlan) -> None:
    """Writes the gradients of keys and values. `plan` has tiles of keys."""
    key = inputs.operands.key
    launch.run(
        dkv_kernel,
        (key.shape[0] * plan.tiles, key.shape[3]),
        key.device,
        (
            strided_operands(inputs.operands),
            inputs.bias.table,
            inputs.lse,
            inputs.delta,
            strided(inputs.grad_out),
            inputs.gradients.key,
            inputs.gradients.value,
            plan.tables(key.device),
            *inputs.maps,
            plan.tiles,
            plan.cols.tiles,
            inputs.group,
            inputs.scale,
        ),
        **inputs.constants,
        **plan.options,
        ROW_RUNS=plan.rows.runs,
        COL_RUNS=plan.cols.runs,
        BIAS_SHAPE=inputs.bias.shape,
    )
