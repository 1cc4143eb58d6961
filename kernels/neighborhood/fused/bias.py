"""The table of relative position biases: laid out for the kernels, and its gradient."""

# Kernels are in Triton's language, where a constexpr is a number.
# pyright: reportOperatorIssue=false, reportArgumentType=false

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from ...triton_common import launch
from ...triton_common.addressing import head_base, inside, load_terms, load_vectors, offsets, read_tile, score_gradients
from .plan import Grid, LaunchPlan
from .tile_sizes import Tuning


@triton.jit
def pad_kernel(bias, padded, strides, size, low, ROWS: tl.constexpr, COLS: tl.constexpr, BLOCK: tl.constexpr):
    """Writes one head's table into the middle of a larger one, in float32, for exponents of 2."""
    head = tl.program_id(0)
    for first in range(0, ROWS * COLS, BLOCK):
        slot = first + tl.arange(0, BLOCK)
        row = slot // COLS + low[0]
        col = slot % COLS + low[1]
        known = (row >= 0) & (row < size[0]) & (col >= 0) & (col < size[1])
        values = tl.load(bias + head * strides[0] + row * strides[1] + col * strides[2], mask=known, other=0.0)
        values = values.to(tl.float32) * 1.4426950408889634
        tl.store(padded + head * (ROWS * COLS) + slot, values, mask=slot < ROWS * COLS)


_PROGRAMS = 1024
_MOST_SHARES = 32
_ENTRIES = 4
_CHUNK = 16


class PaddedBias(NamedTuple):
    """A bias table with zeros around it, so that kernels may look up any pair of a tile and a step without a mask.

    A look-up then costs one load, at an address that is the sum of a part of the query and a part of the key.

    Attributes:
        table: (heads, size.rows, size.cols) float32, times log2(e); None without a bias.
        low: the bias indices of its first entry.
        size: its rows and columns.
    """

    table: torch.Tensor | None
    low: Grid
    size: Grid


