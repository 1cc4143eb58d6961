"""The forward pass: one program for a tile of queries and a head, which walks over the regions that they see."""

# Kernels are in Triton's language, where a constexpr is a number.
# pyright: reportOperatorIssue=false, reportArgumentType=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...triton_common import launch
from ...triton_common.addressing import LOWEST, head_base, load_vectors, offsets, store_vectors
from ..geometry import Grid
from .addressing import own_tokens, place_of, walked_tokens
from .plan import make_plan, mask_of


@triton.jit(do_not_specialize=["geometry", "tiles", "topk"])
def forward_kernel(
    query,
    key,
    value,
    routes,
    mask,
    out,
    lse,
    query_strides,
    key_strides,
    value_strides,
    geometry,
    tiles,
    topk,
    scale,
    DIM: tl.constexpr,
    DIM_V: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    BLOCK_DIM_V: tl.constexpr,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
    MASKED: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Attention of the queries of one tile and head; `scale` includes the change to powers of 2."""
    tile = tl.program_id(0) % tiles
    batch = tl.program_id(0) // tiles
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    region, row, col, owned = own_tokens(tile, geometry, TILE, MASKED)
    queries = load_vectors(
        head_base(query, batch, head, query_strides),
        offsets(row, col, query_strides, WIDE),
        owned,
        query_strides[4],
        DIM,
        BLOCK_DIM,
    )
    keys_base = head_base(key, batch, head, key_strides)
    values_base = head_base(value, batch, head, value_strides)
    image_regions = batch.to(tl.int64) * geometry[0]
    if MASKED:
        listed = routes
        count = geometry[0]
        mask += (image_regions + region) * geometry[0]
    else:
        listed = routes + (image_regions + tile // tl.cdiv(geometry[4], TILE)) * topk
        count = topk

    largest = tl.full([TILE], LOWEST, tl.float32)
    total = tl.zeros([TILE], tl.float32)
    weighted = tl.zeros([TILE, BLOCK_DIM_V], tl.float32)
    for first in range(0, count * geometry[4], STEP):
        key_region, key_row, key_col, present = walked_tokens(
            first + tl.arange(0, STEP), listed, count, geometry, MASKED
        )
        keys = load_vectors(
            keys_base, offsets(key_row, key_col, key_strides, WIDE), present, key_strides[4], DIM, BLOCK_DIM
        )
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale
        visible = present[None, :]
        if MASKED:
            visible = visible & owned[:, None]
            scores += tl.load(mask[:, None] + key_region[None, :], mask=visible, other=0.0)
        scores = tl.where(visible, scores, -float("inf"))
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp2(scores - new_largest[:, None])
        shrink = tl.exp2(largest - new_largest)
        total = total * shrink + tl.sum(weights, 1)
        weighted *= shrink[:, None]
        values = load_vectors(
            values_base, offsets(key_row, key_col, value_strides, WIDE), present, value_strides[4], DIM_V, BLOCK_DIM_V
        )
        weighted = tl.dot(weights.to(values.dtype), values, weighted, input_precision=PRECISION)
        largest = new_largest

    # (B, H, W, heads) and (B, H, W, heads, dim_v), contiguous.
    image = batch.to(tl.int64) * geometry[6] * heads
    place = place_of(row, col, geometry, heads, head, WIDE)
    # With a mask, lanes without a token have seen no key.
    total = tl.where(owned, total, 1.0)
    tl.store(lse + image + place, (largest + tl.log2(total)) * 0.6931471805599453, mask=owned)
    store_vectors(out + image * DIM_V, place * DIM_V, owned, weighted / total[:, None], DIM_V, BLOCK_DIM_V)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, routes: torch.Tensor, grid: Grid, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Runs the forward pass.

    Args:
        query: (B, H, W, heads, dim), as all operands with any strides.
        key: (B, H, W, heads, dim).
        value: (B, H, W, heads, dim_v).
        routes: (B, regions, topk) int64; those out of range count as the nearest that is not.
        grid: rows and columns of regions.
        scale: multiplies the scores.

    Returns:
        The output (B, H, W, heads, dim_v), and the logarithms of the softmax's denominators (B, H, W, heads) in
        float32, both contiguous.
    """
    batch, heads = query.shape[0], query.shape[3]
    out = query.new_empty((*query.shape[:4], value.shape[4]))
    lse = query.new_empty(query.shape[:4], dtype=torch.float32)
    plan = make_plan(query, routes, grid)
    sizes = plan.sizes("forward", query, value)
    tiles = plan.tiles(sizes["TILE"])
    launch.run(
        forward_kernel,
        (batch * tiles, heads),
        (
            query,
            key,
            value,
            routes.contiguous(),
            mask_of(routes, plan.regions) if plan.masked else None,
            out,
            lse,
            query.stride(),
            key.stride(),
            value.stride(),
            plan.geometry,
            tiles,
            routes.shape[2],
            scale * launch.LOG2_E,
        ),
        WIDE=launch.is_wide(query, key, value, out),
        **sizes,
    )
    return out, lse
