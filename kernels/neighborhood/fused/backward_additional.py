"""Gradients of the additional keys and values, which every query of an image sees."""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ...triton_common import launch
from ...triton_common.addressing import load_pixels, select_head, store_vectors, strided, zero_vectors
from ...triton_common.constants import LN_2, LOG2_E
from ...triton_common.softmax import scaled_scores, score_gradients
from ...triton_common.tile_sizes import TileSizes
from .addressing import load_tokens, select_tokens
from .backward_inputs import BackwardInputs
from .operands import strided_operands


@triton.jit(do_not_specialize=["query_rows", "query_cols", "tokens"])
def additional_kernel(
    operands,
    lse,
    delta,
    grad_out,
    grad_additional_keys,
    grad_additional_values,
    query_rows,
    query_cols,
    group,
    tokens,
    scale,
    QK_DIM: tl.constexpr,
    V_DIM: tl.constexpr,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
    INT64_OFFSETS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Computes the gradients of TILE tokens of one image and key head from the queries of all heads that share it."""
    batch = tl.program_id(0)
    key_head = tl.program_id(1)
    key_heads = tl.num_programs(1)
    heads = key_heads * group
    token = tl.program_id(2) * TILE + tl.arange(0, TILE)
    present = token < tokens
    keys = load_tokens(select_tokens(operands.additional_keys, batch, key_head), token, present, QK_DIM)
    values = load_tokens(select_tokens(operands.additional_values, batch, key_head), token, present, V_DIM)
    image = batch.to(tl.int64) * query_rows * query_cols * heads

    grad_keys = zero_vectors(TILE, QK_DIM)
    grad_values = zero_vectors(TILE, V_DIM)
    for member in range(group):
        head = key_head * group + member
        query = select_head(operands.query, batch, head)
        grad_out_head = select_head(grad_out, batch, head)
        for first in range(0, query_rows * query_cols, STEP):
            pixels = first + tl.arange(0, STEP)
            known = pixels < query_rows * query_cols
            rows = pixels // query_cols
            cols = pixels % query_cols
            queries = load_pixels(query, rows, cols, known, QK_DIM, INT64_OFFSETS)
            upstream = load_pixels(grad_out_head, rows, cols, known, V_DIM, INT64_OFFSETS)
            index = pixels.to(tl.int64) * heads + head
            step_lse = tl.load(lse + image + index, mask=known, other=0.0) * LOG2_E
            step_delta = tl.load(delta + image + index, mask=known, other=0.0)
            scores = scaled_scores(keys, queries, scale, PRECISION)
            probs, grad_scores = score_gradients(
                scores, values, upstream, known[None, :], step_lse[None, :], step_delta[None, :], PRECISION
            )
            grad_values = tl.dot(probs.to(upstream.dtype), upstream, grad_values, input_precision=PRECISION)
            grad_keys = tl.dot(grad_scores.to(queries.dtype), queries, grad_keys, input_precision=PRECISION)

    # (B, tokens, key heads, dim), contiguous.
    index = (batch.to(tl.int64) * tokens + token) * key_heads + key_head
    store_vectors(grad_additional_keys, index, present, grad_keys * (scale * LN_2), QK_DIM)
    store_vectors(grad_additional_values, index, present, grad_values, V_DIM)


def launch_additional(inputs: BackwardInputs, sizes: TileSizes) -> None:
    """Writes the gradients of additional keys and values."""
    batch, key_heads = inputs.operands.key.shape[0], inputs.operands.key.shape[3]
    launch.run(
        additional_kernel,
        (batch, key_heads, triton.cdiv(inputs.tokens, sizes.tile)),
        inputs.lse.device,
        (
            strided_operands(inputs.operands),
            inputs.lse,
            inputs.delta,
            strided(inputs.grad_out),
            inputs.gradients.additional_keys,
            inputs.gradients.additional_values,
            *inputs.query_map,
            inputs.group,
            inputs.tokens,
            inputs.scale,
        ),
        **inputs.constants,
        TILE=sizes.tile,
        STEP=sizes.step,
        **sizes.launch_options(sizes.tile),
    )
