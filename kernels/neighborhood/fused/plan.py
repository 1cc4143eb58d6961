"""Division of the two axes of a map into tiles and steps, on the host, once per rule and length of an axis.

A tile is a few consecutive slots of one axis, on the side that a program owns: queries in the passes for the output,
the gradient of queries and the gradient of the bias, keys in the pass for the gradients of keys and values. A step is a
few consecutive slots of the other side. One row of int32 numbers holds everything that a program needs to know about
its tile along one axis, so kernels know nothing about rules: the position of the tile, where its steps start, how many
there are, and the range of slots of the other side for each of its slots. Inside a tile and inside its steps, position
and bias index change by a constant from slot to slot. That is asserted here, and lets kernels compute addresses instead
of loading them.
"""

from __future__ import annotations

import functools
import itertools
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ...device_constants import DeviceConstant
from ...triton_common.tile_sizes import TileSizes
from ..geometry import AxisRanges, AxisRule, Blocks, Geometry, axis_ranges

FIELDS = 8
"""Numbers before the ranges in a row: tile position, step position, steps, bias index, first and last owned slot."""


class Grid(NamedTuple):
    """Rows and columns of a tile, a step or a map, or one number per axis."""

    rows: int
    cols: int


class Runs(NamedTuple):
    """Runs of steps along an axis: with `Blocks`, tiles of keys process their queries block by block.

    Attributes:
        distance: Slots from the start of one run to the start of the next.
        steps: Steps per run.
        length: Slots that belong to a run; 0 if each run starts where the previous one ends.
        bias_distance: Bias indices from the start of one run to the start of the next.
    """

    distance: int
    steps: int
    length: int
    bias_distance: int


@dataclass(frozen=True, eq=False)
class AxisPlan:
    """The tiles of one axis.

    Attributes:
        table: (tiles, FIELDS + 2 * tile) int32. After the first FIELDS numbers, the first slot of the other side that
            each slot of the tile sees or is seen by, then one past the last, both counted from the tile's step
            position; 0 and 0 for slots that belong to another tile or to none.
        steps: Largest number of steps of a tile.
        dilation: Distance of the positions of neighboring slots.
        runs: How steps are grouped.
        bias_low: Smallest bias index of any pair of a tile's and a step's slots, visible or not.
        bias_high: Largest such index.
    """

    table: DeviceConstant
    steps: int
    dilation: int
    runs: Runs
    bias_low: int
    bias_high: int

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return self.table.table.shape[0]


@functools.cache  # without a limit: CUDA graphs keep reading the tables
def query_plan(
    rule: AxisRule, num_queries: int, num_keys: int, tile: int, step: int, *, aligned: bool = False
) -> AxisPlan:
    """Divides an axis into tiles of queries, whose steps are blocks of keys.

    Steps start at the first key that the tile sees or, if `aligned`, at the same bias index in every tile. Then a slot
    of a tile and a slot of a step have the same bias index in all tiles, so score gradients can be summed over tiles
    first and assigned to bias indices afterwards. A group's last tile is moved back until it is full, which keeps the
    number of bias indices of an aligned plan small.
    """
    query_order, key_order, start, end, origin, _ = ranges = axis_ranges(rule, num_queries, num_keys)
    dilation = _dilation(ranges)
    rows, most = [], 0
    for base, own, own_to, first_key, end_key in _query_tiles(rule, num_queries, num_keys, tile, aligned):
        steps = _ceil(end_key - first_key, step)
        most = max(most, steps)
        seen = range(max(start[own], 0), min(end[own_to - 1], num_keys))
        key_position = key_order[seen[0]] + dilation * (first_key - seen[0])
        position = query_order[base]
        _assert_evenly_spaced(query_order, range(base, own_to), position, dilation)
        _assert_evenly_spaced(key_order, seen, key_position + dilation * (seen[0] - first_key), dilation)
        _assert_evenly_spaced(origin, range(base, own_to), origin[base], 1)
        visible = [
            [bounds[slot] - first_key if own <= slot < own_to else 0 for slot in range(base, base + tile)]
            for bounds in (start, end)
        ]
        fields = [position, key_position, steps, first_key - origin[base], own - base, own_to - base]
        rows.append(_row(fields, visible))
    bias_bases = [row[3] for row in rows]
    return AxisPlan(
        table=DeviceConstant(torch.tensor(rows, dtype=torch.int32, device="cpu")),
        steps=most,
        dilation=dilation,
        runs=Runs(distance=step, steps=1, length=0, bias_distance=step),
        bias_low=min(bias_bases) - (tile - 1),
        bias_high=max(bias_bases) + most * step - 1,
    )


