"""Routed attention in a small set of PyTorch's own operators, for exporters that support no custom operators."""

from __future__ import annotations

import torch

from .geometry import Grid, by_region, to_map
from .operands import Operands


def routed_attention_2d_exportable(operands: Operands, grid: Grid, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the operator's results by gathering the keys of all regions at once, `topk` copies of them.

    Arguments and results are those of `reference.routed_attention_2d_reference`. Routes are not checked.
    """
    query, key, value, routes = operands
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
    shape = blocks.shape[:6]
    return to_map(out.reshape(*shape, value.shape[4])), to_map(lse.reshape(*shape, 1)).squeeze(-1)
