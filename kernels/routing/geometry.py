"""A map cut into a grid of equal regions, and which regions' keys a region's queries see."""

from __future__ import annotations

import torch

from ..dispatch import compute_dtype

Grid = tuple[int, int]
"""Rows and columns of regions."""
_MOST_COMPARISONS = 1 << 24


def by_region(tensor: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Views a (B, H, W, heads, dim) map as (B, region rows, region columns, heads, rows, columns, dim)."""
    rows, cols = grid
    tensor = tensor.unflatten(2, (cols, tensor.shape[2] // cols)).unflatten(1, (rows, tensor.shape[1] // rows))
    return tensor.permute(0, 1, 3, 5, 2, 4, 6)


def on_map(regions: torch.Tensor) -> torch.Tensor:
    """Puts what `by_region` views, or a tensor of that shape, back on the map: (B, H, W, heads, dim)."""
    return regions.permute(0, 1, 4, 2, 5, 3, 6).flatten(3, 4).flatten(1, 2)


def region_means(tensor: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Means over each region's tokens, all heads' channels side by side: (B, regions, heads * dim), float32 or 64."""
    rows, cols = grid
    # Rows first: one sum over both axes of regions takes torch three times as long on a CPU.
    means = tensor.unflatten(1, (rows, tensor.shape[1] // rows)).mean(2, dtype=compute_dtype(tensor.dtype))
    means = means.unflatten(2, (cols, tensor.shape[2] // cols)).mean(3)
    return means.flatten(3).flatten(1, 2)


def times_seen(routes: torch.Tensor, regions: int) -> torch.Tensor:
    """Counts how often the queries of one region see the keys of another: (B, regions, regions), int64."""
    every = torch.arange(regions, device=routes.device)
    # Comparisons of some routes at a time, not all: there are `regions` times as many of these as routes.
    most = max(1, _MOST_COMPARISONS // max(1, routes.shape[0] * regions * regions))
    counts = [(some[..., None] == every).sum(2) for some in routes.split(most, dim=2)]
    return counts[0] if len(counts) == 1 else torch.stack(counts).sum(0)


def check_routes(routes: torch.Tensor, regions: int) -> None:
    """Raises a ValueError for routes to regions that do not exist. Waits for the device."""
    if routes.numel() == 0:
        return
    low, high = (int(one) for one in routes.aminmax())
    if low < 0 or high >= regions:
        wrong = low if low < 0 else high
        raise ValueError(f"routes must name regions 0 to {regions - 1}, but hold {wrong}.")
