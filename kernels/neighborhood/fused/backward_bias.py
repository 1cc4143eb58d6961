"""Gradient of the table of relative position biases.

`bias_kernel` sums score gradients over shares of all images' tiles; `fold_kernel` adds up the shares, and the entries
that belong to the same bias index.
"""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportAssignmentType=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...triton_common import launch
from ...triton_common.addressing import (
    load_vectors,
    pixel_index,
    pixel_offsets,
    select_head,
    strided,
)
from ...triton_common.constants import LOG2_E
from ...triton_common.softmax import scaled_scores, score_gradients
from .addressing import key_step, load_query_terms, locate_query_terms, read_tile, visible_pairs
from .backward_inputs import BackwardInputs
from .operands import strided_operands
from .plan import LaunchPlan

_PROGRAMS = 1024
_MAX_SHARES = 32
_ENTRIES_PER_PROGRAM = 4
_IMAGES_PER_CHUNK = 16


@triton.jit(
    do_not_specialize=["query_rows", "query_cols", "key_rows", "key_cols", "col_tiles", "images", "chunk", "items"]
)
def bias_kernel(
    operands,
    bias,
    lse,
    delta,
    grad_out,
    partial,
    plan,
    query_rows,
    query_cols,
    key_rows,
    key_cols,
    col_tiles,
    images,
    chunk,
    items,
    group,
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
    """Sums the score gradients of one step over a share of the items.

    The plan is aligned: a slot of a tile and a slot of the step have the same bias index in every tile, so gradients
    are summed first, and `fold_kernel` determines the bias indices. An item is a tile in a chunk of the images, which
    share masks and offsets.
    """
    query_map = (query_rows, query_cols)
    key_map = (key_rows, key_cols)
    TILE_SIZE: tl.constexpr = TILE.rows * TILE.cols
    STEP_SIZE: tl.constexpr = STEP.rows * STEP.cols
    HAS_TERMS: tl.constexpr = operands.row_terms is not None or operands.col_terms is not None
    number = tl.program_id(0)
    share = tl.program_id(1)
    shares = tl.num_programs(1)
    head = tl.program_id(2)
    heads = tl.num_programs(2)
    key_head = head // group
    biases = load_aligned_biases(bias, plan, head, number, TILE, STEP, COL_STEPS, BIAS_SHAPE)
    chunks = tl.cdiv(images, chunk)

    sums = tl.zeros([TILE_SIZE, STEP_SIZE], tl.float32)
    size = tl.cdiv(items, shares)
    for item in range(share * size, tl.minimum(share * size + size, items)):
        first = item % chunks * chunk
        tile = read_tile(plan, item // chunks, col_tiles, TILE)
        step = key_step(tile, number, plan, key_map, STEP, COL_STEPS)
        visible = visible_pairs(tile, step)
        index = pixel_index(tile.rows, tile.cols, head, query_map[1], heads, INT64_OFFSETS)
        query_offsets = pixel_offsets(tile.rows, tile.cols, operands.query.strides, INT64_OFFSETS)
        grad_out_offsets = pixel_offsets(tile.rows, tile.cols, grad_out.strides, INT64_OFFSETS)
        key_offsets = pixel_offsets(step.rows, step.cols, operands.key.strides, INT64_OFFSETS)
        value_offsets = pixel_offsets(step.rows, step.cols, operands.value.strides, INT64_OFFSETS)
        for image in range(tl.minimum(chunk, images - first)):
            batch = first + image
            query = select_head(operands.query, batch, head)
            queries = load_vectors(query.data, query_offsets, tile.owned, query.strides[4], QK_DIM)
            grad_head = select_head(grad_out, batch, head)
            upstream = load_vectors(grad_head.data, grad_out_offsets, tile.owned, grad_head.strides[4], V_DIM)
            image_start = batch.to(tl.int64) * query_map[0] * query_map[1] * heads
            tile_lse = tl.load(lse + image_start + index, mask=tile.owned, other=0.0) * LOG2_E
            tile_delta = tl.load(delta + image_start + index, mask=tile.owned, other=0.0)
            key = select_head(operands.key, batch, key_head)
            keys = load_vectors(key.data, key_offsets, step.known, key.strides[4], QK_DIM)
            value = select_head(operands.value, batch, key_head)
            values = load_vectors(value.data, value_offsets, step.known, value.strides[4], V_DIM)
            added = biases
            if HAS_TERMS:
                # Without the biases, which are loaded already.
                terms = locate_query_terms(operands, None, tile, batch, head, BIAS_SHAPE, INT64_OFFSETS)
                added += load_query_terms(operands, None, terms, tile, step, visible, BIAS_SHAPE)
            scores = scaled_scores(queries, keys, scale, PRECISION) + added
            _probs, grad_scores = score_gradients(
                scores, upstream, values, visible, tile_lse[:, None], tile_delta[:, None], PRECISION
            )
            sums += grad_scores

    # (shares, heads, steps, tile slots, step slots)
    base = ((share.to(tl.int64) * heads + head) * tl.num_programs(0) + number) * TILE_SIZE
    tile_slots = tl.arange(0, TILE_SIZE)
    step_slots = tl.arange(0, STEP_SIZE)
    entries = (base + tile_slots)[:, None] * STEP_SIZE + step_slots[None, :]
    tl.store(partial + entries, sums)


@triton.jit
def load_aligned_biases(
    bias,
    plan,
    head,
    number,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
    COL_STEPS: tl.constexpr,
    BIAS_SHAPE: tl.constexpr,
):
    """Loads the biases (tile, step) of step `number`, which are the same in all tiles of an aligned plan."""
    tile = tl.arange(0, TILE.rows * TILE.cols)
    step = tl.arange(0, STEP.rows * STEP.cols)
    step_rows = number // COL_STEPS * STEP.rows + step // STEP.cols
    step_cols = number % COL_STEPS * STEP.cols + step % STEP.cols
    first_row = tl.load(plan.row_table + 3) - bias.low[0]
    first_col = tl.load(plan.col_table + 3) - bias.low[1]
    rows = first_row + step_rows[None, :] - (tile // TILE.cols)[:, None]
    cols = first_col + step_cols[None, :] - (tile % TILE.cols)[:, None]
    data = bias.data + head * (BIAS_SHAPE.rows * BIAS_SHAPE.cols)
    return tl.load(data + rows * BIAS_SHAPE.cols + cols)


@triton.jit(do_not_specialize=["shares", "steps", "row_steps"])
def fold_kernel(
    partial,
    grad_bias,
    plan,
    shares,
    steps,
    row_steps,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
    COL_STEPS: tl.constexpr,
    COLS: tl.constexpr,
    ENTRIES: tl.constexpr,
    BLOCK_SHARES: tl.constexpr,
):
    """Adds up the sums of `bias_kernel` that belong to ENTRIES neighboring entries of a row of the table."""
    row = tl.program_id(1)
    head = tl.program_id(2)
    heads = tl.num_programs(2)
    TILE_SLOTS: tl.constexpr = TILE.rows * TILE.cols
    STEP_SLOTS: tl.constexpr = STEP.rows * STEP.cols
    # One pair of a tile's and a step's slot per entry and tile slot: which step slot, follows from the bias index.
    tile_slot = tl.arange(0, ENTRIES * TILE_SLOTS) % TILE_SLOTS
    col = tl.program_id(0) * ENTRIES + tl.arange(0, ENTRIES * TILE_SLOTS) // TILE_SLOTS
    key_rows = row - tl.load(plan.row_table + 3) + tile_slot // TILE.cols
    key_cols = col - tl.load(plan.col_table + 3) + tile_slot % TILE.cols
    known = (key_rows >= 0) & (key_rows < row_steps * STEP.rows)
    known &= (key_cols >= 0) & (key_cols < COL_STEPS * STEP.cols)
    step = key_rows // STEP.rows * COL_STEPS + key_cols // STEP.cols
    step_slot = key_rows % STEP.rows * STEP.cols + key_cols % STEP.cols
    share = tl.arange(0, BLOCK_SHARES)
    base = (share.to(tl.int64) * heads + head) * steps
    offsets = (base[:, None] + step[None, :]) * TILE_SLOTS + tile_slot[None, :]
    offsets = offsets * STEP_SLOTS + step_slot[None, :]
    values = tl.load(partial + offsets, mask=known[None, :] & (share < shares)[:, None], other=0.0)
    sums = tl.sum(tl.reshape(tl.sum(values, 0), [ENTRIES, TILE_SLOTS]), 1)
    cols = tl.program_id(0) * ENTRIES + tl.arange(0, ENTRIES)
    entries = grad_bias + (head * tl.num_programs(1) + row) * COLS + cols
    tl.store(entries, sums.to(grad_bias.dtype.element_ty), mask=cols < COLS)


def launch_bias(inputs: BackwardInputs, plan: LaunchPlan) -> None:
    """Writes the gradient of the bias table. `plan` is an aligned plan with tiles of queries."""
    gradient = inputs.gradients.rpb
    batch, _, _, heads, _ = inputs.operands.query.shape
    assert gradient is not None
    if not batch:
        gradient.zero_()
        return
    steps, items = plan.rows.steps * plan.cols.steps, plan.tiles * triton.cdiv(batch, _IMAGES_PER_CHUNK)
    # Enough programs to fill a large GPU even with few steps and heads, and few enough shares to add up.
    shares = min(items, max(1, min(_MAX_SHARES, _PROGRAMS // (steps * heads))))
    slots = plan.tile.rows * plan.tile.cols * plan.step.rows * plan.step.cols
    tables = plan.tables(gradient.device)
    partial = torch.empty((shares, heads, steps, slots), dtype=torch.float32, device=gradient.device)
    launch.run(
        bias_kernel,
        (steps, shares, heads),
        gradient.device,
        (
            strided_operands(inputs.operands),
            inputs.bias.table,
            inputs.lse,
            inputs.delta,
            strided(inputs.grad_out),
            partial,
            tables,
            *inputs.maps,
            plan.cols.tiles,
            batch,
            _IMAGES_PER_CHUNK,
            items,
            inputs.group,
            inputs.scale,
        ),
        **inputs.constants,
        **plan.options,
        BIAS_SHAPE=inputs.bias.shape,
    )
    launch.run(
        fold_kernel,
        (triton.cdiv(gradient.shape[2], _ENTRIES_PER_PROGRAM), gradient.shape[1], heads),
        gradient.device,
        (partial, gradient, tables, shares, steps, plan.rows.steps),
        TILE=plan.tile,
        STEP=plan.step,
        COL_STEPS=plan.cols.steps,
        COLS=gradient.shape[2],
        ENTRIES=_ENTRIES_PER_PROGRAM,
        BLOCK_SHARES=triton.next_power_of_2(shares),
        num_warps=4,
    )
