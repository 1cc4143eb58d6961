"""Ranged attention in plain PyTorch: tiles of queries against the keys that they see, in chunks that stay in cache.

Only a chunk of tiles exists at a time, so memory beyond operands and results does not grow with the map. Products and
softmax are in float32 (float64 for float64 operands), whatever the operands' dtype. Every sum has a fixed order, so
results repeat bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..dispatch import compute_dtype
from .tables import AxisRule
from .tiling import Run, tile_runs

# Bytes of scores in a chunk, a thread. With the probabilities, keys and values beside them they about fill a core's L2.
_CHUNK_BYTES = 1 << 19


def forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rpb: torch.Tensor | None,
    additional_keys: torch.Tensor | None,
    additional_values: torch.Tensor | None,
    rows: AxisRule,
    cols: AxisRule,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the output and the logarithms of the softmax's denominators.

    Args:
        query: (B, Hq, Wq, heads, dim).
        key: (B, Hk, Wk, heads_kv, dim).
        value: (B, Hk, Wk, heads_kv, dim_v).
        rpb: (heads, rows.bias_length, cols.bias_length), or None.
        additional_keys: (B, tokens, heads_kv, dim), or None.
        additional_values: (B, tokens, heads_kv, dim_v), or None.
        rows: which rows of keys a row of queries sees.
        cols: which columns of keys a column of queries sees.
        scale: multiplies the scores.

    Returns:
        (B, Hq, Wq, heads, dim_v) in the query's dtype, and (B, Hq, Wq, heads) in float32 or float64, both contiguous.
    """
    out = query.new_empty((*query.shape[:4], value.shape[4]))
    lse = query.new_empty(query.shape[:4], dtype=compute_dtype(query.dtype))
    for block in _blocks(query, key, value, rpb, additional_keys, additional_values, rows, cols):
        for chunk in block.chunks():
            _attend(block, chunk, scale, out, lse)
    return out, lse


