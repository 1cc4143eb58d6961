"""Tiles through torch's own fused attention for CPUs, which keeps scores in registers and cache: no bias gradients.

It reads operands by strides, so a tile that is the whole map is not copied at all, and other tiles are copied with the
heads where they are, in long stretches.
"""

from __future__ import annotations

import torch

from ..operands import Operands
from .chunks import Block, Chunk


def suits(query: torch.Tensor, key: torch.Tensor) -> bool:
    """Whether torch's attention takes operands with such heads on this device."""
    return query.device.type == "cpu" and query.shape[3] == key.shape[3]


def attend(block: Block, chunk: Chunk, out: torch.Tensor, lse: torch.Tensor) -> None:
    """Writes a chunk's part of the output and of the logarithms of the denominators."""
    result, logs = _attend(chunk.flat_operands(), block.tile_bias, _scale(block))
    chunk.set_queries(out, result)
    chunk.set_queries(lse[..., None], logs[..., None])


def attend_map(operands: Operands, bias: torch.Tensor | None, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Gives the output and the logarithms of the denominators where one tile is the whole map.

    Args:
        operands: query, key, value; others are not looked at.
        bias: what to add to the scores, (heads or 1, queries, keys), or None.
        scale: multiplies the products of queries and keys.
    """
    result, logs = _attend(tuple(map(_flat, operands[:3])), bias, scale)
    return _on_map(result, operands.query), logs.transpose(1, 2).reshape(operands.query.shape[:4])


def differentiate(
    block: Block, chunk: Chunk, grad_out: torch.Tensor, out: torch.Tensor, lse: torch.Tensor, grads: Operands
) -> None:
    """Writes a chunk's gradients of queries and terms, and adds those of keys and values, to `grads`."""
    logs = chunk.flat_queries(lse[..., None]).squeeze(-1)
    upstream, outputs = chunk.flat_values(grad_out), chunk.flat_values(out)
    results = _differentiate(chunk.flat_operands(), block.tile_bias, _scale(block), upstream, outputs, logs)
    chunk.set_flat_queries(results[0], grads.query, (grads.row_terms, grads.col_terms))
    chunk.add_flat_keys(grads.key, results[1])
    chunk.add_flat_keys(grads.value, results[2])


def differentiate_map(
    operands: Operands,
    bias: torch.Tensor | None,
    scale: float,
    grad_out: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """Gives the gradients of query, key and value where one tile is the whole map; arguments as in `attend_map`."""
    logs = lse.flatten(1, 2).transpose(1, 2)
    results = _differentiate(tuple(map(_flat, operands[:3])), bias, scale, _flat(grad_out), _flat(out), logs)
    return tuple(_on_map(one, like) for one, like in zip(results, operands[:3], strict=True))


def _attend(
    flat: tuple[torch.Tensor, ...], bias: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output (images, heads, queries, dim) and logarithms (images, heads, queries) of operands in such a shape."""
    mask = None if bias is None else bias[None]
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*flat, attn_mask=mask, scale=scale)


def _differentiate(
    flat: tuple[torch.Tensor, ...],
    bias: torch.Tensor | None,
    scale: float,
    grad_out: torch.Tensor,
    out: torch.Tensor,
    logs: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of queries, keys and values, each (images, heads, positions, dim)."""
    mask = None if bias is None else bias[None]
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad_out, *flat, out, logs, 0.0, False, attn_mask=mask, scale=scale
    )


def _scale(block: Block) -> float:
    """What is left to multiply products with: queries that carry terms are scaled already."""
    return 1.0 if block.has_terms else block.scale


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """Views (B, H, W, heads, dim) as (B, heads, positions, dim)."""
    return tensor.flatten(1, 2).transpose(1, 2)


def _on_map(result: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Brings (images, heads, positions, dim) into the shape of an operand, contiguous: no copy as torch makes it."""
    return result.transpose(1, 2).contiguous().view(like.shape)
