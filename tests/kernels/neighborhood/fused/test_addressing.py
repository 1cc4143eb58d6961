"""What kernels read from a plan, in Triton's interpreter."""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from attnzoo.kernels.neighborhood.fused.addressing import (
    first_of_step,
    key_step,
    load_tokens,
    query_step,
    read_tile,
    select_tokens,
    visible_pairs,
)
from attnzoo.kernels.neighborhood.fused.plan import Grid, LaunchPlan, plan_keys, plan_queries
from attnzoo.kernels.neighborhood.geometry import AxisRule, Blocks, Geometry, Neighborhood, build_axis_tables
from attnzoo.kernels.triton_common.addressing import VectorDim, store_vectors, strided
from attnzoo.kernels.triton_common.tile_sizes import TileSizes

_SIZES = TileSizes(16, 16, 2, 2)
_CASES = {
    "neighborhood": (Neighborhood(3), 5, 5, Neighborhood(2, dilation=2), 5, 5),
    "halo": (Blocks(4, 1), 6, 6, Blocks(4, 2, 2, shift=2), 4, 7),
}


@triton.jit
def _count_pairs_of_queries(
    counts, plan, query_map, key_map, col_tiles, TILE: tl.constexpr, STEP: tl.constexpr, COL_STEPS: tl.constexpr
):
    tile = read_tile(plan, tl.program_id(0), col_tiles, TILE)
    for number in range(tile.row.steps * COL_STEPS):
        step = key_step(tile, number, plan, key_map, STEP, COL_STEPS)
        pairs = visible_pairs(tile, step) & tile.owned[:, None] & step.known[None, :]
        queries = tile.rows * query_map[1] + tile.cols
        keys = step.rows * key_map[1] + step.cols
        places = counts + queries[:, None] * key_map[0] * key_map[1] + keys[None, :]
        tl.store(places, tl.load(places, mask=pairs, other=0) + 1, mask=pairs)


@triton.jit
def _count_pairs_of_keys(
    counts,
    plan,
    query_map,
    key_map,
    col_tiles,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
    COL_STEPS: tl.constexpr,
    ROW_RUNS: tl.constexpr,
    COL_RUNS: tl.constexpr,
):
    tile = read_tile(plan, tl.program_id(0), col_tiles, TILE)
    for number in range(tile.row.steps * COL_STEPS):
        step = query_step(tile, number, plan, query_map, STEP, COL_STEPS, ROW_RUNS, COL_RUNS)
        pairs = visible_pairs(tile, step) & tile.owned[:, None] & step.known[None, :]
        queries = step.rows * query_map[1] + step.cols
        keys = tile.rows * key_map[1] + tile.cols
        places = counts + queries[None, :] * key_map[0] * key_map[1] + keys[:, None]
        tl.store(places, tl.load(places, mask=pairs, other=0) + 1, mask=pairs)


def _visible(rule: AxisRule, num_queries: int, num_keys: int) -> torch.Tensor:
    """Which keys on the map each query sees along an axis: (queries, keys) int32."""
    tables = build_axis_tables(rule, num_queries, num_keys)
    visible = torch.zeros(num_queries, num_keys, dtype=torch.int32)
    for slot, query in enumerate(tables.query_order.tolist()):
        first, end = max(int(tables.start[slot]), 0), min(int(tables.end[slot]), num_keys)
        visible[query, tables.key_order[first:end]] = 1
    return visible


def _counts(kernel, plan: LaunchPlan, query_map: Grid, key_map: Grid, **constants) -> torch.Tensor:
    counts = torch.zeros((*query_map, *key_map), dtype=torch.int32)
    shapes = {"TILE": plan.tile, "STEP": plan.step, "COL_STEPS": plan.cols.steps}
    kernel[(plan.tiles,)](
        counts, plan.tables(counts.device), query_map, key_map, plan.cols.tiles, **shapes, **constants
    )
    return counts


@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES.keys())
def test_every_visible_pair_is_processed_once(case):
    row_rule, query_rows, key_rows, col_rule, query_cols, key_cols = case
    maps = (Grid(query_rows, query_cols), Grid(key_rows, key_cols))
    arguments = (Geometry(row_rule, col_rule), *maps, _SIZES)
    expected = torch.einsum(
        "ac,bd->abcd", _visible(row_rule, query_rows, key_rows), _visible(col_rule, query_cols, key_cols)
    )
    assert torch.equal(_counts(_count_pairs_of_queries, plan_queries(*arguments), *maps), expected)
    plan = plan_keys(*arguments)
    runs = {"ROW_RUNS": plan.rows.runs, "COL_RUNS": plan.cols.runs}
    assert torch.equal(_counts(_count_pairs_of_keys, plan, *maps, **runs), expected)


@triton.jit
def _first_slots(out, STEP: tl.constexpr, RUN: tl.constexpr, STEPS_PER_RUN: tl.constexpr):
    for step in range(6):
        tl.store(out + step, first_of_step(step, STEP, RUN, STEPS_PER_RUN))


@pytest.mark.parametrize(
    ("step", "run", "steps_per_run", "expected"), [(4, 4, 1, [0, 4, 8, 12, 16, 20]), (4, 7, 2, [0, 4, 7, 11, 14, 18])]
)
def test_runs_of_steps(step, run, steps_per_run, expected):
    out = torch.zeros(6, dtype=torch.int32)
    _first_slots[(1,)](out, step, run, steps_per_run)
    assert out.tolist() == expected


@triton.jit
def _copy_tokens(source, target, tokens, DIM: tl.constexpr):
    token = tl.arange(0, 16)
    head = select_tokens(source, tl.program_id(0), tl.program_id(1))
    vectors = load_tokens(head, token, token < tokens, DIM)
    index = (tl.program_id(0) * tokens + token) * tl.num_programs(1) + tl.program_id(1)
    store_vectors(target, index, token < tokens, vectors, DIM)


def test_tokens_of_any_strides():
    source = torch.randn(5, 3, 7, 2).permute(3, 2, 1, 0)
    target = torch.empty(source.shape)
    _copy_tokens[(2, 3)](strided(source), target, 7, DIM=VectorDim(5, 16))
    assert torch.equal(target, source)
