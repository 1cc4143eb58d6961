"""Ranged attention on a CPU against the published cases and the definition."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnzoo.kernels import neighborhood_attention_2d
from attnzoo.kernels.neighborhood import cpu, ranged_attention_2d
from attnzoo.kernels.neighborhood.cpu import attention
from attnzoo.kernels.neighborhood.geometry import Blocks, Geometry, Neighborhood
from attnzoo.kernels.neighborhood.operands import Operands
from attnzoo.zoo.analysis.timing import peak_memory
from support.attention_cases import AttentionCase, Axis, attention_cases, check_case
from support.kernel_cases import PACK_CASES, check_pack_case

_SEVEN = Neighborhood(7)


@pytest.mark.parametrize("case", PACK_CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
def test_pack(case, dtype, tolerance):
    check_pack_case(case, "torch", dtype, tolerance)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(case=attention_cases(), chunk_bytes=st.sampled_from([1, 4000, 50_000, 1 << 19]))
def test_random_cases(case, chunk_bytes):
    with (
        mock.patch.object(attention, "_CHUNK_BYTES", chunk_bytes),
        mock.patch.object(attention, "_SDPA_CHUNK_BYTES", chunk_bytes),
    ):
        check_case(case, "torch", torch.float64, 1e-9)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(case=attention_cases(extra=24), chunk_bytes=st.sampled_from([1, 4000, 50_000, 1 << 19]))
def test_many_random_cases(case, chunk_bytes):
    with (
        mock.patch.object(attention, "_CHUNK_BYTES", chunk_bytes),
        mock.patch.object(attention, "_SDPA_CHUNK_BYTES", chunk_bytes),
    ):
        check_case(case, "torch", torch.float64, 1e-9)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=attention_cases())
def test_random_cases_in_float32(case):
    check_case(case, "torch", torch.float32, 2e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-3), (torch.bfloat16, 8e-3)])
@pytest.mark.parametrize("tokens", [0, 3])
def test_half_precision_rounds_only_operands_and_results(dtype, tolerance, tokens):
    axis = Axis(_SEVEN, 15, 15)
    check_case(AttentionCase(axis, axis, 2, 2, 2, 16, 16, True, tokens), "torch", dtype, tolerance)


@pytest.mark.parametrize("size", [*range(7, 24), 56])
def test_every_map_size(size):
    case = AttentionCase(Axis(_SEVEN, size, size), Axis(Neighborhood(3, dilation=2), 11, 11), has_rpb=True)
    check_case(case, "torch", torch.float64, 1e-9)


def test_gradients_by_finite_differences():
    axis = Axis(Neighborhood(3), 5, 5)
    operands = AttentionCase(axis, axis, 1, 1, 2, 2, 3, True, 2).operands(torch.float64)

    def attention(*tensors):
        return ranged_attention_2d(
            **dict(zip(operands, tensors, strict=True)), rows=axis.rule, cols=axis.rule, return_lse=True
        )

    assert torch.autograd.gradcheck(attention, tuple(operands.values()))


def _views() -> dict[str, tuple[torch.Tensor, ...]]:
    """Returns query, key and value (2, 9, 11, 2, 4) with the strides that occur in models."""
    draw = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, 9, 11, 3, 2, 4, generator=draw)
    channels_first = torch.randn(3, 2, 8, 9, 11, generator=draw).permute(0, 1, 3, 4, 2).unflatten(-1, (2, 4))
    heads_first = torch.randn(3, 2, 2, 9, 11, 4, generator=draw).permute(0, 1, 3, 4, 2, 5)
    expanded = torch.randn(3, 1, 9, 1, 2, 4, generator=draw).expand(3, 2, 9, 11, 2, 4)
    sliced = torch.randn(3, 3, 20, 23, 2, 9, generator=draw)[:, 1:, 1:19:2, 1::2, :, 1::2]
    flipped_axes = torch.randn(3, 4, 2, 11, 9, 2, generator=draw).permute(0, 5, 4, 3, 2, 1)
    return {
        "qkv of one linear layer": qkv.unbind(3),
        "channels first": channels_first.unbind(0),
        "heads first": heads_first.unbind(0),
        "expanded": expanded.unbind(0),
        "sliced": sliced.unbind(0),
        "flipped axes": flipped_axes.unbind(0),
    }


@pytest.mark.parametrize("name", _views())
def test_strides_do_not_matter(name):
    views = [one.detach().requires_grad_() for one in _views()[name]]
    copies = [one.detach().contiguous().requires_grad_() for one in views]
    assert any(not one.is_contiguous() for one in views)
    upstream = torch.randn(2, 11, 9, 2, 4).transpose(1, 2)  # not contiguous either
    results = []
    for tensors in (views, copies):
        query, key, value = tensors
        out = neighborhood_attention_2d(query, key, value, (5, 3), dilation=(1, 2), backend="torch")
        results.append((out, *torch.autograd.grad(out, tensors, upstream)))
    for actual, expected in zip(*results, strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("rule", [Neighborhood(5, stride=2, dilation=2), Blocks(4, halo=3), Blocks(4, 2, 2, clip=True)])
def test_no_uninitialized_memory_is_read(rule):
    """New memory is filled with NaN, so results show whether it is read before it is written."""
    keys, queries = 12, 12 // getattr(rule, "query_stride", 1)
    axis = Axis(rule, queries, keys)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        check_case(AttentionCase(axis, axis, 2, 1, 2, 4, 3, True, 2), "torch", torch.float64, 1e-9)
    finally:
        torch.use_deterministic_algorithms(False)


def test_results_are_reproducible_bit_for_bit():
    axis = Axis(_SEVEN, 28, 28)
    case = AttentionCase(axis, axis, 2, 2, 1, 32, 32, True)
    first, second = (case.results(case.operands(torch.float32), "torch", torch.float32) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_operands_are_not_modified():
    axis = Axis(Neighborhood(3), 8, 8)
    case = AttentionCase(axis, axis, has_rpb=True, tokens=2)
    operands = case.operands(torch.float32)
    before = {name: one.detach().clone() for name, one in operands.items()}
    case.results(operands, "torch", torch.float32)
    assert all(torch.equal(operands[name], before[name]) for name in operands)


def test_large_values_outside_a_window_have_no_effect():
    """The result of a query depends only on the keys that it sees."""
    query, key, value = (torch.randn(1, 24, 24, 1, 4) for _ in range(3))
    expected = neighborhood_attention_2d(query, key, value, 5, backend="torch")
    key, value = key.clone(), value.clone()
    key[:, 20:], value[:, 20:] = 1e30, 1e30
    actual = neighborhood_attention_2d(query, key, value, 5, backend="torch")
    assert torch.equal(actual[:, :16], expected[:, :16])


def _peaks(size: int) -> tuple[int, int]:
    """Measures the peak bytes of a forward and a backward pass beyond operands and results, on a square map."""
    noise = torch.Generator().manual_seed(0)
    query, key, value, upstream = (torch.randn(1, size, size, 2, 8, generator=noise) for _ in range(4))
    rpb = torch.randn(2, 13, 13, generator=noise)
    settings = (Geometry(_SEVEN, _SEVEN), 0.3)
    operands = Operands(query, key, value, rpb)
    out, lse = cpu.forward(operands, *settings)
    gradients = cpu.backward(upstream, None, operands, out, lse, *settings)
    peaks = (
        peak_memory(lambda: cpu.forward(operands, *settings), query.device),
        peak_memory(lambda: cpu.backward(upstream, None, operands, out, lse, *settings), query.device),
    )
    return peaks[0] - out.nbytes - lse.nbytes, peaks[1] - sum(one.nbytes for one in gradients if one is not None)


def test_memory_beyond_results_does_not_grow_with_the_map():
    small, large = _peaks(112), _peaks(448)
    unfolded = 448 * 448 * 49 * 2 * 8 * 4  # bytes of the keys of all windows
    for before, after in zip(small, large, strict=True):
        assert 0 < after < 1.5 * before
        assert after < unfolded / 20
