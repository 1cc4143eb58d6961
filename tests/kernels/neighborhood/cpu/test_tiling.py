"""The division of an axis into tiles."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnzoo.kernels.neighborhood.cpu.tiling import Run, tile_runs
from attnzoo.kernels.neighborhood.geometry import Neighborhood, axis_ranges
from support.attention_cases import Axis, axes


def _tiles(run: Run) -> list[tuple[list[int], list[int]]]:
    """Returns the positions of the queries and of the keys on the map, for each tile."""
    return [
        (
            [run.query_first + tile * run.query_spacing + place * run.step for place in range(run.queries)],
            [run.key_first + tile * run.key_spacing + place * run.step for place in range(run.keys)],
        )
        for tile in range(run.count)
    ]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(axis=axes(extra=30), copies=st.sampled_from([1, 64, 4096]))
def test_tiles_contain_the_keys_of_the_tables(axis: Axis, copies: int):
    ranges = axis_ranges(axis.rule, axis.queries, axis.keys)
    slot_of = {position: slot for slot, position in enumerate(ranges.query_order)}
    runs, _ = tile_runs(axis.rule, axis.rule, (axis.queries,) * 2, (axis.keys,) * 2, copies)
    seen_queries = []
    for run in runs:
        for queries, keys in _tiles(run):
            seen_queries += queries
            for place, position in enumerate(queries):
                slot = slot_of[position]
                index = run.bias_index[place].tolist()
                visible = [key for key, offset in enumerate(index) if offset < run.bias_length]
                assert len(visible) == ranges.end[slot] - ranges.start[slot]
                first = ranges.start[slot] - ranges.origin[slot]
                assert [index[key] for key in visible] == list(range(first, first + len(visible)))
                on_map = [keys[key - run.before] for key in visible if 0 <= key - run.before < run.keys]
                slots = range(max(ranges.start[slot], 0), min(ranges.end[slot], axis.keys))
                assert on_map == [ranges.key_order[one] for one in slots]
    assert sorted(seen_queries) == list(range(axis.queries))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(axis=axes(extra=30))
def test_tiles_of_a_phase_share_no_keys(axis: Axis):
    runs, _ = tile_runs(axis.rule, axis.rule, (axis.queries,) * 2, (axis.keys,) * 2, 64)
    for run in runs:
        tiles = [keys for _, keys in _tiles(run)]
        for phase in range(run.phases):
            keys = [key for tile in tiles[phase :: run.phases] for key in tile]
            assert len(keys) == len(set(keys))


def test_tiles_are_larger_on_small_maps_and_bounded_in_memory():
    rule = Neighborhood(7)
    few, many = (tile_runs(rule, rule, (28, 28), (28, 28), copies)[0] for copies in (1, 1000))
    assert len(few) <= len(many)
    huge = Neighborhood(80)
    rows, cols = tile_runs(huge, huge, (256, 256), (256, 256), 24)
    assert max(row.queries * col.queries * row.extent * col.extent for row in rows for col in cols) <= 1 << 20


def test_one_tile_covers_a_map_that_every_query_sees():
    rule = Neighborhood(7)
    rows, cols = tile_runs(rule, rule, (7, 7), (7, 7), 16)
    assert [(run.count, run.queries, run.extent) for run in (*rows, *cols)] == [(1, 7, 7)] * 2
    assert rows[0].all_visible
    assert torch.equal(
        rows[0].one_hot.table.sum(0).int(), torch.tensor([*range(1, 8), *range(6, 0, -1)], dtype=torch.int32)
    )
