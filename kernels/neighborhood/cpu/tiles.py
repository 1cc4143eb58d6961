"""Tiles of queries with the keys that they see, as views of a map.

`EqualTiles` is a group of tiles that have the same shape and bias; `Chunk` is a part of it that is computed at a time.
`matrices.py` and `sdpa.py` add the two memory layouts in which chunks are computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Generic, TypeVar

import torch

from ..operands import Operands
from .tiling import Run

_ChunkT = TypeVar("_ChunkT", bound="Chunk")


class EqualTiles(Generic[_ChunkT]):
    """All tiles of one run of rows and one run of columns.

    Biases that depend on the query (`row_terms`, `col_terms`) become channels: a query's vector is followed by its
    terms, and a key's vector by ones at its row and its column and zeros elsewhere, so the product of the two is the
    sum of all.

    Args:
        operands: Operands of the call.
        row_run: Tiles along the rows.
        col_run: Tiles along the columns.
        dtype: Compute dtype.
        scale: Factor of the products of queries and keys.
        max_tiles: Maximum number of tiles in a chunk, >= 1.
        owns_keys: Whether every key of the map is in exactly one tile.

    Attributes:
        map_keys: Number of keys in a tile, without additional ones.
        channels: Number of channels of a query or key vector, with those of the terms.
        has_terms: Whether scores contain biases that depend on the query.
        product_scale: Factor of the products of these vectors.
        is_padded: Whether a tile has zero keys outside the map.
    """

    chunk_type: ClassVar[type[Chunk]]

    def __init__(
        self,
        operands: Operands,
        row_run: Run,
        col_run: Run,
        dtype: torch.dtype,
        scale: float,
        max_tiles: int,
        owns_keys: bool,
    ) -> None:
        self.operands, self.row_run, self.col_run = operands, row_run, col_run
        self.dtype, self.owns_keys = dtype, owns_keys
        self.query = operands.query
        self.heads, self.dim = self.query.shape[3:]
        self.map_keys = row_run.extent * col_run.extent
        self.row_channels = 0 if operands.row_terms is None else row_run.extent
        self.col_channels = 0 if operands.col_terms is None else col_run.extent
        self.channels = self.dim + self.row_channels + self.col_channels
        self.has_terms = self.channels > self.dim
        # With terms, the queries are already scaled.
        self.scale, self.product_scale = scale, 1.0 if self.has_terms else scale
        self.is_padded = self.map_keys > row_run.keys * col_run.keys

        # Neighbors along columns first: the keys that they share are then read from cache.
        self.col_part = _even_part(col_run.count, max_tiles)
        self.row_part = _even_part(row_run.count, max_tiles // self.col_part)
        self.batch_part = _even_part(self.query.shape[0], max_tiles // (self.col_part * self.row_part))
        self.max_tiles = self.batch_part * self.col_part * self.row_part

    def chunks(self) -> Iterator[_ChunkT]:
        """Yields all tiles in chunks. They share buffers: a chunk is valid until the next one is computed."""
        for batch in range(0, self.query.shape[0], self.batch_part):
            for row in range(0, self.row_run.count, self.row_part):
                for col in range(0, self.col_run.count, self.col_part):
                    yield self.chunk_type(self, batch, row, col)  # pyright: ignore[reportReturnType]

    def term_channels(self) -> tuple[tuple[torch.Tensor | None, Run, slice, int], ...]:
        """Returns, for rows and columns: the terms, the run, their channels, and the tile's axis in `query_tiles`."""
        border = self.dim + self.row_channels
        return (
            (self.operands.row_terms, self.row_run, slice(self.dim, border), 3),
            (self.operands.col_terms, self.col_run, slice(border, self.channels), 4),
        )


class Chunk:
    """Some of a group's tiles.

    Args:
        tiles: The group.
        batch: First image.
        row: First row of tiles.
        col: First column of tiles.
    """

    def __init__(self, tiles: EqualTiles, batch: int, row: int, col: int) -> None:
        self.tiles, self.batch, self.row, self.col = tiles, batch, row, col
        self.grid = (
            min(tiles.batch_part, tiles.query.shape[0] - batch),
            min(tiles.row_part, tiles.row_run.count - row),
            min(tiles.col_part, tiles.col_run.count - col),
        )
        self.count = self.grid[0] * self.grid[1] * self.grid[2]

    def query_tiles(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns a view of the chunk's part of a tensor on the query grid.

        Its shape is (images, tile rows, tile columns, rows in a tile, columns in a tile, heads, channels).
        """
        row_run, col_run = self.tiles.row_run, self.tiles.col_run
        return _tile_view(
            tensor[self.batch :],
            self.grid,
            (row_run.query_first + self.row * row_run.query_spacing, row_run.query_spacing),
            (col_run.query_first + self.col * col_run.query_spacing, col_run.query_spacing),
            (row_run.queries, row_run.step),
            (col_run.queries, col_run.step),
        )

    def key_tiles(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns a view, with overlapping tiles, of the chunk's part of a tensor on the key grid.

        Its shape is (images, tile rows, tile columns, rows in a tile, columns in a tile, heads, channels). Keys outside
        the map are missing.
        """
        row_run, col_run = self.tiles.row_run, self.tiles.col_run
        return _tile_view(
            tensor[self.batch :],
            self.grid,
            (row_run.key_first + self.row * row_run.key_spacing, row_run.key_spacing),
            (col_run.key_first + self.col * col_run.key_spacing, col_run.key_spacing),
            (row_run.keys, row_run.step),
            (col_run.keys, col_run.step),
        )

    def add_keys(self, total: torch.Tensor, source: torch.Tensor) -> None:
        """Adds a tensor of the shape of `key_tiles` to one on the key grid; writes it where tiles share no key."""
        tiles, target = self.tiles, self.key_tiles(total)
        if tiles.owns_keys:
            target.copy_(source)
            return
        # Adding to a view that overlaps itself is undefined, so tiles that share keys are added one after the other.
        row_phases, col_phases = min(tiles.row_run.phases, self.grid[1]), min(tiles.col_run.phases, self.grid[2])
        for row in range(row_phases):
            for col in range(col_phases):
                part = (slice(None), slice(row, None, row_phases), slice(col, None, col_phases))
                target[part].add_(source[part])


def _tile_view(
    tensor: torch.Tensor,
    grid: tuple[int, int, int],
    row_tiles: tuple[int, int],
    col_tiles: tuple[int, int],
    row_positions: tuple[int, int],
    col_positions: tuple[int, int],
) -> torch.Tensor:
    """Returns a view of tiles of a (B, H, W, heads, channels) tensor: (*grid, rows, columns, heads, channels).

    Args:
        tensor: Tensor of any strides.
        grid: Number of images, rows of tiles and columns of tiles.
        row_tiles: First row of the first tile, and number of rows from tile to tile.
        col_tiles: First column of the first tile, and number of columns from tile to tile.
        row_positions: Number of rows in a tile, and distance between them.
        col_positions: Number of columns in a tile, and distance between them.
    """
    batch, row, col, head, channel = tensor.stride()
    return tensor.as_strided(
        (*grid, row_positions[0], col_positions[0], *tensor.shape[3:]),
        (batch, row * row_tiles[1], col * col_tiles[1], row * row_positions[1], col * col_positions[1], head, channel),
        tensor.storage_offset() + row * row_tiles[0] + col * col_tiles[0],
    )


def _even_part(count: int, most: int) -> int:
    """Returns the part size that divides `count` into as few, about equal parts of at most `most` as possible."""
    parts = -(-count // max(1, most))
    return -(-count // parts)
