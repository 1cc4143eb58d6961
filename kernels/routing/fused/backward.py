"""The backward pass: one kernel that walks over the keys that a tile of queries sees, one that walks the other way.

Probabilities are computed again from the scores and the saved denominators. Every gradient is summed by the one program
that owns it, in a fixed order, so results are the same each time.
"""

# Kernels are in Triton's language, where a constexpr is a number.
# pyright: reportOperatorIssue=false, reportArgumentType=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...triton_common import launch
from ...triton_common.addressing import head_base, load_vectors, offsets, store_vectors
from ..geometry import Grid
from .addressing import own_tokens, place_of, walked_tokens
from .plan import make_plan, mask_of, seen_by


@triton.jit(do_not_specialize=["geometry", "tiles", "topk"])
def queries_kernel(
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
    query_strides,
    key_strides,
    value_strides,
    out_strides,
    grad_out_strides,
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
    """Gradient of the queries of one tile and head, and the `delta` that `keys_kernel` needs.

    `delta`, (B, H, W, heads), is what the softmax takes off every score's gradient: output times its gradient.
    """
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
    upstream = load_vectors(
        head_base(grad_out, batch, head, grad_out_strides),
        offsets(row, col, grad_out_strides, WIDE),
        owned,
        grad_out_strides[4],
        DIM_V,
        BLOCK_DIM_V,
    )
    outputs = load_vectors(
        head_base(out, batch, head, out_strides),
        offsets(row, col, out_strides, WIDE),
        owned,
        out_strides[4],
        DIM_V,
        BLOCK_DIM_V,
    )
    taken_off = tl.sum(upstream.to(tl.float32) * outputs.to(tl.float32), 1)
    # (B, H, W, heads), contiguous, as the saved logarithms are.
    image = batch.to(tl.int64) * geometry[6] * heads
    place = place_of(row, col, geometry, heads, head, WIDE)
    tl.store(delta + image + place, taken_off, mask=owned)
    logs = tl.load(lse + image + place, mask=owned, other=0.0) * 1.4426950408889634

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

    gradient = tl.zeros([TILE, BLOCK_DIM], tl.float32)
    for first in range(0, count * geometry[4], STEP):
        key_region, key_row, key_col, present = walked_tokens(
            first + tl.arange(0, STEP), listed, count, geometry, MASKED
        )
        keys = load_vectors(
            keys_base, offsets(key_row, key_col, key_strides, WIDE), present, key_strides[4], DIM, BLOCK_DIM
        )
        values = load_vectors(
            values_base, offsets(key_row, key_col, value_strides, WIDE), present, value_strides[4], DIM_V, BLOCK_DIM_V
        )
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale
        visible = present[None, :]
        if MASKED:
            visible = visible & owned[:, None]
            scores += tl.load(mask[:, None] + key_region[None, :], mask=visible, other=0.0)
        weights = tl.exp2(tl.where(visible, scores, -float("inf")) - logs[:, None])
        grad_weights = tl.dot(upstream, tl.trans(values), input_precision=PRECISION)
        grad_scores = weights * (grad_weights - taken_off[:, None])
        gradient = tl.dot(grad_scores.to(keys.dtype), keys, gradient, input_precision=PRECISION)
    store_vectors(grad_query + image * DIM, place * DIM, owned, gradient * (scale * 0.6931471805599453), DIM, BLOCK_DIM)


@triton.jit(do_not_specialize=["geometry", "tiles"])
def keys_kernel(
    query,
    key,
    value,
    starts,
    seers,
    mask,
    lse,
    delta,
    grad_out,
    grad_key,
    grad_value,
    query_strides,
    key_strides,
    value_strides,
    grad_out_strides,
    geometry,
    tiles,
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
    """Gradients of the keys and values of one tile and head, over the queries of the regions that see them."""
    tile = tl.program_id(0) % tiles
    batch = tl.program_id(0) // tiles
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    region, row, col, owned = own_tokens(tile, geometry, TILE, MASKED)
    keys = load_vectors(
        head_base(key, batch, head, key_strides),
        offsets(row, col, key_strides, WIDE),
        owned,
        key_strides[4],
        DIM,
        BLOCK_DIM,
    )
    values = load_vectors(
        head_base(value, batch, head, value_strides),
        offsets(row, col, value_strides, WIDE),
        owned,
        value_strides[4],
        DIM_V,
        BLOCK_DIM_V,
    )
    queries_base = head_base(query, batch, head, query_strides)
    upstream_base = head_base(grad_out, batch, head, grad_out_strides)
    image = batch.to(tl.int64) * geometry[6] * heads
    image_regions = batch.to(tl.int64) * geometry[0]
    if MASKED:
        listed = seers
        count = geometry[0]
        mask += image_regions * geometry[0] + region
    else:
        starts += image_regions + tile // tl.cdiv(geometry[4], TILE)
        start = tl.load(starts)
        listed = seers + start
        count = (tl.load(starts + 1) - start).to(tl.int32)

    grad_keys = tl.zeros([TILE, BLOCK_DIM], tl.float32)
    grad_values = tl.zeros([TILE, BLOCK_DIM_V], tl.float32)
    for first in range(0, count * geometry[4], STEP):
        query_region, query_row, query_col, present = walked_tokens(
            first + tl.arange(0, STEP), listed, count, geometry, MASKED
        )
        queries = load_vectors(
            queries_base, offsets(query_row, query_col, query_strides, WIDE), present, query_strides[4], DIM, BLOCK_DIM
        )
        upstream = load_vectors(
            upstream_base,
            offsets(query_row, query_col, grad_out_strides, WIDE),
            present,
            grad_out_strides[4],
            DIM_V,
            BLOCK_DIM_V,
        )
        place = place_of(query_row, query_col, geometry, heads, head, WIDE)
        logs = tl.load(lse + image + place, mask=present, other=0.0) * 1.4426950408889634
        taken_off = tl.load(delta + image + place, mask=present, other=0.0)
        scores = tl.dot(keys, tl.trans(queries), input_precision=PRECISION) * scale
        visible = present[None, :]
        if MASKED:
            visible = visible & owned[:, None]
            scores += tl.load(mask[:, None] + query_region[None, :] * geometry[0], mask=visible, other=0.0)
        weights = tl.exp2(tl.where(visible, scores, -float("inf")) - logs[None, :])
        grad_weights = tl.dot(values, tl.trans(upstream), input_precision=PRECISION)
        grad_scores = weights * (grad_weights - taken_off[None, :])
        grad_values = tl.dot(weights.to(upstream.dtype), upstream, grad_values, input_precision=PRECISION)
        grad_keys = tl.dot(grad_scores.to(queries.dtype), queries, grad_keys, input_precision=PRECISION)

    place = place_of(row, col, geometry, heads, head, WIDE)
    store_vectors(grad_key + image * DIM, place * DIM, owned, grad_keys * (scale * 0.6931471805599453), DIM, BLOCK_DIM)
    store_vectors(grad_value + image * DIM_V, place * DIM_V, owned, grad_values, DIM_V, BLOCK_DIM_V)


def differentiate(
    grad_out: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    routes: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    grid: Grid,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Runs the backward pass.

    Args:
        grad_out: gradient of the output, (B, H, W, heads, dim_v), as all operands with any strides.
        query: as in the forward pass, as all that follow.
        key: see there.
        value: see there.
        routes: see there.
        out: what the forward pass returned.
        lse: what the forward pass returned.
        grid: rows and columns of regions.
        scale: multiplies the scores.

    Returns:
        The gradients of query, key and value, contiguous, each in the shape and dtype of what it belongs to.
    """
    batch, heads = query.shape[0], query.shape[3]
    lse = lse.contiguous()
    delta = torch.empty_like(lse)
    grad_query, grad_key, grad_value = (
        torch.empty_like(one, memory_format=torch.contiguous_format) for one in (query, key, value)
    )
    plan = make_plan(query, routes, grid)
    mask = mask_of(routes, plan.regions) if plan.masked else None
    starts, seers = (None, None) if plan.masked else seen_by(routes, plan.regions)
    wide = launch.is_wide(query, key, value, out, grad_out, grad_query, grad_key, grad_value)
    scale *= launch.LOG2_E

    sizes = plan.sizes("queries", query, value)
    tiles = plan.tiles(sizes["TILE"])
    launch.run(
        queries_kernel,
        (batch * tiles, heads),
        (
            query,
            key,
            value,
            routes.contiguous(),
            mask,
            out,
            lse,
            grad_out,
            delta,
            grad_query,
            query.stride(),
            key.stride(),
            value.stride(),
            out.stride(),
            grad_out.stride(),
            plan.geometry,
            tiles,
            routes.shape[2],
            scale,
        ),
        WIDE=wide,
        **sizes,
    )
    sizes = plan.sizes("keys", query, value)
    tiles = plan.tiles(sizes["TILE"])
    launch.run(
        keys_kernel,
        (batch * tiles, heads),
        (
            query,
            key,
            value,
            starts,
            seers,
            mask,
            lse,
            delta,
            grad_out,
            grad_key,
            grad_value,
            query.stride(),
            key.stride(),
            value.stride(),
            grad_out.stride(),
            plan.geometry,
            tiles,
            scale,
        ),
        WIDE=wide,
        **sizes,
    )
    return grad_query, grad_key, grad_value
