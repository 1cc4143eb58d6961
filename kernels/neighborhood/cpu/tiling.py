"""How the portable implementation cuts an axis into tiles of queries, each with the range of keys that it sees."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..geometry import AxisRule, Neighborhood, axis_ranges

# Costs of the choice between tile sizes, in nanoseconds of a forward pass on one core of an AMD EPYC 9005 with dim 32.
# Only their proportions matter, which are about the same backward; the choice is flat around its best.
_PER_SCORE = 2.2
_PER_SCORE_ROW = 10.0  # a tile of few queries wastes the matrix product: this much a score, over the number of queries
_PER_KEY = 26.0
_PER_BLOCK = 80_000.0
_TILE_SIZES = (*range(2, 17), 20, 24, 28, 32, 48, 64)
_MOST_CACHED_SCORES = 1 << 17
_MOST_SCORES = 1 << 20  # of one tile and head: bounds the memory that a tile needs, whatever the kernel's size


@dataclass(frozen=True, eq=False)
class Run:
    """Tiles along one axis that look the same and lie at equal distances.

    Positions are places on the map, `step` of them apart inside a tile (the dilation). The tile's keys are `before`
    zeros, `keys` on the map, and `after` zeros.

    Attributes:
        count: number of tiles.
        queries: queries in a tile.
        query_first: position of the first tile's first query.
        query_spacing: positions from a tile's first query to the next one's.
        keys: keys of a tile that are on the map.
        key_first: position of the first tile's first key on the map.
        key_spacing: positions from a tile's first key to the next one's.
        step: positions from a query or key to the next in its tile.
        before: zero keys in front of those on the map.
        after: zero keys behind them.
        bias_index: (queries, before + keys + after) index into the bias along this axis, or bias_length where the
            query does not see the key.
        bias_first: what the first query and the first key have for an index into the bias, inside it or not.
        all_visible: whether every query sees every key.
        bias_length: length of the bias along this axis.
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
    def flat_index(self) -> torch.Tensor:
        """`bias_index` as one axis."""
        return self.bias_index.flatten()

    @functools.cached_property
    def one_hot(self) -> torch.Tensor:
        """(queries * extent, bias_length) float32: 1 where an entry of `flat_index` is that offset."""
        return torch.nn.functional.one_hot(self.flat_index, self.bias_length + 1)[:, :-1].float()

    @functools.cached_property
    def bias_reach(self) -> tuple[int, int]:
        """The lowest index into the bias that a query and a key of a tile have, inside it or not, and how many."""
        return self.bias_first - (self.queries - 1), self.queries + self.extent - 1

    @functools.cached_property
    def extent(self) -> int:
        """All keys of a tile, zeros included."""
        return self.before + self.keys + self.after

    @property
    def phases(self) -> int:
        """Of every so many tiles one may be taken, so that no two of those taken share a key."""
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
    """Cuts both axes into tiles, of the sizes that should take the least time.

    Args:
        rows: rule of the rows.
        cols: rule of the columns.
        query_grid: rows and columns of queries, neither zero.
        key_grid: rows and columns of keys.
        copies: how often the map occurs: batch times heads.
        has_matrices: whether something of the size of a tile's scores is ever stored: they or their bias.

    Returns:
        The runs along the rows and those along the columns. Each pair of runs is a block of equal tiles; every query
        is in exactly one tile.
    """
    by_row, by_col = _candidates(rows, query_grid[0], key_grid[0]), _candidates(cols, query_grid[1], key_grid[1])

    def cost(row: _Cut, col: _Cut) -> tuple[bool, float]:
        scores = row.scores * col.scores
        tiles = len(row.tiles) * len(col.tiles)
        rows_of_tile = query_grid[0] * query_grid[1] / tiles
        work = scores * (_PER_SCORE + _PER_SCORE_ROW / rows_of_tile) + row.keys * col.keys * _PER_KEY
        too_large = row.most_scores * col.most_scores > _MOST_SCORES
        return too_large, copies * work + len(row.kinds) * len(col.kinds) * _PER_BLOCK

    if _is_whole(rows, query_grid[0], key_grid[0]) and _is_whole(cols, query_grid[1], key_grid[1]):
        # Whole rows of queries, so that they and the keys may be read where they are; as many as fit into a cache.
        col = by_col[-1]
        fitting = [row for row in by_row if row.most_scores * col.most_scores <= _MOST_CACHED_SCORES]
        row = by_row[-1] if not has_matrices else fitting[-1] if fitting else by_row[0]
    else:
        row, col = min(((row, col) for row in by_row for col in by_col), key=lambda pair: cost(*pair))
    return _runs(row, rows, query_grid[0], key_grid[0]), _runs(col, cols, query_grid[1], key_grid[1])


