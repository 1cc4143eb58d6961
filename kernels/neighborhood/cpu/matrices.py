"""Tiles as matrices for batched products: works for all operands, and computes all gradients.

A matrix holds one tile and key head. Query heads that share a key head are stacked in one matrix, and additional keys
follow the map's keys.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from ..operands import Operands
from .bias import add_table_gradient, set_term_gradient, terms_by_key, tile_bias
from .tiles import Chunk, EqualTiles
from .tiling import Run


class MatrixChunk(Chunk):
    """A chunk of tiles as matrices."""

    tiles: MatrixTiles

    def __init__(self, tiles: MatrixTiles, batch: int, row: int, col: int) -> None:
        super().__init__(tiles, batch, row, col)
        self._matrices = self.count * tiles.key_heads

    def forward(self, out: torch.Tensor, lse: torch.Tensor) -> None:
        """Writes the chunk's part of the output and of the log-sum-exps."""
        scores = self._scores()
        probs = torch.softmax(scores, -1)
        self.query_tiles(out).copy_(self._as_tiles(torch.bmm(probs, self.values)))
        # The largest probability is exp(largest score - lse), which is cheaper than a sum of exponentials.
        logs = scores.amax(-1) - probs.amax(-1).log_()
        self.query_tiles(lse[..., None]).copy_(self._as_tiles(logs[..., None]))

    def backward(
        self,
        grad_out: torch.Tensor,
        grad_lse: torch.Tensor | None,
        out: torch.Tensor,
        lse: torch.Tensor,
        grads: Operands,
    ) -> None:
        """Writes the chunk's gradients to `grads`, or adds them where tiles share elements.

        A tile contains all keys of its queries, so the softmax is recomputed without `lse`.
        """
        grad_scores = self._grad_scores(grad_out, grad_lse, out, grads)
        self._set_query_gradient(grad_scores, grads)
        self._add_matrices(grads.key, self._grad_keys(grad_scores), grads.additional_keys)
        if grads.rpb is not None:
            self.tiles.grad_bias.add_(grad_scores.view(-1, *self.tiles.grad_bias.shape).sum(0))

    @functools.cached_property
    def queries(self) -> torch.Tensor:
        """(matrices, stacked queries, channels), already scaled where there are terms."""
        tiles = self.tiles
        view = self.query_tiles(tiles.query)
        if not tiles.has_terms:
            return self._gather(view)
        view = view.permute(0, 1, 2, 5, 3, 4, 6)
        tile = view.new_empty((*view.shape[:-1], tiles.channels), dtype=tiles.dtype)
        tile[..., : tiles.dim].copy_(view).mul_(tiles.scale)
        for terms, run, channels, axis in tiles.term_channels():
            if terms is not None:
                by_key = terms_by_key(self.query_tiles(terms), run, axis)
                tile[..., channels].copy_(by_key.permute(0, 1, 2, 5, 3, 4, 6))
        return tile.view(self._matrices, -1, tiles.channels)

    @functools.cached_property
    def keys(self) -> torch.Tensor:
        """(matrices, keys, channels)."""
        operands = self.tiles.operands
        return self._gather_keys(operands.key, operands.additional_keys, self.tiles.key_buffer)

    @functools.cached_property
    def values(self) -> torch.Tensor:
        """(matrices, keys, dim_v)."""
        operands = self.tiles.operands
        return self._gather_keys(operands.value, operands.additional_values, self.tiles.value_buffer)

    def _scores(self) -> torch.Tensor:
        """Computes scores (matrices, stacked queries, keys), with bias, and -inf where a query does not see a key."""
        bias, scale = self.tiles.stacked_bias, self.tiles.product_scale
        if bias is None:
            return torch.baddbmm(self.queries.new_empty(1), self.queries, self.keys.mT, beta=0, alpha=scale)
        return torch.baddbmm(bias[: self._matrices], self.queries, self.keys.mT, alpha=scale)

    def _grad_scores(
        self, grad_out: torch.Tensor, grad_lse: torch.Tensor | None, out: torch.Tensor, grads: Operands
    ) -> torch.Tensor:
        """Computes the gradient of the scores, and adds the gradients of the values to `grads`."""
        probs = torch.softmax(self._scores(), -1)
        upstream = self._gather(self.query_tiles(grad_out))
        minus_delta = self._gather(self.query_tiles(out)).mul_(upstream).sum(-1, keepdim=True).neg_()
        if grad_lse is not None:
            minus_delta += self._gather(self.query_tiles(grad_lse[..., None]))
        self._add_matrices(grads.value, torch.bmm(probs.mT, upstream), grads.additional_values)
        return torch.baddbmm(minus_delta, upstream, self.values.mT).mul_(probs)

    def _set_query_gradient(self, grad_scores: torch.Tensor, grads: Operands) -> None:
        """Writes the gradients of the queries and of their terms."""
        tiles = self.tiles
        if not tiles.has_terms:
            product = torch.baddbmm(self.queries, grad_scores, self.keys, beta=0, alpha=tiles.scale)
            self.query_tiles(grads.query).copy_(self._as_tiles(product))
            return
        product = self._as_tiles(torch.bmm(grad_scores, self.keys))
        self.query_tiles(grads.query).copy_(product[..., : tiles.dim].mul_(tiles.scale))
        for gradient, (_, run, channels, axis) in zip(
            (grads.row_terms, grads.col_terms), tiles.term_channels(), strict=True
        ):
            if gradient is not None:
                set_term_gradient(self.query_tiles(gradient), product[..., channels], run, axis)

    def _grad_keys(self, grad_scores: torch.Tensor) -> torch.Tensor:
        """Computes the gradients of the keys: (matrices, keys, dim)."""
        queries = self.queries[..., : self.tiles.dim]
        return torch.baddbmm(queries.new_empty(1), grad_scores.mT, queries, beta=0, alpha=self.tiles.product_scale)

    def _gather(self, view: torch.Tensor) -> torch.Tensor:
        """Copies a result of `query_tiles` to matrices (matrices, stacked queries, channels)."""
        view = view.permute(0, 1, 2, 5, 3, 4, 6)
        tile = torch.empty(view.shape, dtype=self.tiles.dtype, device=view.device).copy_(view)
        return tile.view(self._matrices, -1, view.shape[-1])

    def _as_tiles(self, matrices: torch.Tensor) -> torch.Tensor:
        """Returns a view of matrices (matrices, stacked queries, channels) in the shape of `query_tiles`."""
        tiles = self.tiles
        sides = (tiles.row_run.queries, tiles.col_run.queries)
        return matrices.view(*self.grid, tiles.heads, *sides, -1).permute(0, 1, 2, 4, 5, 3, 6)

    def _gather_keys(self, keys: torch.Tensor, tokens: torch.Tensor | None, buffer: torch.Tensor) -> torch.Tensor:
        """Copies the tiles' keys (or values) and the additional ones to the buffer."""
        tiles = self.tiles
        matrices = buffer[: self._matrices]
        by_tile = matrices.view(*self.grid, tiles.key_heads, *matrices.shape[1:])[..., : keys.shape[-1]]
        self._as_key_tiles(by_tile).copy_(self.key_tiles(keys))
        if tokens is not None:
            part = tokens[self.batch : self.batch + self.grid[0]].transpose(1, 2)
            by_tile[..., tiles.map_keys :, :].copy_(part[:, None, None])
        return matrices

    def _add_matrices(self, total: torch.Tensor, matrices: torch.Tensor, tokens: torch.Tensor | None) -> None:
        """Adds matrices (matrices, keys, channels) to a tensor on the key grid, and their last rows to `tokens`."""
        tiles = self.tiles
        by_tile = matrices.view(*self.grid, tiles.key_heads, *matrices.shape[1:])
        self.add_keys(total, self._as_key_tiles(by_tile))
        if tokens is not None:
            part = by_tile[..., tiles.map_keys :, :].sum((1, 2)).transpose(1, 2)
            tokens[self.batch : self.batch + self.grid[0]] += part

    def _as_key_tiles(self, by_tile: torch.Tensor) -> torch.Tensor:
        """Returns a view of (images, tile rows, tile columns, heads, keys, channels) in the shape of `key_tiles`."""
        row_run, col_run = self.tiles.row_run, self.tiles.col_run
        by_tile = by_tile[..., : self.tiles.map_keys, :].unflatten(4, (row_run.extent, col_run.extent))
        by_tile = by_tile.narrow(4, row_run.before, row_run.keys).narrow(5, col_run.before, col_run.keys)
        return by_tile.permute(0, 1, 2, 4, 5, 3, 6)