@functools.cache  # without a limit: CUDA graphs keep reading the tables
def key_plan(rule: AxisRule, num_queries: int, num_keys: int, tile: int, step: int) -> AxisPlan:
    """Divides an axis into tiles of keys, whose steps are blocks of the queries that see them.

    With `Blocks`, a run of steps covers one block, because bias indices start anew in each block. The first run starts
    where its block would start if the map did not cut it.
    """
    query_order, key_order, _, _, origin, _ = ranges = axis_ranges(rule, num_queries, num_keys)
    seen_from, seen_to = _seen_by(rule, num_queries, num_keys)
    dilation = _dilation(ranges)
    runs = Runs(distance=step, steps=1, length=0, bias_distance=step)
    if isinstance(rule, Blocks):
        length = rule.queries_per_block
        runs = Runs(distance=length, steps=_ceil(length, step), length=length, bias_distance=rule.block_size)
    rows, most = [], 0
    for own, own_to in _key_tiles(rule, num_queries, num_keys, tile):
        queries = range(seen_from[own], seen_to[own_to - 1])
        begin = _run_begin(rule, queries[0])
        steps = _ceil(queries.stop - begin, runs.distance) * runs.steps
        most = max(most, steps)
        # The query slot `begin` may be outside the map. Its position and origin are extrapolated from the first query.
        ahead = queries[0] - begin
        position, query_position = key_order[own], query_order[queries[0]] - dilation * ahead
        first_origin = origin[queries[0]] - ahead
        _assert_evenly_spaced(key_order, range(own, own_to), position, dilation)
        _assert_evenly_spaced(query_order, queries, query_position + dilation * ahead, dilation)
        run_length = runs.length or len(queries)
        for number, first in enumerate(range(begin, queries.stop, run_length)):
            within = range(max(first, queries[0]), min(first + run_length, queries.stop))
            run_origin = first_origin + number * runs.bias_distance
            _assert_evenly_spaced(origin, within, run_origin + within.start - first, 1)
        visible = [
            [bounds[slot] - begin if slot < own_to else 0 for slot in range(own, own + tile)]
            for bounds in (seen_from, seen_to)
        ]
        fields = [position, query_position, steps, own - first_origin, 0, own_to - own]
        rows.append(_row(fields, visible))
    bias_bases = [row[3] for row in rows]
    last_step = most - 1
    reach = last_step // runs.steps * runs.bias_distance + last_step % runs.steps * step + step - 1
    return AxisPlan(
        table=DeviceConstant(torch.tensor(rows, dtype=torch.int32, device="cpu")),
        steps=most,
        dilation=dilation,
        runs=runs,
        bias_low=min(bias_bases) - reach,
        bias_high=max(bias_bases) + tile - 1,
    )


class PlanTables(NamedTuple):
    """A plan as kernels receive it."""

    row_table: Any
    col_table: Any
    dilation: tuple[Any, Any]


class LaunchPlan(NamedTuple):
    """The plan of a launch: both axes divided.

    Attributes:
        tile: Rows and columns of a tile, powers of two.
        step: Rows and columns of a step, powers of two.
        rows: The tiles along the rows.
        cols: The tiles along the columns.
        sizes: What the plan was made for.
    """

    tile: Grid
    step: Grid
    rows: AxisPlan
    cols: AxisPlan
    sizes: TileSizes

    @property
    def tiles(self) -> int:
        """Number of tiles per image."""
        return self.rows.tiles * self.cols.tiles

    def tables(self, device: torch.device) -> PlanTables:
        """Returns the plan as kernels on a device receive it."""
        dilation = (self.rows.dilation, self.cols.dilation)
        return PlanTables(self.rows.table.on(device), self.cols.table.on(device), dilation)

    @property
    def options(self) -> dict[str, Any]:
        """Compile-time constants and launch options of a kernel with tiles and steps, by name."""
        options = self.sizes.launch_options(self.tile.rows * self.tile.cols)
        return {"TILE": self.tile, "STEP": self.step, "COL_STEPS": self.cols.steps, **options}

    @property
    def padded_steps(self) -> Grid:
        """Rows and columns of slots in all steps of a tile, rounded up to a power of two that `tl.dot` supports."""
        return Grid(
            max(16, _power_of_two(self.rows.steps * self.step.rows)),
            max(16, _power_of_two(self.cols.steps * self.step.cols)),
        )


