"""What a launch needs besides its operands: the regions of the map, sizes of tiles, and which regions see a region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton

from ...triton_common.addressing import vector_dim
from ...triton_common.tile_sizes import choose_tile_sizes
from ..geometry import Grid, route_counts
from .addressing import RegionGrid
from .tile_sizes import TABLES


@dataclass(frozen=True)
class Plan:
    """The regions of a call, and how its kernels process them.

    Attributes:
        grid: The regions.
        masked: Whether tiles span several regions and process all keys of the map under a mask.
    """

    grid: RegionGrid
    masked: bool

    def tiles(self, tile: int) -> int:
        """Returns the number of tiles of `tile` tokens per image."""
        if self.masked:
            return triton.cdiv(self.grid.map_tokens, tile)
        return self.grid.regions * triton.cdiv(self.grid.tokens, tile)

    def options(self, kernel: str, query: torch.Tensor, value: torch.Tensor) -> dict[str, Any]:
        """Returns the compile-time constants and launch options of a kernel by name."""
        sizes = choose_tile_sizes(TABLES, kernel, query, value)
        # The only tile of a small region need not be larger than the region.
        tile = sizes.tile if self.masked else min(sizes.tile, max(16, triton.next_power_of_2(self.grid.tokens)))
        return {
            "QK_DIM": vector_dim(query),
            "V_DIM": vector_dim(value),
            "TILE": tile,
            "STEP": sizes.step,
            "MASKED": self.masked,
            **sizes.launch_options(tile),
        }


def make_plan(query: torch.Tensor, routes: torch.Tensor, grid: Grid) -> Plan:
    """Plans a call for queries (B, H, W, heads, dim) and routes (B, regions, topk)."""
    height, width = query.shape[1:3]
    rows, cols = height // grid[0], width // grid[1]
    regions, tokens = grid[0] * grid[1], rows * cols
    reciprocals = (_reciprocal(divisor) for divisor in (grid[1], cols, tokens))
    region_grid = RegionGrid(regions, grid[1], rows, cols, tokens, width, height * width, *reciprocals)
    return Plan(region_grid, prefers_mask(regions, routes.shape[2], tokens))


def prefers_mask(regions: int, topk: int, tokens: int) -> bool:
    """Whether regions are so small that tiles should span several of them.

    A tile has >= 16 tokens. With one region per tile, the rest of the tile idles over the keys of `topk` regions. With
    several, all tokens process the keys of all regions, but a tile loads each key once and not once per region.
    """
    return tokens < 16 and regions * tokens <= 2 * 16 * topk


def log2_times_seen(routes: torch.Tensor, regions: int) -> torch.Tensor:
    """Returns log2 of how often a region sees another, -inf for never: (B, regions, regions) float32."""
    return route_counts(routes.clamp(0, regions - 1), regions).float().log2()


def source_regions(routes: torch.Tensor, regions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inverts routes: lists the regions that route to each region, in ascending order.

    Returns:
        `starts`, (B * regions + 1,) int64, and `sources`, (B * regions * topk,) int64. The regions that route to region
        r of image b are `sources[starts[b * regions + r] : starts[b * regions + r + 1]]`, regions of the same image.
    """
    batch, _, topk = routes.shape
    images = torch.arange(batch, device=routes.device)[:, None, None]
    targets = (routes.clamp(0, regions - 1) + images * regions).flatten()
    targets, order = targets.sort(stable=True)
    starts = torch.searchsorted(targets, torch.arange(batch * regions + 1, device=routes.device))
    return starts, order // topk % regions


def _reciprocal(divisor: int) -> int:
    """Returns 2^32 / divisor as `addressing.divide` takes it."""
    bits = min(2**32 // divisor, 2**32 - 1)
    return bits - 2**32 if bits >= 2**31 else bits
