"""Gradients of keys and values: one program per tile of keys and head."""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ...triton_common.addressing import load_pixels, pixel_index, select_head, store_vectors, zero_vectors
from ...triton_common.constants import LN_2, LOG2_E
from ...triton_common.softmax import scaled_scores, score_gradients
from .addressing import GRID_FIELDS, RegionGrid, step_tokens, tile_tokens


@triton.jit(do_not_specialize=[*GRID_FIELDS, "tiles"])
def dkv_kernel(
    query,
    key,
    value,
    starts,
    sources,
    mask,
    lse,
    delta,
    grad_out,
    grad_key,
    grad_value,
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
    scale,
    QK_DIM: tl.constexpr,
    V_DIM: tl.constexpr,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
    MASKED: tl.constexpr,
    INT64_OFFSETS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Computes the gradients of one tile and head from the queries of the regions that route to it."""
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
    key = select_head(key, batch, head)
    keys = load_pixels(key, tile.rows, tile.cols, tile.known, QK_DIM, INT64_OFFSETS)
    value = select_head(value, batch, head)
    values = load_pixels(value, tile.rows, tile.cols, tile.known, V_DIM, INT64_OFFSETS)
    query = select_head(query, batch, head)
    grad_out = select_head(grad_out, batch, head)
    image = batch.to(tl.int64) * grid.map_tokens * heads
    image_regions = batch.to(tl.int64) * grid.regions
    if MASKED:
        region_list = sources
        count = grid.regions
        mask += image_regions * grid.regions + tile.region
    else:
        starts += image_regions + tile_number // tl.cdiv(grid.tokens, TILE)
        start = tl.load(starts)
        region_list = sources + start
        count = (tl.load(starts + 1) - start).to(tl.int32)

    grad_keys = zero_vectors(TILE, QK_DIM)
    grad_values = zero_vectors(TILE, V_DIM)
    for first in range(0, count * grid.tokens, STEP):
        step = step_tokens(first, region_list, count, grid, STEP, MASKED)
        queries = load_pixels(query, step.rows, step.cols, step.known, QK_DIM, INT64_OFFSETS)
        upstream = load_pixels(grad_out, step.rows, step.cols, step.known, V_DIM, INT64_OFFSETS)
        index = pixel_index(step.rows, step.cols, head, grid.map_width, heads, INT64_OFFSETS)
        step_lse = tl.load(lse + image + index, mask=step.known, other=0.0) * LOG2_E
        step_delta = tl.load(delta + image + index, mask=step.known, other=0.0)
        scores = scaled_scores(keys, queries, scale, PRECISION)
        visible = step.known[None, :]
        if MASKED:
            visible = visible & tile.known[:, None]
            scores += tl.load(mask[:, None] + step.region[None, :] * grid.regions, mask=visible, other=0.0)
        probs, grad_scores = score_gradients(
            scores, values, upstream, visible, step_lse[None, :], step_delta[None, :], PRECISION
        )
        grad_values = tl.dot(probs.to(upstream.dtype), upstream, grad_values, input_precision=PRECISION)
        grad_keys = tl.dot(grad_scores.to(queries.dtype), queries, grad_keys, input_precision=PRECISION)

    index = pixel_index(tile.rows, tile.cols, head, grid.map_width, heads, INT64_OFFSETS)
    store_vectors(grad_key + image * QK_DIM.size, index, tile.known, grad_keys * (scale * LN_2), QK_DIM)
    store_vectors(grad_value + image * V_DIM.size, index, tile.known, grad_values, V_DIM)