class _Axis(NamedTuple):
    """What the plan of an axis depends on, besides the sizes of tiles and steps."""

    rule: AxisRule
    num_queries: int
    num_keys: int


@functools.lru_cache(maxsize=1024)
def plan_queries(
    geometry: Geometry, query_map: Grid, key_map: Grid, sizes: TileSizes, *, aligned: bool = False
) -> LaunchPlan:
    """Plans a launch whose programs own `sizes.tile` queries and process `sizes.step` keys at a time."""
    rows, cols = _axes(geometry, query_map, key_map)
    tile = tile_shape(query_group(*rows), query_group(*cols), sizes.tile)
    step = step_shape(
        lambda size: query_steps(*rows, tile.rows, size, aligned=aligned),
        lambda size: query_steps(*cols, tile.cols, size, aligned=aligned),
        sizes.step,
    )
    return LaunchPlan(
        tile,
        step,
        query_plan(*rows, tile.rows, step.rows, aligned=aligned),
        query_plan(*cols, tile.cols, step.cols, aligned=aligned),
        sizes,
    )


@functools.lru_cache(maxsize=1024)
def plan_keys(geometry: Geometry, query_map: Grid, key_map: Grid, sizes: TileSizes) -> LaunchPlan:
    """Plans a launch whose programs own `sizes.tile` keys and process `sizes.step` queries at a time."""
    rows, cols = _axes(geometry, query_map, key_map)
    tile = tile_shape(key_group(*rows), key_group(*cols), sizes.tile)
    step = step_shape(
        lambda size: key_steps(*rows, tile.rows, size),
        lambda size: key_steps(*cols, tile.cols, size),
        sizes.step,
    )
    return LaunchPlan(
        tile,
        step,
        key_plan(*rows, tile.rows, step.rows),
        key_plan(*cols, tile.cols, step.cols),
        sizes,
    )


def _axes(geometry: Geometry, query_map: Grid, key_map: Grid) -> tuple[_Axis, _Axis]:
    return (
        _Axis(geometry.rows, query_map.rows, key_map.rows),
        _Axis(geometry.cols, query_map.cols, key_map.cols),
    )


