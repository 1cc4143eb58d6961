"""Gradient of queries, in Triton's interpreter."""

from __future__ import annotations

import torch

from attnzoo.kernels.routing import fused
from attnzoo.kernels.routing.operands import Operands


def test_a_gradient_of_zero_stays_in_its_region():
    query, key, value = (torch.randn(1, 4, 6, 1, 4) for _ in range(3))
    operands = Operands(query, key, value, torch.tensor([[[1], [2], [3], [0]]]))
    out, lse = fused.forward(operands, (2, 2), 0.4)
    grad_out = torch.randn_like(out)
    grad_out[:, :2, 3:] = 0
    gradient = fused.backward(grad_out, operands, out, lse, (2, 2), 0.4)[0][0, :, :, 0]
    assert not gradient[:2, 3:].any()
    assert (gradient[:2, :3].abs().amax(2) > 0).all()
    assert (gradient[2:].abs().amax(2) > 0).all()


def test_equal_keys_give_queries_no_gradient():
    query, value = torch.randn(2, 4, 4, 1, 4), torch.randn(2, 4, 4, 1, 4)
    key = torch.ones(2, 4, 4, 1, 4)
    operands = Operands(query, key, value, torch.tensor([[[1, 0]] * 4, [[3, 3]] * 4]))
    out, lse = fused.forward(operands, (2, 2), 0.4)
    gradients = fused.backward(torch.randn_like(out), operands, out, lse, (2, 2), 0.4)
    torch.testing.assert_close(gradients[0], torch.zeros_like(query), rtol=0, atol=1e-5)
    assert gradients[2].abs().max() > 0.1
