"""What `torch.utils.flop_counter.FlopCounterMode` counts for routed attention: the pairs that see each other, twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from . import operator as _operator  # noqa: F401 - defines the operators


@register_flop_formula(torch.ops.attnzoo.routed_attention_2d)
def _forward_flops(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], routes: Sequence[int], *args: Any, **kwargs: Any
) -> int:
    """Counts a product of queries and keys and one of probabilities and values, as for torch's own attention."""
    return 2 * _pairs(query, routes) * (query[4] + value[4])


@register_flop_formula(torch.ops.attnzoo.routed_attention_2d_backward)
def _backward_flops(
    grad_out: Sequence[int],
    query: Sequence[int],
    key: Sequence[int],
    value: Sequence[int],
    routes: Sequence[int],
    *args: Any,
    **kwargs: Any,
) -> int:
    """Counts five products: scores once more, and the gradients of probabilities, values, queries and keys."""
    return 2 * _pairs(query, routes) * (3 * query[4] + 2 * value[4])


def _pairs(query: Sequence[int], routes: Sequence[int]) -> int:
    """Counts the pairs of a query and a key that it sees, over batch and heads."""
    batch, height, width, heads = query[:4]
    tokens = height * width // routes[1]
    return batch * heads * height * width * routes[2] * tokens
