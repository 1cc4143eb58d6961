"""Ranged attention as a few of torch's own operators, for exporters that know no others."""

from __future__ import annotations

import torch

from .geometry import AxisRanges, AxisRule, axis_ranges

_TILE = 8


def ranged_attention_2d_plain(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rows: AxisRule,
    cols: AxisRule,
    rpb: torch.Tensor | None,
    scale: float,
    additional_keys: torch.Tensor | None = None,
    additional_values: torch.Tensor | None = None,
    row_terms: torch.Tensor | None = None,
    col_terms: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the operator's results by gathering every tile's keys at once.

    Memory grows linearly with the map, but all scores of all tiles exist together. Index tables become constants, so a
    traced graph holds for one size of map. Arguments and results as in `reference.ranged_attention_2d_reference`.
    """
    batch, height, width, heads, dim = query.shape
    key_heads = key.shape[3]
    row_ranges = axis_ranges(rows, int(height), int(key.shape[1]))
    col_ranges = axis_ranges(cols, int(width), int(key.shape[2]))
    row_tiles, col_tiles = (_Tiles(*one, query.device) for one in ((row_ranges, rows), (col_ranges, cols)))
    queries = _queries_of(query, row_tiles, col_tiles)
    grid = (row_tiles.count, row_tiles.size, col_tiles.count, col_tiles.size)
    queries = queries.reshape(batch, *grid, key_heads, heads // key_heads, dim).permute(0, 1, 3, 5, 6, 2, 4, 7)
    queries = queries.flatten(5, 6)  # batch, tile row, tile column, key head, sharing heads, queries, dim
    stack = queries.shape[4:6]
    queries = queries.flatten(4, 5)
    keys, values = (_gathered(one, row_tiles, col_tiles) for one in (key, value))
    scores = scale * (queries @ keys.transpose(-1, -2)).unflatten(4, stack).flatten(3, 4)
    if rpb is not None:
        bias = rpb.index_select(1, row_tiles.bias_index).index_select(2, col_tiles.bias_index)
        bias = bias.reshape(heads, *grid[:2], row_tiles.extent, *grid[2:], col_tiles.extent)
        scores = scores + bias.permute(1, 4, 0, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
    pairs = (*grid[1::2], row_tiles.extent, col_tiles.extent)
    if row_terms is not None:
        terms = _queries_of(row_terms, row_tiles, col_tiles).reshape(batch, *grid, heads, rows.bias_length)
        index = row_tiles.bias_index.view(row_tiles.count, row_tiles.size, 1, 1, 1, -1)
        terms = terms.gather(-1, index.expand(batch, *grid, heads, -1)).permute(0, 1, 3, 5, 2, 4, 6)
        scores = scores + terms[..., None].expand(*terms.shape[:4], *pairs).flatten(6, 7).flatten(4, 5)
    if col_terms is not None:
        terms = _queries_of(col_terms, row_tiles, col_tiles).reshape(batch, *grid, heads, cols.bias_length)
        index = col_tiles.bias_index.view(col_tiles.count, col_tiles.size, 1, -1)
        terms = terms.gather(-1, index.expand(batch, *grid, heads, -1)).permute(0, 1, 3, 5, 2, 4, 6)
        scores = scores + terms[..., None, :].expand(*terms.shape[:4], *pairs).flatten(6, 7).flatten(4, 5)
    hidden = row_tiles.hidden[:, None, None, :, None, :, None] | col_tiles.hidden[:, None, None, :, None, :]
    scores = scores.masked_fill(hidden.flatten(5, 6).flatten(3, 4), -torch.inf)
    if additional_keys is not None and additional_values is not None:
        tokens, token_values = (one.transpose(1, 2)[:, None, None] for one in (additional_keys, additional_values))
        token_scores = scale * (queries @ tokens.transpose(-1, -2)).unflatten(4, stack).flatten(3, 4)
        scores = torch.cat([scores, token_scores], dim=-1)
        values = torch.cat([values, token_values.expand(*values.shape[:4], -1, -1)], dim=-2)
    lse = scores.logsumexp(-1, keepdim=True)
    weights = torch.softmax(scores, -1).unflatten(3, (key_heads, stack[0])).flatten(4, 5)
    out = (weights @ values).unflatten(4, stack).flatten(3, 4)
    return _on_map(out, row_tiles, col_tiles), _on_map(lse, row_tiles, col_tiles).squeeze(-1)


class _Tiles:
    """An axis in tiles of one size; the last of a group may repeat queries of the one before.

    Attributes:
        count: number of tiles.
        size: queries in a tile.
        extent: keys of a tile.
        queries: (count * size,) position of each tile's queries.
        owner: (queries on the axis,) where among those stands the query at each position.
        keys: (count * extent,) position of each tile's keys; some position for those outside the map.
        outside: (count * extent,) whether a tile's key lies outside the map.
        bias_index: (count * size * extent,) index into the bias; 0 where a query does not see a key.
        hidden: (count, size, extent) whether a query does not see a key.
    """

    def __init__(self, ranges: AxisRanges, rule: AxisRule, device: torch.device) -> None:
        smallest, largest = (pick(size for _, size in ranges.groups) for pick in (min, max))
        self.size = min(smallest, -(-largest // -(-largest // _TILE)))
        firsts = [
            first + min(place, length - self.size)
            for first, length in ranges.groups
            for place in range(0, length, self.size)
        ]
        self.count = len(firsts)
        self.extent = max(ranges.end[first + self.size - 1] - ranges.start[first] for first in firsts)
        slots = [slot for first in firsts for slot in range(first, first + self.size)]
        positions = [ranges.query_order[slot] for slot in slots]
        owner = {position: place for place, position in enumerate(positions)}
        keys = [slot for first in firsts for slot in range(ranges.start[first], ranges.start[first] + self.extent)]
        last_key = len(ranges.key_order) - 1
        hidden, bias_index = [], []
        for place, slot in enumerate(slots):
            low = ranges.start[firsts[place // self.size]]
            seen = [ranges.start[slot] <= key < ranges.end[slot] for key in range(low, low + self.extent)]
            hidden.append([not one for one in seen])
            bias_index += [low + key - ranges.origin[slot] if one else 0 for key, one in enumerate(seen)]

        self.queries = torch.tensor(positions, device=device)
        self.owner = torch.tensor([owner[position] for position in range(len(owner))], device=device)
        self.keys = torch.tensor([ranges.key_order[min(max(key, 0), last_key)] for key in keys], device=device)
        self.outside = torch.tensor([not 0 <= key <= last_key for key in keys], device=device)
        self.bias_index = torch.tensor(bias_index, device=device)
        self.hidden = torch.tensor(hidden, device=device).reshape(self.count, self.size, self.extent)


def _queries_of(tensor: torch.Tensor, row_tiles: _Tiles, col_tiles: _Tiles) -> torch.Tensor:
    """What a tensor on the query grid holds for every tile: (B, all rows of tiles, all columns of tiles, heads, n)."""
    return tensor.index_select(1, row_tiles.queries).index_select(2, col_tiles.queries)


def _gathered(keys: torch.Tensor, row_tiles: _Tiles, col_tiles: _Tiles) -> torch.Tensor:
    """The keys (or values) of every tile: (B, tile row, tile column, key head, keys, dim)."""
    keys = keys.index_select(1, row_tiles.keys).index_select(2, col_tiles.keys)
    outside = row_tiles.outside[:, None] | col_tiles.outside
    keys = keys.masked_fill(outside[..., None, None], 0)
    keys = keys.unflatten(2, (col_tiles.count, col_tiles.extent)).unflatten(1, (row_tiles.count, row_tiles.extent))
    return keys.permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5)


def _on_map(tiles: torch.Tensor, row_tiles: _Tiles, col_tiles: _Tiles) -> torch.Tensor:
    """Puts what tiles hold, (B, tile row, tile column, heads, queries, dim), back on the map: (B, H, W, heads, dim)."""
    tiles = tiles.unflatten(4, (row_tiles.size, col_tiles.size)).permute(0, 1, 4, 2, 5, 3, 6)
    return tiles.flatten(3, 4).flatten(1, 2).index_select(1, row_tiles.owner).index_select(2, col_tiles.owner)
