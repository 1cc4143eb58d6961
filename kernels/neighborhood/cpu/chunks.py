"""How plain PyTorch reads tiles of queries and keys out of a map, as views and matrices, and writes results back."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch

from ..operands import Operands
from .tiling import Run


class Block:
    """All tiles of one look, their bias, and buffers for a chunk of them.

    A tile's operands are matrices with the heads in front of positions; query heads that share a key head are stacked
    into one matrix, and additional keys stand behind the map's keys. Terms that depend on the query are channels: a
    query has its terms behind its vector, a key has 1 where its row and its column is and 0 in the other places, so the
    product of the two holds the sum of all.

    Args:
        operands: what attention is computed from.
        row_run: the tiles along the rows.
        col_run: the tiles along the columns.
        dtype: what to compute in.
        scale: multiplies the products of queries and keys.
        most_tiles: how many tiles a chunk may have; at least one.
        owns_keys: whether every key of the map is in one tile alone.
    """

    def __init__(
        self,
        operands: Operands,
        row_run: Run,
        col_run: Run,
        dtype: torch.dtype,
        scale: float,
        most_tiles: int,
        owns_keys: bool,
    ) -> None:
        self.operands, self.row_run, self.col_run = operands, row_run, col_run
        self.dtype, self.scale, self.owns_keys = dtype, scale, owns_keys
        self.query = operands.query
        self.heads, self.key_heads = self.query.shape[3], operands.key.shape[3]
        self.tokens = 0 if operands.additional_keys is None else operands.additional_keys.shape[1]
        self.map_keys = row_run.extent * col_run.extent
        self.tile_shape = (row_run.queries * col_run.queries, self.map_keys + self.tokens)
        self.dim = self.query.shape[4]
        self.row_channels = 0 if operands.row_terms is None else row_run.extent
        self.col_channels = 0 if operands.col_terms is None else col_run.extent
        # Of a query's and a key's vectors: the channels that hold terms follow the others.
        self.channels = self.dim + self.row_channels + self.col_channels

        # Neighbours first: the keys that they share are then read from cache.
        self.col_part = _even_part(col_run.count, most_tiles)
        self.row_part = _even_part(row_run.count, most_tiles // self.col_part)
        self.batch_part = _even_part(self.query.shape[0], most_tiles // (self.col_part * self.row_part))
        self.most_tiles = self.batch_part * self.col_part * self.row_part

    def chunks(self) -> Iterator[Chunk]:
        """Goes over all tiles; a chunk's matrices are good until the next one's."""
        for batch in range(0, self.query.shape[0], self.batch_part):
            for row in range(0, self.row_run.count, self.row_part):
                for col in range(0, self.col_run.count, self.col_part):
                    yield Chunk(self, batch, row, col)

    @property
    def has_terms(self) -> bool:
        """Whether scores have a part that depends on the query beside its product with the key."""
        return self.channels > self.dim

    @property
    def is_padded(self) -> bool:
        """Whether a tile has zero keys beside those on the map."""
        return self.map_keys > self.row_run.keys * self.col_run.keys

    @functools.cached_property
    def key_buffer(self) -> torch.Tensor:
        """Memory for the keys of a chunk; what no chunk changes is there already."""
        if not self.has_terms:
            return self._new_keys(self.dim)
        buffer = self._new_keys(self.channels).zero_()
        place = torch.arange(self.map_keys, device=buffer.device)
        if self.row_channels:
            buffer[:, place, self.dim + place // self.col_run.extent] = 1
        if self.col_channels:
            buffer[:, place, self.dim + self.row_channels + place % self.col_run.extent] = 1
        return buffer

    @functools.cached_property
    def value_buffer(self) -> torch.Tensor:
        """Memory for the values of a chunk, with the zeros outside the map."""
        return self._new_keys(self.operands.value.shape[4])

    @functools.cached_property
    def tile_bias(self) -> torch.Tensor | None:
        """What to add to a tile's scores, (heads or 1, queries, keys): -inf for what is not seen. None for nothing."""
        row_run, col_run, rpb = self.row_run, self.col_run, self.operands.rpb
        all_visible = row_run.all_visible and col_run.all_visible
        if rpb is None:
            if all_visible:
                return None
            shape = (1, row_run.bias_length, col_run.bias_length)
            table = torch.zeros(shape, dtype=self.dtype, device=self.query.device)
        else:
            table = rpb.to(self.dtype)
            if all_visible:
                bias = _looked_up(table, row_run, col_run).reshape(-1, self.tile_shape[0], self.map_keys)
                return torch.nn.functional.pad(bias, (0, self.tokens)) if self.tokens else bias
        row_index, col_index = (run.flat_index.to(self.query.device) for run in (row_run, col_run))
        table = torch.nn.functional.pad(table, (0, 1, 0, 1), value=-torch.inf)
        bias = table.index_select(1, row_index).index_select(2, col_index)
        bias = bias.view(-1, row_run.queries, row_run.extent, col_run.queries, col_run.extent).permute(0, 1, 3, 2, 4)
        bias = bias.reshape(-1, self.tile_shape[0], self.map_keys)
        return torch.nn.functional.pad(bias, (0, self.tokens)) if self.tokens else bias

    def add_bias(self, grad_rpb: torch.Tensor, grad_bias: torch.Tensor) -> None:
        """Adds the gradient of the block's bias, (heads, queries, keys), to that of the table it was looked up in."""
        row_run, col_run = self.row_run, self.col_run
        grad = grad_bias[..., : self.map_keys]
        grad = grad.reshape(-1, row_run.queries, col_run.queries, row_run.extent, col_run.extent)
        grad = grad.permute(0, 1, 3, 2, 4).reshape(self.heads, len(row_run.flat_index), len(col_run.flat_index))
        # Products with 0 and 1 sum up equal offsets; what no query sees is 0 in all columns.
        grad_rpb += row_run.one_hot.to(grad).mT @ (grad @ col_run.one_hot.to(grad))

    @functools.cached_property
    def stacked_bias(self) -> torch.Tensor | None:
        """`tile_bias` for every matrix of the largest chunk: (matrices, stacked queries, keys)."""
        if self.tile_bias is None:
            return None
        bias = self.tile_bias.expand(self.most_tiles, self.heads, *self.tile_shape)
        return bias.reshape(-1, self.heads // self.key_heads * self.tile_shape[0], self.tile_shape[1])

    @property
    def flat_channels(self) -> int:
        """Length of the vectors in `Chunk.flat_operands`: torch's attention takes one for all, so the longest."""
        return max(self.channels, self.operands.value.shape[4])

    @functools.cached_property
    def flat_buffers(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Memory for the keys and the values of a chunk, (tiles, rows, columns, heads, `flat_channels`).

        What no chunk changes is there already: zeros, and the ones by which terms find their keys.
        """
        shape = (self.most_tiles, self.row_run.extent, self.col_run.extent, self.heads, self.flat_channels)
        keys, values = (torch.zeros(shape, dtype=self.dtype, device=self.query.device) for _ in range(2))
        for row in range(self.row_channels):
            keys[:, row, :, :, self.dim + row] = 1
        for col in range(self.col_channels):
            keys[:, :, col, :, self.dim + self.row_channels + col] = 1
        return keys, values

    def _new_keys(self, channels: int) -> torch.Tensor:
        new = torch.zeros if self.is_padded else torch.empty
        shape = (self.most_tiles * self.key_heads, self.tile_shape[1], channels)
        return new(shape, dtype=self.dtype, device=self.query.device)


class Chunk:
    """Some of a block's tiles: images from `batch` on, rows of tiles from `row` on, columns of tiles from `col` on."""

    def __init__(self, block: Block, batch: int, row: int, col: int) -> None:
        self.block, self.batch, self.row, self.col = block, batch, row, col
        self.grid = (
            min(block.batch_part, block.query.shape[0] - batch),
            min(block.row_part, block.row_run.count - row),
            min(block.col_part, block.col_run.count - col),
        )
        self.tiles = self.grid[0] * self.grid[1] * self.grid[2]
        self.matrices = self.tiles * block.key_heads

    @functools.cached_property
    def queries(self) -> torch.Tensor:
        """(matrices, stacked queries, channels), a matrix a tile and key head; scaled where there are terms."""
        block = self.block
        view = self.queries_of(block.query).permute(0, 1, 2, 5, 3, 4, 6)
        if not block.has_terms:
            return self.gather(self.queries_of(block.query))
        tile = view.new_empty((*view.shape[:-1], block.channels), dtype=block.dtype)
        tile[..., : block.dim].copy_(view).mul_(block.scale)
        for terms, run, channels, axis in self._terms():
            if terms is not None:
                places = _skewed(self.queries_of(terms), run, axis)
                tile[..., channels].copy_(places.permute(0, 1, 2, 5, 3, 4, 6))
        return tile.view(self.matrices, -1, block.channels)

    @functools.cached_property
    def keys(self) -> torch.Tensor:
        """(matrices, keys, channels)."""
        operands = self.block.operands
        return self._gather_keys(operands.key, operands.additional_keys, self.block.key_buffer)

    @functools.cached_property
    def values(self) -> torch.Tensor:
        """(matrices, keys, dim_v)."""
        operands = self.block.operands
        return self._gather_keys(operands.value, operands.additional_values, self.block.value_buffer)

    def scores(self) -> torch.Tensor:
        """Scaled scores with bias, -inf where a query does not see a key: (matrices, stacked queries, keys)."""
        block = self.block
        scale = 1.0 if block.has_terms else block.scale
        if block.stacked_bias is None:
            return torch.baddbmm(self.queries.new_empty(1), self.queries, self.keys.mT, beta=0, alpha=scale)
        return torch.baddbmm(block.stacked_bias[: self.matrices], self.queries, self.keys.mT, alpha=scale)

    def grad_queries(
        self,
        grad_scores: torch.Tensor,
        grad_query: torch.Tensor,
        grad_terms: tuple[torch.Tensor | None, torch.Tensor | None],
    ) -> None:
        """Writes the gradients of the chunk's queries and of their terms."""
        block = self.block
        if not block.has_terms:
            product = torch.baddbmm(self.queries, grad_scores, self.keys, beta=0, alpha=block.scale)
            self.queries_of(grad_query).copy_(self.as_queries(product))
            return
        product = self.as_queries(torch.bmm(grad_scores, self.keys))
        self.queries_of(grad_query).copy_(product[..., : block.dim].mul_(block.scale))
        for gradient, (_, run, channels, axis) in zip(grad_terms, self._terms(), strict=True):
            if gradient is not None:
                _add_skewed(self.queries_of(gradient), product[..., channels], run, axis)

    def grad_keys(self, grad_scores: torch.Tensor) -> torch.Tensor:
        """The gradients of the chunk's keys: (matrices, keys, dim)."""
        block = self.block
        queries = self.queries[..., : block.dim]
        scale = 1.0 if block.has_terms else block.scale  # already in the queries
        return torch.baddbmm(queries.new_empty(1), grad_scores.mT, queries, beta=0, alpha=scale)

    def queries_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Views the chunk's part of a tensor on the query grid.

        Its shape: (images, tile rows, tile columns, rows in a tile, columns in a tile, heads, dim).
        """
        row_run, col_run = self.block.row_run, self.block.col_run
        return _windows(
            tensor[self.batch :],
            self.grid,
            (row_run.query_first + self.row * row_run.query_spacing, row_run.query_spacing),
            (col_run.query_first + self.col * col_run.query_spacing, col_run.query_spacing),
            (row_run.queries, row_run.step),
            (col_run.queries, col_run.step),
        )

    def keys_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The chunk's part of a tensor on the key grid, as a view in which tiles overlap; shape as of `queries_of`."""
        row_run, col_run = self.block.row_run, self.block.col_run
        return _windows(
            tensor[self.batch :],
            self.grid,
            (row_run.key_first + self.row * row_run.key_spacing, row_run.key_spacing),
            (col_run.key_first + self.col * col_run.key_spacing, col_run.key_spacing),
            (row_run.keys, row_run.step),
            (col_run.keys, col_run.step),
        )

    def gather(self, view: torch.Tensor) -> torch.Tensor:
        """Copies what `queries_of` returned into matrices (matrices, stacked queries, dim)."""
        view = view.permute(0, 1, 2, 5, 3, 4, 6)
        tile = torch.empty(view.shape, dtype=self.block.dtype, device=view.device).copy_(view)
        return tile.view(self.matrices, -1, view.shape[-1])

    def as_queries(self, matrices: torch.Tensor) -> torch.Tensor:
        """Views matrices (matrices, stacked queries, dim) in the order of `queries_of`."""
        block = self.block
        tile = (block.row_run.queries, block.col_run.queries)
        return matrices.view(*self.grid, block.heads, *tile, -1).permute(0, 1, 2, 4, 5, 3, 6)

    def add_values(self, total: torch.Tensor, matrices: torch.Tensor, tokens: torch.Tensor | None) -> None:
        """Adds matrices (matrices, keys, dim) to a tensor on the key grid, and their last rows to `tokens`."""
        block = self.block
        tiles = matrices.view(*self.grid, block.key_heads, *matrices.shape[1:])
        self.add_keys(total, self._on_map(tiles))
        if tokens is not None:
            tokens[self.batch : self.batch + self.grid[0]] += (
                tiles[..., block.map_keys :, :].sum((1, 2)).transpose(1, 2)
            )

    def add_keys(self, total: torch.Tensor, source: torch.Tensor) -> None:
        """Adds what has the shape of `keys_of` to a tensor on the key grid; writes it where no key is in two tiles."""
        block, target = self.block, self.keys_of(total)
        if block.owns_keys:
            target.copy_(source)
            return
        # Tiles that share keys are added one after the other: torch leaves undefined what an addition to a view that
        # overlaps itself does.
        row_phases, col_phases = min(block.row_run.phases, self.grid[1]), min(block.col_run.phases, self.grid[2])
        for row in range(row_phases):
            for col in range(col_phases):
                part = (slice(None), slice(row, None, row_phases), slice(col, None, col_phases))
                target[part].add_(source[part])

    def flat_operands(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values, each (tiles, heads, positions, `flat_channels`), the queries scaled with terms."""
        block, operands = self.block, self.block.operands
        if not block.has_terms and not block.is_padded and block.dim == operands.value.shape[4]:
            keys, values = (self._flat(self.keys_of(one)) for one in (operands.key, operands.value))
            return self.flat_queries(operands.query), keys, values
        queries = self._padded(self.queries_of(operands.query))
        if block.has_terms:
            queries[..., : block.dim].mul_(block.scale)
        for terms, run, channels, axis in self._terms():
            if terms is not None:
                queries[..., channels].copy_(_skewed(self.queries_of(terms), run, axis))
        flat = [self._flat(queries)]
        for buffer, tensor in zip(block.flat_buffers, (operands.key, operands.value), strict=True):
            tiles = buffer[: self.tiles].view(*self.grid, *buffer.shape[1:])
            self._inside(tiles)[..., : tensor.shape[-1]].copy_(self.keys_of(tensor))
            flat.append(self._flat(tiles))
        return flat[0], flat[1], flat[2]

    def flat_queries(self, tensor: torch.Tensor) -> torch.Tensor:
        """The chunk's part of a tensor on the query grid as (tiles, heads, queries, dim): a view where there is one."""
        return self._flat(self.queries_of(tensor))

    def flat_values(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same for a tensor with the values' dim, zeros up to `flat_channels` behind it."""
        view = self.queries_of(tensor)
        return self._flat(view if view.shape[-1] == self.block.flat_channels else self._padded(view))

    def set_queries(self, total: torch.Tensor, source: torch.Tensor) -> None:
        """Writes what is shaped like `flat_queries`'s result to a tensor on the query grid."""
        target = self.queries_of(total)
        source = source.transpose(1, 2)[..., : target.shape[-1]]
        target.copy_(source.unflatten(1, target.shape[3:5]).unflatten(0, self.grid))

    def set_flat_queries(
        self,
        source: torch.Tensor,
        grad_query: torch.Tensor,
        grad_terms: tuple[torch.Tensor | None, torch.Tensor | None],
    ) -> None:
        """Writes the gradients of the chunk's queries, as `flat_operands` gives them, and those of their terms."""
        block, target = self.block, self.queries_of(grad_query)
        source = source.transpose(1, 2).reshape(*target.shape[:-1], -1)
        queries = source[..., : block.dim]
        target.copy_(queries.mul_(block.scale) if block.has_terms else queries)
        for gradient, (_, run, channels, axis) in zip(grad_terms, self._terms(), strict=True):
            if gradient is not None:
                _add_skewed(self.queries_of(gradient), source[..., channels], run, axis)

    def add_flat_keys(self, total: torch.Tensor, source: torch.Tensor) -> None:
        """Adds gradients of keys or values, as `flat_operands` gives them, to a tensor on the key grid."""
        row_run, col_run = self.block.row_run, self.block.col_run
        source = source.transpose(1, 2)[..., : total.shape[-1]]
        self.add_keys(
            total, self._inside(source.unflatten(1, (row_run.extent, col_run.extent)).unflatten(0, self.grid))
        )

    def _inside(self, tiles: torch.Tensor) -> torch.Tensor:
        """Those keys of (images, tile rows, tile columns, rows, columns, heads, dim) that are on the map."""
        row_run, col_run = self.block.row_run, self.block.col_run
        return tiles.narrow(3, row_run.before, row_run.keys).narrow(4, col_run.before, col_run.keys)

    def _padded(self, view: torch.Tensor) -> torch.Tensor:
        """Copies what `queries_of` returned, with `flat_channels` channels, zeros behind its own."""
        tile = view.new_zeros((*view.shape[:-1], self.block.flat_channels), dtype=self.block.dtype)
        tile[..., : view.shape[-1]].copy_(view)
        return tile

    def _flat(self, view: torch.Tensor) -> torch.Tensor:
        return view.reshape(self.tiles, -1, *view.shape[5:]).to(self.block.dtype).transpose(1, 2)

    def _terms(self) -> tuple[tuple[torch.Tensor | None, Run, slice, int], ...]:
        """For rows and columns: the terms, the run, their channels, and the tile's axis in `queries_of`."""
        block = self.block
        border = block.dim + block.row_channels
        return (
            (block.operands.row_terms, block.row_run, slice(block.dim, border), 3),
            (block.operands.col_terms, block.col_run, slice(border, block.channels), 4),
        )

    def _gather_keys(self, keys: torch.Tensor, tokens: torch.Tensor | None, buffer: torch.Tensor) -> torch.Tensor:
        """Copies the tiles' keys (or values) and the additional ones into the buffer."""
        block = self.block
        matrices = buffer[: self.matrices]
        tiles = matrices.view(*self.grid, block.key_heads, *matrices.shape[1:])[..., : keys.shape[-1]]
        self._on_map(tiles).copy_(self.keys_of(keys))
        if tokens is not None:
            part = tokens[self.batch : self.batch + self.grid[0]].transpose(1, 2)
            tiles[..., block.map_keys :, :].copy_(part[:, None, None])
        return matrices

    def _on_map(self, tiles: torch.Tensor) -> torch.Tensor:
        """Views those keys of (images, tile rows, tile columns, heads, keys, dim) on the map, as `keys_of`."""
        row_run, col_run = self.block.row_run, self.block.col_run
        tiles = tiles[..., : self.block.map_keys, :].unflatten(4, (row_run.extent, col_run.extent))
        tiles = tiles.narrow(4, row_run.before, row_run.keys).narrow(5, col_run.before, col_run.keys)
        return tiles.permute(0, 1, 2, 4, 5, 3, 6)


def _windows(
    tensor: torch.Tensor,
    grid: tuple[int, int, int],
    row_tiles: tuple[int, int],
    col_tiles: tuple[int, int],
    row_places: tuple[int, int],
    col_places: tuple[int, int],
) -> torch.Tensor:
    """Views tiles of a (B, H, W, heads, dim) tensor: (*grid, rows, columns, heads, dim).

    Args:
        tensor: any strides.
        grid: images, rows of tiles, columns of tiles.
        row_tiles: the first tile's first row, and rows from tile to tile.
        col_tiles: the same for columns.
        row_places: rows in a tile, and rows from one to the next.
        col_places: the same for columns.
    """
    batch, row, col, head, channel = tensor.stride()
    return tensor.as_strided(
        (*grid, row_places[0], col_places[0], *tensor.shape[3:]),
        (batch, row * row_tiles[1], col * col_tiles[1], row * row_places[1], col * col_places[1], head, channel),
        tensor.storage_offset() + row * row_tiles[0] + col * col_tiles[0],
    )


def _looked_up(table: torch.Tensor, row_run: Run, col_run: Run) -> torch.Tensor:
    """Lays a bias table (heads, row offsets, column offsets) out for a tile in which every query sees every key.

    An index is the sum of a part of the key and one of the query, which falls: seen from the last query, it is a view.

    Returns:
        (heads, rows of queries, columns of queries, rows of keys, columns of keys)
    """
    head, row, col = table.stride()
    lowest = row_run.bias_reach[0], col_run.bias_reach[0]
    view = table.as_strided(
        (table.shape[0], row_run.queries, col_run.queries, row_run.extent, col_run.extent),
        (head, row, col, row, col),
        table.storage_offset() + row * lowest[0] + col * lowest[1],
    )
    return view.flip(1, 2)


def _skewed(terms: torch.Tensor, run: Run, axis: int) -> torch.Tensor:
    """Brings the terms of a tile's queries from bias indices to the tile's keys.

    From a query to the next along `axis`, the bias index of each key falls by one: what is looked up is a skewed view.

    Args:
        terms: what `Chunk.queries_of` returned, a bias index in the last place.
        run: of the axis that the terms go along.
        axis: where in `terms` the tile's queries along that axis are.

    Returns:
        The same with a key of the tile in the last place: anything for keys that the query does not see, but finite.
    """
    lowest, count = run.bias_reach
    before, after = max(0, -lowest), max(0, lowest + count - terms.shape[-1])
    if before or after:
        terms = torch.nn.functional.pad(terms, (before, after))
    return _skew(terms.narrow(-1, lowest + before, count), run, axis)


def _add_skewed(gradient: torch.Tensor, source: torch.Tensor, run: Run, axis: int) -> None:
    """Writes gradients by key, shaped like `_skewed`'s result, to those of the terms that it was given."""
    lowest, count = run.bias_reach
    first, last = max(0, lowest), min(gradient.shape[-1], lowest + count)
    if last - first == count:
        _skew(gradient.narrow(-1, lowest, count), run, axis).copy_(source)
        return
    # What lies beyond the bias belongs to keys that no query sees, and is zero.
    places = source.new_zeros((*gradient.shape[:-1], count))
    _skew(places, run, axis).copy_(source)
    gradient.narrow(-1, first, last - first).copy_(places.narrow(-1, first - lowest, last - first))


def _skew(places: torch.Tensor, run: Run, axis: int) -> torch.Tensor:
    """Views (..., queries + extent - 1 places) as (..., extent), a place further back with every query of `axis`."""
    shape, strides = list(places.shape), list(places.stride())
    shape[-1] = run.extent
    strides[axis] -= strides[-1]
    return places.as_strided(shape, strides, places.storage_offset() + (run.queries - 1) * strides[-1])


def _even_part(count: int, most: int) -> int:
    """The size of a part when `count` is cut into as few parts of at most `most` as can be, about equally large."""
    parts = -(-count // max(1, most))
    return -(-count // parts)
