"""The backward pass: one kernel that walks over the keys of a tile of queries, one that walks the other way.

Probabilities are computed again from the scores and the saved denominators. Every gradient is summed by the one program
that owns it, in a fixed order, so results are the same each time.
"""

# Kernels are in Triton's language, where a constexpr is a number.
# pyright: reportOperatorIssue=false, reportArgumentType=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...triton_common import launch
from ...triton_common.addressing import (
    head_base,
    inside,
    load_terms,
    load_vectors,
    offsets,
    read_tile,
    score_gradients,
    store_terms,
    store_vectors,
)
from ..geometry import AxisRule
from .additional import additional_gradients
from .bias import bias_gradient, pad_bias
from .keys import keys_kernel
from .plan import Grid, plan_keys, plan_queries


@triton.jit(
    do_not_specialize=[
        "query_map",
        "key_map",
        "bias_low",
        "tiles",
        "col_tiles",
        "tokens",
        "row_offsets",
        "col_offsets",
    ]
)
def queries_kernel(
    query,
    key,
    value,
    additional_keys,
    additional_values,
    bias,
    row_terms,
    col_terms,
    out,
    lse,
    grad_out,
    grad_lse,
    delta,
    grad_query,
    grad_row_terms,
    grad_col_terms,
    row_table,
    col_table,
    query_strides,
    key_strides,
    value_strides,
    additional_key_strides,
    additional_value_strides,
    row_term_strides,
    col_term_strides,
    out_strides,
    grad_out_strides,
    grad_lse_strides,
    query_map,
    key_map,
    spread,
    bias_low,
    tiles,
    col_tiles,
    group,
    tokens,
    row_offsets,
    col_offsets,
    scale,
    DIM: tl.constexpr,
    DIM_V: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    BLOCK_DIM_V: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    STEP_ROWS: tl.constexpr,
    STEP_COLS: tl.constexpr,
    COL_STEPS: tl.constexpr,
    BIAS_ROWS: tl.constexpr,
    BIAS_COLS: tl.constexpr,
    ROW_PLACES: tl.constexpr,
    COL_PLACES: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradient of the queries of one tile and head, of their terms, and the `delta` that the other kernels need.

    `delta`, (B, H, W, heads), is what the softmax takes off every score's gradient: output times its gradient, less the
    gradient of the denominator's logarithm.
    """
    tile = tl.program_id(0) % tiles
    batch = tl.program_id(0) // tiles
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    key_head = head // group

    lanes = tl.arange(0, TILE_ROWS * TILE_COLS)
    lane_rows = lanes // TILE_COLS
    lane_cols = lanes % TILE_COLS
    row, key_row, row_steps, bias_row, own_rows, row_from, row_to = read_tile(
        row_table, tile // col_tiles, lane_rows, TILE_ROWS
    )
    col, key_col, _, bias_col, own_cols, col_from, col_to = read_tile(col_table, tile % col_tiles, lane_cols, TILE_COLS)
    rows = row + lane_rows * spread[0]
    cols = col + lane_cols * spread[1]
    owned = own_rows & own_cols
    queries = load_vectors(
        head_base(query, batch, head, query_strides),
        offsets(rows, cols, query_strides, WIDE),
        owned,
        query_strides[4],
        DIM,
        BLOCK_DIM,
    )
    upstream = load_vectors(
        head_base(grad_out, batch, head, grad_out_strides),
        offsets(rows, cols, grad_out_strides, WIDE),
        owned,
        grad_out_strides[4],
        DIM_V,
        BLOCK_DIM_V,
    )
    outputs = load_vectors(
        head_base(out, batch, head, out_strides),
        offsets(rows, cols, out_strides, WIDE),
        owned,
        out_strides[4],
        DIM_V,
        BLOCK_DIM_V,
    )
    taken_off = tl.sum(upstream.to(tl.float32) * outputs.to(tl.float32), 1)
    if grad_lse is not None:
        lse_offsets = offsets(rows, cols, grad_lse_strides, WIDE)
        taken_off -= tl.load(
            head_base(grad_lse, batch, head, grad_lse_strides) + lse_offsets, mask=owned, other=0.0
        ).to(tl.float32)
    # (B, H, W, heads), contiguous, as the saved logarithms are.
    image = batch.to(tl.int64) * query_map[0] * query_map[1] * heads
    place = (rows * query_map[1] + cols) * heads + head
    if WIDE:
        place = (rows.to(tl.int64) * query_map[1] + cols) * heads + head
    tl.store(delta + image + place, taken_off, mask=owned)
    logs = tl.load(lse + image + place, mask=owned, other=0.0) * 1.4426950408889634

    keys_base = head_base(key, batch, key_head, key_strides)
    values_base = head_base(value, batch, key_head, value_strides)
    slots = tl.arange(0, STEP_ROWS * STEP_COLS)
    slot_rows = slots // STEP_COLS
    slot_cols = slots % STEP_COLS
    if bias is not None:
        bias += head * (BIAS_ROWS * BIAS_COLS) + (bias_row - bias_low[0]) * BIAS_COLS + (bias_col - bias_low[1])
        lane_bias = lane_rows * BIAS_COLS + lane_cols
        slot_bias = slot_rows * BIAS_COLS + slot_cols
    if row_terms is not None:
        row_terms = head_base(row_terms, batch, head, row_term_strides)
        lane_row_terms = offsets(rows, cols, row_term_strides, WIDE) + (bias_row - lane_rows) * row_term_strides[4]
    if col_terms is not None:
        col_terms = head_base(col_terms, batch, head, col_term_strides)
        lane_col_terms = offsets(rows, cols, col_term_strides, WIDE) + (bias_col - lane_cols) * col_term_strides[4]

    gradient = tl.zeros([TILE_ROWS * TILE_COLS, BLOCK_DIM], tl.float32)
    if grad_row_terms is not None:
        row_sums = tl.zeros([TILE_ROWS * TILE_COLS, ROW_PLACES], tl.float32)
        row_places = tl.arange(0, ROW_PLACES)
    if grad_col_terms is not None:
        col_sums = tl.zeros([TILE_ROWS * TILE_COLS, COL_PLACES], tl.float32)
        col_places = tl.arange(0, COL_PLACES)
    for step in range(row_steps * COL_STEPS):
        first_row = step // COL_STEPS * STEP_ROWS
        first_col = step % COL_STEPS * STEP_COLS
        key_slot_rows = first_row + slot_rows
        key_slot_cols = first_col + slot_cols
        key_rows = key_row + key_slot_rows * spread[0]
        key_cols = key_col + key_slot_cols * spread[1]
        on_map = inside(key_rows, key_cols, key_map[0], key_map[1])
        keys = load_vectors(
            keys_base, offsets(key_rows, key_cols, key_strides, WIDE), on_map, key_strides[4], DIM, BLOCK_DIM
        )
        values = load_vectors(
            values_base, offsets(key_rows, key_cols, value_strides, WIDE), on_map, value_strides[4], DIM_V, BLOCK_DIM_V
        )
        biases = None
        if bias is not None:
            first_bias = first_row * BIAS_COLS + first_col
            biases = tl.load(bias + first_bias + (slot_bias[None, :] - lane_bias[:, None]))
        visible = (key_slot_rows[None, :] >= row_from[:, None]) & (key_slot_rows[None, :] < row_to[:, None])
        visible &= (key_slot_cols[None, :] >= col_from[:, None]) & (key_slot_cols[None, :] < col_to[:, None])
        if row_terms is not None:
            terms = load_terms(row_terms, lane_row_terms, key_slot_rows * row_term_strides[4], visible)
            biases = terms if biases is None else biases + terms
        if col_terms is not None:
            terms = load_terms(col_terms, lane_col_terms, key_slot_cols * col_term_strides[4], visible)
            biases = terms if biases is None else biases + terms
        _weights, grad_scores = score_gradients(
            queries, keys, upstream, values, biases, visible, logs[:, None], taken_off[:, None], scale, PRECISION
        )
        gradient = tl.dot(grad_scores.to(keys.dtype), keys, gradient, input_precision=PRECISION)
        # Products with 0 and 1 sum up the scores of keys in one row or column.
        if grad_row_terms is not None:
            chosen = (key_slot_rows[:, None] == row_places[None, :]).to(keys.dtype)
            row_sums = tl.dot(grad_scores.to(keys.dtype), chosen, row_sums, input_precision=PRECISION)
        if grad_col_terms is not None:
            chosen = (key_slot_cols[:, None] == col_places[None, :]).to(keys.dtype)
            col_sums = tl.dot(grad_scores.to(keys.dtype), chosen, col_sums, input_precision=PRECISION)

    if additional_keys is not None:
        keys_base = additional_keys + batch.to(tl.int64) * additional_key_strides[0]
        keys_base += key_head.to(tl.int64) * additional_key_strides[2]
        values_base = additional_values + batch.to(tl.int64) * additional_value_strides[0]
        values_base += key_head.to(tl.int64) * additional_value_strides[2]
        for first in range(0, tokens, STEP_ROWS * STEP_COLS):
            token = first + slots
            present = token < tokens
            token = token.to(tl.int64)
            keys = load_vectors(
                keys_base, token * additional_key_strides[1], present, additional_key_strides[3], DIM, BLOCK_DIM
            )
            values = load_vectors(
                values_base,
                token * additional_value_strides[1],
                present,
                additional_value_strides[3],
                DIM_V,
                BLOCK_DIM_V,
            )
            _weights, grad_scores = score_gradients(
                queries,
                keys,
                upstream,
                values,
                None,
                present[None, :],
                logs[:, None],
                taken_off[:, None],
                scale,
                PRECISION,
            )
            gradient = tl.dot(grad_scores.to(keys.dtype), keys, gradient, input_precision=PRECISION)

    store_vectors(grad_query + image * DIM, place * DIM, owned, gradient * (scale * 0.6931471805599453), DIM, BLOCK_DIM)
    if grad_row_terms is not None:
        base = grad_row_terms + image * row_offsets
        store_terms(base, place, row_sums, bias_row - lane_rows, row_offsets, owned, ROW_PLACES)
    if grad_col_terms is not None:
        base = grad_col_terms + image * col_offsets
        store_terms(base, place, col_sums, bias_col - lane_cols, col_offsets, owned, COL_PLACES)


def differentiate(
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor | None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rpb: torch.Tensor | None,
    row_terms: torch.Tensor | None,
    col_terms: torch.Tensor | None,
    additional_keys: torch.Tensor | None,
    additional_values: torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor,
    rows: AxisRule,
    cols: AxisRule,
    scale: float,
) -> tuple[torch.Tensor | None, ...]:
    """Runs the backward pass.

    Args:
        grad_out: gradient of the output, (B, Hq, Wq, heads, dim_v), as all operands with any strides.
        grad_lse: gradient of `lse`, or None.
        query: as in the forward pass, as all that follow.
        key: see there.
        value: see there.
        rpb: see there.
        row_terms: see there.
        col_terms: see there.
        additional_keys: see there.
        additional_values: see there.
        out: what the forward pass returned.
        lse: what the forward pass returned.
        rows: which rows of keys a row of queries sees.
        cols: which columns of keys a column of queries sees.
        scale: multiplies the scores.

    Returns:
        The gradients of query, key, value, rpb, row_terms, col_terms, additional keys and additional values,
        contiguous, each in the shape and dtype of what it belongs to; None for those that are None.
    """
    batch, height, width, heads, _ = query.shape
    lse = lse.contiguous()
    delta = torch.empty_like(lse)
    grad_query = torch.empty_like(query, memory_format=torch.contiguous_format)
    grad_key = torch.empty_like(key, memory_format=torch.contiguous_format)
    grad_value = torch.empty_like(value, memory_format=torch.contiguous_format)
    terms = (row_terms, col_terms)
    grad_terms = tuple(
        None if one is None else torch.zeros(one.shape, dtype=one.dtype, device=one.device) for one in terms
    )
    query_map, key_map = Grid(height, width), Grid(*key.shape[1:3])
    has_terms = row_terms is not None or col_terms is not None
    sizes = {kernel: launch.sizes(kernel, query, value, has_terms) for kernel in ("queries", "keys", "bias")}
    geometry = ((rows, cols), query_map, key_map)
    queries_plan = plan_queries(*geometry, sizes["queries"].tile, sizes["queries"].step, query.device)
    keys_plan = plan_keys(*geometry, sizes["keys"].tile, sizes["keys"].step, query.device)
    bias_plan = plan_queries(*geometry, sizes["bias"].tile, sizes["bias"].step, query.device, aligned=True)
    bias = pad_bias(rpb, queries_plan, keys_plan, bias_plan)
    options = {
        **launch.dims(query, value),
        "BIAS_ROWS": bias.size.rows,
        "BIAS_COLS": bias.size.cols,
        "WIDE": launch.is_wide(query, key, value, out, grad_out, grad_query, grad_key, grad_value, *terms, *grad_terms),
    }
    group, scale = heads // key.shape[3], scale * launch.LOG2_E
    maps = (tuple(query_map), tuple(key_map))

    launch.run(
        queries_kernel,
        (batch * queries_plan.tiles, heads),
        (
            query,
            key,
            value,
            additional_keys,
            additional_values,
            bias.table,
            *terms,
            out,
            lse,
            grad_out,
            grad_lse,
            delta,
            grad_query,
            *grad_terms,
            queries_plan.rows.table,
            queries_plan.cols.table,
            query.stride(),
            key.stride(),
            value.stride(),
            launch.strides(additional_keys),
            launch.strides(additional_values),
            *map(launch.strides, terms),
            out.stride(),
            grad_out.stride(),
            launch.strides(grad_lse),
            *maps,
            queries_plan.spread,
            tuple(bias.low),
            queries_plan.tiles,
            queries_plan.cols.tiles,
            group,
            0 if additional_keys is None else additional_keys.shape[1],
            rows.bias_length,
            cols.bias_length,
            scale,
        ),
        **queries_plan.sizes,
        ROW_PLACES=queries_plan.row_places,
        COL_PLACES=queries_plan.col_places,
        **options,
        **launch.tuned(sizes["queries"], queries_plan.tile),
    )
    launch.run(
        keys_kernel,
        (batch * keys_plan.tiles, key.shape[3]),
        (
            query,
            key,
            value,
            bias.table,
            *terms,
            lse,
            delta,
            grad_out,
            grad_key,
            grad_value,
            keys_plan.rows.table,
            keys_plan.cols.table,
            query.stride(),
            key.stride(),
            value.stride(),
            *map(launch.strides, terms),
            grad_out.stride(),
            *maps,
            keys_plan.spread,
            tuple(bias.low),
            keys_plan.tiles,
            keys_plan.cols.tiles,
            group,
            scale,
        ),
        **keys_plan.sizes,
        **keys_plan.runs,
        **options,
        **launch.tuned(sizes["keys"], keys_plan.tile),
    )
    grad_rpb = grad_additional_keys = grad_additional_values = None
    if rpb is not None:
        grad_rpb = bias_gradient(
            rpb, bias, terms, bias_plan, sizes["bias"], query, key, value, lse, delta, grad_out, scale, options
        )
    if additional_keys is not None and additional_values is not None:
        grad_additional_keys, grad_additional_values = additional_gradients(
            query, additional_keys, additional_values, lse, delta, grad_out, scale, options["WIDE"]
        )
    return grad_query, grad_key, grad_value, grad_rpb, *grad_terms, grad_additional_keys, grad_additional_values
