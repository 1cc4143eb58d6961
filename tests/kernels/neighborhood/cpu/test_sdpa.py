"""Tiles for torch's fused attention."""

from __future__ import annotations

import pytest
import torch

from attnzoo.kernels import neighborhood_attention_2d
from attnzoo.kernels.neighborhood.geometry import Neighborhood
from support.attention_cases import AttentionCase, Axis, check_case
from support.kernel_cases import relative_error


@pytest.mark.parametrize("size", [7, 12])
@pytest.mark.parametrize("has_rpb", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_window_that_covers_the_map(size, has_rpb, dtype):
    """Such a window is read and written in place where possible."""
    axis = Axis(Neighborhood(size), size, size)
    tolerance = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 1e-2}[dtype]
    check_case(AttentionCase(axis, axis, 2, 3, 1, 4, 4, has_rpb), "torch", dtype, tolerance)
    # Without gradients of the log-sum-exps, which take another path.
    operands = [torch.randn(2, size, size, 3, 8).transpose(1, 2).to(dtype).requires_grad_() for _ in range(3)]
    query, key, value = operands
    results = []
    for backend in ("torch", "reference"):
        out = neighborhood_attention_2d(query, key, value, size, backend=backend)
        results.append((out, *torch.autograd.grad(out.float().sin().sum(), operands)))
    for actual, expected in zip(*results, strict=True):
        assert actual.is_contiguous()
        assert relative_error(actual, expected) < tolerance