class MatrixTiles(EqualTiles[MatrixChunk]):
    """Equal tiles as matrices, with the buffers for one chunk of them.

    Attributes:
        key_heads: Number of key heads.
        tile_shape: Number of queries, and of keys including additional ones, in a tile.
    """

    chunk_type = MatrixChunk

    def __init__(self, operands: Operands, row_run: Run, col_run: Run, *settings: Any) -> None:
        super().__init__(operands, row_run, col_run, *settings)
        self.key_heads = operands.key.shape[3]
        tokens = 0 if operands.additional_keys is None else operands.additional_keys.shape[1]
        self.tile_shape = (row_run.queries * col_run.queries, self.map_keys + tokens)

    @functools.cached_property
    def key_buffer(self) -> torch.Tensor:
        """Buffer for the keys of a chunk; it holds the zeros and ones that are the same in every chunk."""
        if not self.has_terms:
            return self._new_keys(self.dim)
        buffer = self._new_keys(self.channels).zero_()
        position = torch.arange(self.map_keys, device=buffer.device)
        if self.row_channels:
            buffer[:, position, self.dim + position // self.col_run.extent] = 1
        if self.col_channels:
            buffer[:, position, self.dim + self.row_channels + position % self.col_run.extent] = 1
        return buffer

    @functools.cached_property
    def value_buffer(self) -> torch.Tensor:
        """Buffer for the values of a chunk, with zeros outside the map."""
        return self._new_keys(self.operands.value.shape[4])

    @functools.cached_property
    def stacked_bias(self) -> torch.Tensor | None:
        """The bias for every matrix of the largest chunk, (matrices, stacked queries, keys), or None."""
        bias = tile_bias(self.operands, self.row_run, self.col_run, self.dtype)
        if bias is None:
            return None
        bias = bias.expand(self.max_tiles, self.heads, *self.tile_shape)
        return bias.reshape(-1, self.heads // self.key_heads * self.tile_shape[0], self.tile_shape[1])

    @functools.cached_property
    def grad_bias(self) -> torch.Tensor:
        """Sum of the gradients of the tiles' biases so far: (heads, queries, keys)."""
        return torch.zeros((self.heads, *self.tile_shape), dtype=self.dtype, device=self.query.device)

    def add_bias_gradient(self, grads: Operands) -> None:
        """Adds the gradient of the tiles' biases to that of the bias table, after all chunks."""
        if grads.rpb is not None:
            add_table_gradient(grads.rpb, self.grad_bias, self.row_run, self.col_run)

    def _new_keys(self, channels: int) -> torch.Tensor:
        new = torch.zeros if self.is_padded else torch.empty
        shape = (self.max_tiles * self.key_heads, self.tile_shape[1], channels)
        return new(shape, dtype=self.dtype, device=self.query.device)
