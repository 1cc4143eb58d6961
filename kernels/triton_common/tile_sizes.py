"""Choice of tile sizes by kernel, dtype, dim and shared memory.

Fixed tables instead of timings at run time: results are the same each time, because the order of summation is.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from .addressing import padded_dim


class TileSizes(NamedTuple):
    """How a kernel divides its work.

    Attributes:
        tile: Positions that a program owns (queries or, for their gradients, keys).
        step: Positions of the other side that a program processes at a time.
        warps: Warps per program with a full tile.
        stages: Steps whose loads are in flight at a time.
        precision: `input_precision` of float32 products: "ieee" or "tf32x3".
    """

    tile: int
    step: int
    warps: int
    stages: int
    precision: str = "ieee"

    def launch_options(self, tile: int) -> dict[str, Any]:
        """Returns the launch's options by name, for a tile that may be smaller than `self.tile`."""
        warps = max(1, self.warps * tile // self.tile)
        return {"PRECISION": self.precision, "num_warps": warps, "num_stages": self.stages}


TileTable = Mapping[int, Mapping[str | None, TileSizes]]
"""Sizes by padded dim, then by kernel; None for kernels that are not named."""


class TileTables(NamedTuple):
    """The tables of an operation's kernels.

    Attributes:
        half: For float16 and bfloat16.
        float32: For float32.
    """

    half: TileTable
    float32: TileTable

    def table(self, dtype: torch.dtype) -> TileTable:
        """Returns the table for a dtype."""
        return self.float32 if dtype == torch.float32 else self.half


def max_dim(tables: TileTables, dtype: torch.dtype) -> int:
    """Returns the largest dim that the kernels support."""
    return max(tables.table(dtype))


def choose_tile_sizes(tables: TileTables, kernel: str, query: torch.Tensor, value: torch.Tensor) -> TileSizes:
    """Looks up a kernel's sizes for queries (..., dim) and values (..., dim_v), and fits them to the device."""
    dim = max(padded_dim(query.shape[-1]), padded_dim(value.shape[-1]))
    table = tables.table(query.dtype)
    by_kernel = table[min(known for known in table if known >= dim)]
    sizes = by_kernel.get(kernel, by_kernel[None])
    available = shared_memory(query.device)
    return sizes if available is None else fit_to_shared_memory(sizes, available, dim, query.element_size())


def fit_to_shared_memory(sizes: TileSizes, available: int, dim: int, element_size: int) -> TileSizes:
    """Halves steps, then tiles, until a program needs at most `available` bytes of shared memory.

    Sizes that the kernels' tables hold are returned unchanged on a GPU with 99 KB or more, up to dim 128.
    """
    while _shared_memory_bound(sizes, dim, element_size) > available and (sizes.step > 16 or sizes.tile > 16):
        if sizes.step > 16:
            sizes = sizes._replace(step=sizes.step // 2)
        else:
            sizes = sizes._replace(tile=sizes.tile // 2, warps=max(1, sizes.warps // 2))
    return sizes


def shared_memory(device: torch.device) -> int | None:
    """Returns the bytes of shared memory that a program can have on a GPU; None for other devices."""
    return _gpu_shared_memory(device.index or 0) if device.type == "cuda" else None


@functools.cache
def _gpu_shared_memory(index: int) -> int:
    return torch.cuda.get_device_properties(index).shared_memory_per_block_optin


def _shared_memory_bound(sizes: TileSizes, dim: int, element_size: int) -> int:
    """Bytes of the operands that a program may hold in shared memory: its tile, and each stage's step."""
    return 2 * dim * element_size * (sizes.tile + sizes.stages * sizes.step)
