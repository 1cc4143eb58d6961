"""The forward pass: one program per tile of queries and head, which processes the keys of the regions they see."""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

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
    strided,
    zero_vectors,
)
from ...triton_common.checks import without_bfloat16
from ...triton_common.constants import LOG2_E, LOWEST_SCORE
from ...triton_common.softmax import finish_softmax, online_softmax_step, scaled_scores
from ..geometry import Grid
from ..operands import Operands
from .addressing import GRID_FIELDS, RegionGrid, step_tokens, tile_tokens
from .operands import check_operands
from .plan import log2_times_seen, make_plan


@triton.jit(do_not_specialize=[*GRID_FIELDS, "tiles", "topk"])
def forward_kernel(
    query,
    key,
    value,
    routes,
    mask,
    out,
    lse,
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
    """Computes the attention of the queries of one tile and head; `scale` includes log2(e)."""
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

    row_max = tl.full([TILE], LOWEST_SCORE, tl.float32)
    row_sum = tl.zeros([TILE], tl.float32)
    acc = zero_vectors(TILE, V_DIM)
    for first in range(0, count * grid.tokens, STEP):
        step = step_tokens(first, region_list, count, grid, STEP, MASKED)
        keys = load_pixels(key, step.rows, step.cols, step.known, QK_DIM, INT64_OFFSETS)
        scores = scaled_scores(queries, keys, scale, PRECISION)
        visible = step.known[None, :]
        if MASKED:
            visible = visible & tile.known[:, None]
            scores += tl.load(mask[:, None] + step.region[None, :], mask=visible, other=0.0)
        scores = tl.where(visible, scores, -float("inf"))
        probs, row_max, row_sum, acc = online_softmax_step(scores, row_max, row_sum, acc)
        values = load_pixels(value, step.rows, step.cols, step.known, V_DIM, INT64_OFFSETS)
        acc = tl.dot(probs.to(values.dtype), values, acc, input_precision=PRECISION)

    # (B, H, W, heads) and (B, H, W, heads, dim_v), contiguous.
    image = batch.to(tl.int64) * grid.map_tokens * heads
    index = pixel_index(tile.rows, tile.cols, head, grid.map_width, heads, INT64_OFFSETS)
    output, log_sum_exp = finish_softmax(row_max, row_sum, acc, tile.known)
    tl.store(lse + image + index, log_sum_exp, mask=tile.known)
    store_vectors(out + image * V_DIM.size, index, tile.known, output, V_DIM)


def forward(operands: Operands, grid: Grid, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes attention.

    Args:
        operands: The tensors, with any strides. Routes that are out of range are clamped.
        grid: Rows and columns of regions.
        scale: Factor of the scores.

    Returns:
        The output (B, H, W, heads, dim_v) in the query's dtype, and the log-sum-exp of each query's scores
        (B, H, W, heads) in float32, both contiguous.

    Raises:
        ValueError: If the kernels do not support the operands' dtype or dims.
    """
    check_operands(operands)
    query, key, value = (without_bfloat16(one) for one in operands[:3])
    routes = operands.routes
    out = query.new_empty((*query.shape[:4], value.shape[4]))
    lse = query.new_empty(query.shape[:4], dtype=torch.float32)
    plan = make_plan(query, routes, grid)
    options = plan.options("forward", query, value)
    tiles = plan.tiles(options["TILE"])
    launch.run(
        forward_kernel,
        (query.shape[0] * tiles, query.shape[3]),
        query.device,
        (
            strided(query),
            strided(key),
            strided(value),
            routes.contiguous(),
            log2_times_seen(routes, plan.grid.regions) if plan.masked else None,
            out,
            lse,
            *plan.grid,
            tiles,
            routes.shape[2],
            scale * LOG2_E.value,
        ),
        INT64_OFFSETS=needs_int64_offsets(query, key, value, out),
        **options,
    )
    return out.to(operands.query.dtype), lse
