"""What a launch needs to know beside its operands: the map's shape, sizes of tiles, and who sees a region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton

from ...triton_common import launch
from ..geometry import Grid, times_seen
from . import tile_sizes as tuning


@dataclass(frozen=True)
class Plan:
    """A call's regions and how its kernels go about them.

    Attributes:
        regions: number of regions.
        tokens: number of tokens of a region.
        geometry: what kernels know of the map, `places.GEOMETRY`.
        masked: whether tiles reach over several regions and walk over the whole map under a mask.
    """

    regions: int
    tokens: int
    geometry: tuple[int, ...]
    masked: bool

    def tiles(self, tile: int) -> int:
        """Number of tiles of an image."""
        if self.masked:
            return triton.cdiv(self.regions * self.tokens, tile)
        return self.regions * triton.cdiv(self.tokens, tile)

    def sizes(self, kernel: str, query: torch.Tensor, value: torch.Tensor) -> dict[str, Any]:
        """What a kernel is compiled for, by parameter name."""
        dims = launch.dims(query, value)
        found = tuning.tuning(kernel, query.dtype, max(dims["BLOCK_DIM"], dims["BLOCK_DIM_V"]))
        # A region's last tile may be the only one: no larger than the least that holds it.
        tile = found.tile if self.masked else min(found.tile, max(16, triton.next_power_of_2(self.tokens)))
        return {
            **dims,
            "TILE": tile,
            "STEP": found.step,
            "MASKED": self.masked,
            "PRECISION": found.precision,
            "num_warps": max(1, found.warps * tile // found.tile),
            "num_stages": found.stages,
        }


def make_plan(query: torch.Tensor, routes: torch.Tensor, grid: Grid) -> Plan:
    """Plans a call for queries (B, H, W, heads, dim) and routes (B, regions, topk)."""
    height, width = query.shape[1:3]
    tall, wide = height // grid[0], width // grid[1]
    regions, tokens = grid[0] * grid[1], tall * wide
    reciprocals = (_reciprocal(one) for one in (grid[1], wide, tokens))
    geometry = (regions, grid[1], tall, wide, tokens, width, height * width, *reciprocals)
    return Plan(regions, tokens, geometry, prefers_mask(regions, routes.shape[2], tokens))


def prefers_mask(regions: int, topk: int, tokens: int) -> bool:
    """Whether regions are so small that a tile had better hold several of them.

    A tile has 16 tokens at least. With one region a tile the rest of it would idle over the keys of `topk` regions;
    with several, all tokens work on the keys of all regions, which a tile then loads once instead of once a region.
    """
    return tokens < 16 and regions * tokens <= 2 * 16 * topk


def mask_of(routes: torch.Tensor, regions: int) -> torch.Tensor:
    """Logarithms to base 2 of how often a region sees another, -inf for never: (B, regions, regions) float32."""
    return times_seen(routes.clamp(0, regions - 1), regions).float().log2()


def seen_by(routes: torch.Tensor, regions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Turns routes around: for each region the regions that see it, in ascending order.

    Returns:
        `starts`, (B * regions + 1,) int64, and `seers`, (B * regions * topk,) int64: region r of image b is seen by the
        regions `seers[starts[b * regions + r] : starts[b * regions + r + 1]]` of its image.
    """
    batch, _, topk = routes.shape
    images = torch.arange(batch, device=routes.device)[:, None, None]
    seen = (routes.clamp(0, regions - 1) + images * regions).flatten()
    seen, order = seen.sort(stable=True)
    starts = torch.searchsorted(seen, torch.arange(batch * regions + 1, device=routes.device))
    return starts, order // topk % regions


def _reciprocal(divisor: int) -> int:
    """2^32 / divisor as `places.divide` takes it."""
    bits = min(2**32 // divisor, 2**32 - 1)
    return bits - 2**32 if bits >= 2**31 else bits
