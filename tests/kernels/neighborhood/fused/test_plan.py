"""Plans against the tables of the axes: what tiles own, where they are, and what their steps cover."""

from __future__ import annotations

import pytest
import torch

from attnzoo.kernels.neighborhood.fused import plan
from attnzoo.kernels.neighborhood.fused.plan import FIELDS, AxisPlan, Grid, plan_keys, plan_queries
from attnzoo.kernels.neighborhood.geometry import (
    AxisRule,
    AxisTables,
    Blocks,
    Geometry,
    Neighborhood,
    build_axis_tables,
)
from attnzoo.kernels.triton_common.tile_sizes import TileSizes

_Axis = tuple[AxisRule, int, int]
_AXES: dict[str, _Axis] = {
    "neighborhood": (Neighborhood(7), 15, 15),
    "dilated": (Neighborhood(3, dilation=3), 11, 11),
    "causal_stride": (Neighborhood(4, 3, 2, is_causal=True), 11, 11),
    "halo": (Blocks(4, 3), 14, 14),
    "clipped_halo": (Blocks(4, 3, clip=True), 14, 14),
    "downsampling": (Blocks(8, 3, 2), 10, 20),
    "shifted": (Blocks(4, shift=1), 9, 9),
    "large_block": (Blocks(20, 1), 20, 20),
}


def _rows(axis: AxisPlan, tile: int) -> list[tuple[list[int], list[int], list[int]]]:
    """Splits the table's rows into fields, first slots and ends."""
    assert axis.table.table.shape[1] == FIELDS + 2 * tile
    return [(row[:FIELDS], row[FIELDS : FIELDS + tile], row[FIELDS + tile :]) for row in axis.table.table.tolist()]


def _visible(tables: AxisTables) -> set[tuple[int, int]]:
    """All pairs of a query's and a key's position that attend to each other; keys may be outside the map."""
    dilation = int(tables.key_order[1] - tables.key_order[0]) if tables.num_keys > 1 else 1
    pairs = set()
    for slot in range(tables.num_queries):
        for key_slot in range(int(tables.start[slot]), int(tables.end[slot])):
            known = 0 <= key_slot < tables.num_keys
            key = int(tables.key_order[key_slot]) if known else key_slot * dilation
            pairs.add((int(tables.query_order[slot]), key))
    return pairs


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("tile", "step"), [(4, 4), (8, 2), (1, 16)])
@pytest.mark.parametrize("axis", _AXES.values(), ids=_AXES.keys())
def test_tiles_of_queries_cover_every_visible_pair_once(axis: _Axis, tile, step, aligned):
    planned = plan.query_plan(*axis, tile, step, aligned=aligned)
    tables = build_axis_tables(*axis)
    bias_of = {
        (int(tables.query_order[slot]), key_slot - int(tables.start[slot])): key_slot - int(tables.origin[slot])
        for slot in range(tables.num_queries)
        for key_slot in range(int(tables.start[slot]), int(tables.end[slot]))
    }
    pairs, bias = [], {}
    for (first, step_first, steps, bias_index, own, own_to, *_), low, high in _rows(planned, tile):
        assert steps <= planned.steps
        for offset in range(own, own_to):
            query = first + offset * planned.dilation
            assert high[offset] <= steps * step
            for slot in range(low[offset], high[offset]):
                pairs.append((query, step_first + slot * planned.dilation))
                bias[query, slot - low[offset]] = bias_index - offset + slot
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == _visible(tables)
    assert bias == bias_of


@pytest.mark.parametrize(("tile", "step"), [(4, 4), (8, 2), (1, 16)])
@pytest.mark.parametrize("axis", _AXES.values(), ids=_AXES.keys())
def test_tiles_of_keys_cover_every_visible_pair_once(axis: _Axis, tile, step):
    planned = plan.key_plan(*axis, tile, step)
    rule, num_queries, num_keys = axis
    runs = planned.runs
    pairs = []
    for (first, step_first, steps, _, own, own_to, *_), low, high in _rows(planned, tile):
        assert own == 0
        for offset in range(own_to):
            for number in range(steps):
                for place in range(step):
                    slot = number // runs.steps * runs.distance + number % runs.steps * step + place
                    query = step_first + slot * planned.dilation
                    in_run = not runs.length or number % runs.steps * step + place < runs.length
                    if in_run and 0 <= query < num_queries and low[offset] <= slot < high[offset]:
                        pairs.append((query, first + offset * planned.dilation))
    on_map = {pair for pair in _visible(build_axis_tables(rule, num_queries, num_keys)) if 0 <= pair[1] < num_keys}
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == on_map


