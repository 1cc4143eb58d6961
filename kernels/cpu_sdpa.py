"""PyTorch's fused attention for CPUs, which takes and returns log-sum-exps and stores only a few rows of scores."""

from __future__ import annotations

import torch

_SDPA = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_SDPA_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes attention of (batch, heads, positions, dim) operands, which all have the same dim.

    Args:
        query: The queries; a stride of 1 in the last dimension, as for all operands.
        key: The keys.
        value: The values.
        bias: Addend of the scores, broadcastable to (batch, heads, queries, keys), or None.
        scale: Factor of the products of queries and keys.

    Returns:
        The output, and the log-sum-exps (batch, heads, queries). See `has_lost_queries`.
    """
    return _SDPA(query, key, value, attn_mask=bias, scale=scale)


def differentiate(
    grad_out: torch.Tensor,
    operands: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    out: torch.Tensor,
    lse: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Computes the gradients of query, key and value from the results of `attend`."""
    return _SDPA_BACKWARD(grad_out, *operands, out, lse, 0.0, False, attn_mask=bias, scale=scale)


def has_lost_queries(out: torch.Tensor, lse: torch.Tensor) -> bool:
    """Whether some queries may have got zeros where their softmax is not defined.

    PyTorch's fused attention returns zeros, and a log-sum-exp of exactly 0, for a query whose scores are all -inf, and
    for one with fewer than a vector's length of scores that are all NaN.

    Args:
        out: (..., dim).
        lse: (...).
    """
    if int(lse.count_nonzero()) == lse.numel():  # the fastest test of this on a CPU
        return False
    return bool((out[lse == 0] == 0).all(-1).any())
