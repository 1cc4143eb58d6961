"""Tiles for torch's own fused attention on CPUs, which keeps scores in registers and cache. No bias table gradients.

It reads operands by strides, so a tile that is the complete map is not copied. Other tiles are copied with the heads
innermost, in long contiguous runs.
"""

from __future__ import annotations

import functools

import torch

from ... import cpu_sdpa
from ..operands import Operands
from .bias import set_term_gradient, terms_by_key, tile_bias
from .tiles import Chunk, EqualTiles


def is_supported(query: torch.Tensor, key: torch.Tensor) -> bool:
    """Returns whether torch's attention supports these heads on this device."""
    return query.device.type == "cpu" and query.shape[3] == key.shape[3]


def attend_map(operands: Operands, bias: torch.Tensor | None, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the output and the log-sum-exps of a map that is one tile.

    Args:
        operands: Operands of the call, of which query, key and value are used.
        bias: Addend of the scores, (heads or 1, queries, keys), or None.
        scale: Factor of the products of queries and keys.
    """
    query, key, value = map(_heads_first, operands[:3])
    result, logs = cpu_sdpa.attend(query, key, value, _batched(bias), scale)
    return _to_map(result, operands.query), logs.transpose(1, 2).reshape(operands.query.shape[:4])


def differentiate_map(
    operands: Operands,
    bias: torch.Tensor | None,
    scale: float,
    grad_out: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """Computes the gradients of query, key and value of a map that is one tile; arguments as in `attend_map`."""
    logs = lse.flatten(1, 2).transpose(1, 2)
    query, key, value, upstream, output = map(_heads_first, (*operands[:3], grad_out, out))
    results = cpu_sdpa.differentiate(upstream, (query, key, value), output, logs, _batched(bias), scale)
    return tuple(_to_map(one, like) for one, like in zip(results, operands[:3], strict=True))


class SdpaChunk(Chunk):
    """A chunk of tiles as operands (tiles, heads, positions, channels) of torch's attention."""

    tiles: SdpaTiles

    def forward(self, out: torch.Tensor, lse: torch.Tensor) -> None:
        """Writes the chunk's part of the output and of the log-sum-exps."""
        result, logs = cpu_sdpa.attend(*self._operands(), _batched(self.tiles.bias), self.tiles.product_scale)
        self._set_queries(out, result)
        self._set_queries(lse[..., None], logs[..., None])

    def backward(
        self,
        grad_out: torch.Tensor,
        grad_lse: torch.Tensor | None,
        out: torch.Tensor,
        lse: torch.Tensor,
        grads: Operands,
    ) -> None:
        """Writes the chunk's gradients to `grads`, or adds them where tiles share elements."""
        assert grad_lse is None
        assert grads.rpb is None
        logs = self._flat(self.query_tiles(lse[..., None])).squeeze(-1)
        upstream, outputs = self._flat_values(grad_out), self._flat_values(out)
        bias, scale = _batched(self.tiles.bias), self.tiles.product_scale
        results = cpu_sdpa.differentiate(upstream, self._operands(), outputs, logs, bias, scale)
        self._set_query_gradient(results[0], grads)
        self._add_flat_keys(grads.key, results[1])
        self._add_flat_keys(grads.value, results[2])

    def _operands(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns queries, keys and values; the queries are already scaled where there are terms."""
        tiles, operands = self.tiles, self.tiles.operands
        if not tiles.has_terms and not tiles.is_padded and tiles.dim == operands.value.shape[4]:
            keys, values = (self._flat(self.key_tiles(one)) for one in (operands.key, operands.value))
            return self._flat(self.query_tiles(operands.query)), keys, values
        queries = self._padded(self.query_tiles(operands.query))
        if tiles.has_terms:
            queries[..., : tiles.dim].mul_(tiles.scale)
        for terms, run, channels, axis in tiles.term_channels():
            if terms is not None:
                queries[..., channels].copy_(terms_by_key(self.query_tiles(terms), run, axis))
        flat = [self._flat(queries)]
        for buffer, tensor in zip(tiles.buffers, (operands.key, operands.value), strict=True):
            by_tile = buffer[: self.count].view(*self.grid, *buffer.shape[1:])
            self._inside(by_tile)[..., : tensor.shape[-1]].copy_(self.key_tiles(tensor))
            flat.append(self._flat(by_tile))
        return flat[0], flat[1], flat[2]

    def _flat_values(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the chunk's part of a tensor on the query grid, padded with zeros to the operands' channels."""
        view = self.query_tiles(tensor)
        return self._flat(view if view.shape[-1] == self.tiles.padded_channels else self._padded(view))

    def _set_queries(self, total: torch.Tensor, source: torch.Tensor) -> None:
        """Writes (tiles, heads, queries, channels) to a tensor on the query grid."""
        target = self.query_tiles(total)
        source = source.transpose(1, 2)[..., : target.shape[-1]]
        target.copy_(source.unflatten(1, target.shape[3:5]).unflatten(0, self.grid))

    def _set_query_gradient(self, source: torch.Tensor, grads: Operands) -> None:
        """Writes the gradients of the queries and of their terms."""
        tiles, target = self.tiles, self.query_tiles(grads.query)
        source = source.transpose(1, 2).reshape(*target.shape[:-1], -1)
        queries = source[..., : tiles.dim]
        target.copy_(queries.mul_(tiles.scale) if tiles.has_terms else queries)
        for gradient, (_, run, channels, axis) in zip(
            (grads.row_terms, grads.col_terms), tiles.term_channels(), strict=True
        ):
            if gradient is not None:
                set_term_gradient(self.query_tiles(gradient), source[..., channels], run, axis)

    def _add_flat_keys(self, total: torch.Tensor, source: torch.Tensor) -> None:
        """Adds gradients (tiles, heads, keys, channels) of keys or values to a tensor on the key grid."""
        row_run, col_run = self.tiles.row_run, self.tiles.col_run
        source = source.transpose(1, 2)[..., : total.shape[-1]]
        by_tile = source.unflatten(1, (row_run.extent, col_run.extent)).unflatten(0, self.grid)
        self.add_keys(total, self._inside(by_tile))

    def _inside(self, by_tile: torch.Tensor) -> torch.Tensor:
        """Returns the keys on the map of (images, tile rows, tile columns, rows, columns, heads, channels)."""
        row_run, col_run = self.tiles.row_run, self.tiles.col_run
        return by_tile.narrow(3, row_run.before, row_run.keys).narrow(4, col_run.before, col_run.keys)

    def _padded(self, view: torch.Tensor) -> torch.Tensor:
        """Copies a result of `query_tiles`, padded with zeros to `padded_channels`."""
        tile = view.new_zeros((*view.shape[:-1], self.tiles.padded_channels), dtype=self.tiles.dtype)
        tile[..., : view.shape[-1]].copy_(view)
        return tile

    def _flat(self, view: torch.Tensor) -> torch.Tensor:
        """Reshapes tiles to (tiles, heads, positions, channels), without a copy if possible."""
        return view.reshape(self.count, -1, *view.shape[5:]).to(self.tiles.dtype).transpose(1, 2)


class SdpaTiles(EqualTiles[SdpaChunk]):
    """Equal tiles for torch's attention, with the buffers for one chunk of them."""

    chunk_type = SdpaChunk

    @functools.cached_property
    def bias(self) -> torch.Tensor | None:
        """The bias of each tile, (heads or 1, queries, keys), or None."""
        return tile_bias(self.operands, self.row_run, self.col_run, self.dtype)

    @property
    def padded_channels(self) -> int:
        """Channels of all operands: torch's attention needs the same number, so the largest."""
        return max(self.channels, self.operands.value.shape[4])

    @functools.cached_property
    def buffers(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Buffers for the keys and the values of a chunk, (tiles, rows, columns, heads, `padded_channels`).

        They hold the zeros and ones that are the same in every chunk.
        """
        shape = (self.max_tiles, self.row_run.extent, self.col_run.extent, self.heads, self.padded_channels)
        keys, values = (torch.zeros(shape, dtype=self.dtype, device=self.query.device) for _ in range(2))
        for row in range(self.row_channels):
            keys[:, row, :, :, self.dim + row] = 1
        for col in range(self.col_channels):
            keys[:, :, col, :, self.dim + self.row_channels + col] = 1
        return keys, values

    def add_bias_gradient(self, grads: Operands) -> None:
        """Does nothing: torch's attention has no gradient of a bias."""


def _batched(bias: torch.Tensor | None) -> torch.Tensor | None:
    """Adds the dimension of the tiles to a bias (heads or 1, queries, keys)."""
    return None if bias is None else bias[None]


def _heads_first(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a view (B, heads, positions, dim) of (B, H, W, heads, dim)."""
    return tensor.flatten(1, 2).transpose(1, 2)


def _to_map(result: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Reshapes (B, heads, positions, dim) to the shape of an operand, contiguous; no copy in torch's own layout."""
    return result.transpose(1, 2).contiguous().view(like.shape)