def backward(
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor | None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rpb: torch.Tensor | None,
    additional_keys: torch.Tensor | None,
    additional_values: torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor,
    rows: AxisRule,
    cols: AxisRule,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """Computes the gradients of `forward`'s tensor arguments from those of its results.

    The probabilities are computed again, a chunk at a time. As a tile holds all keys of its queries, this needs no
    `lse`; it is an argument because the other implementations need it.

    Returns:
        The gradients of query, key, value, rpb, additional_keys and additional_values, each contiguous and in its
        argument's dtype; None for an argument that is None.
    """
    dtype = compute_dtype(query.dtype)
    grad_query = torch.empty_like(query, memory_format=torch.contiguous_format)
    grad_key, grad_value = (torch.zeros(one.shape, dtype=dtype, device=one.device) for one in (key, value))
    grad_rpb = None if rpb is None else torch.zeros(rpb.shape, dtype=dtype, device=rpb.device)
    grad_tokens, grad_token_values = (
        None if one is None else torch.zeros(one.shape, dtype=dtype, device=one.device)
        for one in (additional_keys, additional_values)
    )
    for block in _blocks(query, key, value, rpb, additional_keys, additional_values, rows, cols):
        grad_bias = None if grad_rpb is None else grad_rpb.new_zeros(block.heads, *block.tile_shape)
        for chunk in block.chunks():
            grad_scores = _grad_scores(block, chunk, scale, grad_out, grad_lse, out, (grad_value, grad_token_values))
            product = torch.baddbmm(chunk.queries, grad_scores, chunk.keys, beta=0, alpha=scale)
            chunk.queries_of(grad_query).copy_(chunk.as_queries(product))
            product = torch.baddbmm(chunk.keys, grad_scores.mT, chunk.queries, beta=0, alpha=scale)
            chunk.add_values(grad_key, product, grad_tokens)
            if grad_bias is not None:
                grad_bias += grad_scores.view(-1, *grad_bias.shape).sum(0)
            del grad_scores, product  # free, and in cache, for the next chunk
        if grad_rpb is not None and grad_bias is not None:
            block.add_bias(grad_rpb, grad_bias)
    return (
        grad_query,
        grad_key.to(key.dtype),
        grad_value.to(value.dtype),
        grad_rpb if rpb is None or grad_rpb is None else grad_rpb.to(rpb.dtype),
        None if grad_tokens is None else grad_tokens.to(key.dtype),
        None if grad_token_values is None else grad_token_values.to(value.dtype),
    )


def _attend(block: _Block, chunk: _Chunk, scale: float, out: torch.Tensor, lse: torch.Tensor) -> None:
    """Writes a chunk's part of the results. A function, so that its memory is free, and in cache, for the next one."""
    scores = block.scores(chunk, scale)
    probabilities = torch.softmax(scores, -1)
    chunk.queries_of(out).copy_(chunk.as_queries(torch.bmm(probabilities, chunk.values)))
    # The largest probability is exp(largest score - lse): cheaper than exponentials of all scores once more.
    denominators = scores.amax(-1) - probabilities.amax(-1).log_()
    chunk.queries_of(lse[..., None]).copy_(chunk.as_queries(denominators[..., None]))


def _grad_scores(
    block: _Block,
    chunk: _Chunk,
    scale: float,
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor | None,
    out: torch.Tensor,
    grad_values: tuple[torch.Tensor, torch.Tensor | None],
) -> torch.Tensor:
    """Computes the gradient of a chunk's scores, and adds that of its values to the pair of map and tokens."""
    probabilities = torch.softmax(block.scores(chunk, scale), -1)
    upstream = chunk.gather(chunk.queries_of(grad_out), block.dtype)
    tile_out = chunk.gather(chunk.queries_of(out), block.dtype)
    minus_delta = tile_out.mul_(upstream).sum(-1, keepdim=True).neg_()
    if grad_lse is not None:
        minus_delta += chunk.gather(chunk.queries_of(grad_lse[..., None]), block.dtype)
    chunk.add_values(grad_values[0], torch.bmm(probabilities.mT, upstream), grad_values[1])
    return torch.baddbmm(minus_delta, upstream, chunk.values.mT).mul_(probabilities)


class _Block:
    """All tiles of one look, their bias, and buffers for a chunk of them.

    A tile's operands are matrices with the heads in front of positions; query heads that share a key head are stacked
    into one matrix, and additional keys stand behind the map's keys.

    Args:
        operands: query, key, value, additional_keys and additional_values, as in `forward`.
        rpb: as in `forward`.
        row_run: the tiles along the rows.
        col_run: the tiles along the columns.
    """

    def __init__(
        self,
        operands: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None],
        rpb: torch.Tensor | None,
        row_run: Run,
        col_run: Run,
    ) -> None:
        self.query, self.key, self.value, self.additional_keys, self.additional_values = operands
        self.row_run, self.col_run = row_run, col_run
        self.dtype = compute_dtype(self.query.dtype)
        self.heads, self.key_heads = self.query.shape[3], self.key.shape[3]
        self.tokens = 0 if self.additional_keys is None else self.additional_keys.shape[1]
        self.map_keys = row_run.extent * col_run.extent
        self.tile_shape = (row_run.queries * col_run.queries, self.map_keys + self.tokens)

        tile_bytes = self.heads * self.tile_shape[0] * self.tile_shape[1] * self.dtype.itemsize
        most = max(1, _chunk_bytes(self.query.device) // tile_bytes)
        # Neighbours first: the keys that they share are then read from cache.
        self.col_part = _even_part(col_run.count, most)
        self.row_part = _even_part(row_run.count, most // self.col_part)
        self.batch_part = _even_part(self.query.shape[0], most // (self.col_part * self.row_part))
        self.most_tiles = self.batch_part * self.col_part * self.row_part

        empty = {"dtype": self.dtype, "device": self.query.device}
        matrices = self.most_tiles * self.key_heads
        padded = row_run.extent * col_run.extent > row_run.keys * col_run.keys
        new_keys = torch.zeros if padded else torch.empty
        self.key_buffer = new_keys((matrices, self.tile_shape[1], self.key.shape[4]), **empty)
        self.value_buffer = new_keys((matrices, self.tile_shape[1], self.value.shape[4]), **empty)
        self.bias = self._bias(rpb)

    def chunks(self) -> Iterator[_Chunk]:
        """Goes over all tiles; a chunk's keys and values are good until the next one's."""
        for batch in range(0, self.query.shape[0], self.batch_part):
            for row in range(0, self.row_run.count, self.row_part):
                for col in range(0, self.col_run.count, self.col_part):
                    yield _Chunk(self, batch, row, col)

    def scores(self, chunk: _Chunk, scale: float) -> torch.Tensor:
        """Scaled scores with bias, -inf where a query does not see a key: (matrices, queries, keys)."""
        if self.bias is None:
            return torch.baddbmm(chunk.queries.new_empty(1), chunk.queries, chunk.keys.mT, beta=0, alpha=scale)
        return torch.baddbmm(self.bias[: chunk.matrices], chunk.queries, chunk.keys.mT, alpha=scale)

    def add_bias(self, grad_rpb: torch.Tensor, grad_bias: torch.Tensor) -> None:
        """Adds the gradient of the block's bias, (heads, queries, keys), to that of the table it was looked up in."""
        row_run, col_run = self.row_run, self.col_run
        grad = grad_bias[..., : self.map_keys]
        grad = grad.reshape(-1, row_run.queries, col_run.queries, row_run.extent, col_run.extent)
        grad = grad.permute(0, 1, 3, 2, 4).reshape(self.heads, len(row_run.flat_index), len(col_run.flat_index))
        # Products with 0 and 1 sum up equal offsets; what no query sees is 0 in all columns.
        grad_rpb += row_run.one_hot.to(grad).mT @ (grad @ col_run.one_hot.to(grad))

    def _bias(self, rpb: torch.Tensor | None) -> torch.Tensor | None:
        """What to add to the scores of a chunk, (matrices, queries, keys); None for nothing."""
        row_run, col_run = self.row_run, self.col_run
        row_index, col_index = (run.flat_index.to(self.query.device) for run in (row_run, col_run))
        if rpb is None:
            if row_run.all_visible and col_run.all_visible:
                return None
            table = self.key_buffer.new_zeros(1, row_run.bias_length, col_run.bias_length)
        else:
            table = rpb.to(self.dtype)
        table = torch.nn.functional.pad(table, (0, 1, 0, 1), value=-torch.inf)
        bias = table.index_select(1, row_index).index_select(2, col_index)
        bias = bias.view(-1, row_run.queries, row_run.extent, col_run.queries, col_run.extent).permute(0, 1, 3, 2, 4)
        if self.tile_shape[1] > self.map_keys:
            bias = torch.nn.functional.pad(bias.reshape(-1, self.tile_shape[0], self.map_keys), (0, self.tokens))
        bias = bias.reshape(-1, *self.tile_shape).expand(self.most_tiles, self.heads, *self.tile_shape)
        return bias.reshape(-1, *self.stacked_shape)

    @property
    def stacked_shape(self) -> tuple[int, int]:
        """Rows and columns of a matrix of scores, query heads that share a key head stacked."""
        return self.heads // self.key_heads * self.tile_shape[0], self.tile_shape[1]


class _Chunk:
    """Some of a block's tiles: `batch_part` images from `batch` on, `row_part` by `col_part` tiles from (row, col) on.

    Attributes:
        queries: (matrices, stacked queries, dim), a matrix a tile and key head.
        keys: (matrices, keys, dim).
        values: (matrices, keys, dim_v).
    """

    def __init__(self, block: _Block, batch: int, row: int, col: int) -> None:
        self.block, self.batch, self.row, self.col = block, batch, row, col
        self.grid = (
            min(block.batch_part, block.query.shape[0] - batch),
            min(block.row_part, block.row_run.count - row),
            min(block.col_part, block.col_run.count - col),
        )
        self.matrices = self.grid[0] * self.grid[1] * self.grid[2] * block.key_heads
        self.queries = self.gather(self.queries_of(block.query), block.dtype)
        self.keys = self._gather_keys(block.key, block.additional_keys, block.key_buffer)
        self.values = self._gather_keys(block.value, block.additional_values, block.value_buffer)

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

    def gather(self, view: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Copies what `queries_of` returned into matrices (matrices, stacked queries, dim)."""
        view = view.permute(0, 1, 2, 5, 3, 4, 6)
        tile = torch.empty(view.shape, dtype=dtype, device=view.device).copy_(view)
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
        target, source = self._keys_of(total), self._on_map(tiles)
        # Tiles that share keys are added one after the other: torch leaves undefined what an addition to a view that
        # overlaps itself does.
        row_phases, col_phases = min(block.row_run.phases, self.grid[1]), min(block.col_run.phases, self.grid[2])
        for row in range(row_phases):
            for col in range(col_phases):
                part = (slice(None), slice(row, None, row_phases), slice(col, None, col_phases))
                target[part].add_(source[part])
        if tokens is not None:
            tokens[self.batch : self.batch + self.grid[0]] += (
                tiles[..., block.map_keys :, :].sum((1, 2)).transpose(1, 2)
            )

    def _gather_keys(self, keys: torch.Tensor, tokens: torch.Tensor | None, buffer: torch.Tensor) -> torch.Tensor:
        """Copies the tiles' keys (or values) and the additional ones into the buffer."""
        block = self.block
        matrices = buffer[: self.matrices]
        tiles = matrices.view(*self.grid, block.key_heads, *matrices.shape[1:])
        self._on_map(tiles).copy_(self._keys_of(keys))
        if tokens is not None:
            part = tokens[self.batch : self.batch + self.grid[0]].transpose(1, 2)
            tiles[..., block.map_keys :, :].copy_(part[:, None, None])
        return matrices

    def _on_map(self, tiles: torch.Tensor) -> torch.Tensor:
        """Views those keys of (images, tile rows, tile columns, heads, keys, dim) on the map, as `_keys_of`."""
        row_run, col_run = self.block.row_run, self.block.col_run
        tiles = tiles[..., : self.block.map_keys, :]
        tiles = tiles.view(*tiles.shape[:4], row_run.extent, col_run.extent, tiles.shape[-1])
        tiles = tiles.narrow(4, row_run.before, row_run.keys).narrow(5, col_run.before, col_run.keys)
        return tiles.permute(0, 1, 2, 4, 5, 3, 6)

    def _keys_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The chunk's part of a tensor on the key grid, as a view in which tiles overlap."""
        row_run, col_run = self.block.row_run, self.block.col_run
        return _windows(
            tensor[self.batch :],
            self.grid,
            (row_run.key_first + self.row * row_run.key_spacing, row_run.key_spacing),
            (col_run.key_first + self.col * col_run.key_spacing, col_run.key_spacing),
            (row_run.keys, row_run.step),
            (col_run.keys, col_run.step),
        )


def _blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rpb: torch.Tensor | None,
    additional_keys: torch.Tensor | None,
    additional_values: torch.Tensor | None,
    rows: AxisRule,
    cols: AxisRule,
) -> Iterator[_Block]:
    """Goes over the blocks of equal tiles that a map is made of; none for an empty batch or grid."""
    if query.numel() == 0:
        return
    query_grid, key_grid = (query.shape[1], query.shape[2]), (key.shape[1], key.shape[2])
    row_runs, col_runs = tile_runs(rows, cols, query_grid, key_grid, query.shape[0] * query.shape[3])
    for row_run in row_runs:
        for col_run in col_runs:
            yield _Block((query, key, value, additional_keys, additional_values), rpb, row_run, col_run)


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


def _even_part(count: int, most: int) -> int:
    """The size of a part when `count` is cut into as few parts of at most `most` as can be, about equally large."""
    parts = -(-count // max(1, most))
    return -(-count // parts)


def _chunk_bytes(device: torch.device) -> int:
    return _CHUNK_BYTES * torch.get_num_threads() if device.type == "cpu" else 64 * _CHUNK_BYTES
