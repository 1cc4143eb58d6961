"""Operation counts of ranged attention for `torch.utils.flop_counter.FlopCounterMode`.

Counted are the pairs of a query and a key that it sees, with two operations per multiplication and addition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from . import operator as _operator  # noqa: F401 - defines the operators
from .geometry import axis_ranges, decode_rule
from .operands import Operands

_COUNT = len(Operands._fields)


@register_flop_formula(torch.ops.attnzoo.ranged_attention_2d)
def _forward_flops(*shapes: Any, **kwargs: Any) -> int:
    """Counts two products, as for PyTorch's own attention: query by key, and probabilities by value."""
    operands: Any = Operands(*shapes[:_COUNT])
    rows, cols = shapes[_COUNT : _COUNT + 2]
    return 2 * _pairs(operands, rows, cols) * (operands.query[4] + operands.value[4])


@register_flop_formula(torch.ops.attnzoo.ranged_attention_2d_backward)
def _backward_flops(grad_out: Any, grad_lse: Any, *shapes: Any, **kwargs: Any) -> int:
    """Counts five products: the scores again, and the gradients of probabilities, values, queries and keys."""
    operands: Any = Operands(*shapes[:_COUNT])
    rows, cols = shapes[_COUNT + 2 : _COUNT + 4]
    return 2 * _pairs(operands, rows, cols) * (3 * operands.query[4] + 2 * operands.value[4])


def _pairs(shapes: Any, rows: Sequence[int], cols: Sequence[int]) -> int:
    """Counts pairs of a query and a key that it sees, over batch and heads; zero keys outside the map are included."""
    query, key = shapes.query, shapes.key
    seen = 1
    for rule, queries, keys in ((rows, query[1], key[1]), (cols, query[2], key[2])):
        ranges = axis_ranges(decode_rule(rule), queries, keys)
        seen *= sum(ranges.end) - sum(ranges.start)
    tokens = 0 if shapes.additional_keys is None else shapes.additional_keys[1]
    return query[0] * query[3] * (seen + query[1] * query[2] * tokens)
