"""Gradients of queries and of the terms that depend on them: one program per tile of queries and head."""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportAssignmentType=false

from __future__ import annotations

import torch
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
from ..geometry import Geometry
from .addressing import (
    key_step,
    load_query_terms,
    load_tokens,
    locate_query_terms,
    read_tile,
    select_tokens,
    visible_pairs,
)
from .backward_inputs import BackwardInputs
from .operands import strided_operands
from .plan import LaunchPlan


@triton.jit(
    do_not_specialize=[
        "query_rows",
        "query_cols",
        "key_rows",
        "key_cols",
        "tiles",
        "col_tiles",
        "tokens",
        "row_offsets",
        "col_offsets",
    ]
)
def dq_kernel(
    operands,
    bias,
    out,
    lse,
    grad_out,
    grad_lse,
    delta,
    grad_query,
    grad_row_terms,
    grad_col_terms,
    plan,
    query_rows,
    query_cols,
    key_rows,
    key_cols,
    tiles,
    col_tiles,
    group,
    tokens,
    row_offsets,
    col_offsets,
    scale,
    QK_DIM: tl.constexpr,
    V_DIM: tl.constexpr,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
    COL_STEPS: tl.constexpr,
    ALL_STEPS: tl.constexpr,
    BIAS_SHAPE: tl.constexpr,
    INT64_OFFSETS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Computes the gradients of one tile and head, and the `delta` that the other kernels need.

    `delta`, (B, H, W, heads), is the dot product of the output and its gradient, minus the gradient of the log-sum-exp.
    """
    query_map = (query_rows, query_cols)
    key_map = (key_rows, key_cols)
    TILE_SIZE: tl.constexpr = TILE.rows * TILE.cols
    STEP_SIZE: tl.constexpr = STEP.rows * STEP.cols
    ROW_SLOTS: tl.constexpr = ALL_STEPS.rows
    COL_SLOTS: tl.constexpr = ALL_STEPS.cols
    HAS_BIASES: tl.constexpr = bias is not None or operands.row_terms is not None or operands.col_terms is not None
    batch = tl.program_id(0) // tiles
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    key_head = head // group
    tile = read_tile(plan, tl.program_id(0) % tiles, col_tiles, TILE)
    query = select_head(operands.query, batch, head)
    queries = load_pixels(query, tile.rows, tile.cols, tile.owned, QK_DIM, INT64_OFFSETS)
    upstream = load_pixels(select_head(grad_out, batch, head), tile.rows, tile.cols, tile.owned, V_DIM, INT64_OFFSETS)
    tile_delta = load_delta(out, upstream, grad_lse, tile, batch, head, V_DIM, INT64_OFFSETS)
    # (B, H, W, heads), contiguous, as the saved log-sum-exps are.
    image = batch.to(tl.int64) * query_map[0] * query_map[1] * heads
    index = pixel_index(tile.rows, tile.cols, head, query_map[1], heads, INT64_OFFSETS)
    tl.store(delta + image + index, tile_delta, mask=tile.owned)
    tile_lse = tl.load(lse + image + index, mask=tile.owned, other=0.0) * LOG2_E
    key = select_head(operands.key, batch, key_head)
    value = select_head(operands.value, batch, key_head)
    terms = locate_query_terms(operands, bias, tile, batch, head, BIAS_SHAPE, INT64_OFFSETS)

    grad_queries = zero_vectors(TILE_SIZE, QK_DIM)
    if grad_row_terms is not None:
        row_sums = tl.zeros([TILE_SIZE, ROW_SLOTS], tl.float32)
    if grad_col_terms is not None:
        col_sums = tl.zeros([TILE_SIZE, COL_SLOTS], tl.float32)
    for number in range(tile.row.steps * COL_STEPS):
        step = key_step(tile, number, plan, key_map, STEP, COL_STEPS)
        keys = load_pixels(key, step.rows, step.cols, step.known, QK_DIM, INT64_OFFSETS)
        values = load_pixels(value, step.rows, step.cols, step.known, V_DIM, INT64_OFFSETS)
        visible = visible_pairs(tile, step)
        # Loaded before the product: then kernels need fewer registers.
        if HAS_BIASES:
            biases = load_query_terms(operands, bias, terms, tile, step, visible, BIAS_SHAPE)
        scores = scaled_scores(queries, keys, scale, PRECISION)
        if HAS_BIASES:
            scores += biases
        _probs, grad_scores = score_gradients(
            scores, upstream, values, visible, tile_lse[:, None], tile_delta[:, None], PRECISION
        )
        grad_queries = tl.dot(grad_scores.to(keys.dtype), keys, grad_queries, input_precision=PRECISION)
        if grad_row_terms is not None:
            row_sums = sum_by_slot(grad_scores.to(keys.dtype), step.row_slots, row_sums, ROW_SLOTS, PRECISION)
        if grad_col_terms is not None:
            col_sums = sum_by_slot(grad_scores.to(keys.dtype), step.col_slots, col_sums, COL_SLOTS, PRECISION)

    if operands.additional_keys is not None:
        token_keys = select_tokens(operands.additional_keys, batch, key_head)
        token_values = select_tokens(operands.additional_values, batch, key_head)
        for first in range(0, tokens, STEP_SIZE):
            token = first + tl.arange(0, STEP_SIZE)
            seen = token < tokens
            keys = load_tokens(token_keys, token, seen, QK_DIM)
            values = load_tokens(token_values, token, seen, V_DIM)
            scores = scaled_scores(queries, keys, scale, PRECISION)
            _probs, grad_scores = score_gradients(
                scores, upstream, values, seen[None, :], tile_lse[:, None], tile_delta[:, None], PRECISION
            )
            grad_queries = tl.dot(grad_scores.to(keys.dtype), keys, grad_queries, input_precision=PRECISION)

    store_vectors(grad_query + image * QK_DIM.size, index, tile.owned, grad_queries * (scale * LN_2), QK_DIM)
    if grad_row_terms is not None:
        first = tile.row.bias - tile.row.offs
        store_terms(grad_row_terms + image * row_offsets, index, row_sums, first, row_offsets, tile.owned, ROW_SLOTS)
    if grad_col_terms is not None:
        first = tile.col.bias - tile.col.offs
        store_terms(grad_col_terms + image * col_offsets, index, col_sums, first, col_offsets, tile.owned, COL_SLOTS)


@triton.jit
def load_delta(out, upstream, grad_lse, tile, batch, head, V_DIM: tl.constexpr, INT64_OFFSETS: tl.constexpr):
    """Computes `delta` for a tile of queries from the output, its gradient and the gradient of the log-sum-exp."""
    outputs = load_pixels(select_head(out, batch, head), tile.rows, tile.cols, tile.owned, V_DIM, INT64_OFFSETS)
    delta = tl.sum(upstream.to(tl.float32) * outputs.to(tl.float32), 1)
    if grad_lse is not None:
        offsets = pixel_offsets(tile.rows, tile.cols, grad_lse.strides, INT64_OFFSETS)
        head_data = select_head(grad_lse, batch, head).data
        delta -= tl.load(head_data + offsets, mask=tile.owned, other=0.0).to(tl.float32)
    return delta


@triton.jit
def sum_by_slot(grad_scores, slots, sums, SLOTS: tl.constexpr, PRECISION: tl.constexpr):
    """Adds the score gradients of all keys in a row (or column) to its entry of `sums`, by a product of matrices."""
    one_hot = (slots[:, None] == tl.arange(0, SLOTS)[None, :]).to(grad_scores.dtype)
    return tl.dot(grad_scores, one_hot, sums, input_precision=PRECISION)


@triton.jit
def store_terms(data, index, sums, first, length, owned, SLOTS: tl.constexpr):
    """Stores gradients of terms; those of bias indices that a query does not use are zero already.

    Args:
        data: The gradient of an image, contiguous.
        index: (queries,) which vector of `length` terms is each query's.
        sums: (queries, SLOTS) gradients by slot, counted from the tile's first step.
        first: (queries,) bias index of slot 0.
        length: Number of bias indices.
        owned: (queries,) which queries to store.
        SLOTS: Number of slots.
    """
    bias_index = first[:, None] + tl.arange(0, SLOTS)[None, :]
    keep = owned[:, None] & (bias_index >= 0) & (bias_index < length)
    tl.store(data + index[:, None] * length + bias_index, sums.to(data.dtype.element_ty), mask=keep)


def launch_dq(inputs: BackwardInputs, grad_lse: torch.Tensor | None, geometry: Geometry, plan: LaunchPlan) -> None:
    """Writes the gradients of queries and terms, and `inputs.delta`.

    Args:
        inputs: What all kernels of the pass receive.
        grad_lse: Gradient of the log-sum-exps, (B, Hq, Wq, heads), or None.
        geometry: Which keys each query sees.
        plan: Tiles of queries.
    """
    gradients = inputs.gradients
    batch, _, _, heads, _ = inputs.operands.query.shape
    launch.run(
        dq_kernel,
        (batch * plan.tiles, heads),
        inputs.lse.device,
        (
            strided_operands(inputs.operands),
            inputs.bias.table,
            strided(inputs.out),
            inputs.lse,
            strided(inputs.grad_out),
            strided(grad_lse),
            inputs.delta,
            gradients.query,
            gradients.row_terms,
            gradients.col_terms,
            plan.tables(inputs.lse.device),
            *inputs.maps,
            plan.tiles,
            plan.cols.tiles,
            inputs.group,
            inputs.tokens,
            geometry.rows.bias_length,
            geometry.cols.bias_length,
            inputs.scale,
        ),
        **inputs.constants,
        **plan.options,
        ALL_STEPS=plan.padded_steps,
        BIAS_SHAPE=inputs.bias.shape,
    )
