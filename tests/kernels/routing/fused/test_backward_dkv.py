"""Gradients of keys and values, in Triton's interpreter."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from attnzoo.kernels.routing import fused
from attnzoo.kernels.routing.fused import plan
from attnzoo.kernels.routing.operands import Operands


@pytest.mark.parametrize("masked", [False, True])
def test_only_regions_that_are_routed_to_get_gradients(masked):
    query, key, value, grad_out = (torch.randn(1, 4, 6, 2, 4) for _ in range(4))
    operands = Operands(query, key, value, torch.tensor([[[1], [1], [3], [1]]]))
    with mock.patch.object(plan, "prefers_mask", return_value=masked):
        out, lse = fused.forward(operands, (2, 2), 0.4)
        _, grad_key, grad_value, _ = fused.backward(grad_out, operands, out, lse, (2, 2), 0.4)
    for gradient in (grad_key, grad_value):
        assert not gradient[:, :, :3].any()
        assert (gradient[:, :, 3:].abs().amax(-1) > 0).all()
    # Each query's probabilities sum to 1.
    expected = torch.stack(
        (grad_out[:, :2].sum((1, 2)) + grad_out[:, 2:, 3:].sum((1, 2)), grad_out[:, 2:, :3].sum((1, 2)))
    )
    actual = torch.stack((grad_value[:, :2, 3:].sum((1, 2)), grad_value[:, 2:, 3:].sum((1, 2))))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
