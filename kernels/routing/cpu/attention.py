"""Routed attention in plain PyTorch: a few regions at a time, with the keys that they see gathered only for them.

Only one part of the attention exists at a time, so memory beyond operands and results does not grow with the batch or
with `topk`. Products and softmax are in float32 (float64 for float64 operands), whatever the operands' dtype. On a CPU
every sum has a fixed order, so results are reproducible bit for bit.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch.nn import functional

from ... import cpu_sdpa
from ...dispatch import compute_dtype
from ...operators import empty_attention_outputs
from ..geometry import Grid
from ..operands import Operands
from .parts import contiguous_runs, parts


def forward(operands: Operands, grid: Grid, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the output and the log-sum-exps.

    Args:
        operands: Query, key and value of any strides; routes in range.
        grid: Number of rows and columns of regions.
        scale: Factor of the scores.

    Returns:
        (B, H, W, heads, dim_v) in the query's dtype, and (B, H, W, heads) in float32 or float64, both contiguous.
    """
    query, key, value, routes = operands
    out, lse = empty_attention_outputs(query, value)
    key, value = contiguous_runs(key), contiguous_runs(value)
    for part in parts(Operands(query, key, value, routes), grid):
        outputs, logs = _attend(part.queries(query), part.keys(key), part.keys(value), part.bias, scale)
        part.set_queries(out, outputs)
        part.set_queries(lse[..., None], logs[..., None])
    return out, lse


def backward(
    grad_out: torch.Tensor,
    operands: Operands,
    out: torch.Tensor,
    lse: torch.Tensor,
    grid: Grid,
    scale: float,
    needed: Collection[str] = Operands._fields,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
    """Computes the gradients of query, key and value, whichever are `needed`, from that of the output.

    Recomputes the scores, one part at a time.

    Returns:
        The gradients in the order of `Operands`, each contiguous and in its operand's dtype; None for the routes.
    """
    query, key, value, routes = operands
    grad_query = torch.empty_like(query, memory_format=torch.contiguous_format)
    grad_key, grad_value = (
        torch.zeros(one.shape, dtype=compute_dtype(one.dtype), device=one.device) for one in (key, value)
    )
    key, value = contiguous_runs(key), contiguous_runs(value)
    for part in parts(Operands(query, key, value, routes), grid):
        upstream, outputs, logs = (part.queries(one) for one in (grad_out, out, lse[..., None]))
        gradients = _differentiate(
            upstream,
            part.queries(query),
            part.keys(key),
            part.keys(value),
            outputs,
            logs.squeeze(-1),
            part.bias,
            scale,
        )
        part.set_queries(grad_query, gradients[0])
        part.add_keys(grad_key, gradients[1])
        part.add_keys(grad_value, gradients[2])
    return grad_query, grad_key.to(key.dtype), grad_value.to(value.dtype), None


def _has_sdpa(device: torch.device) -> bool:
    return device.type == "cpu"


def _attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes attention of (matrices, heads, tokens, dim) operands: the output and the log-sum-exps."""
    if _has_sdpa(queries.device):
        dim_v = values.shape[3]
        padded = _padded_to_same_dim(queries, keys, values)
        out, lse = cpu_sdpa.attend(padded[0], padded[1], padded[2], bias, scale)
        if not cpu_sdpa.has_lost_queries(out, lse):
            return out[..., :dim_v], lse
    scores = _scores(queries, keys, bias, scale)
    return scores.softmax(-1) @ values, scores.logsumexp(-1)


def _differentiate(
    upstream: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Computes the gradients of `_attend`'s queries, keys and values."""
    if _has_sdpa(queries.device):
        dim, dim_v = queries.shape[3], values.shape[3]
        queries, keys, values, upstream, out = _padded_to_same_dim(queries, keys, values, upstream, out)
        gradients = cpu_sdpa.differentiate(upstream, (queries, keys, values), out, lse, bias, scale)
        return gradients[0][..., :dim], gradients[1][..., :dim], gradients[2][..., :dim_v]
    probs = (_scores(queries, keys, bias, scale) - lse[..., None]).exp()
    grad_values = probs.mT @ upstream
    delta = (upstream * out).sum(-1, keepdim=True)
    grad_scores = probs * (upstream @ values.mT - delta) * scale
    return grad_scores @ keys, grad_scores.mT @ queries, grad_values


def _scores(queries: torch.Tensor, keys: torch.Tensor, bias: torch.Tensor | None, scale: float) -> torch.Tensor:
    scores = queries @ keys.mT * scale
    return scores if bias is None else scores + bias


def _padded_to_same_dim(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Pads the last dimension of tensors to the largest one, with zeros, which change no product."""
    dim = max(one.shape[-1] for one in tensors)
    return [one if one.shape[-1] == dim else functional.pad(one, (0, dim - one.shape[-1])) for one in tensors]
