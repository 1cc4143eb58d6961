"""The division of a map into a grid of equal regions, and routes between regions."""

from __future__ import annotations

import torch

from ..dispatch import compute_dtype

Grid = tuple[int, int]
"""Number of rows and columns of regions."""
_MAX_COMPARISONS = 1 << 24


def by_region(tensor: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Returns a view (B, region rows, region columns, heads, rows, columns, dim) of a (B, H, W, heads, dim) map."""
    rows, cols = grid
    tensor = tensor.unflatten(2, (cols, tensor.shape[2] // cols)).unflatten(1, (rows, tensor.shape[1] // rows))
    return tensor.permute(0, 1, 3, 5, 2, 4, 6)


def to_map(regions: torch.Tensor) -> torch.Tensor:
    """Reorders a tensor of the shape of `by_region`'s result to a map (B, H, W, heads, dim)."""
    return regions.permute(0, 1, 4, 2, 5, 3, 6).flatten(3, 4).flatten(1, 2)


def region_means(tensor: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Computes each region's mean token, with all heads' channels concatenated: (B, regions, heads * dim).

    The result is in float32, or in float64 for float64 operands.
    """
    rows, cols = grid
    # Rows first: a single sum over both axes of regions takes torch three times as long on a CPU.
    means = tensor.unflatten(1, (rows, tensor.shape[1] // rows)).mean(2, dtype=compute_dtype(tensor.dtype))
    means = means.unflatten(2, (cols, tensor.shape[2] // cols)).mean(3)
    return means.flatten(3).flatten(1, 2)


def route_counts(routes: torch.Tensor, regions: int) -> torch.Tensor:
    """Counts how often each region is in each region's routes: (B, regions, regions), int64."""
    indices = torch.arange(regions, device=routes.device)
    # Compared in parts, because the comparisons take `regions` times as much memory as the routes.
    most = max(1, _MAX_COMPARISONS // max(1, routes.shape[0] * regions * regions))
    counts = [(part[..., None] == indices).sum(2) for part in routes.split(most, dim=2)]
    return counts[0] if len(counts) == 1 else torch.stack(counts).sum(0)


def check_routes(routes: torch.Tensor, grid: Grid) -> None:
    """Raises a ValueError for routes to regions that do not exist. Waits for the device."""
    if routes.numel() == 0:
        return
    last = grid[0] * grid[1] - 1
    low, high = (int(one) for one in routes.aminmax())
    if low < 0 or high > last:
        raise ValueError(f"routes must be region indices between 0 and {last}, got {low if low < 0 else high}.")
