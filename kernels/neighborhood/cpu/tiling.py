"""Divides an axis into tiles of queries, each with the range of keys that they see."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ...device_constants import DeviceConstant
from ..geometry import AxisRule, Neighborhood, axis_ranges

# Cost model of the tile sizes, in nanoseconds of a forward pass with dim 32 on one core of an AMD EPYC 9005. Only the
# proportions matter; they are similar in the backward pass, and the cost changes little around its minimum.
_PER_SCORE = 2.2
_PER_SCORE_ROW = 10.0  # per score, divided by the tile's queries: products of few rows are inefficient
_PER_KEY = 26.0
_PER_BLOCK = 80_000.0
_TILE_SIZES = (*range(2, 17), 20, 24, 28, 32, 48, 64)
_MAX_CACHED_SCORES = 1 << 17
_MAX_SCORES = 1 << 20  # per tile and head: limits the memory of a tile for large kernel sizes


@dataclass(frozen=True, eq=False)
class Run:
    """A run of equal tiles along one axis at equal distances.

    A tile's keys are `before` zero keys, `keys` keys on the map, and `after` zero keys.

    Attributes:
        count: Number of tiles.
        queries: Number of queries in a tile.
        query_first: Position of the first tile's first query.
        query_spacing: Distance between the first queries of consecutive tiles.
        keys: Number of a tile's keys on the map.
        key_first: Position of the first tile's first key on the map.
        key_spacing: Distance between the first keys of consecutive tiles.
        step: Distance between consecutive queries or keys of a tile (the dilation).
        before: Number of zero keys before those on the map.
        after: Number of zero keys after those on the map.
        bias_index: (queries, before + keys + after) index into the bias along this axis, or bias_length where the
            query does not see the key.
        bias_first: Bias index of the first query and the first key. It may be out of range.
        all_visible: Whether every query sees every key.
        bias_length: Length of the bias along this axis.
    """

    count: int
    queries: int
    query_first: int
    query_spacing: int
    keys: int
    key_first: int
    key_spacing: int
    step: int
    before: int
    after: int
    bias_index: torch.Tensor
    bias_first: int
    all_visible: bool
    bias_length: int

    @functools.cached_property
    def flat_index(self) -> DeviceConstant:
        """`bias_index`, flattened."""
        return DeviceConstant(self.bias_index.flatten())

    @functools.cached_property
    def one_hot(self) -> DeviceConstant:
        """One-hot encoding of `flat_index`, (queries * extent, bias_length) in float32; zero rows for hidden keys."""
        one_hot = torch.nn.functional.one_hot(self.flat_index.table, self.bias_length + 1)
        return DeviceConstant(one_hot[:, :-1].float())

    @functools.cached_property
    def bias_reach(self) -> tuple[int, int]:
        """Lowest bias index of a query and a key of a tile, which may be out of range, and the number of indices."""
        return self.bias_first - (self.queries - 1), self.queries + self.extent - 1

    @functools.cached_property
    def extent(self) -> int:
        """Number of keys of a tile, including zero keys."""
        return self.before + self.keys + self.after

    @property
    def phases(self) -> int:
        """Stride at which tiles share no key: of every `phases` consecutive tiles, take one."""
        if self.count == 1:
            return 1
        if self.key_spacing % self.step == 0:
            return min(self.count, math.ceil(self.keys * self.step / self.key_spacing))
        # Tiles of different dilation groups share nothing, as long as each group comes once.
        return 1 if self.key_spacing * (self.count - 1) < self.step else self.count


@functools.lru_cache(maxsize=512)
def tile_runs(
    rows: AxisRule,
    cols: AxisRule,
    query_grid: tuple[int, int],
    key_grid: tuple[int, int],
    copies: int,
    *,
    has_matrices: bool = True,
) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """Divides both axes into tiles of the sizes with the lowest estimated time.

    Args:
        rows: Rule of the rows.
        cols: Rule of the columns.
        query_grid: Number of rows and columns of queries, neither zero.
        key_grid: Number of rows and columns of keys.
        copies: Number of maps: batch size times heads.
        has_matrices: Whether the scores of a tile, or a bias of that size, are stored.

    Returns:
        The runs along the rows and the runs along the columns. Each pair of runs is a group of equal tiles; every query
        is in exactly one tile.
    """
    by_row, by_col = _candidates(rows, query_grid[0], key_grid[0]), _candidates(cols, query_grid[1], key_grid[1])

    def cost(row: _Division, col: _Division) -> tuple[bool, float]:
        scores = row.scores * col.scores
        tiles = len(row.tiles) * len(col.tiles)
        queries_per_tile = query_grid[0] * query_grid[1] / tiles
        work = scores * (_PER_SCORE + _PER_SCORE_ROW / queries_per_tile) + row.keys * col.keys * _PER_KEY
        too_large = row.max_scores * col.max_scores > _MAX_SCORES
        return too_large, copies * work + len(row.kinds) * len(col.kinds) * _PER_BLOCK

    if _sees_all(rows, query_grid[0], key_grid[0]) and _sees_all(cols, query_grid[1], key_grid[1]):
        # Complete rows of queries, so that they and the keys can be read in place; as many as fit in cache.
        col = by_col[-1]
        fitting = [row for row in by_row if row.max_scores * col.max_scores <= _MAX_CACHED_SCORES]
        row = by_row[-1] if not has_matrices else fitting[-1] if fitting else by_row[0]
    else:
        row, col = min(((row, col) for row in by_row for col in by_col), key=lambda pair: cost(*pair))
    return _runs(row, rows, query_grid[0], key_grid[0]), _runs(col, cols, query_grid[1], key_grid[1])


class Tiling(NamedTuple):
    """The division of a map into tiles.

    Attributes:
        rows: Runs of tiles along the rows.
        cols: Runs of tiles along the columns.
        is_one: Whether the map is a single tile without zero keys.
        owns_keys: Whether every key is in exactly one tile.
    """

    rows: tuple[Run, ...]
    cols: tuple[Run, ...]
    is_one: bool
    owns_keys: bool


@functools.lru_cache(maxsize=512)
def tile_map(
    rows: AxisRule,
    cols: AxisRule,
    query_grid: tuple[int, int],
    key_grid: tuple[int, int],
    copies: int,
    has_matrices: bool,
) -> Tiling:
    """Divides a map into tiles; arguments as in `tile_runs`, but `copies` may be zero."""
    if not copies:
        return Tiling((), (), False, False)
    axes = tile_runs(rows, cols, query_grid, key_grid, copies, has_matrices=has_matrices)
    owned = [sum(run.count * run.keys for run in runs) for runs in axes]
    one = all(len(runs) == 1 and runs[0].count == 1 and runs[0].extent == runs[0].keys for runs in axes)
    return Tiling(*axes, is_one=one, owns_keys=tuple(owned) == key_grid)


def _sees_all(rule: AxisRule, num_queries: int, num_keys: int) -> bool:
    """Returns whether every query sees every key."""
    ranges = axis_ranges(rule, num_queries, num_keys)
    return len(ranges.groups) == 1 and set(ranges.start) == {0} and set(ranges.end) == {num_keys}


_Tile = tuple[int, int]  # first query slot, number of queries
_Kind = tuple[int, int, int, tuple[tuple[int, ...], ...]]  # extent, zeros before and after, start, end and origin


@dataclass(frozen=True)
class _Division:
    """One candidate division of an axis: its tiles, grouped by kind, and the totals that determine its cost."""

    tiles: tuple[_Tile, ...]
    kinds: dict[_Kind, list[_Tile]]
    scores: int
    keys: int
    max_scores: int


@functools.lru_cache(maxsize=512)
def _candidates(rule: AxisRule, num_queries: int, num_keys: int) -> list[_Division]:
    """Returns the candidate divisions of an axis: groups in about equal parts, at multiples of the stride."""
    tables = axis_ranges(rule, num_queries, num_keys)
    start, end = tables.start, tables.end
    unit = rule.stride if isinstance(rule, Neighborhood) else 1
    largest = max(size for _, size in tables.groups)
    sizes = [size for size in _TILE_SIZES if size < largest] + [largest]
    divisions: dict[tuple[_Tile, ...], _Division] = {}
    for size in sizes:
        tiles = tuple(tile for group in tables.groups for tile in _split(*group, size, unit))
        if tiles in divisions:
            continue
        kinds: dict[_Kind, list[_Tile]] = {}
        scores = keys = most = 0
        for first, count in tiles:
            last = first + count
            low, high = start[first], end[last - 1]
            scores, keys, most = scores + count * (high - low), keys + high - low, max(most, count * (high - low))
            before, after = max(0, -low), max(0, high - num_keys)
            relative = tuple(tuple(slot - low for slot in table[first:last]) for table in (start, end, tables.origin))
            kinds.setdefault((high - low, before, after, relative), []).append((first, count))
        divisions[tiles] = _Division(tiles, kinds, scores, keys, most)
    return list(divisions.values())


def _split(first: int, length: int, size: int, unit: int) -> list[_Tile]:
    """Divides a group into tiles of about `size` queries, with borders at multiples of `unit` inside the group."""
    units = math.ceil(length / unit)
    parts = math.ceil(units / max(1, size // unit))
    smaller, larger = divmod(units, parts)
    # Larger tiles first: adjacent tiles of equal size form one run.
    borders = [min(length, unit * (part * smaller + min(part, larger))) for part in range(parts + 1)]
    return [(first + low, high - low) for low, high in itertools.pairwise(borders)]


def _runs(division: _Division, rule: AxisRule, num_queries: int, num_keys: int) -> tuple[Run, ...]:
    """Collects tiles of the same kind at equal distances in runs."""
    query_order, key_order, start, *_ = axis_ranges(rule, num_queries, num_keys)
    runs = []
    for (extent, before, after, (first_seen, end_seen, origins)), tiles in division.kinds.items():
        positions = sorted((query_order[first], key_order[start[first] + before]) for first, _ in tiles)
        low = start[tiles[0][0]] + before
        keys = extent - before - after
        step = key_order[low + 1] - key_order[low] if keys > 1 else 1
        index = torch.tensor(
            [
                [slot - origin if low <= slot < high else rule.bias_length for slot in range(extent)]
                for low, high, origin in zip(first_seen, end_seen, origins, strict=True)
            ],
            device="cpu",
        )
        assert origins == tuple(range(origins[0], origins[0] + len(origins))), "origins do not rise by 1"
        for query_first, key_first, count, query_spacing, key_spacing in _progressions(positions):
            runs.append(
                Run(
                    count=count,
                    queries=len(origins),
                    query_first=query_first,
                    query_spacing=query_spacing,
                    keys=keys,
                    key_first=key_first,
                    key_spacing=key_spacing,
                    step=step,
                    before=before,
                    after=after,
                    bias_index=index,
                    bias_first=-origins[0],
                    all_visible=bool((index < rule.bias_length).all()),
                    bias_length=rule.bias_length,
                )
            )
    return tuple(runs)


def _progressions(pairs: list[tuple[int, int]]) -> list[tuple[int, int, int, int, int]]:
    """Divides pairs of numbers into arithmetic progressions: (first pair, length, the two differences), flattened."""
    progressions = []
    index = 0
    while index < len(pairs):
        query_first, key_first = pairs[index]
        if index + 1 == len(pairs):
            progressions.append((query_first, key_first, 1, 1, 1))
            break
        steps = (pairs[index + 1][0] - query_first, pairs[index + 1][1] - key_first)
        count = 2
        while index + count < len(pairs):
            query, key = pairs[index + count]
            if (query - query_first, key - key_first) != (steps[0] * count, steps[1] * count):
                break
            count += 1
        progressions.append((query_first, key_first, count, *steps))
        index += count
    return progressions