class Tiling(NamedTuple):
    """How a map is cut into tiles.

    Attributes:
        rows: the runs along the rows.
        cols: the runs along the columns.
        is_one: whether there is one tile alone, and no zero key in it.
        owns_keys: whether every key is in one tile alone.
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
    """Cuts a map into tiles; arguments as in `tile_runs`, but there may be no copies."""
    if not copies:
        return Tiling((), (), False, False)
    axes = tile_runs(rows, cols, query_grid, key_grid, copies, has_matrices=has_matrices)
    owned = [sum(run.count * run.keys for run in runs) for runs in axes]
    one = all(len(runs) == 1 and runs[0].count == 1 and runs[0].extent == runs[0].keys for runs in axes)
    return Tiling(*axes, is_one=one, owns_keys=tuple(owned) == key_grid)


def _is_whole(rule: AxisRule, num_queries: int, num_keys: int) -> bool:
    """Whether every query sees every key."""
    ranges = axis_ranges(rule, num_queries, num_keys)
    return len(ranges.groups) == 1 and set(ranges.start) == {0} and set(ranges.end) == {num_keys}


_Tile = tuple[int, int]  # first query slot, number of queries
_Kind = tuple[int, int, int, tuple[tuple[int, ...], ...]]  # extent, zeros before and after, start, end and origin


@dataclass(frozen=True)
class _Cut:
    """One way to cut an axis: the tiles, sorted into kinds that look the same, and what they sum up to."""

    tiles: tuple[_Tile, ...]
    kinds: dict[_Kind, list[_Tile]]
    scores: int
    keys: int
    most_scores: int


@functools.lru_cache(maxsize=512)
def _candidates(rule: AxisRule, num_queries: int, num_keys: int) -> list[_Cut]:
    """Every way to cut the axis that is worth comparing: groups in equal parts, at multiples of the stride."""
    tables = axis_ranges(rule, num_queries, num_keys)
    start, end = tables.start, tables.end
    unit = rule.stride if isinstance(rule, Neighborhood) else 1
    largest = max(size for _, size in tables.groups)
    sizes = [size for size in _TILE_SIZES if size < largest] + [largest]
    cuts: dict[tuple[_Tile, ...], _Cut] = {}
    for size in sizes:
        tiles = tuple(tile for group in tables.groups for tile in _split(*group, size, unit))
        if tiles in cuts:
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
        cuts[tiles] = _Cut(tiles, kinds, scores, keys, most)
    return list(cuts.values())


def _split(first: int, length: int, size: int, unit: int) -> list[_Tile]:
    """Cuts a group into tiles of about `size` queries whose borders are multiples of `unit` inside the group."""
    units = math.ceil(length / unit)
    parts = math.ceil(units / max(1, size // unit))
    smaller, larger = divmod(units, parts)
    # The larger ones first: tiles of one size side by side make one run.
    borders = [min(length, unit * (part * smaller + min(part, larger))) for part in range(parts + 1)]
    return [(first + low, high - low) for low, high in itertools.pairwise(borders)]


def _runs(cut: _Cut, rule: AxisRule, num_queries: int, num_keys: int) -> tuple[Run, ...]:
    """Makes runs of tiles of one kind at equal distances."""
    query_order, key_order, start, *_ = axis_ranges(rule, num_queries, num_keys)
    runs = []
    for (extent, before, after, (first_seen, end_seen, origins)), tiles in cut.kinds.items():
        places = sorted((query_order[first], key_order[start[first] + before]) for first, _ in tiles)
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
        for query_first, key_first, count, query_spacing, key_spacing in _progressions(places):
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


def _progressions(places: list[tuple[int, int]]) -> list[tuple[int, int, int, int, int]]:
    """Cuts pairs into stretches with equal differences: (first pair's two, count, the two differences)."""
    stretches = []
    at = 0
    while at < len(places):
        query_first, key_first = places[at]
        if at + 1 == len(places):
            stretches.append((query_first, key_first, 1, 1, 1))
            break
        steps = (places[at + 1][0] - query_first, places[at + 1][1] - key_first)
        count = 2
        while at + count < len(places):
            query, key = places[at + count]
            if (query - query_first, key - key_first) != (steps[0] * count, steps[1] * count):
                break
            count += 1
        stretches.append((query_first, key_first, count, *steps))
        at += count
    return stretches
