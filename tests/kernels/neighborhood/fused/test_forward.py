"""The output and the log-sum-exps against the definition, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from attnzoo.kernels.neighborhood import fused
from attnzoo.kernels.neighborhood.geometry import Blocks, Geometry, Neighborhood
from attnzoo.kernels.neighborhood.operands import Operands
from attnzoo.kernels.neighborhood.reference import ranged_attention_2d_reference
from support.attention_cases import AttentionCase, Axis
from support.kernel_cases import relative_error

_SMALL = Axis(Neighborhood(2), 3, 3)
_CASES = {
    "neighborhood": AttentionCase(Axis(Neighborhood(7), 9, 9), Axis(Neighborhood(3, dilation=2), 7, 7), batch=2),
    "halo": AttentionCase(Axis(Blocks(4, 2), 8, 8), Axis(Blocks(4, 1, 2), 2, 4), has_rpb=True),
    "more_tokens_than_a_step": AttentionCase(_SMALL, _SMALL, group=2, dim=20, dim_v=5, tokens=35),
    "terms": AttentionCase(_SMALL, _SMALL, has_rpb=True, has_row_terms=True, has_col_terms=True),
}


def _run(case: AttentionCase, operands: Operands) -> tuple[torch.Tensor, torch.Tensor]:
    return fused.forward(operands, Geometry(case.rows.rule, case.cols.rule), 0.4)


def _operands(case: AttentionCase, dtype: torch.dtype = torch.float32) -> Operands:
    return Operands(**{name: one.detach() for name, one in case.operands(dtype).items()})


@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES.keys())
def test_float32(case):
    operands = _operands(case)
    exact = Operands(**{name: one.double() for name, one in operands._asdict().items() if one is not None})
    expected = ranged_attention_2d_reference(exact, Geometry(case.rows.rule, case.cols.rule), 0.4)
    for actual, one in zip(_run(case, operands), expected, strict=True):
        assert actual.dtype == torch.float32
        assert relative_error(actual, one) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_returns_its_dtype_and_float32_log_sum_exps(dtype):
    out, lse = _run(_CASES["terms"], _operands(_CASES["terms"], dtype))
    assert out.dtype == dtype
    assert lse.dtype == torch.float32


def test_large_scores_do_not_overflow():
    operands = _operands(_CASES["neighborhood"])
    out, lse = _run(_CASES["neighborhood"], operands._replace(query=operands.query * 1e4))
    assert out.isfinite().all()
    assert lse.isfinite().all()
