"""Routed attention as a few of torch's own operators, for exporters that know no others."""

from __future__ import annotations

import torch

from .geometry import Grid, by_region, on_map


def routed_attention_2d_plain(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    routes: torch.Tensor,
    grid: Grid,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the operator's results by gathering every region's keys at once, `topk` copies of them.

    Arguments and results as in `reference.routed_attention_2d_reference`. Routes are not checked.
    """
    batch, regions, topk = routes.shape
    images = torch.arange(batch, device=routes.device)[:, None, None]
    seen = (routes + images * regions).flatten()
    blocks = by_region(query, grid)
    queries = blocks.flatten(4, 5).flatten(0, 2)
    keys, values = (
        by_region(one, grid).flatten(4, 5).flatten(0, 2).index_select(0, seen).unflatten(0, (-1, topk)).transpose(1, 2)
        for one in (key, value)
    )
    scores = scale * (queries @ keys.flatten(2, 3).transpose(-1, -2))
    lse = scores.logsumexp(-1, keepdim=True)
    out = torch.softmax(scores, -1) @ values.flatten(2, 3)
    tiles = (*blocks.shape[:4], blocks.shape[4], blocks.shape[5])
    return on_map(out.reshape(*tiles, value.shape[4])), on_map(lse.reshape(*tiles, 1)).squeeze(-1)
