"""Gradients of additional keys and values, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from attnzoo.kernels.neighborhood import fused
from attnzoo.kernels.neighborhood.geometry import Blocks, Geometry
from attnzoo.kernels.neighborhood.operands import Operands

_WINDOW = Geometry(Blocks(3), Blocks(3))


def _backward(operands: Operands, grad_out: torch.Tensor) -> Operands:
    out, lse = fused.forward(operands, _WINDOW, 0.4)
    return Operands._make(fused.backward(grad_out, None, operands, out, lse, _WINDOW, 0.4))


@pytest.mark.parametrize("tokens", [1, 35])
def test_tokens_are_keys_like_any_other(tokens):
    """With one window and no bias: the gradients are those of plain attention over pixels and tokens."""
    query, key, value, grad_out = (torch.randn(2, 3, 3, 2, 5) for _ in range(4))
    token_keys, token_values = (torch.randn(2, tokens, 2, 5, requires_grad=True) for _ in range(2))
    keys = torch.cat((key.flatten(1, 2), token_keys), 1)
    values = torch.cat((value.flatten(1, 2), token_values), 1)
    probs = (torch.einsum("bqhd,bkhd->bhqk", query.flatten(1, 2), keys) * 0.4).softmax(-1)
    expected = torch.autograd.grad(
        torch.einsum("bhqk,bkhd->bqhd", probs, values), (token_keys, token_values), grad_out.flatten(1, 2)
    )
    operands = Operands(query, key, value, additional_keys=token_keys.detach(), additional_values=token_values.detach())
    gradients = _backward(operands, grad_out)
    torch.testing.assert_close(gradients.additional_keys, expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradients.additional_values, expected[1], rtol=1e-4, atol=1e-5)


def test_no_tokens():
    query = torch.randn(1, 3, 3, 1, 5)
    empty = torch.empty(1, 0, 1, 5)
    gradients = _backward(Operands(query, query, query, additional_keys=empty, additional_values=empty), query)
    assert gradients.additional_keys is not None
    assert gradients.additional_keys.shape == empty.shape
