"""Biases of tiles: lookup in the relative position bias table, its gradient, and biases that depend on the query."""

from __future__ import annotations

import torch

from ..operands import Operands
from .tiling import Run


def tile_bias(operands: Operands, row_run: Run, col_run: Run, dtype: torch.dtype) -> torch.Tensor | None:
    """Looks up what is added to the scores of each tile: -inf where a query does not see a key.

    Args:
        operands: Operands of the call; the table is `rpb`.
        row_run: Tiles along the rows.
        col_run: Tiles along the columns.
        dtype: Dtype of the result.

    Returns:
        (heads or 1, queries, keys), or None if nothing is added. Additional keys, which have no bias, follow the map's.
    """
    device, rpb = operands.query.device, operands.rpb
    all_visible = row_run.all_visible and col_run.all_visible
    if rpb is None and all_visible:
        return None
    if rpb is None:
        table = torch.zeros((1, row_run.bias_length, col_run.bias_length), dtype=dtype, device=device)
    else:
        table = rpb.to(dtype)
    if all_visible:
        bias = _table_view(table, row_run, col_run)
    else:
        row_index, col_index = (run.flat_index.on(device) for run in (row_run, col_run))
        table = torch.nn.functional.pad(table, (0, 1, 0, 1), value=-torch.inf)
        bias = table.index_select(1, row_index).index_select(2, col_index)
        bias = bias.view(-1, row_run.queries, row_run.extent, col_run.queries, col_run.extent).permute(0, 1, 3, 2, 4)
    bias = bias.reshape(-1, row_run.queries * col_run.queries, row_run.extent * col_run.extent)
    tokens = 0 if operands.additional_keys is None else operands.additional_keys.shape[1]
    return torch.nn.functional.pad(bias, (0, tokens)) if tokens else bias


def add_table_gradient(grad_rpb: torch.Tensor, grad_bias: torch.Tensor, row_run: Run, col_run: Run) -> None:
    """Adds the gradient of the tiles' bias, (heads, queries, keys), to the gradient of the table."""
    grad = grad_bias[..., : row_run.extent * col_run.extent]
    grad = grad.reshape(-1, row_run.queries, col_run.queries, row_run.extent, col_run.extent)
    rows, cols = (run.one_hot.on(grad.device).to(grad.dtype) for run in (row_run, col_run))
    grad = grad.permute(0, 1, 3, 2, 4).reshape(len(grad_rpb), len(rows), len(cols))
    # Products with one-hot matrices sum entries with equal offsets; pairs that are not seen are zero in all columns.
    grad_rpb += rows.mT @ (grad @ cols)


def terms_by_key(terms: torch.Tensor, run: Run, axis: int) -> torch.Tensor:
    """Reorders a tile's terms from bias indices to the tile's keys.

    From one query to the next along `axis`, the bias index of each key decreases by one, so the result is a skewed
    view of the terms.

    Args:
        terms: A result of `Chunk.query_tiles`, with bias indices in the last dimension.
        run: Tiles along the terms' axis.
        axis: Dimension of `terms` that holds the tile's queries along that axis.

    Returns:
        The terms with the tile's keys in the last dimension; arbitrary finite values for keys that are not seen.
    """
    lowest, count = run.bias_reach
    before, after = max(0, -lowest), max(0, lowest + count - terms.shape[-1])
    if before or after:
        terms = torch.nn.functional.pad(terms, (before, after))
    return _skewed(terms.narrow(-1, lowest + before, count), run, axis)


def set_term_gradient(gradient: torch.Tensor, source: torch.Tensor, run: Run, axis: int) -> None:
    """Writes gradients by key, in the shape of `terms_by_key`'s result, to the gradient of the terms."""
    lowest, count = run.bias_reach
    first, last = max(0, lowest), min(gradient.shape[-1], lowest + count)
    if last - first == count:
        _skewed(gradient.narrow(-1, lowest, count), run, axis).copy_(source)
        return
    # Entries outside the terms belong to keys that no query sees, and are zero.
    padded = source.new_zeros((*gradient.shape[:-1], count))
    _skewed(padded, run, axis).copy_(source)
    gradient.narrow(-1, first, last - first).copy_(padded.narrow(-1, first - lowest, last - first))


def _table_view(table: torch.Tensor, row_run: Run, col_run: Run) -> torch.Tensor:
    """Returns the bias of a tile in which every query sees every key, mostly as a view of the table.

    The index is a part that increases with the key plus a part that decreases with the query, so in reversed query
    order the bias is a strided view.

    Returns:
        (heads, rows of queries, columns of queries, rows of keys, columns of keys)
    """
    head, row, col = table.stride()
    lowest = row_run.bias_reach[0], col_run.bias_reach[0]
    view = table.as_strided(
        (table.shape[0], row_run.queries, col_run.queries, row_run.extent, col_run.extent),
        (head, row, col, row, col),
        table.storage_offset() + row * lowest[0] + col * lowest[1],
    )
    return view.flip(1, 2)


def _skewed(tensor: torch.Tensor, run: Run, axis: int) -> torch.Tensor:
    """Returns a view (..., extent) of (..., queries + extent - 1) that starts one earlier for each query of `axis`."""
    shape, strides = list(tensor.shape), list(tensor.stride())
    shape[-1] = run.extent
    strides[axis] -= strides[-1]
    return tensor.as_strided(shape, strides, tensor.storage_offset() + (run.queries - 1) * strides[-1])
