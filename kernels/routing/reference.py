"""The definition of routed attention on a 2-D map, by brute force. All other implementations are compared with it."""

from __future__ import annotations

import torch

from .geometry import Grid, route_counts
from .operands import Operands


def routed_attention_2d_reference(operands: Operands, grid: Grid, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes attention in which a query sees the keys of the regions that its own region is routed to.

    Stores the scores of all pairs of queries and keys, so memory grows with the square of the map. Differentiable any
    number of times, in any floating-point dtype, on any device.

    Args:
        operands: Query, key and value of one dtype. A region that occurs n times in a region's routes counts as n
            regions with the same keys.
        grid: Number of rows and columns of regions, which divide H and W.
        scale: Factor of the scores.

    Returns:
        The output (B, H, W, heads, dim_v), and the log-sum-exps (B, H, W, heads) of the scores.
    """
    query, key, value, routes = operands
    height, width = query.shape[1:3]
    rows, cols = grid
    row = torch.arange(height, device=query.device) // (height // rows)
    col = torch.arange(width, device=query.device) // (width // cols)
    region = (row[:, None] * cols + col).flatten()
    counts = route_counts(routes, rows * cols)[:, region][:, :, region]

    query, key, value = (one.flatten(1, 2) for one in (query, key, value))
    scores = scale * torch.einsum("bqhd,bkhd->bhqk", query, key) + counts[:, None].to(query.dtype).log()
    scores = scores.masked_fill(counts[:, None] == 0, -torch.inf)  # also where a key is NaN
    lse = scores.logsumexp(dim=-1)
    out = torch.einsum("bhqk,bkhd->bqhd", (scores - lse[..., None]).exp(), value)
    return out.unflatten(1, (height, width)), lse.transpose(1, 2).unflatten(1, (height, width))
