"""Which pixels, biases and terms a kernel's tile and its steps refer to.

A tile is the block of positions that a program owns, a step the block of positions of the other side that it processes
at a time: queries and keys in the passes that own queries, keys and queries in the pass that owns keys. `plan.py`
divides the axes into both.
"""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from ...triton_common.addressing import StridedTensor, load_vectors, pixel_offsets, select_head
from ...triton_common.constants import LOG2_E
from .plan import FIELDS as _FIELDS

FIELDS = tl.constexpr(_FIELDS)


class AxisTile(NamedTuple):
    """A tile along one axis; vectors have one entry per position of the tile.

    Attributes:
        offs: Offset in the tile.
        first: Position of the tile's first slot.
        step_first: Position of the first step's first slot.
        steps: Number of steps.
        bias: Bias index of the tile's first slot and the first step's first slot.
        owned: Whether the tile owns the slot.
        low: First slot of the other side that the slot sees or is seen by, counted from the first step.
        high: One past the last.
    """

    offs: Any
    first: Any
    step_first: Any
    steps: Any
    bias: Any
    owned: Any
    low: Any
    high: Any


class Tile(NamedTuple):
    """A tile of a map.

    Attributes:
        row: The tile along the rows.
        col: The tile along the columns.
        rows: Row of each position on the map.
        cols: Column of each position on the map.
        owned: Whether the tile owns the position.
    """

    row: AxisTile
    col: AxisTile
    rows: Any
    cols: Any
    owned: Any


class Step(NamedTuple):
    """A step; vectors have one entry per position of the step.

    Attributes:
        row_offs: Row offset in the step.
        col_offs: Column offset in the step.
        row_slots: Row slot, counted from the tile's first step.
        col_slots: Column slot, counted from the tile's first step.
        bias_row: How far the step is from the tile's first step in row bias indices.
        bias_col: How far the step is from the tile's first step in column bias indices.
        rows: Row of each position on the map.
        cols: Column of each position on the map.
        known: Whether the position is on the map and belongs to the step.
    """

    row_offs: Any
    col_offs: Any
    row_slots: Any
    col_slots: Any
    bias_row: Any
    bias_col: Any
    rows: Any
    cols: Any
    known: Any


class QueryTerms(NamedTuple):
    """Where the biases and terms of a tile of queries are; 0 for those that the call does not have.

    Attributes:
        bias: Pointer to the padded bias of the tile's first slot and the first step's first slot.
        row_data: Pointer to the head's row terms.
        row_offsets: Element offset of each query's row term for the first step's first slot.
        col_data: Pointer to the head's column terms.
        col_offsets: Element offset of each query's column term for the first step's first slot.
    """

    bias: Any
    row_data: Any
    row_offsets: Any
    col_data: Any
    col_offsets: Any


@triton.jit
def read_axis_tile(table, index, offs, TILE: tl.constexpr):
    """Reads a tile's row of an axis plan."""
    row = table + index * (FIELDS + 2 * TILE)
    owned = (offs >= tl.load(row + 4)) & (offs < tl.load(row + 5))
    low = tl.load(row + FIELDS + offs)
    high = tl.load(row + (FIELDS + TILE) + offs)
    return AxisTile(offs, tl.load(row), tl.load(row + 1), tl.load(row + 2), tl.load(row + 3), owned, low, high)


@triton.jit
def read_tile(plan, tile, col_tiles, TILE: tl.constexpr):
    """Reads what the plan says about tile number `tile` of a map."""
    offs = tl.arange(0, TILE.rows * TILE.cols)
    row = read_axis_tile(plan.row_table, tile // col_tiles, offs // TILE.cols, TILE.rows)
    col = read_axis_tile(plan.col_table, tile % col_tiles, offs % TILE.cols, TILE.cols)
    rows = row.first + row.offs * plan.dilation[0]
    cols = col.first + col.offs * plan.dilation[1]
    return Tile(row, col, rows, cols, row.owned & col.owned)


@triton.jit
def on_map(rows, cols, shape):
    """Whether positions are on a map of (rows, columns) `shape`."""
    return (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])


@triton.jit
def key_step(tile, step, plan, key_map, STEP: tl.constexpr, COL_STEPS: tl.constexpr):
    """Locates step number `step` of a tile of queries."""
    offs = tl.arange(0, STEP.rows * STEP.cols)
    first_row = step // COL_STEPS * STEP.rows
    first_col = step % COL_STEPS * STEP.cols
    row_offs = offs // STEP.cols
    col_offs = offs % STEP.cols
    row_slots = first_row + row_offs
    col_slots = first_col + col_offs
    rows = tile.row.step_first + row_slots * plan.dilation[0]
    cols = tile.col.step_first + col_slots * plan.dilation[1]
    known = on_map(rows, cols, key_map)
    return Step(row_offs, col_offs, row_slots, col_slots, first_row, first_col, rows, cols, known)


@triton.jit
def first_of_step(step, STEP: tl.constexpr, RUN: tl.constexpr, STEPS_PER_RUN: tl.constexpr):
    """Where a step begins, counted from the tile's first step, if runs of steps are `RUN` apart."""
    if STEPS_PER_RUN == 1:
        return step * RUN
    return step // STEPS_PER_RUN * RUN + step % STEPS_PER_RUN * STEP


