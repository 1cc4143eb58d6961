"""Gradients of the additional keys and values, which every query of an image sees."""

# Kernels are in Triton's language, where a constexpr is a number.
# pyright: reportOperatorIssue=false, reportArgumentType=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...triton_common import launch
from ...triton_common.addressing import head_base, load_vectors, offsets, score_gradients, store_vectors
from .plan import Grid


@triton.jit(do_not_specialize=["query_map", "tokens"])
def additional_kernel(
    query,
    additional_keys,
    additional_values,
    lse,
    delta,
    grad_out,
    grad_additional_keys,
    grad_additional_values,
    query_strides,
    additional_key_strides,
    additional_value_strides,
    grad_out_strides,
    query_map,
    group,
    tokens,
    scale,
    DIM: tl.constexpr,
    DIM_V: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    BLOCK_DIM_V: tl.constexpr,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradients of TILE tokens of one image and key head, over the queries of all heads that share it."""
    batch = tl.program_id(0)
    key_head = tl.program_id(1)
    key_heads = tl.num_programs(1)
    heads = key_heads * group
    token = tl.program_id(2) * TILE + tl.arange(0, TILE)
    present = token < tokens
    keys_base = additional_keys + batch.to(tl.int64) * additional_key_strides[0]
    keys_base += key_head.to(tl.int64) * additional_key_strides[2]
    values_base = additional_values + batch.to(tl.int64) * additional_value_strides[0]
    values_base += key_head.to(tl.int64) * additional_value_strides[2]
    far = token.to(tl.int64)
    keys = load_vectors(keys_base, far * additional_key_strides[1], present, additional_key_strides[3], DIM, BLOCK_DIM)
    values = load_vectors(
        values_base, far * additional_value_strides[1], present, additional_value_strides[3], DIM_V, BLOCK_DIM_V
    )
    image = batch.to(tl.int64) * query_map[0] * query_map[1] * heads

    grad_keys = tl.zeros([TILE, BLOCK_DIM], tl.float32)
    grad_values = tl.zeros([TILE, BLOCK_DIM_V], tl.float32)
    for member in range(group):
        head = key_head * group + member
        queries_base = head_base(query, batch, head, query_strides)
        upstream_base = head_base(grad_out, batch, head, grad_out_strides)
        for first in range(0, query_map[0] * query_map[1], STEP):
            places = first + tl.arange(0, STEP)
            known = places < query_map[0] * query_map[1]
            rows = places // query_map[1]
            cols = places % query_map[1]
            queries = load_vectors(
                queries_base, offsets(rows, cols, query_strides, WIDE), known, query_strides[4], DIM, BLOCK_DIM
            )
            upstream = load_vectors(
                upstream_base,
                offsets(rows, cols, grad_out_strides, WIDE),
                known,
                grad_out_strides[4],
                DIM_V,
                BLOCK_DIM_V,
            )
            place = places.to(tl.int64) * heads + head
            logs = tl.load(lse + image + place, mask=known, other=0.0) * 1.4426950408889634
            taken_off = tl.load(delta + image + place, mask=known, other=0.0)
            weights, grad_scores = score_gradients(
                keys,
                queries,
                values,
                upstream,
                None,
                known[None, :],
                logs[None, :],
                taken_off[None, :],
                scale,
                PRECISION,
            )
            grad_values = tl.dot(weights.to(upstream.dtype), upstream, grad_values, input_precision=PRECISION)
            grad_keys = tl.dot(grad_scores.to(queries.dtype), queries, grad_keys, input_precision=PRECISION)

    # (B, tokens, key heads, dim), contiguous.
    place = (batch.to(tl.int64) * tokens + token) * key_heads + key_head
    store_vectors(grad_additional_keys, place * DIM, present, grad_keys * (scale * 0.6931471805599453), DIM, BLOCK_DIM)
    store_vectors(grad_additional_values, place * DIM_V, present, grad_values, DIM_V, BLOCK_DIM_V)


def additional_gradients(
    query: torch.Tensor,
    additional_keys: torch.Tensor,
    additional_values: torch.Tensor,
    lse: torch.Tensor,
    delta: torch.Tensor,
    grad_out: torch.Tensor,
    scale: float,
    wide: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of additional keys (B, tokens, heads_kv, dim) and values (B, tokens, heads_kv, dim_v), contiguous.

    Args:
        query: (B, Hq, Wq, heads, dim).
        additional_keys: (B, tokens, heads_kv, dim).
        additional_values: (B, tokens, heads_kv, dim_v).
        lse: (B, Hq, Wq, heads), contiguous.
        delta: (B, Hq, Wq, heads), contiguous, as `backward_pass.queries_kernel` leaves it.
        grad_out: (B, Hq, Wq, heads, dim_v).
        scale: multiplies the scores and turns exponents of e into exponents of 2.
        wide: whether offsets in an image take 64 bits.
    """
    batch, tokens, key_heads, _ = additional_keys.shape
    grad_keys = torch.empty_like(additional_keys, memory_format=torch.contiguous_format)
    grad_values = torch.empty_like(additional_values, memory_format=torch.contiguous_format)
    sizes = launch.sizes("additional", query, grad_out)
    launch.run(
        additional_kernel,
        (batch, key_heads, triton.cdiv(tokens, sizes.tile)),
        (
            query,
            additional_keys,
            additional_values,
            lse,
            delta,
            grad_out,
            grad_keys,
            grad_values,
            query.stride(),
            additional_keys.stride(),
            additional_values.stride(),
            grad_out.stride(),
            tuple(query.shape[1:3]),
            query.shape[3] // key_heads,
            tokens,
            scale,
        ),
        **launch.dims(query, grad_out),
        TILE=sizes.tile,
        STEP=sizes.step,
        WIDE=wide,
        **launch.tuned(sizes, Grid(sizes.tile, 1)),
    )
    return grad_keys, grad_values
