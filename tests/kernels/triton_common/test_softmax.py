"""The online softmax and its backward pass against torch's softmax, in Triton's interpreter."""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import math

import pytest
import torch
import triton
import triton.language as tl

from attnzoo.kernels.triton_common.constants import LOG2_E, LOWEST_SCORE
from attnzoo.kernels.triton_common.softmax import (
    finish_softmax,
    online_softmax_step,
    scaled_scores,
    score_gradients,
)


@triton.jit
def _attention_kernel(query, key, value, out, lse, num_keys, scale):
    offs = tl.arange(0, 16)
    block = offs[:, None] * 16 + offs[None, :]
    queries = tl.load(query + block)
    row_max = tl.full([16], LOWEST_SCORE, tl.float32)
    row_sum = tl.zeros([16], tl.float32)
    acc = tl.zeros([16, 16], tl.float32)
    for first in range(0, num_keys, 16):
        present = first + offs < num_keys
        keys = tl.load(key + first * 16 + block, mask=present[:, None], other=0.0)
        scores = tl.where(present[None, :], scaled_scores(queries, keys, scale, "ieee"), -float("inf"))
        probs, row_max, row_sum, acc = online_softmax_step(scores, row_max, row_sum, acc)
        acc = tl.dot(probs, tl.load(value + first * 16 + block, mask=present[:, None], other=0.0), acc)
    output, log_sum_exp = finish_softmax(row_max, row_sum, acc, offs < 16)
    tl.store(out + block, output)
    tl.store(lse + offs, log_sum_exp)


@pytest.mark.parametrize("num_keys", [1, 16, 39])
@pytest.mark.parametrize("magnitude", [1.0, 100.0])
def test_attention_over_several_blocks(num_keys, magnitude):
    query = torch.randn(16, 16) * magnitude
    key, value = torch.randn(num_keys, 16), torch.randn(num_keys, 16)
    out, lse = torch.empty(16, 16), torch.empty(16)
    _attention_kernel[(1,)](query, key, value, out, lse, num_keys, 0.25 * LOG2_E.value)
    scores = query.double() @ key.double().T * 0.25
    torch.testing.assert_close(out.double(), scores.softmax(1) @ value.double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(lse.double(), scores.logsumexp(1), rtol=1e-5, atol=1e-4)


@triton.jit
def _unseen_kernel(out, lse):
    offs = tl.arange(0, 16)
    scores = tl.full([16, 16], -float("inf"), tl.float32)
    row_max = tl.full([16], LOWEST_SCORE, tl.float32)
    row_sum = tl.zeros([16], tl.float32)
    acc = tl.zeros([16, 16], tl.float32)
    _probs, row_max, row_sum, acc = online_softmax_step(scores, row_max, row_sum, acc)
    output, log_sum_exp = finish_softmax(row_max, row_sum, acc, offs < 0)
    tl.store(out + offs[:, None] * 16 + offs[None, :], output)
    tl.store(lse + offs, log_sum_exp)


def test_queries_that_see_no_key_are_finite():
    out, lse = torch.empty(16, 16), torch.empty(16)
    _unseen_kernel[(1,)](out, lse)
    assert not out.any()
    assert lse.isfinite().all()


@triton.jit
def _gradient_kernel(scores, value, grad_out, lse, delta, probs, grad_scores, visible_keys):
    offs = tl.arange(0, 16)
    block = offs[:, None] * 16 + offs[None, :]
    found = score_gradients(
        tl.load(scores + block),
        tl.load(grad_out + block),
        tl.load(value + block),
        (offs < visible_keys)[None, :],
        tl.load(lse + offs)[:, None],
        tl.load(delta + offs)[:, None],
        "ieee",
    )
    tl.store(probs + block, found[0])
    tl.store(grad_scores + block, found[1])


def test_gradients_of_scores():
    value, grad_out = torch.randn(16, 16), torch.randn(16, 16)
    scores = torch.randn(16, 16, requires_grad=True)
    masked = scores.masked_fill(torch.arange(16) >= 11, -math.inf)
    expected = masked.softmax(1)
    out = expected @ value
    (expected_gradient,) = torch.autograd.grad(out, scores, grad_out)
    probs, gradient = torch.empty(16, 16), torch.empty(16, 16)
    lse, delta = masked.logsumexp(1).detach() * LOG2_E.value, (out * grad_out).sum(1).detach()
    _gradient_kernel[(1,)](scores.detach() * LOG2_E.value, value, grad_out, lse, delta, probs, gradient, 11)
    torch.testing.assert_close(probs, expected.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)