@pytest.mark.parametrize("axis", _AXES.values(), ids=_AXES.keys())
def test_an_aligned_plan_has_one_bias_index_per_pair_of_slots(axis: _Axis):
    planned = plan.query_plan(*axis, 4, 4, aligned=True)
    assert len({fields[3] for fields, _, _ in _rows(planned, 4)}) == 1


@pytest.mark.parametrize("axis", _AXES.values(), ids=_AXES.keys())
def test_bias_indices_stay_between_the_bounds(axis: _Axis):
    planned = plan.query_plan(*axis, 4, 8)
    for fields, _, _ in _rows(planned, 4):
        assert planned.bias_low <= fields[3] - 3
        assert fields[3] + fields[2] * 8 - 1 <= planned.bias_high
    keys = plan.key_plan(*axis, 4, 8)
    runs = keys.runs
    for fields, _, _ in _rows(keys, 4):
        last = fields[2] - 1
        assert keys.bias_low <= fields[3] - (last // runs.steps * runs.bias_distance + last % runs.steps * 8 + 7)
        assert fields[3] + 3 <= keys.bias_high


@pytest.mark.parametrize(
    ("rows", "cols", "slots", "expected"),
    [(56, 56, 64, (8, 8)), (56, 56, 32, (4, 8)), (3, 56, 64, (4, 16)), (56, 2, 64, (32, 2)), (2, 2, 64, (2, 8))],
)
def test_tiles_are_square_where_groups_are_large_enough(rows, cols, slots, expected):
    assert plan.tile_shape(rows, cols, slots) == expected


def test_the_step_with_the_fewest_per_tile_is_chosen():
    def count(length):
        return lambda size: -(-length // size)

    assert plan.step_shape(count(10), count(14), 32) == (2, 16)
    assert plan.step_shape(count(8), count(4), 32) == (8, 4)


def test_both_axes_of_a_launch():
    sizes = TileSizes(32, 32, 2, 2)
    geometry = Geometry(Neighborhood(7), Neighborhood(5, dilation=2))
    planned = plan_queries(geometry, Grid(28, 14), Grid(28, 14), sizes)
    assert planned.tile == (4, 8)
    assert planned.tiles == planned.rows.tiles * planned.cols.tiles == 7 * 2
    assert planned.tables(torch.device("cpu")).dilation == (1, 2)
    assert planned.options["num_warps"] == 2
    assert planned.options["COL_STEPS"] == planned.cols.steps
    assert planned.padded_steps.rows >= planned.rows.steps * planned.step.rows
    assert planned is plan_queries(geometry, Grid(28, 14), Grid(28, 14), sizes)
    keys = plan_keys(geometry, Grid(28, 14), Grid(28, 14), sizes)
    assert keys.rows.runs == (keys.step.rows, 1, 0, keys.step.rows)


def test_maps_with_a_side_in_common_share_its_plan_and_tables():
    """New pairs of known lengths, as in training on several scales, plan and copy nothing."""
    sizes, cpu = TileSizes(32, 32, 2, 2), torch.device("cpu")
    geometry = Geometry(Neighborhood(7), Neighborhood(7))
    first, same_rows, same_cols = (
        plan_queries(geometry, Grid(*shape), Grid(*shape), sizes) for shape in ((33, 52), (33, 47), (41, 52))
    )
    assert same_rows.rows is first.rows
    assert same_cols.cols is first.cols
    assert same_cols.tables(cpu).col_table is first.tables(cpu).col_table


def test_with_blocks_runs_of_steps_are_blocks():
    planned = plan.key_plan(Blocks(8, 3, 2), 10, 20, 4, 2)
    assert planned.runs == (4, 2, 4, 8)
