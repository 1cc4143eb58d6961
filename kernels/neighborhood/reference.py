"""The definition of ranged attention on a 2-D map, by brute force. All other implementations are compared with it."""

from __future__ import annotations

import torch

from .geometry import AxisTables, Geometry, build_axis_tables
from .operands import Operands


def ranged_attention_2d_reference(
    operands: Operands, geometry: Geometry, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes attention in which a query sees the keys that are in its range on both axes.

    Stores the scores of all pairs of queries and keys, so memory grows with the square of the map. Differentiable any
    number of times, in any floating-point dtype, on any device.

    Args:
        operands: Tensors of one dtype. The biases are added to the scaled scores: `rpb` at index
            [head, key row slot - row origin, key column slot - column origin], `row_terms` at index
            [query, key row slot - row origin], and `col_terms` at index [query, key column slot - column origin].
        geometry: Rules that determine which keys each query sees.
        scale: Factor of the products of queries and keys.

    Returns:
        The output (B, Hq, Wq, heads, dim_v), and the log-sum-exps (B, Hq, Wq, heads) of the scores.
    """
    query, key, value = operands[:3]
    _, height, width, heads, _ = query.shape
    row_tables = build_axis_tables(geometry.rows, height, key.shape[1], query.device)
    col_tables = build_axis_tables(geometry.cols, width, key.shape[2], query.device)
    group = heads // key.shape[3]

    query = _in_slot_order(query, row_tables, col_tables).flatten(1, 2)
    key = _extended(key, row_tables, col_tables).flatten(1, 2).repeat_interleave(group, dim=2)
    value = _extended(value, row_tables, col_tables).flatten(1, 2).repeat_interleave(group, dim=2)
    row_visible, col_visible = _visible(row_tables), _visible(col_tables)
    visible = (row_visible[:, None, :, None] & col_visible[None, :, None, :]).flatten(2, 3).flatten(0, 1)

    scores = scale * torch.einsum("bqhd,bkhd->bhqk", query, key)
    scores = _add_biases(scores, operands, row_tables, col_tables).masked_fill(~visible, -torch.inf)
    if operands.additional_keys is not None and operands.additional_values is not None:
        additional_keys = operands.additional_keys.repeat_interleave(group, dim=2)
        value = torch.cat([value, operands.additional_values.repeat_interleave(group, dim=2)], dim=1)
        scores = torch.cat([scores, scale * torch.einsum("bqhd,bkhd->bhqk", query, additional_keys)], dim=-1)

    lse = scores.logsumexp(dim=-1)
    out = torch.einsum("bhqk,bkhd->bqhd", (scores - lse[..., None]).exp(), value)
    row_slot, col_slot = row_tables.query_order.argsort(), col_tables.query_order.argsort()
    out = out.unflatten(1, (height, width))[:, row_slot][:, :, col_slot]
    lse = lse.transpose(1, 2).unflatten(1, (height, width))[:, row_slot][:, :, col_slot]
    return out, lse


def _add_biases(
    scores: torch.Tensor, operands: Operands, row_tables: AxisTables, col_tables: AxisTables
) -> torch.Tensor:
    """Adds the biases to scores (B, heads, queries, key slots), and arbitrary values where a key is not seen."""
    row_index = _bias_index(row_tables)
    col_index = _bias_index(col_tables)
    if operands.rpb is not None:
        bias = operands.rpb[:, row_index[:, None, :, None], col_index[None, :, None, :]]
        scores = scores + bias.flatten(3, 4).flatten(1, 2)
    if operands.row_terms is not None:
        index = row_index[:, None, None, :].expand(*operands.row_terms.shape[:4], -1)
        terms = _in_slot_order(operands.row_terms, row_tables, col_tables).gather(4, index)
        scores = scores + terms.flatten(1, 2).transpose(1, 2).repeat_interleave(col_index.shape[1], dim=-1)
    if operands.col_terms is not None:
        index = col_index[:, None, :].expand(*operands.col_terms.shape[:4], -1)
        terms = _in_slot_order(operands.col_terms, row_tables, col_tables).gather(4, index)
        scores = scores + terms.flatten(1, 2).transpose(1, 2).repeat(1, 1, 1, row_index.shape[1])
    return scores


def _in_slot_order(tensor: torch.Tensor, row_tables: AxisTables, col_tables: AxisTables) -> torch.Tensor:
    """Reorders a tensor on the query grid by slot."""
    return tensor[:, row_tables.query_order][:, :, col_tables.query_order]


def _slots(tables: AxisTables) -> torch.Tensor:
    """Returns all key slots that are on the map or in a query's range: (slots,)."""
    return torch.arange(*tables.slots, device=tables.start.device)


def _visible(tables: AxisTables) -> torch.Tensor:
    """Returns which key slots each query slot sees: (queries, slots)."""
    slots = _slots(tables)
    return (slots >= tables.start[:, None]) & (slots < tables.end[:, None])


def _bias_index(tables: AxisTables) -> torch.Tensor:
    """Returns the bias index of each query slot and key slot, (queries, slots), clamped where it is out of range."""
    return (_slots(tables) - tables.origin[:, None]).clamp(0, tables.bias_length - 1)


def _extended(keys: torch.Tensor, row_tables: AxisTables, col_tables: AxisTables) -> torch.Tensor:
    """Reorders keys or values by slot, with zeros outside the map: (B, row slots, column slots, heads, dim)."""
    for axis, tables in ((1, row_tables), (2, col_tables)):
        slots = _slots(tables)
        inside = (slots >= 0) & (slots < tables.num_keys)
        keys = keys.index_select(axis, tables.key_order[slots.clamp(0, tables.num_keys - 1)])
        shape = [1] * keys.ndim
        shape[axis] = -1
        keys = torch.where(inside.reshape(shape), keys, 0)
    return keys
