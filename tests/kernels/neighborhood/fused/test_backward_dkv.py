"""Gradients of keys and values, in Triton's interpreter."""

from __future__ import annotations

import torch

from attnzoo.kernels.neighborhood import fused
from attnzoo.kernels.neighborhood.geometry import Blocks, Geometry, Neighborhood
from attnzoo.kernels.neighborhood.operands import Operands

_GEOMETRY = Geometry(Neighborhood(3), Blocks(4, 1))


def _backward(operands: Operands, grad_out: torch.Tensor, geometry: Geometry = _GEOMETRY) -> Operands:
    out, lse = fused.forward(operands, geometry, 0.4)
    return Operands._make(fused.backward(grad_out, None, operands, out, lse, geometry, 0.4))


def test_query_heads_that_share_keys_add_up():
    query, grad_out = torch.randn(1, 3, 4, 2, 8), torch.randn(1, 3, 4, 2, 8)
    key, value, rpb = torch.randn(1, 3, 4, 1, 8), torch.randn(1, 3, 4, 1, 8), torch.randn(2, 5, 9)
    shared = _backward(Operands(query, key, value, rpb), grad_out)
    repeated = _backward(Operands(query, key.repeat_interleave(2, 3), value.repeat_interleave(2, 3), rpb), grad_out)
    torch.testing.assert_close(shared.key, repeated.key.sum(3, keepdim=True), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shared.value, repeated.value.sum(3, keepdim=True), rtol=1e-4, atol=1e-5)


def test_the_gradient_reaches_the_keys_that_the_query_sees():
    query, key, value = (torch.randn(1, 6, 6, 1, 4) for _ in range(3))
    grad_out = torch.zeros(1, 6, 6, 1, 4)
    grad_out[:, 3, 1] = 1
    gradients = _backward(Operands(query, key, value), grad_out)
    seen = torch.zeros(6, 6, dtype=torch.bool)
    seen[2:5, 0:5] = True
    for gradient in (gradients.key, gradients.value):
        assert torch.equal(gradient[0, :, :, 0].abs().amax(2) > 0, seen)


def test_the_gradients_of_the_values_sum_to_that_of_the_output():
    query, key, value, grad_out = (torch.randn(1, 4, 4, 2, 4) for _ in range(4))
    gradients = _backward(Operands(query, key, value), grad_out, Geometry(Neighborhood(3), Neighborhood(2)))
    torch.testing.assert_close(gradients.value.sum((1, 2)), grad_out.sum((1, 2)), rtol=1e-4, atol=1e-4)
