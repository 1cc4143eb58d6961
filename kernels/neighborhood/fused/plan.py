"""How a launch cuts the two axes into tiles, and which steps over the other grid each tile takes.

A tile is a few neighboring slots of one axis, on the side that a program owns: queries in the forward pass, keys in the
pass for the gradients of keys and values. A step is a few neighboring slots of the other side. Everything that a
program must know about its tile along one axis lies in one row of int32 numbers, so that a kernel needs no rule: the
position of the tile, where its steps start, how many there are, and for each of its slots the range of slots on the
other side. Inside a tile, and inside its steps, position and bias index change by a constant with the slot; this is
checked here, once, and lets the kernels compute addresses instead of loading them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..geometry import AxisRule, AxisTables, Blocks, axis_tables

FIELDS = 8
"""Numbers in front of the ranges in a row: tile position, step position, steps, bias index, owned from, owned to."""


class Grid(NamedTuple):
    """Rows and columns of a tile or step, or a number for each axis."""

    rows: int
    cols: int


@dataclass(frozen=True, eq=False)
class AxisPlan:
    """The tiles of one axis.

    Attributes:
        table: (tiles, FIELDS + 2 * tile) int32. FIELDS numbers, then the first slot of the other side that each slot of
            the tile is connected with, then one past the last, both counted from the tile's step position; 0 and 0 for
            slots that belong to another tile or to none.
        steps: the largest number of steps of a tile.
        spread: how far apart neighboring slots of a tile lie in position: the dilation.
        run: slots of the other side from the start of one run of steps to the start of the next.
        steps_per_run: number of steps in a run.
        run_length: slots that belong to a run, 0 where runs follow each other without gap or overlap.
        origin_run: what the bias index falls by from one run to the next.
        bias_low: smallest bias index that any lane of any tile and step computes, of a visible pair or not.
        bias_high: largest such index.
    """

    table: torch.Tensor
    steps: int
    spread: int
    run: int
    steps_per_run: int
    run_length: int
    origin_run: int
    bias_low: int
    bias_high: int

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return self.table.shape[0]


def query_plan(
    rule: AxisRule,
    num_queries: int,
    num_keys: int,
    tile: int,
    step: int,
    device: torch.device,
    *,
    aligned: bool = False,
) -> AxisPlan:
    """Cuts an axis into tiles of queries; their steps walk over keys.

    Steps start at the first key that the tile sees or, if `aligned`, at the same bias index in every tile. Then lane
    by lane all tiles have the same offsets, and sums over tiles can be taken before offsets are looked at. A group's
    last tile is moved back until it is full, which keeps the bias indices of an aligned plan few.
    """
    tables = axis_tables(rule, num_queries, num_keys)
    start, end, origin = tables.start.tolist(), tables.end.tolist(), tables.origin.tolist()
    spread = _spread(tables)
    rows, most = [], 0
    for base, own, own_to, first_key, end_key in _query_tiles(rule, num_queries, num_keys, tile, aligned):
        steps = _ceil(end_key - first_key, step)
        most = max(most, steps)
        seen = range(max(start[own], 0), min(end[own_to - 1], num_keys))
        key_position = int(tables.key_order[seen[0]]) + spread * (first_key - seen[0])
        position = int(tables.query_order[base])
        _assert_even(tables.query_order, range(base, own_to), position, spread)
        _assert_even(tables.key_order, seen, key_position + spread * (seen[0] - first_key), spread)
        _assert_even(tables.origin, range(base, own_to), origin[base], 1)
        ranges = [
            [bounds[slot] - first_key if own <= slot < own_to else 0 for slot in range(base, base + tile)]
            for bounds in (start, end)
        ]
        fields = [position, key_position, steps, first_key - origin[base], own - base, own_to - base]
        rows.append(_row(fields, ranges))
    bias_bases = [row[3] for row in rows]
    return AxisPlan(
        table=torch.tensor(rows, dtype=torch.int32, device=device),
        steps=most,
        spread=spread,
        run=step,
        steps_per_run=1,
        run_length=0,
        origin_run=step,
        bias_low=min(bias_bases) - (tile - 1),
        bias_high=max(bias_bases) + most * step - 1,
    )


def key_plan(rule: AxisRule, num_queries: int, num_keys: int, tile: int, step: int, device: torch.device) -> AxisPlan:
    """Cuts an axis into tiles of keys; their steps walk over the queries that see them.

    With `Blocks`, steps go block by block, from where the first of them would begin were it not cut: bias indices start
    anew in each.
    """
    tables = axis_tables(rule, num_queries, num_keys)
    seen_from, seen_to = tables.seen_from.tolist(), tables.seen_to.tolist()
    origin, spread = tables.origin.tolist(), _spread(tables)
    if isinstance(rule, Blocks):
        run_length = rule.queries_per_block
        steps_per_run, run, origin_run = _ceil(run_length, step), run_length, rule.block_size
    else:
        run_length, steps_per_run, run, origin_run = 0, 1, step, step
    rows, most = [], 0
    for own, own_to in _key_tiles(rule, num_queries, num_keys, tile):
        seers = range(seen_from[own], seen_to[own_to - 1])
        begin = _run_begin(rule, seers[0])
        steps = _ceil(seers.stop - begin, run) * steps_per_run
        most = max(most, steps)
        # The query slot `begin` may lie outside the map: where its position and origin would be follows from slot 0.
        ahead = seers[0] - begin
        position, query_position = int(tables.key_order[own]), int(tables.query_order[seers[0]]) - spread * ahead
        first_origin = origin[seers[0]] - ahead
        _assert_even(tables.key_order, range(own, own_to), position, spread)
        _assert_even(tables.query_order, seers, query_position + spread * ahead, spread)
        for number, first in enumerate(range(begin, seers.stop, run_length or len(seers))):
            within = range(max(first, seers[0]), min(first + (run_length or len(seers)), seers.stop))
            _assert_even(tables.origin, within, first_origin + number * origin_run + within.start - first, 1)
        ranges = [
            [bounds[slot] - begin if slot < own_to else 0 for slot in range(own, own + tile)]
            for bounds in (seen_from, seen_to)
        ]
        fields = [position, query_position, steps, own - first_origin, 0, own_to - own]
        rows.append(_row(fields, ranges))
    bias_bases = [row[3] for row in rows]
    last_step = most - 1
    reach = last_step // steps_per_run * origin_run + last_step % steps_per_run * step + step - 1
    return AxisPlan(
        table=torch.tensor(rows, dtype=torch.int32, device=device),
        steps=most,
        spread=spread,
        run=run,
        steps_per_run=steps_per_run,
        run_length=run_length,
        origin_run=origin_run,
        bias_low=min(bias_bases) - reach,
        bias_high=max(bias_bases) + tile - 1,
    )


class LaunchPlan(NamedTuple):
    """The plan of a launch: both axes cut up.

    Attributes:
        tile: rows and columns of a tile, powers of two.
        step: rows and columns of a step, powers of two.
        rows: the tiles along the rows.
        cols: the tiles along the columns.
    """

    tile: Grid
    step: Grid
    rows: AxisPlan
    cols: AxisPlan

    @property
    def tiles(self) -> int:
        """Number of tiles of an image."""
        return self.rows.tiles * self.cols.tiles

    @property
    def spread(self) -> tuple[int, int]:
        """How far apart neighboring slots lie in position, along the rows and the columns."""
        return self.rows.spread, self.cols.spread

    @property
    def sizes(self) -> dict[str, int]:
        """The numbers that every kernel with tiles and steps is compiled for, by parameter name."""
        return {
            "TILE_ROWS": self.tile.rows,
            "TILE_COLS": self.tile.cols,
            "STEP_ROWS": self.step.rows,
            "STEP_COLS": self.step.cols,
            "COL_STEPS": self.cols.steps,
        }

    @property
    def row_places(self) -> int:
        """Rows of keys in all steps of a tile, made a power of two that a matrix product takes."""
        return max(16, _power_of_two(self.rows.steps * self.step.rows))

    @property
    def col_places(self) -> int:
        """The same for columns."""
        return max(16, _power_of_two(self.cols.steps * self.step.cols))

    @property
    def runs(self) -> dict[str, int]:
        """The numbers that the walk over queries is compiled for, by parameter name."""
        return {
            f"{name}_{field.upper()}": getattr(axis, field)
            for name, axis in (("ROW", self.rows), ("COL", self.cols))
            for field in ("run", "steps_per_run", "run_length", "origin_run")
        }


@functools.lru_cache(maxsize=1024)
def plan_queries(
    rules: tuple[AxisRule, AxisRule],
    queries: Grid,
    keys: Grid,
    tile_slots: int,
    step_slots: int,
    device: torch.device,
    *,
    aligned: bool = False,
) -> LaunchPlan:
    """Plans a launch whose programs own tiles of at most `tile_slots` queries and take `step_slots` keys at a time."""
    axes = list(zip(rules, queries, keys, strict=True))
    tile = tile_shape(query_group(*axes[0]), query_group(*axes[1]), tile_slots)
    step = step_shape(
        lambda size: query_steps(*axes[0], tile.rows, size, aligned=aligned),
        lambda size: query_steps(*axes[1], tile.cols, size, aligned=aligned),
        step_slots,
    )
    rows, cols = (
        query_plan(*axis, tile_size, step_size, device, aligned=aligned)
        for axis, tile_size, step_size in zip(axes, tile, step, strict=True)
    )
    return LaunchPlan(tile, step, rows, cols)


@functools.lru_cache(maxsize=1024)
def plan_keys(
    rules: tuple[AxisRule, AxisRule],
    queries: Grid,
    keys: Grid,
    tile_slots: int,
    step_slots: int,
    device: torch.device,
) -> LaunchPlan:
    """Plans a launch whose programs own tiles of at most `tile_slots` keys and take `step_slots` queries at a time."""
    axes = list(zip(rules, queries, keys, strict=True))
    tile = tile_shape(key_group(*axes[0]), key_group(*axes[1]), tile_slots)
    step = step_shape(
        lambda size: key_steps(*axes[0], tile.rows, size),
        lambda size: key_steps(*axes[1], tile.cols, size),
        step_slots,
    )
    rows, cols = (
        key_plan(*axis, tile_size, step_size, device)
        for axis, tile_size, step_size in zip(axes, tile, step, strict=True)
    )
    return LaunchPlan(tile, step, rows, cols)


def tile_shape(largest_rows: int, largest_cols: int, slots: int) -> Grid:
    """Chooses a tile of at most `slots` slots, square where the axes' groups are large enough.

    It has at least 16 slots, the least that a matrix product takes, so it may be larger than the groups.
    """
    side = 1 << (slots.bit_length() - 1) // 2
    limit_rows, limit_cols = _power_of_two(largest_rows), _power_of_two(largest_cols)
    rows = min(side, limit_rows)
    cols = min(slots // rows, limit_cols)
    rows = min(slots // cols, limit_rows)
    return Grid(rows, max(cols, 16 // rows))


def query_group(rule: AxisRule, num_queries: int, num_keys: int) -> int:
    """Size of the largest group of queries, beyond which no tile of queries need reach."""
    return max(size for _, size in axis_tables(rule, num_queries, num_keys).groups)


def key_group(rule: AxisRule, num_queries: int, num_keys: int) -> int:
    """Size of the largest group of keys, beyond which no tile of keys need reach."""
    return max(size for _, size in _key_groups(rule, num_queries, num_keys))


def query_steps(rule: AxisRule, num_queries: int, num_keys: int, tile: int, step: int, *, aligned: bool = False) -> int:
    """The largest number of steps that a tile of the `query_plan` with these arguments takes."""
    tiles = _query_tiles(rule, num_queries, num_keys, tile, aligned)
    return max(_ceil(end_key - first_key, step) for *_, first_key, end_key in tiles)


def key_steps(rule: AxisRule, num_queries: int, num_keys: int, tile: int, step: int) -> int:
    """The largest number of steps that a tile of the `key_plan` with these arguments takes."""
    tables = axis_tables(rule, num_queries, num_keys)
    run = rule.queries_per_block if isinstance(rule, Blocks) else 0
    counts = [
        int(tables.seen_to[own_to - 1]) - _run_begin(rule, int(tables.seen_from[own]))
        for own, own_to in _key_tiles(rule, num_queries, num_keys, tile)
    ]
    return max(_ceil(count, run) * _ceil(run, step) if run else _ceil(count, step) for count in counts)


def step_shape(count_rows: Callable[[int], int], count_cols: Callable[[int], int], slots: int) -> Grid:
    """Chooses the step of `slots` slots that a tile needs the fewest of; of equals the one that is 16 wide or near it.

    Args:
        count_rows: gives the number of steps of a tile along the rows, for a number of rows a step.
        count_cols: the same for the columns.
        slots: rows times columns of a step, a power of two.
    """
    shapes = [Grid(slots // cols, cols) for cols in (16, 8, 32, 4, 64, 2, 1, 128) if cols <= slots]
    return min(shapes, key=lambda shape: count_rows(shape.rows) * count_cols(shape.cols))


def _query_tiles(
    rule: AxisRule, num_queries: int, num_keys: int, tile: int, aligned: bool
) -> list[tuple[int, int, int, int, int]]:
    """The tiles of an axis: first slot, first and one past the last own slot, first and one past the last key slot."""
    tables = axis_tables(rule, num_queries, num_keys)
    start, end, origin = tables.start.tolist(), tables.end.tolist(), tables.origin.tolist()
    tiles = [
        (max(first, min(own, first + size - tile)), own, min(own + tile, first + size))
        for first, size in tables.groups
        for own in range(first, first + size, tile)
    ]
    if not aligned:
        return [(base, own, own_to, start[own], end[own_to - 1]) for base, own, own_to in tiles]
    low = min(start[own] - origin[base] for base, own, _ in tiles)
    high = max(end[own_to - 1] - origin[base] for base, _, own_to in tiles)
    return [(base, own, own_to, origin[base] + low, origin[base] + high) for base, own, own_to in tiles]


def _key_tiles(rule: AxisRule, num_queries: int, num_keys: int, tile: int) -> list[tuple[int, int]]:
    """The tiles of an axis: first and one past the last key slot."""
    return [
        (own, min(own + tile, first + size))
        for first, size in _key_groups(rule, num_queries, num_keys)
        for own in range(first, first + size, tile)
    ]


def _key_groups(rule: AxisRule, num_queries: int, num_keys: int) -> list[tuple[int, int]]:
    """Runs of keys that tiles keep to, so that the queries which see a tile are few and evenly spread."""
    if isinstance(rule, Blocks):
        borders = [0, *range(rule.shift or rule.block_size, num_keys, rule.block_size), num_keys]
        return [(first, last - first) for first, last in itertools.pairwise(borders)]
    return list(axis_tables(rule, num_queries, num_keys).groups)


def _run_begin(rule: AxisRule, slot: int) -> int:
    """The query slot at which the run of steps begins that holds a slot; before the map for a block that is cut."""
    if not isinstance(rule, Blocks):
        return slot
    first = rule.first_block // rule.query_stride
    return slot - (slot - first) % rule.queries_per_block


def _row(fields: list[int], ranges: list[list[int]]) -> list[int]:
    return [*fields, *[0] * (FIELDS - len(fields)), *ranges[0], *ranges[1]]


def _spread(tables: AxisTables) -> int:
    order = tables.key_order
    return int(order[1] - order[0]) if len(order) > 1 else 1


def _assert_even(values: torch.Tensor, slots: range, first: int, by: int) -> None:
    """Asserts that a table rises by `by` from slot to slot, from `first` on: kernels compute it instead of loading."""
    expected = first + by * torch.arange(len(slots))
    assert torch.equal(values[slots.start : slots.stop], expected), "an uneven table"


def _ceil(count: int, unit: int) -> int:
    return -(-count // unit)


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()
