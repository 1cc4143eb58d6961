"""Dense attention, in a form that every transform of `torch.func` supports."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None = None, *, scale: float
) -> torch.Tensor:
    """Computes softmax(scale * query key^T + bias) value.

    `torch.func` and forward-mode differentiation use PyTorch's composite implementation, because the fused ones have
    neither batching rules nor forward derivatives.

    Args:
        query: (B, heads, N, dim).
        key: (B, heads, M, dim).
        value: (B, heads, M, dim_v).
        bias: Broadcastable to (B, heads, N, M).
        scale: Factor of the products.

    Returns:
        (B, heads, N, dim_v).
    """
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(query, key, value, bias, scale=scale)
    return F.scaled_dot_product_attention(query, key, value, bias, scale=scale)
