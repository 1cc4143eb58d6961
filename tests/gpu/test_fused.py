"""Tests of the ranged attention kernels on a GPU: reference outputs, all rules, half precision, memory, determinism."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from attnzoo.kernels import neighborhood_attention_2d
from attnzoo.kernels.neighborhood.geometry import Blocks, Neighborhood
from support.attention_cases import AttentionCase, Axis, attention_cases, check_case
from support.kernel_cases import PACK_CASES, check_pack_case

pytestmark = pytest.mark.gpu

_TOLERANCES = [(torch.float32, 1e-5), (torch.float16, 3e-3), (torch.bfloat16, 2e-2)]
_SEVEN = Axis(Neighborhood(7), 29, 29)
_HALO = Axis(Blocks(8, 3), 32, 32)
_CASES = {
    "neighborhood": AttentionCase(_SEVEN, _SEVEN, 2, 2, 1, 32, 32, True),
    "dilated_shared_keys": AttentionCase(Axis(Neighborhood(5, 1, 4), 45, 45), _SEVEN, 2, 2, 2, 48, 20, True, 70),
    "causal_stride": AttentionCase(Axis(Neighborhood(6, 4, 2, True), 30, 30), _SEVEN, 1, 2, 1, 64, 64),
    "halo": AttentionCase(_HALO, Axis(Blocks(8, 3, 2), 16, 32), 2, 2, 1, 16, 64, True),
    "clipped_halo": AttentionCase(Axis(Blocks(14, 5, clip=True), 28, 28), _HALO, 1, 2, 1, 128, 128, True),
    "windows": AttentionCase(Axis(Blocks(7), 28, 28), Axis(Blocks(12), 24, 24), 2, 3, 1, 96, 96, True),
    "shifted_windows": AttentionCase(
        Axis(Blocks(7, shift=3), 28, 28), Axis(Blocks(8, shift=4), 24, 24), 2, 3, 1, 32, 32, True
    ),
    "cut_blocks": AttentionCase(
        Axis(Blocks(8, 3), 29, 29),
        Axis(Blocks(8, 2, 2), 11, 21),
        2,
        2,
        1,
        16,
        32,
        has_row_terms=True,
        has_col_terms=True,
    ),
    "terms_of_halo": AttentionCase(
        _HALO, Axis(Blocks(8, 3, 2), 16, 32), 2, 4, 1, 16, 64, has_row_terms=True, has_col_terms=True
    ),
    "terms_and_bias": AttentionCase(
        _SEVEN, Axis(Neighborhood(5, 2, 2), 21, 21), 1, 2, 2, 64, 64, True, 5, has_row_terms=True, has_col_terms=True
    ),
    "terms_of_long_vectors": AttentionCase(_HALO, _SEVEN, 1, 1, 1, 128, 128, has_row_terms=True, has_col_terms=True),
}


@pytest.mark.parametrize(("dtype", "tolerance"), _TOLERANCES, ids=str)
@pytest.mark.parametrize("case", PACK_CASES, ids=lambda case: case["name"])
def test_reference_outputs(case, dtype, tolerance):
    check_pack_case(case, "triton", dtype, tolerance, device="cuda")


@pytest.mark.parametrize(("dtype", "tolerance"), _TOLERANCES, ids=str)
@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES.keys())
def test_rules(case, dtype, tolerance):
    check_case(case, "triton", dtype, tolerance, device="cuda")


@pytest.mark.parametrize("dim", [16, 24, 32, 64, 80, 128, 256])
@pytest.mark.parametrize(("dtype", "tolerance"), _TOLERANCES, ids=str)
def test_dims(dim, dtype, tolerance):
    if dtype == torch.float32 and dim > 128:
        dim = 127
    axis = Axis(Neighborhood(5), 18, 18)
    check_case(AttentionCase(axis, axis, 1, 1, 2, dim, dim, True, 5), "triton", dtype, tolerance, device="cuda")


@settings(max_examples=50, deadline=None)
@given(case=attention_cases(extra=24))
def test_random_cases(case):
    check_case(case, "triton", torch.float32, 2e-5, device="cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_are_deterministic(dtype):
    case = AttentionCase(Axis(Neighborhood(7), 56, 56), Axis(Neighborhood(7, 1, 8), 56, 56), 4, 2, 2, 32, 32, True, 9)
    operands = case.operands(dtype, "cuda")
    first = case.results(operands, "triton", dtype)
    for _ in range(3):
        for name, tensor in case.results(operands, "triton", dtype).items():
            assert torch.equal(tensor, first[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_auto_backend_uses_pytorch_for_large_dims(dtype):
    query = torch.randn(1, 9, 9, 1, 264, device="cuda", dtype=dtype)
    out = neighborhood_attention_2d(query, query, query, 3)
    assert torch.equal(out, neighborhood_attention_2d(query, query, query, 3, backend="torch"))
    with pytest.raises(ValueError, match="dims <= "):
        neighborhood_attention_2d(query, query, query, 3, backend="triton")


def test_empty_batch():
    query = torch.randn(0, 9, 9, 2, 32, device="cuda", requires_grad=True)
    rpb = torch.randn(2, 5, 5, device="cuda", requires_grad=True)
    out = neighborhood_attention_2d(query, query, query, 3, rpb=rpb, backend="triton")
    assert out.shape == query.shape
    _, grad_rpb = torch.autograd.grad(out.sum(), (query, rpb))
    assert not grad_rpb.any()


def test_memory_is_linear_in_the_map():
    def peak(size: int) -> int:
        query, key, value = (
            torch.randn(1, size, size, 4, 32, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)
        )
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        neighborhood_attention_2d(query, key, value, 7, backend="triton").sum().backward()
        return torch.cuda.max_memory_allocated() - before

    peak(64)
    small, large = peak(64), peak(256)
    # The output, its gradient and three gradients are 5 times the size of the query; log-sum-exps are small.
    assert large < 7 * 256 * 256 * 4 * 32 * 2
    assert large < 18 * small
