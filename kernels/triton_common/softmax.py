"""Softmax over keys that arrive block by block, in powers of 2, and its backward pass.

Source: Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018); Dao et al., "FlashAttention" (2022).
"""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from .constants import LN_2


@triton.jit
def scaled_scores(left, right, scale, PRECISION: tl.constexpr):
    """Returns the scaled dot products of the vectors (left, dim) and (right, dim): (left, right)."""
    return tl.dot(left, tl.trans(right), input_precision=PRECISION) * scale


@triton.jit
def online_softmax_step(scores, row_max, row_sum, acc):
    """Takes a block of scores into the running softmax. The caller adds the product of `probs` and the values to `acc`.

    Args:
        scores: (queries, keys), -inf for pairs that are masked.
        row_max: (queries,) largest score so far.
        row_sum: (queries,) sum of 2^(score - row_max) so far.
        acc: (queries, dim) sum of 2^(score - row_max) * value so far.

    Returns:
        `probs`, which is 2^(scores - row_max) and not normalized, and the new row_max, row_sum and acc.
    """
    new_max = tl.maximum(row_max, tl.max(scores, 1))
    probs = tl.exp2(scores - new_max[:, None])
    alpha = tl.exp2(row_max - new_max)
    return probs, new_max, row_sum * alpha + tl.sum(probs, 1), acc * alpha[:, None]


@triton.jit
def finish_softmax(row_max, row_sum, acc, owned):
    """Returns the output and the natural log-sum-exp of the scores.

    Queries that are not `owned` may have seen no key.
    """
    row_sum = tl.where(owned, row_sum, 1.0)
    return acc / row_sum[:, None], (row_max + tl.log2(row_sum)) * LN_2


@triton.jit
def score_gradients(scores, left_values, right_values, visible, lse, delta, PRECISION: tl.constexpr):
    """Recomputes the probabilities of a block of scores, and computes the gradients of these scores.

    The block is queries by keys (then `left_values` are gradients of the output, and `right_values` are values) or keys
    by queries (then the other way round).

    Args:
        scores: (left, right) scaled scores to base 2, with biases.
        left_values: (left, dim_v).
        right_values: (right, dim_v).
        visible: Which pairs take part; broadcastable to (left, right).
        lse: Log-sum-exp of each query's scores to base 2; broadcastable to (left, right).
        delta: Dot product of each query's output and its gradient; broadcastable to (left, right).
        PRECISION: `input_precision` of `tl.dot`.

    Returns:
        The probabilities and the gradients of the scores, both (left, right).
    """
    probs = tl.exp2(tl.where(visible, scores, -float("inf")) - lse)
    grad_probs = tl.dot(left_values, tl.trans(right_values), input_precision=PRECISION)
    return probs, probs * (grad_probs - delta)
