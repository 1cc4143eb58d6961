"""Parts of a routed attention: queries with the keys that they see, gathered or under a mask.

Usually, the keys of a region's routes are gathered. Where regions are tiny and see a large part of the map, gathering
costs more than it saves; there, complete rows of the map see all of it under a mask.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ...dispatch import compute_dtype
from ..geometry import Grid, by_region, route_counts
from ..operands import Operands

# Bytes of gathered keys (or of the mask) per part and thread: enough to make the overhead of calls negligible.
_CHUNK_BYTES = 1 << 20


class GatheredRegions:
    """A block of regions of one image, each with the keys of its routes.

    Operands are (regions, heads, tokens, dim) in the compute dtype.

    Args:
        image: Index of the image.
        block: First and end region row, first and end region column.
        runs: (regions, topk * rows of a region) indices of the runs of the keys; a run is one row of one region.
        grid: Number of rows and columns of regions.
    """

    bias = None

    def __init__(self, image: int, block: tuple[int, int, int, int], runs: torch.Tensor, grid: Grid) -> None:
        self._image, self._block, self._indices, self._grid = image, block, runs, grid

    def queries(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns this part of the queries, or of a tensor on the query grid."""
        block = self._regions(tensor)
        tokens = block.permute(0, 1, 3, 4, 2, 5).flatten(0, 1).flatten(1, 2)
        return _in_compute_dtype(tokens.transpose(1, 2))

    def keys(self, tensor: torch.Tensor) -> torch.Tensor:
        """Gathers the keys or values that these queries see."""
        runs = _runs(tensor[self._image], self._grid)
        seen = runs.index_select(0, self._indices.flatten())
        seen = seen.reshape(self._indices.shape[0], -1, *tensor.shape[3:])
        return _in_compute_dtype(seen.transpose(1, 2))

    def set_queries(self, tensor: torch.Tensor, results: torch.Tensor) -> None:
        """Writes results of these queries to a map."""
        block = self._regions(tensor)
        shape = (*block.shape[:2], block.shape[3], block.shape[4], block.shape[2], block.shape[5])
        block.copy_(results.transpose(1, 2).reshape(shape).permute(0, 1, 4, 2, 3, 5))

    def add_keys(self, tensor: torch.Tensor, gradients: torch.Tensor) -> None:
        """Adds gradients of the result of `keys` to those of a contiguous map."""
        runs = _runs(tensor[self._image], self._grid)
        runs.index_add_(0, self._indices.flatten(), gradients.transpose(1, 2).reshape(-1, *runs.shape[1:]))

    def _regions(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns a view of the block: (region rows, region columns, heads, rows, columns, dim)."""
        top, bottom, left, right = self._block
        return by_region(tensor, self._grid)[self._image, top:bottom, left:right]


class MaskedRows:
    """Rows of one image that see all of it under a mask. Operands are (1, heads, tokens, dim) in the compute dtype.

    Args:
        image: Index of the image.
        rows: The rows.
        bias: (1, 1, queries, keys) logarithms of the number of times that each query sees each key.
    """

    def __init__(self, image: int, rows: slice, bias: torch.Tensor) -> None:
        self._image, self._rows, self.bias = image, rows, bias

    def queries(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns this part of the queries, or of a tensor on the query grid."""
        return _in_compute_dtype(_heads_first(tensor[self._image, self._rows]))

    def keys(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the image's keys or values."""
        return _in_compute_dtype(_heads_first(tensor[self._image]))

    def set_queries(self, tensor: torch.Tensor, results: torch.Tensor) -> None:
        """Writes results of these queries to a map."""
        tensor[self._image, self._rows].copy_(results[0].transpose(0, 1).unflatten(0, (-1, tensor.shape[2])))

    def add_keys(self, tensor: torch.Tensor, gradients: torch.Tensor) -> None:
        """Adds gradients of the result of `keys` to those of a contiguous map."""
        tensor[self._image] += gradients[0].transpose(0, 1).view(tensor.shape[1:])


def parts(operands: Operands, grid: Grid) -> Iterator[GatheredRegions | MaskedRows]:
    """Divides a call into parts."""
    query, key, value, routes = operands
    tokens = (query.shape[1] // grid[0]) * (query.shape[2] // grid[1])
    token_bytes = query.shape[3] * max(key.shape[4], value.shape[4]) * compute_dtype(query.dtype).itemsize
    max_bytes = _CHUNK_BYTES * (torch.get_num_threads() if query.device.type == "cpu" else 64)
    if prefers_mask(grid[0] * grid[1], routes.shape[2], tokens):
        return _masked_rows(query, routes, grid, max_bytes)
    return _gathered_regions(query, routes, grid, max(1, max_bytes // (routes.shape[2] * tokens * token_bytes)))


def prefers_mask(regions: int, topk: int, tokens: int) -> bool:
    """Returns whether a mask is faster than gathering, for regions of `tokens` tokens.

    Measured with 4 tokens per region: attending to 12 times as many keys as needed costs more than gathering, and 3
    times as many costs less.
    """
    return regions <= topk * (1 + 16 / tokens)


def contiguous_runs(tensor: torch.Tensor) -> torch.Tensor:
    """Returns keys or values in a layout that `GatheredRegions` can view as runs: the tensor itself, or a copy."""
    return tensor if tensor.stride(1) == tensor.shape[2] * tensor.stride(2) else tensor.contiguous()


def _gathered_regions(
    query: torch.Tensor, routes: torch.Tensor, grid: Grid, max_regions: int
) -> Iterator[GatheredRegions | MaskedRows]:
    """Yields blocks of at most `max_regions` regions: complete region rows, or parts of one."""
    batch, height = query.shape[:2]
    (rows, cols), size = grid, height // grid[0]
    if routes.device.type != "cpu":
        routes = routes.clamp(0, rows * cols - 1)
    steps = torch.arange(size, device=routes.device) * cols
    row_part, col_part = (max(1, max_regions // cols), cols) if max_regions >= cols else (1, max_regions)
    for image in range(batch):
        first = (routes[image] // cols * (size * cols) + routes[image] % cols)[..., None]
        runs = (first + steps).view(rows, cols, -1)
        for top in range(0, rows, row_part):
            for left in range(0, cols, col_part):
                block = (top, min(top + row_part, rows), left, min(left + col_part, cols))
                seen = runs[block[0] : block[1], block[2] : block[3]].flatten(0, 1)
                yield GatheredRegions(image, block, seen, grid)


def _masked_rows(
    query: torch.Tensor, routes: torch.Tensor, grid: Grid, max_bytes: int
) -> Iterator[GatheredRegions | MaskedRows]:
    """Yields rows of the map, as many at a time as have a mask of at most `max_bytes`."""
    batch, height, width = query.shape[:3]
    dtype = compute_dtype(query.dtype)
    regions = grid[0] * grid[1]
    row = torch.arange(height, device=routes.device) // (height // grid[0])
    col = torch.arange(width, device=routes.device) // (width // grid[1])
    region = row[:, None] * grid[1] + col
    part = min(height, max(1, max_bytes // (width * width * height * dtype.itemsize)))
    log_counts = route_counts(routes.clamp(0, regions - 1), regions).to(dtype).log_()
    for image in range(batch):
        bias = log_counts[image].index_select(1, region.flatten())
        for top in range(0, height, part):
            rows = slice(top, min(top + part, height))
            yield MaskedRows(image, rows, bias.index_select(0, region[rows].flatten())[None, None])


def _runs(image: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Returns a view of an image as (runs, columns of a region, heads, dim): a run is one row of one region."""
    size = image.shape[1] // grid[1]
    return image.view(image.shape[0] * grid[1], size, *image.shape[2:])


def _heads_first(rows: torch.Tensor) -> torch.Tensor:
    """Returns a view (1, heads, tokens, dim) of rows of an image, (rows, W, heads, dim)."""
    return rows.flatten(0, 1).transpose(0, 1)[None]


def _in_compute_dtype(tensor: torch.Tensor) -> torch.Tensor:
    """Casts to the compute dtype, with a contiguous last dimension, which torch's attention for CPUs requires."""
    tensor = tensor.to(compute_dtype(tensor.dtype))
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
