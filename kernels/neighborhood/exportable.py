"""Ranged attention in a small set of PyTorch's own operators, for exporters that support no custom operators."""

from __future__ import annotations

import torch

from .geometry import AxisRanges, Geometry, axis_ranges
from .operands import Operands

_TILE = 8


def ranged_attention_2d_exportable(
    operands: Operands, geometry: Geometry, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the operator's results by gathering the keys of all tiles at once.

    Memory grows linearly with the map, but the scores of all tiles exist at the same time. Index tables become
    constants, so a traced graph is valid for one map size. Arguments and results are those of
    `reference.ranged_attention_2d_reference`.
    """
    query, key, value = operands[:3]
    heads, key_heads = query.shape[3], key.shape[3]
    row_ranges = axis_ranges(geometry.rows, int(query.shape[1]), int(key.shape[1]))
    col_ranges = axis_ranges(geometry.cols, int(query.shape[2]), int(key.shape[2]))
    row_tiles = _AxisTiles(row_ranges, query.device)
    col_tiles = _AxisTiles(col_ranges, query.device)
    queries = _query_tiles(query, row_tiles, col_tiles)
    queries = queries.unflatten(5, (key_heads, heads // key_heads)).permute(0, 1, 3, 5, 6, 2, 4, 7)
    queries = queries.flatten(5, 6)  # batch, tile row, tile column, key head, query heads of it, queries, dim
    stack = queries.shape[4:6]
    queries = queries.flatten(4, 5)
    keys, values = (_key_tiles(one, row_tiles, col_tiles) for one in (key, value))
    scores = scale * (queries @ keys.transpose(-1, -2)).unflatten(4, stack).flatten(3, 4)
    scores = _add_biases(scores, operands, row_tiles, col_tiles)
    hidden = row_tiles.hidden[:, None, None, :, None, :, None] | col_tiles.hidden[:, None, None, :, None, :]
    scores = scores.masked_fill(hidden.flatten(5, 6).flatten(3, 4), -torch.inf)
    if operands.additional_keys is not None and operands.additional_values is not None:
        tokens, token_values = (
            one.transpose(1, 2)[:, None, None] for one in (operands.additional_keys, operands.additional_values)
        )
        token_scores = scale * (queries @ tokens.transpose(-1, -2)).unflatten(4, stack).flatten(3, 4)
        scores = torch.cat([scores, token_scores], dim=-1)
        values = torch.cat([values, token_values.expand(*values.shape[:4], -1, -1)], dim=-2)
    lse = scores.logsumexp(-1, keepdim=True)
    probs = torch.softmax(scores, -1).unflatten(3, (key_heads, stack[0])).flatten(4, 5)
    out = (probs @ values).unflatten(4, stack).flatten(3, 4)
    return _to_map(out, row_tiles, col_tiles), _to_map(lse, row_tiles, col_tiles).squeeze(-1)


class _AxisTiles:
    """An axis cut into tiles of equal size; the last tile of a group may repeat queries of the previous one.

    Attributes:
        count: Number of tiles.
        size: Number of queries in a tile.
        extent: Number of keys of a tile.
        queries: (count * size,) position of each tile's queries.
        owner: (queries on the axis,) index into `queries` of the query at each position.
        keys: (count * extent,) position of each tile's keys; an arbitrary position for those outside the map.
        outside: (count * extent,) whether a tile's key is outside the map.
        bias_index: (count * size * extent,) index into the bias; 0 where a query does not see a key.
        hidden: (count, size, extent) whether a query does not see a key.
    """

    def __init__(self, ranges: AxisRanges, device: torch.device) -> None:
        smallest, largest = (pick(size for _, size in ranges.groups) for pick in (min, max))
        self.size = min(smallest, -(-largest // -(-largest // _TILE)))
        firsts = [
            first + min(offset, length - self.size)
            for first, length in ranges.groups
            for offset in range(0, length, self.size)
        ]
        self.count = len(firsts)
        self.extent = max(ranges.end[first + self.size - 1] - ranges.start[first] for first in firsts)
        slots = [slot for first in firsts for slot in range(first, first + self.size)]
        positions = [ranges.query_order[slot] for slot in slots]
        owner = {position: index for index, position in enumerate(positions)}
        keys = [slot for first in firsts for slot in range(ranges.start[first], ranges.start[first] + self.extent)]
        last_key = len(ranges.key_order) - 1
        hidden, bias_index = [], []
        for index, slot in enumerate(slots):
            low = ranges.start[firsts[index // self.size]]
            seen = [ranges.start[slot] <= key < ranges.end[slot] for key in range(low, low + self.extent)]
            hidden.append([not one for one in seen])
            bias_index += [low + key - ranges.origin[slot] if one else 0 for key, one in enumerate(seen)]

        self.queries = torch.tensor(positions, device=device)
        self.owner = torch.tensor([owner[position] for position in range(len(owner))], device=device)
        self.keys = torch.tensor([ranges.key_order[min(max(key, 0), last_key)] for key in keys], device=device)
        self.outside = torch.tensor([not 0 <= key <= last_key for key in keys], device=device)
        self.bias_index = torch.tensor(bias_index, device=device)
        self.hidden = torch.tensor(hidden, device=device).reshape(self.count, self.size, self.extent)


def _add_biases(scores: torch.Tensor, operands: Operands, row_tiles: _AxisTiles, col_tiles: _AxisTiles) -> torch.Tensor:
    """Adds all three biases to scores (B, tile row, tile column, heads, queries, keys)."""
    batch, heads = operands.query.shape[0], operands.query.shape[3]
    grid = (row_tiles.count, row_tiles.size, col_tiles.count, col_tiles.size)
    if operands.rpb is not None:
        bias = operands.rpb.index_select(1, row_tiles.bias_index).index_select(2, col_tiles.bias_index)
        bias = bias.reshape(heads, *grid[:2], row_tiles.extent, *grid[2:], col_tiles.extent)
        scores = scores + bias.permute(1, 4, 0, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
    pairs = (row_tiles.size, col_tiles.size, row_tiles.extent, col_tiles.extent)
    if operands.row_terms is not None:
        terms = _query_tiles(operands.row_terms, row_tiles, col_tiles)
        index = row_tiles.bias_index.view(row_tiles.count, row_tiles.size, 1, 1, 1, -1)
        terms = terms.gather(-1, index.expand(batch, *grid, heads, -1)).permute(0, 1, 3, 5, 2, 4, 6)
        scores = scores + terms[..., None].expand(*terms.shape[:4], *pairs).flatten(6, 7).flatten(4, 5)
    if operands.col_terms is not None:
        terms = _query_tiles(operands.col_terms, row_tiles, col_tiles)
        index = col_tiles.bias_index.view(col_tiles.count, col_tiles.size, 1, -1)
        terms = terms.gather(-1, index.expand(batch, *grid, heads, -1)).permute(0, 1, 3, 5, 2, 4, 6)
        scores = scores + terms[..., None, :].expand(*terms.shape[:4], *pairs).flatten(6, 7).flatten(4, 5)
    return scores


def _query_tiles(tensor: torch.Tensor, row_tiles: _AxisTiles, col_tiles: _AxisTiles) -> torch.Tensor:
    """Gathers a tensor on the query grid by tile: (B, tile row, rows, tile column, columns, heads, channels)."""
    tiles = tensor.index_select(1, row_tiles.queries).index_select(2, col_tiles.queries)
    grid = (row_tiles.count, row_tiles.size, col_tiles.count, col_tiles.size)
    return tiles.reshape(tensor.shape[0], *grid, *tensor.shape[3:])


def _key_tiles(keys: torch.Tensor, row_tiles: _AxisTiles, col_tiles: _AxisTiles) -> torch.Tensor:
    """Gathers keys or values by tile, with zeros outside the map: (B, tile row, tile column, key head, keys, dim)."""
    keys = keys.index_select(1, row_tiles.keys).index_select(2, col_tiles.keys)
    outside = row_tiles.outside[:, None] | col_tiles.outside
    keys = keys.masked_fill(outside[..., None, None], 0)
    keys = keys.unflatten(2, (col_tiles.count, col_tiles.extent)).unflatten(1, (row_tiles.count, row_tiles.extent))
    return keys.permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5)


def _to_map(tiles: torch.Tensor, row_tiles: _AxisTiles, col_tiles: _AxisTiles) -> torch.Tensor:
    """Moves (B, tile row, tile column, heads, queries, dim) back to the map: (B, H, W, heads, dim)."""
    tiles = tiles.unflatten(4, (row_tiles.size, col_tiles.size)).permute(0, 1, 4, 2, 5, 3, 6)
    return tiles.flatten(3, 4).flatten(1, 2).index_select(1, row_tiles.owner).index_select(2, col_tiles.owner)
