"""Gradient of queries: one program per tile of queries and head."""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ...triton_common.addressing import load_pixels, pixel_index, select_head, store_vectors, zero_vectors
from ...triton_common.constants import LN_2, LOG2_E
from ...triton_common.softmax import scaled_scores, score_gradients
from .addressing import GRID_FIELDS, RegionGrid, step_tokens, tile_tokens


@triton.jit(do_not_specialize=[*GRID_FIELDS, "tiles", "topk"])
def dq_kernel(
    query,
    key,
    value,
    routes,
    mask,
    out,
    lse,
    grad_out,
    delta,
    grad_query,
    regions,
    region_cols,
    rows,
    cols,
    region_tokens,
    map_width,
    map_tokens,
    region_cols_reciprocal,
    cols_reciprocal,
    tokens_reciprocal,
    tiles,
    topk,
    scale,
    QK_DIM: tl.constexpr,
    V_DIM: tl.constexpr,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
    MASKED: tl.constexpr,
    INT64_OFFSETS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Computes the gradient of the queries of one tile and head, and the `delta` that `dkv_kernel` needs.

    `delta`, (B, H, W, heads), is the dot product of the output and its gradient.
    """
    grid = RegionGrid(
        regions,
        region_cols,
        rows,
        cols,
        region_tokens,
        map_width,
        map_tokens,
        region_cols_reciprocal,
        cols_reciprocal,
        tokens_reciprocal,
    )
    tile_number = tl.program_id(0) % tiles
    batch = tl.program_id(0) // tiles
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    tile = tile_tokens(tile_number, grid, TILE, MASKED)
    query = select_head(query, batch, head)
    queries = load_pixels(query, tile.rows, tile.cols, tile.known, QK_DIM, INT64_OFFSETS)
    grad_out = select_head(grad_out, batch, head)
    upstream = load_pixels(grad_out, tile.rows, tile.cols, tile.known, V_DIM, INT64_OFFSETS)
    outputs = load_pixels(select_head(out, batch, head), tile.rows, tile.cols, tile.known, V_DIM, INT64_OFFSETS)
    tile_delta = tl.sum(upstream.to(tl.float32) * outputs.to(tl.float32), 1)
    # (B, H, W, heads), contiguous, as the saved log-sum-exps are.
    image = batch.to(tl.int64) * grid.map_tokens * heads
    index = pixel_index(tile.rows, tile.cols, head, grid.map_width, heads, INT64_OFFSETS)
    tl.store(delta + image + index, tile_delta, mask=tile.known)
    tile_lse = tl.load(lse + image + index, mask=tile.known, other=0.0) * LOG2_E

    key = select_head(key, batch, head)
    value = select_head(value, batch, head)
    image_regions = batch.to(tl.int64) * grid.regions
    if MASKED:
        region_list = routes
        count = grid.regions
        mask += (image_regions + tile.region) * grid.regions
    else:
        region_list = routes + (image_regions + tile_number // tl.cdiv(grid.tokens, TILE)) * topk
        count = topk

    grad_queries = zero_vectors(TILE, QK_DIM)
    for first in range(0, count * grid.tokens, STEP):
        step = step_tokens(first, region_list, count, grid, STEP, MASKED)
        keys = load_pixels(key, step.rows, step.cols, step.known, QK_DIM, INT64_OFFSETS)
        values = load_pixels(value, step.rows, step.cols, step.known, V_DIM, INT64_OFFSETS)
        scores = scaled_scores(queries, keys, scale, PRECISION)
        visible = step.known[None, :]
        if MASKED:
            visible = visible & tile.known[:, None]
            scores += tl.load(mask[:, None] + step.region[None, :], mask=visible, other=0.0)
        _probs, grad_scores = score_gradients(
            scores, upstream, values, visible, tile_lse[:, None], tile_delta[:, None], PRECISION
        )
        grad_queries = tl.dot(grad_scores.to(keys.dtype), keys, grad_queries, input_precision=PRECISION)
    store_vectors(grad_query + image * QK_DIM.size, index, tile.known, grad_queries * (scale * LN_2), QK_DIM)
