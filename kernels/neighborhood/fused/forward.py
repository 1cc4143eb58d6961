"""The forward pass: one program per tile of queries and head."""

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
    needs_int64_offsets,
    pixel_index,
    select_head,
    store_vectors,
    vector_dim,
    zero_vectors,
)
from ...triton_common.constants import LOG2_E, LOWEST_SCORE
from ...triton_common.softmax import finish_softmax, online_softmax_step, scaled_scores
from ..geometry import Geometry
from ..operands import Operands
from .addressing import (
    key_step,
    load_query_terms,
    load_tokens,
    locate_query_terms,
    read_tile,
    select_tokens,
    visible_pairs,
)
from .operands import check_operands, computable, strided_operands
from .padded_bias import pad_bias
from .plan import Grid, plan_queries
from .tile_sizes import tile_sizes


@triton.jit(do_not_specialize=["query_rows", "query_cols", "key_rows", "key_cols", "tiles", "col_tiles", "tokens"])
def forward_kernel(
    operands,
    bias,
    out,
    lse,
    plan,
    query_rows,
    query_cols,
    key_rows,
    key_cols,
    tiles,
    col_tiles,
    group,
    tokens,
    scale,
    QK_DIM: tl.constexpr,
    V_DIM: tl.constexpr,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
    COL_STEPS: tl.constexpr,
    BIAS_SHAPE: tl.constexpr,
    INT64_OFFSETS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Computes the attention of the queries of one tile and head; `scale` and `bias` include log2(e)."""
    query_map = (query_rows, query_cols)
    key_map = (key_rows, key_cols)
    TILE_SIZE: tl.constexpr = TILE.rows * TILE.cols
    STEP_SIZE: tl.constexpr = STEP.rows * STEP.cols
    HAS_BIASES: tl.constexpr = bias is not None or operands.row_terms is not None or operands.col_terms is not None
    batch = tl.program_id(0) // tiles
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    key_head = head // group
    tile = read_tile(plan, tl.program_id(0) % tiles, col_tiles, TILE)
    query = select_head(operands.query, batch, head)
    queries = load_pixels(query, tile.rows, tile.cols, tile.owned, QK_DIM, INT64_OFFSETS)
    key = select_head(operands.key, batch, key_head)
    value = select_head(operands.value, batch, key_head)
    terms = locate_query_terms(operands, bias, tile, batch, head, BIAS_SHAPE, INT64_OFFSETS)

    row_max = tl.full([TILE_SIZE], LOWEST_SCORE, tl.float32)
    row_sum = tl.zeros([TILE_SIZE], tl.float32)
    acc = zero_vectors(TILE_SIZE, V_DIM)
    for number in range(tile.row.steps * COL_STEPS):
        step = key_step(tile, number, plan, key_map, STEP, COL_STEPS)
        keys = load_pixels(key, step.rows, step.cols, step.known, QK_DIM, INT64_OFFSETS)
        scores = scaled_scores(queries, keys, scale, PRECISION)
        visible = visible_pairs(tile, step)
        if HAS_BIASES:
            scores += load_query_terms(operands, bias, terms, tile, step, visible, BIAS_SHAPE)
        scores = tl.where(visible, scores, -float("inf"))
        probs, row_max, row_sum, acc = online_softmax_step(scores, row_max, row_sum, acc)
        values = load_pixels(value, step.rows, step.cols, step.known, V_DIM, INT64_OFFSETS)
        acc = tl.dot(probs.to(values.dtype), values, acc, input_precision=PRECISION)

    if operands.additional_keys is not None:
        token_keys = select_tokens(operands.additional_keys, batch, key_head)
        token_values = select_tokens(operands.additional_values, batch, key_head)
        for first in range(0, tokens, STEP_SIZE):
            token = first + tl.arange(0, STEP_SIZE)
            present = token < tokens
            keys = load_tokens(token_keys, token, present, QK_DIM)
            scores = scaled_scores(queries, keys, scale, PRECISION)
            scores = tl.where(present[None, :], scores, -float("inf"))
            probs, row_max, row_sum, acc = online_softmax_step(scores, row_max, row_sum, acc)
            values = load_tokens(token_values, token, present, V_DIM)
            acc = tl.dot(probs.to(values.dtype), values, acc, input_precision=PRECISION)

    # (B, H, W, heads) and (B, H, W, heads, dim_v), contiguous.
    image = batch.to(tl.int64) * query_map[0] * query_map[1] * heads
    index = pixel_index(tile.rows, tile.cols, head, query_map[1], heads, INT64_OFFSETS)
    output, log_sum_exp = finish_softmax(row_max, row_sum, acc, tile.owned)
    tl.store(lse + image + index, log_sum_exp, mask=tile.owned)
    store_vectors(out + image * V_DIM.size, index, tile.owned, output, V_DIM)


def forward(operands: Operands, geometry: Geometry, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes attention.

    Args:
        operands: The tensors, with any strides.
        geometry: Which keys each query sees.
        scale: Factor of the scores.

    Returns:
        The output (B, Hq, Wq, heads, dim_v) in the query's dtype, and the log-sum-exp of each query's scores
        (B, Hq, Wq, heads) in float32, both contiguous.

    Raises:
        ValueError: If the kernels do not support the operands' dtype or dims.
    """
    check_operands(operands)
    dtype = operands.query.dtype
    operands = computable(operands)
    query, key, value = operands[:3]
    batch, height, width, heads, _ = query.shape
    out = query.new_empty((batch, height, width, heads, value.shape[4]))
    lse = query.new_empty((batch, height, width, heads), dtype=torch.float32)
    query_map, key_map = Grid(height, width), Grid(*key.shape[1:3])
    plan = plan_queries(geometry, query_map, key_map, tile_sizes("forward", operands))
    bias = pad_bias(operands.rpb, plan)
    launch.run(
        forward_kernel,
        (batch * plan.tiles, heads),
        query.device,
        (
            strided_operands(operands),
            bias.table,
            out,
            lse,
            plan.tables(query.device),
            *query_map,
            *key_map,
            plan.tiles,
            plan.cols.tiles,
            heads // key.shape[3],
            0 if operands.additional_keys is None else operands.additional_keys.shape[1],
            scale * LOG2_E.value,
        ),
        QK_DIM=vector_dim(query),
        V_DIM=vector_dim(value),
        **plan.options,
        BIAS_SHAPE=bias.shape,
        INT64_OFFSETS=needs_int64_offsets(query, key, value, out, operands.row_terms, operands.col_terms),
    )
    return out.to(dtype), lse
