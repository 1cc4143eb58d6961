"""Operation counts of routed attention for `torch.utils.flop_counter.FlopCounterMode`.

Counted are the pairs of a query and a key that it sees, with two operations per multiplication and addition.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from . import operator as _operator  # noqa: F401 - defines the operators
from .operands import Operands


@register_flop_formula(torch.ops.attnzoo.routed_attention_2d)
def _forward_flops(query: Any, key: Any, value: Any, routes: Any, *settings: Any, **kwargs: Any) -> int:
    """Counts two products, as for PyTorch's own attention: query by key, and probabilities by value."""
    return 2 * _pairs(query, routes) * (query[4] + value[4])


@register_flop_formula(torch.ops.attnzoo.routed_attention_2d_backward)
def _backward_flops(grad_out: Any, *shapes: Any, **kwargs: Any) -> int:
    """Counts five products: the scores again, and the gradients of probabilities, values, queries and keys."""
    operands: Any = Operands(*shapes[: len(Operands._fields)])
    return 2 * _pairs(operands.query, operands.routes) * (3 * operands.query[4] + 2 * operands.value[4])


def _pairs(query: Any, routes: Any) -> int:
    """Counts the pairs of a query and a key that it sees, over batch and heads."""
    batch, height, width, heads = query[:4]
    tokens = height * width // routes[1]
    return batch * heads * height * width * routes[2] * tokens
