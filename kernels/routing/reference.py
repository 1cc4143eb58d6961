"""The definition of routed attention on a 2-D map, by brute force; everything else is held against it."""

from __future__ import annotations

import torch

from .geometry import Grid, times_seen


def routed_attention_2d_reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    routes: torch.Tensor,
    grid: Grid,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention in which a query sees the keys of the regions that its own region is routed to.

    Scores of all pairs of queries and keys are stored: memory grows with the square of the map. Differentiable by
    autograd, any number of times, in any floating-point dtype, on any device.

    Args:
        query: (B, H, W, heads, dim).
        key: (B, H, W, heads, dim).
        value: (B, H, W, heads, dim_v).
        routes: (B, regions, topk) int64, regions in row-major order; a region that is named n times counts as n
            regions with the same keys.
        grid: rows and columns of regions, which divide H and W.
        scale: multiplies the scores.

    Returns:
        The output (B, H, W, heads, dim_v), and (B, H, W, heads) natural logarithms of the sums of the exponentials of
        the scores.
    """
    height, width = query.shape[1:3]
    rows, cols = grid
    row = torch.arange(height, device=query.device) // (height // rows)
    col = torch.arange(width, device=query.device) // (width // cols)
    region = (row[:, None] * cols + col).flatten()
    times = times_seen(routes, rows * cols)[:, region][:, :, region]

    query, key, value = (one.flatten(1, 2) for one in (query, key, value))
    scores = scale * torch.einsum("bqhd,bkhd->bhqk", query, key) + times[:, None].to(query.dtype).log()
    lse = scores.logsumexp(dim=-1)
    out = torch.einsum("bhqk,bkhd->bqhd", (scores - lse[..., None]).exp(), value)
    return out.unflatten(1, (height, width)), lse.transpose(1, 2).unflatten(1, (height, width))
