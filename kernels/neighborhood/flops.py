"""What `torch.utils.flop_counter.FlopCounterMode` counts for ranged attention: the pairs that see each other, twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from . import operator as _operator  # noqa: F401 - defines the operators
from .geometry import axis_ranges, decode_rule


@register_flop_formula(torch.ops.attnzoo.ranged_attention_2d)
def _forward_flops(
    query: Sequence[int],
    key: Sequence[int],
    value: Sequence[int],
    rpb: Sequence[int] | None,
    row_terms: Sequence[int] | None,
    col_terms: Sequence[int] | None,
    additional_keys: Sequence[int] | None,
    additional_values: Sequence[int] | None,
    rows: Sequence[int],
    cols: Sequence[int],
    *args: Any,
    **kwargs: Any,
) -> int:
    """Counts a product of queries and keys and one of probabilities and values, as for torch's own attention."""
    pairs = _pairs(query, key, additional_keys, rows, cols)
    return 2 * pairs * (query[4] + value[4])


@register_flop_formula(torch.ops.attnzoo.ranged_attention_2d_backward)
def _backward_flops(
    grad_out: Sequence[int],
    grad_lse: Sequence[int] | None,
    query: Sequence[int],
    key: Sequence[int],
    value: Sequence[int],
    rpb: Sequence[int] | None,
    row_terms: Sequence[int] | None,
    col_terms: Sequence[int] | None,
    additional_keys: Sequence[int] | None,
    additional_values: Sequence[int] | None,
    out: Sequence[int],
    lse: Sequence[int],
    rows: Sequence[int],
    cols: Sequence[int],
    *args: Any,
    **kwargs: Any,
) -> int:
    """Counts five products: scores once more, and the gradients of probabilities, values, queries and keys."""
    pairs = _pairs(query, key, additional_keys, rows, cols)
    return 2 * pairs * (3 * query[4] + 2 * value[4])


def _pairs(
    query: Sequence[int],
    key: Sequence[int],
    additional_keys: Sequence[int] | None,
    rows: Sequence[int],
    cols: Sequence[int],
) -> int:
    """Counts the pairs of a query and a key that see each other, over batch and heads; zero keys count as they do."""
    seen = 1
    for rule, queries, keys in ((rows, query[1], key[1]), (cols, query[2], key[2])):
        ranges = axis_ranges(decode_rule(rule), queries, keys)
        seen *= sum(ranges.end) - sum(ranges.start)
    tokens = 0 if additional_keys is None else additional_keys[1]
    return query[0] * query[3] * (seen + query[1] * query[2] * tokens)
