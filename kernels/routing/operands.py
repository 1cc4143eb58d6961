"""The tensors that routed attention takes, in the order in which every function and operator passes them."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Operands(NamedTuple):
    """The tensor arguments of routed attention; their gradients have the same order.

    Attributes:
        query: (B, H, W, heads, dim).
        key: (B, H, W, heads, dim).
        value: (B, H, W, heads, dim_v).
        routes: (B, regions, topk) int64 indices of the regions whose keys each region's queries see; no gradient.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    routes: torch.Tensor
