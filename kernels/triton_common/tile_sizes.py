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


class DeviceLimits(NamedTuple):
    """What a GPU limits kernels by.

    Attributes:
        shared_memory: Bytes of shared memory that a program can have.
        capability: Compute capability times ten.
    """

    shared_memory: int
    capability: int


_SMALLEST = TileSizes(16, 16, 1, 2)
"""No size may be less than what `tl.dot` requires."""
_FULL_CAPABILITY = 80
"""Older GPUs have no bfloat16, no TF32 and no asynchronous copies."""
_OLDEST_CAPABILITY = 75
_MAX_DIM_OF_OLD_GPUS = 32
"""On older GPUs, kernels for longer vectors spill hundreds of bytes per thread."""


def max_dim(tables: TileTables, dtype: torch.dtype, limits: DeviceLimits | None = None) -> int:
    """Returns the largest dim that the kernels support on a GPU with these limits, 0 for none."""
    dims = [0, *tables.table(dtype)]
    if limits is None:
        return max(dims)
    if limits.capability < _FULL_CAPABILITY:
        is_supported = limits.capability >= _OLDEST_CAPABILITY and dtype == torch.float16
        dims = [dim for dim in dims if is_supported and dim <= _MAX_DIM_OF_OLD_GPUS]
    return max(
        (dim for dim in dims if _shared_memory(_SMALLEST, dim, dtype.itemsize) <= limits.shared_memory), default=0
    )


def choose_tile_sizes(tables: TileTables, kernel: str, query: torch.Tensor, value: torch.Tensor) -> TileSizes:
    """Looks up a kernel's sizes for queries (..., dim) and values (..., dim_v), and fits them to the device."""
    dim = max(padded_dim(query.shape[-1]), padded_dim(value.shape[-1]))
    table = tables.table(query.dtype)
    by_kernel = table[min(known for known in table if known >= dim)]
    sizes = by_kernel.get(kernel, by_kernel[None])
    limits = device_limits(query.device)
    return sizes if limits is None else fit_to_shared_memory(sizes, limits.shared_memory, dim, query.element_size())


def fit_to_shared_memory(sizes: TileSizes, available: int, dim: int, element_size: int) -> TileSizes:
    """Halves steps, then tiles, until a program needs at most `available` bytes of shared memory.

    Sizes that the kernels' tables hold are returned unchanged on a GPU with 99 KB or more, up to dim 128.
    """
    while _shared_memory(sizes, dim, element_size) > available and (sizes.step > 16 or sizes.tile > 16):
        if sizes.step > 16:
            sizes = sizes._replace(step=sizes.step // 2)
        else:
            sizes = sizes._replace(tile=sizes.tile // 2, warps=max(1, sizes.warps // 2))
    return sizes


def device_limits(device: torch.device) -> DeviceLimits | None:
    """Returns the limits of a GPU; None for other devices."""
    return _gpu_limits(device.index or 0) if device.type == "cuda" else None


@functools.cache
def _gpu_limits(index: int) -> DeviceLimits:
    properties = torch.cuda.get_device_properties(index)
    return DeviceLimits(properties.shared_memory_per_block_optin, 10 * properties.major + properties.minor)


def _shared_memory(sizes: TileSizes, dim: int, element_size: int) -> int:
    """Estimates the bytes of shared memory that a program needs: operands of its tile, and of each stage's step."""
    return 2 * dim * element_size * (sizes.tile + sizes.stages * sizes.step)