@triton.jit
def query_step(
    tile,
    step,
    plan,
    query_map,
    STEP: tl.constexpr,
    COL_STEPS: tl.constexpr,
    ROW_RUNS: tl.constexpr,
    COL_RUNS: tl.constexpr,
):
    """Locates step number `step` of a tile of keys."""
    offs = tl.arange(0, STEP.rows * STEP.cols)
    row_offs = offs // STEP.cols
    col_offs = offs % STEP.cols
    row_step = step // COL_STEPS
    col_step = step % COL_STEPS
    row_slots = first_of_step(row_step, STEP.rows, ROW_RUNS.distance, ROW_RUNS.steps) + row_offs
    col_slots = first_of_step(col_step, STEP.cols, COL_RUNS.distance, COL_RUNS.steps) + col_offs
    rows = tile.row.step_first + row_slots * plan.dilation[0]
    cols = tile.col.step_first + col_slots * plan.dilation[1]
    known = on_map(rows, cols, query_map)
    if ROW_RUNS.length > 0:
        known &= row_step % ROW_RUNS.steps * STEP.rows + row_offs < ROW_RUNS.length
    if COL_RUNS.length > 0:
        known &= col_step % COL_RUNS.steps * STEP.cols + col_offs < COL_RUNS.length
    bias_row = first_of_step(row_step, STEP.rows, ROW_RUNS.bias_distance, ROW_RUNS.steps)
    bias_col = first_of_step(col_step, STEP.cols, COL_RUNS.bias_distance, COL_RUNS.steps)
    return Step(row_offs, col_offs, row_slots, col_slots, bias_row, bias_col, rows, cols, known)


@triton.jit
def visible_pairs(tile, step):
    """Which pairs of a tile's and a step's positions attend to each other: (tile, step)."""
    visible = (step.row_slots[None, :] >= tile.row.low[:, None]) & (step.row_slots[None, :] < tile.row.high[:, None])
    visible &= (step.col_slots[None, :] >= tile.col.low[:, None]) & (step.col_slots[None, :] < tile.col.high[:, None])
    return visible


@triton.jit
def first_bias(bias, tile, head, BIAS_SHAPE: tl.constexpr):
    """Pointer to a head's padded bias of a tile's first slot and its first step's first slot."""
    data = bias.data + head * (BIAS_SHAPE.rows * BIAS_SHAPE.cols)
    return data + (tile.row.bias - bias.low[0]) * BIAS_SHAPE.cols + (tile.col.bias - bias.low[1])


@triton.jit
def locate_query_terms(operands, bias, tile, batch, head, BIAS_SHAPE: tl.constexpr, INT64_OFFSETS: tl.constexpr):
    """Locates the biases and terms of a tile of queries."""
    # Absent ones are 0 and not None, which Triton 3.6 cannot return from a function.
    first = 0
    row_data = 0
    row_offsets = 0
    col_data = 0
    col_offsets = 0
    if bias is not None:
        first = first_bias(bias, tile, head, BIAS_SHAPE)
    if operands.row_terms is not None:
        terms = select_head(operands.row_terms, batch, head)
        row_data = terms.data
        row_offsets = pixel_offsets(tile.rows, tile.cols, terms.strides, INT64_OFFSETS)
        row_offsets += (tile.row.bias - tile.row.offs) * terms.strides[4]
    if operands.col_terms is not None:
        terms = select_head(operands.col_terms, batch, head)
        col_data = terms.data
        col_offsets = pixel_offsets(tile.rows, tile.cols, terms.strides, INT64_OFFSETS)
        col_offsets += (tile.col.bias - tile.col.offs) * terms.strides[4]
    return QueryTerms(first, row_data, row_offsets, col_data, col_offsets)


@triton.jit
def load_query_terms(operands, bias, terms, tile, step, visible, BIAS_SHAPE: tl.constexpr):
    """Loads what is added to the scores (queries, keys) of a tile and a step: the sum of biases and terms.

    Only for calls that have one of them.
    """
    biases = None
    if bias is not None:
        first = step.bias_row * BIAS_SHAPE.cols + step.bias_col
        tile_offsets = tile.row.offs * BIAS_SHAPE.cols + tile.col.offs
        step_offsets = step.row_offs * BIAS_SHAPE.cols + step.col_offs
        biases = tl.load(terms.bias + first + (step_offsets[None, :] - tile_offsets[:, None]))
    if operands.row_terms is not None:
        step_offsets = step.row_slots * operands.row_terms.strides[4]
        values = load_terms(terms.row_data, terms.row_offsets, step_offsets, visible)
        biases = values if biases is None else biases + values
    if operands.col_terms is not None:
        step_offsets = step.col_slots * operands.col_terms.strides[4]
        values = load_terms(terms.col_data, terms.col_offsets, step_offsets, visible)
        biases = values if biases is None else biases + values
    return biases


@triton.jit
def load_terms(data, tile_offsets, step_offsets, visible):
    """Loads terms, for exponents of 2, at the sums of a tile's and a step's element offsets; zeros where invisible."""
    values = tl.load(data + (tile_offsets[:, None] + step_offsets[None, :]), mask=visible, other=0.0)
    return values.to(tl.float32) * LOG2_E


@triton.jit
def select_tokens(tensor, batch, key_head):
    """Returns one head of one image of a (B, tokens, heads, dim) tensor; strides are those of the full tensor."""
    data = tensor.data + batch.to(tl.int64) * tensor.strides[0]
    return StridedTensor(data + key_head.to(tl.int64) * tensor.strides[2], tensor.strides)


@triton.jit
def load_tokens(head, token, present, DIM: tl.constexpr):
    """Loads the vectors of tokens from a head that `select_tokens` returned."""
    return load_vectors(head.data, token.to(tl.int64) * head.strides[1], present, head.strides[3], DIM)
