"""The output and the log-sum-exps of routed attention, in Triton's interpreter."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from attnzoo.kernels.routing import fused
from attnzoo.kernels.routing.fused import plan
from attnzoo.kernels.routing.operands import Operands
from attnzoo.kernels.routing.reference import routed_attention_2d_reference
from support.kernel_cases import relative_error
from support.routing_cases import RoutingCase

_CASE = RoutingCase((2, 2), (3, 5), 3, heads=2, dim=5, dim_v=20, repeats=True)


def _operands(dtype: torch.dtype = torch.float32) -> Operands:
    drawn = {name: one.detach() for name, one in _CASE.operands(dtype).items()}
    return Operands(**drawn, routes=_CASE.routes())


@pytest.mark.parametrize("masked", [False, True])
def test_float32(masked):
    operands = _operands()
    with mock.patch.object(plan, "prefers_mask", return_value=masked):
        results = fused.forward(operands, _CASE.grid, 0.4)
    exact = Operands(*(one.double() for one in operands[:3]), routes=operands.routes)
    expected = routed_attention_2d_reference(exact, _CASE.grid, 0.4)
    for actual, one in zip(results, expected, strict=True):
        assert actual.dtype == torch.float32
        assert relative_error(actual, one) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_returns_its_dtype_and_float32_log_sum_exps(dtype):
    out, lse = fused.forward(_operands(dtype), _CASE.grid, 0.4)
    assert out.dtype == dtype
    assert lse.dtype == torch.float32


def test_large_scores_do_not_overflow():
    operands = _operands()
    out, lse = fused.forward(operands._replace(query=operands.query * 1e4), _CASE.grid, 0.4)
    assert out.isfinite().all()
    assert lse.isfinite().all()
