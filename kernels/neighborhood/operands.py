"""The tensors that ranged attention takes, in the order in which every function and operator passes them."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Operands(NamedTuple):
    """The tensor arguments of ranged attention; their gradients have the same order.

    Attributes:
        query: (B, Hq, Wq, heads, dim).
        key: (B, Hk, Wk, heads_kv, dim); query head h uses key head h // (heads // heads_kv).
        value: (B, Hk, Wk, heads_kv, dim_v).
        rpb: (heads, rows.bias_length, cols.bias_length) bias that is added to the scaled scores.
        row_terms: (B, Hq, Wq, heads, rows.bias_length) bias by row offset that depends on the query.
        col_terms: (B, Hq, Wq, heads, cols.bias_length) bias by column offset that depends on the query.
        additional_keys: (B, tokens, heads_kv, dim) keys that every query sees, without bias.
        additional_values: (B, tokens, heads_kv, dim_v).
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    rpb: torch.Tensor | None = None
    row_terms: torch.Tensor | None = None
    col_terms: torch.Tensor | None = None
    additional_keys: torch.Tensor | None = None
    additional_values: torch.Tensor | None = None
