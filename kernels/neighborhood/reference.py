"""The definition of ranged attention on a 2-D map, by brute force; everything else is held against it."""

from __future__ import annotations

import torch

from .geometry import AxisRule, AxisTables, build_axis_tables


def ranged_attention_2d_reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rows: AxisRule,
    cols: AxisRule,
    rpb: torch.Tensor | None = None,
    scale: float | None = None,
    additional_keys: torch.Tensor | None = None,
    additional_values: torch.Tensor | None = None,
    row_terms: torch.Tensor | None = None,
    col_terms: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention in which a query sees the keys that both of its axes' tables show it.

    Scores of all pairs of queries and keys are stored: memory grows with the square of the map. Differentiable by
    autograd, any number of times, in any floating-point dtype, on any device.

    Args:
        query: (B, Hq, Wq, heads, dim).
        key: (B, Hk, Wk, heads_kv, dim); query head h uses head h // (heads // heads_kv).
        value: (B, Hk, Wk, heads_kv, dim_v).
        rows: which rows of keys a row of queries sees.
        cols: which columns of keys a column of queries sees.
        rpb: (heads, rows.bias_length, cols.bias_length), added to the scaled scores at
            [head, key row slot - row origin, key column slot - column origin].
        scale: multiplies the scores; dim ** -0.5 by default.
        additional_keys: (B, tokens, heads_kv, dim), seen by every query, without bias.
        additional_values: (B, tokens, heads_kv, dim_v).
        row_terms: (B, Hq, Wq, heads, rows.bias_length), added to the scaled scores at
            [query, key row slot - row origin]: a bias that depends on the query.
        col_terms: (B, Hq, Wq, heads, cols.bias_length), the same for columns.

    Returns:
        The output (B, Hq, Wq, heads, dim_v), and (B, Hq, Wq, heads) natural logarithms of the sums of the exponentials
        of the scores.
    """
    _, height, width, heads, dim = query.shape
    factor = dim**-0.5 if scale is None else scale
    row_tables = build_axis_tables(rows, height, key.shape[1], query.device)
    col_tables = build_axis_tables(cols, width, key.shape[2], query.device)
    group = heads // key.shape[3]

    query = _ordered(query, row_tables, col_tables).flatten(1, 2)
    key = _extended(key, row_tables, col_tables).flatten(1, 2).repeat_interleave(group, dim=2)
    value = _extended(value, row_tables, col_tables).flatten(1, 2).repeat_interleave(group, dim=2)
    row_slots, row_visible = _visible(row_tables)
    col_slots, col_visible = _visible(col_tables)

    scores = factor * torch.einsum("bqhd,bkhd->bhqk", query, key)
    row_index = (row_slots - row_tables.origin[:, None]).clamp(0, row_tables.bias_length - 1)
    col_index = (col_slots - col_tables.origin[:, None]).clamp(0, col_tables.bias_length - 1)
    if rpb is not None:
        bias = rpb[:, row_index[:, None, :, None], col_index[None, :, None, :]]
        scores = scores + bias.flatten(3, 4).flatten(1, 2)
    if row_terms is not None:
        index = row_index[:, None, None, :].expand(*row_terms.shape[:4], -1)
        terms = _ordered(row_terms, row_tables, col_tables).gather(4, index)
        scores = scores + _of_pairs(terms).repeat_interleave(len(col_slots), dim=-1)
    if col_terms is not None:
        index = col_index[:, None, :].expand(*col_terms.shape[:4], -1)
        terms = _ordered(col_terms, row_tables, col_tables).gather(4, index)
        scores = scores + _of_pairs(terms).repeat(1, 1, 1, len(row_slots))
    visible = (row_visible[:, None, :, None] & col_visible[None, :, None, :]).flatten(2, 3).flatten(0, 1)
    scores = scores.masked_fill(~visible, -torch.inf)
    if additional_keys is not None and additional_values is not None:
        additional_keys = additional_keys.repeat_interleave(group, dim=2)
        value = torch.cat([value, additional_values.repeat_interleave(group, dim=2)], dim=1)
        scores = torch.cat([scores, factor * torch.einsum("bqhd,bkhd->bhqk", query, additional_keys)], dim=-1)

    lse = scores.logsumexp(dim=-1)
    out = torch.einsum("bhqk,bkhd->bqhd", (scores - lse[..., None]).exp(), value)
    row_rank, col_rank = row_tables.query_order.argsort(), col_tables.query_order.argsort()
    out = out.unflatten(1, (height, width))[:, row_rank][:, :, col_rank]
    lse = lse.transpose(1, 2).unflatten(1, (height, width))[:, row_rank][:, :, col_rank]
    return out, lse


def _ordered(tensor: torch.Tensor, row_tables: AxisTables, col_tables: AxisTables) -> torch.Tensor:
    """Puts a tensor on the query grid into slot order."""
    return tensor[:, row_tables.query_order][:, :, col_tables.query_order]


def _of_pairs(terms: torch.Tensor) -> torch.Tensor:
    """Brings terms (B, Hq, Wq, heads, slots of an axis) into the order of scores: (B, heads, queries, slots)."""
    return terms.flatten(1, 2).transpose(1, 2)


def _slots(tables: AxisTables) -> torch.Tensor:
    """Every key slot that exists or that a range reaches for: (slots,)."""
    return torch.arange(*tables.slots, device=tables.start.device)


def _visible(tables: AxisTables) -> tuple[torch.Tensor, torch.Tensor]:
    """The key slots (slots,), and which of them each query slot sees (queries, slots)."""
    slots = _slots(tables)
    return slots, (slots >= tables.start[:, None]) & (slots < tables.end[:, None])


def _extended(keys: torch.Tensor, row_tables: AxisTables, col_tables: AxisTables) -> torch.Tensor:
    """Puts keys or values into slot order, zeros outside the map: (B, row slots, column slots, heads, dim)."""
    for axis, tables in ((1, row_tables), (2, col_tables)):
        slots = _slots(tables)
        inside = (slots >= 0) & (slots < tables.num_keys)
        keys = keys.index_select(axis, tables.key_order[slots.clamp(0, tables.num_keys - 1)])
        shape = [1] * keys.ndim
        shape[axis] = -1
        keys = torch.where(inside.reshape(shape), keys, 0)
    return keys