def pad_bias(rpb: torch.Tensor | None, *plans: LaunchPlan) -> PaddedBias:
    """Lays a bias table (heads, rows, columns) out for the launches with these plans."""
    if rpb is None:
        return PaddedBias(None, Grid(0, 0), Grid(0, 0))
    low = Grid(min(plan.rows.bias_low for plan in plans), min(plan.cols.bias_low for plan in plans))
    rows = max(plan.rows.bias_high for plan in plans) - low.rows + 1
    cols = max(plan.cols.bias_high for plan in plans) - low.cols + 1
    # A multiple of 8 columns: few lengths, so few compilations.
    size = Grid(rows, -(-cols // 8) * 8)
    table = torch.empty((rpb.shape[0], *size), dtype=torch.float32, device=rpb.device)
    launch.run(
        pad_kernel,
        (rpb.shape[0],),
        (rpb, table, rpb.stride(), tuple(rpb.shape[1:]), tuple(low)),
        ROWS=size.rows,
        COLS=size.cols,
        BLOCK=1024,
        num_warps=4,
    )
    return PaddedBias(table, low, size)


@triton.jit(do_not_specialize=["query_map", "key_map", "bias_low", "col_tiles", "images", "chunk", "items"])
def bias_kernel(
    query,
    key,
    value,
    bias,
    row_terms,
    col_terms,
    lse,
    delta,
    grad_out,
    partial,
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
    col_tiles,
    images,
    chunk,
    items,
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
    BIAS_ROWS: tl.constexpr,
    BIAS_COLS: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Sum, over a share of all images' tiles, of the gradients of one step's scores.

    The plan is aligned: in a step, a lane and a slot have the same bias index in every tile, so the sums can be taken
    before anyone asks which index that is. Which entries of the table they belong to, `fold_kernel` knows. An item is a
    tile in a chunk of the images, whose masks and addresses serve all of them.
    """
    step = tl.program_id(0)
    share = tl.program_id(1)
    shares = tl.num_programs(1)
    head = tl.program_id(2)
    heads = tl.num_programs(2)
    key_head = head // group
    lanes = tl.arange(0, TILE_ROWS * TILE_COLS)
    lane_rows = lanes // TILE_COLS
    lane_cols = lanes % TILE_COLS
    slots = tl.arange(0, STEP_ROWS * STEP_COLS)
    key_slot_rows = step // COL_STEPS * STEP_ROWS + slots // STEP_COLS
    key_slot_cols = step % COL_STEPS * STEP_COLS + slots % STEP_COLS
    bias_row = tl.load(row_table + 3) - bias_low[0]
    bias_col = tl.load(col_table + 3) - bias_low[1]
    bias_rows = bias_row + key_slot_rows[None, :] - lane_rows[:, None]
    bias_cols = bias_col + key_slot_cols[None, :] - lane_cols[:, None]
    biases = tl.load(bias + head * (BIAS_ROWS * BIAS_COLS) + bias_rows * BIAS_COLS + bias_cols)
    chunks = tl.cdiv(images, chunk)

    total = tl.zeros([TILE_ROWS * TILE_COLS, STEP_ROWS * STEP_COLS], tl.float32)
    size = tl.cdiv(items, shares)
    for item in range(share * size, tl.minimum(share * size + size, items)):
        tile = item // chunks
        first = item % chunks * chunk
        row, key_row, _, _, own_rows, row_from, row_to = read_tile(row_table, tile // col_tiles, lane_rows, TILE_ROWS)
        col, key_col, _, _, own_cols, col_from, col_to = read_tile(col_table, tile % col_tiles, lane_cols, TILE_COLS)
        rows = row + lane_rows * spread[0]
        cols = col + lane_cols * spread[1]
        owned = own_rows & own_cols
        key_rows = key_row + key_slot_rows * spread[0]
        key_cols = key_col + key_slot_cols * spread[1]
        on_map = inside(key_rows, key_cols, key_map[0], key_map[1])
        visible = (key_slot_rows[None, :] >= row_from[:, None]) & (key_slot_rows[None, :] < row_to[:, None])
        visible &= (key_slot_cols[None, :] >= col_from[:, None]) & (key_slot_cols[None, :] < col_to[:, None])
        place = (rows * query_map[1] + cols) * heads + head
        if WIDE:
            place = (rows.to(tl.int64) * query_map[1] + cols) * heads + head
        query_offsets = offsets(rows, cols, query_strides, WIDE)
        upstream_offsets = offsets(rows, cols, grad_out_strides, WIDE)
        key_offsets = offsets(key_rows, key_cols, key_strides, WIDE)
        value_offsets = offsets(key_rows, key_cols, value_strides, WIDE)
        if row_terms is not None:
            row_term_offsets = offsets(rows, cols, row_term_strides, WIDE)
            row_term_offsets += (tl.load(row_table + 3) - lane_rows) * row_term_strides[4]
        if col_terms is not None:
            col_term_offsets = offsets(rows, cols, col_term_strides, WIDE)
            col_term_offsets += (tl.load(col_table + 3) - lane_cols) * col_term_strides[4]
        for number in range(tl.minimum(chunk, images - first)):
            batch = first + number
            queries = load_vectors(
                head_base(query, batch, head, query_strides), query_offsets, owned, query_strides[4], DIM, BLOCK_DIM
            )
            upstream = load_vectors(
                head_base(grad_out, batch, head, grad_out_strides),
                upstream_offsets,
                owned,
                grad_out_strides[4],
                DIM_V,
                BLOCK_DIM_V,
            )
            image = batch.to(tl.int64) * query_map[0] * query_map[1] * heads
            logs = tl.load(lse + image + place, mask=owned, other=0.0) * 1.4426950408889634
            taken_off = tl.load(delta + image + place, mask=owned, other=0.0)
            keys = load_vectors(
                head_base(key, batch, key_head, key_strides), key_offsets, on_map, key_strides[4], DIM, BLOCK_DIM
            )
            values = load_vectors(
                head_base(value, batch, key_head, value_strides),
                value_offsets,
                on_map,
                value_strides[4],
                DIM_V,
                BLOCK_DIM_V,
            )
            added = biases
            if row_terms is not None:
                base = head_base(row_terms, batch, head, row_term_strides)
                added += load_terms(base, row_term_offsets, key_slot_rows * row_term_strides[4], visible)
            if col_terms is not None:
                base = head_base(col_terms, batch, head, col_term_strides)
                added += load_terms(base, col_term_offsets, key_slot_cols * col_term_strides[4], visible)
            _weights, grad_scores = score_gradients(
                queries, keys, upstream, values, added, visible, logs[:, None], taken_off[:, None], scale, PRECISION
            )
            total += grad_scores

    # (shares, heads, steps, lanes, slots)
    base = ((share.to(tl.int64) * heads + head) * tl.num_programs(0) + step) * (TILE_ROWS * TILE_COLS)
    places = (base + lanes)[:, None] * (STEP_ROWS * STEP_COLS) + slots[None, :]
    tl.store(partial + places, total)


@triton.jit(do_not_specialize=["shares", "steps", "row_steps"])
def fold_kernel(
    partial,
    grad_bias,
    row_table,
    col_table,
    shares,
    steps,
    row_steps,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    STEP_ROWS: tl.constexpr,
    STEP_COLS: tl.constexpr,
    COL_STEPS: tl.constexpr,
    COLS: tl.constexpr,
    ENTRIES: tl.constexpr,
    BLOCK_SHARES: tl.constexpr,
):
    """Sums what `bias_kernel` left for ENTRIES neighboring entries of a row of the table with COLS columns."""
    row = tl.program_id(1)
    head = tl.program_id(2)
    heads = tl.num_programs(2)
    LANES: tl.constexpr = TILE_ROWS * TILE_COLS
    lane = tl.arange(0, ENTRIES * LANES) % LANES
    col = tl.program_id(0) * ENTRIES + tl.arange(0, ENTRIES * LANES) // LANES
    key_rows = row - tl.load(row_table + 3) + lane // TILE_COLS
    key_cols = col - tl.load(col_table + 3) + lane % TILE_COLS
    known = (key_rows >= 0) & (key_rows < row_steps * STEP_ROWS)
    known &= (key_cols >= 0) & (key_cols < COL_STEPS * STEP_COLS)
    step = key_rows // STEP_ROWS * COL_STEPS + key_cols // STEP_COLS
    slot = key_rows % STEP_ROWS * STEP_COLS + key_cols % STEP_COLS
    share = tl.arange(0, BLOCK_SHARES)
    base = (share.to(tl.int64) * heads + head) * steps
    places = ((base[:, None] + step[None, :]) * LANES + lane[None, :]) * (STEP_ROWS * STEP_COLS) + slot[None, :]
    found = tl.load(partial + places, mask=known[None, :] & (share < shares)[:, None], other=0.0)
    sums = tl.sum(tl.reshape(tl.sum(found, 0), [ENTRIES, LANES]), 1)
    cols = tl.program_id(0) * ENTRIES + tl.arange(0, ENTRIES)
    entries = grad_bias + (head * tl.num_programs(1) + row) * COLS + cols
    tl.store(entries, sums.to(grad_bias.dtype.element_ty), mask=cols < COLS)


def bias_gradient(
    rpb: torch.Tensor,
    bias: PaddedBias,
    terms: tuple[torch.Tensor | None, torch.Tensor | None],
    plan: LaunchPlan,
    sizes: Tuning,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lse: torch.Tensor,
    delta: torch.Tensor,
    grad_out: torch.Tensor,
    scale: float,
    options: dict[str, Any],
) -> torch.Tensor:
    """Gradient of the bias table, in its shape and dtype.

    Args:
        rpb: the table (heads, rows, columns).
        bias: the same, laid out for kernels.
        terms: row and column terms of the queries, or None.
        plan: an aligned plan over tiles of queries.
        sizes: what the plan was made with.
        query: (B, Hq, Wq, heads, dim).
        key: (B, Hk, Wk, heads_kv, dim).
        value: (B, Hk, Wk, heads_kv, dim_v).
        lse: (B, Hq, Wq, heads), contiguous.
        delta: (B, Hq, Wq, heads), contiguous, as `queries_kernel` leaves it.
        grad_out: (B, Hq, Wq, heads, dim_v).
        scale: multiplies the scores and turns exponents of e into exponents of 2.
        options: what the backward pass's kernels are compiled for.
    """
    batch, heads = query.shape[0], query.shape[3]
    if not batch:
        return torch.zeros_like(rpb)
    steps, items = plan.rows.steps * plan.cols.steps, plan.tiles * triton.cdiv(batch, _CHUNK)
    # Enough programs to fill a large GPU, however few steps and heads there are, and few enough to sum up at the end.
    shares = min(items, max(1, min(_MOST_SHARES, _PROGRAMS // (steps * heads))))
    slots = plan.tile.rows * plan.tile.cols * plan.step.rows * plan.step.cols
    partial = torch.empty((shares, heads, steps, slots), dtype=torch.float32, device=query.device)
    launch.run(
        bias_kernel,
        (steps, shares, heads),
        (
            query,
            key,
            value,
            bias.table,
            *terms,
            lse,
            delta,
            grad_out,
            partial,
            plan.rows.table,
            plan.cols.table,
            query.stride(),
            key.stride(),
            value.stride(),
            *map(launch.strides, terms),
            grad_out.stride(),
            tuple(query.shape[1:3]),
            tuple(key.shape[1:3]),
            plan.spread,
            tuple(bias.low),
            plan.cols.tiles,
            batch,
            _CHUNK,
            items,
            heads // key.shape[3],
            scale,
        ),
        **plan.sizes,
        **options,
        **launch.tuned(sizes, plan.tile),
    )
    gradient = torch.empty_like(rpb, memory_format=torch.contiguous_format)
    launch.run(
        fold_kernel,
        (triton.cdiv(rpb.shape[2], _ENTRIES), rpb.shape[1], heads),
        (partial, gradient, plan.rows.table, plan.cols.table, shares, steps, plan.rows.steps),
        **plan.sizes,
        COLS=rpb.shape[2],
        ENTRIES=_ENTRIES,
        BLOCK_SHARES=triton.next_power_of_2(shares),
        num_warps=4,
    )
    return gradient