def tile_shape(largest_rows: int, largest_cols: int, slots: int) -> Grid:
    """Chooses a tile of at most `slots` slots, square if the axes' groups are large enough.

    It has at least 16 slots, because `tl.dot` requires that, so it can be larger than the groups.
    """
    side = 1 << (slots.bit_length() - 1) // 2
    limit_rows, limit_cols = _power_of_two(largest_rows), _power_of_two(largest_cols)
    rows = min(side, limit_rows)
    cols = min(slots // rows, limit_cols)
    rows = min(slots // cols, limit_rows)
    return Grid(rows, max(cols, 16 // rows))


def query_group(rule: AxisRule, num_queries: int, num_keys: int) -> int:
    """Returns the size of the largest group of queries; tiles do not span several groups."""
    return max(size for _, size in axis_ranges(rule, num_queries, num_keys).groups)


def key_group(rule: AxisRule, num_queries: int, num_keys: int) -> int:
    """Returns the size of the largest group of keys; tiles do not span several groups."""
    return max(size for _, size in _key_groups(rule, num_queries, num_keys))


@functools.lru_cache(maxsize=4096)
def query_steps(rule: AxisRule, num_queries: int, num_keys: int, tile: int, step: int, *, aligned: bool = False) -> int:
    """Returns the largest number of steps of a tile of the `query_plan` with these arguments."""
    tiles = _query_tiles(rule, num_queries, num_keys, tile, aligned)
    return max(_ceil(end_key - first_key, step) for *_, first_key, end_key in tiles)


@functools.lru_cache(maxsize=4096)
def key_steps(rule: AxisRule, num_queries: int, num_keys: int, tile: int, step: int) -> int:
    """Returns the largest number of steps of a tile of the `key_plan` with these arguments."""
    seen_from, seen_to = _seen_by(rule, num_queries, num_keys)
    run = rule.queries_per_block if isinstance(rule, Blocks) else 0
    counts = [
        seen_to[own_to - 1] - _run_begin(rule, seen_from[own])
        for own, own_to in _key_tiles(rule, num_queries, num_keys, tile)
    ]
    return max(_ceil(count, run) * _ceil(run, step) if run else _ceil(count, step) for count in counts)


def step_shape(count_rows: Callable[[int], int], count_cols: Callable[[int], int], slots: int) -> Grid:
    """Chooses the shape of a step of `slots` slots that needs the fewest steps per tile; of equals, near 16 columns.

    Args:
        count_rows: Returns the number of steps of a tile along the rows for a number of rows per step.
        count_cols: The same for columns.
        slots: Rows times columns of a step, a power of two.
    """
    shapes = [Grid(slots // cols, cols) for cols in (16, 8, 32, 4, 64, 2, 1, 128) if cols <= slots]
    return min(shapes, key=lambda shape: count_rows(shape.rows) * count_cols(shape.cols))


@functools.lru_cache(maxsize=1024)
def _query_tiles(
    rule: AxisRule, num_queries: int, num_keys: int, tile: int, aligned: bool
) -> list[tuple[int, int, int, int, int]]:
    """Lists tiles as (first slot, first owned slot, one past the last, first key slot, one past the last)."""
    _, _, start, end, origin, groups = axis_ranges(rule, num_queries, num_keys)
    tiles = [
        (max(first, min(own, first + size - tile)), own, min(own + tile, first + size))
        for first, size in groups
        for own in range(first, first + size, tile)
    ]
    if not aligned:
        return [(base, own, own_to, start[own], end[own_to - 1]) for base, own, own_to in tiles]
    low = min(start[own] - origin[base] for base, own, _ in tiles)
    high = max(end[own_to - 1] - origin[base] for base, _, own_to in tiles)
    return [(base, own, own_to, origin[base] + low, origin[base] + high) for base, own, own_to in tiles]


@functools.lru_cache(maxsize=1024)
def _key_tiles(rule: AxisRule, num_queries: int, num_keys: int, tile: int) -> list[tuple[int, int]]:
    """Lists tiles as (first key slot, one past the last)."""
    return [
        (own, min(own + tile, first + size))
        for first, size in _key_groups(rule, num_queries, num_keys)
        for own in range(first, first + size, tile)
    ]


def _key_groups(rule: AxisRule, num_queries: int, num_keys: int) -> list[tuple[int, int]]:
    """Lists the groups of keys that tiles do not span, as (first slot, size): few queries see a tile, evenly spaced."""
    if isinstance(rule, Blocks):
        borders = [0, *range(rule.shift or rule.block_size, num_keys, rule.block_size), num_keys]
        return [(first, last - first) for first, last in itertools.pairwise(borders)]
    return list(axis_ranges(rule, num_queries, num_keys).groups)


def _run_begin(rule: AxisRule, slot: int) -> int:
    """Returns the first query slot of the run of steps that contains a slot; negative if the map cuts the block."""
    if not isinstance(rule, Blocks):
        return slot
    first = rule.first_block // rule.query_stride
    return slot - (slot - first) % rule.queries_per_block


def _row(fields: list[int], ranges: list[list[int]]) -> list[int]:
    return [*fields, *[0] * (FIELDS - len(fields)), *ranges[0], *ranges[1]]


@functools.lru_cache(maxsize=1024)
def _seen_by(rule: AxisRule, num_queries: int, num_keys: int) -> tuple[list[int], list[int]]:
    """Lists the first query slot that sees each key slot, and one past the last."""
    ranges = axis_ranges(rule, num_queries, num_keys)
    first = [bisect_right(ranges.end, slot) for slot in range(num_keys)]
    return first, [bisect_right(ranges.start, slot) for slot in range(num_keys)]


def _dilation(ranges: AxisRanges) -> int:
    order = ranges.key_order
    return order[1] - order[0] if len(order) > 1 else 1


def _assert_evenly_spaced(values: Sequence[int], slots: range, first: int, distance: int) -> None:
    """Asserts that the values are `first`, `first + distance`, ..., which is what kernels compute."""
    expected = range(first, first + distance * len(slots), distance)
    assert tuple(values[slots.start : slots.stop]) == tuple(expected), "the table is not evenly spaced"


def _ceil(count: int, unit: int) -> int:
    return -(-count // unit)


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()
