"""Tests of routed attention on a GPU: both kinds of tiles, half precision, memory, determinism."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnzoo.kernels import route_regions, routed_attention_2d
from attnzoo.kernels.routing import cpu, fused
from attnzoo.kernels.routing.fused import plan
from attnzoo.tools.benchmarking.attention_baselines import GatherAttention
from attnzoo.zoo.analysis.timing import peak_memory
from support.routing_cases import RoutingCase, check_case, routing_cases

pytestmark = pytest.mark.gpu

_TOLERANCES = [(torch.float32, 1e-5), (torch.float16, 3e-3), (torch.bfloat16, 2e-2)]
_MODES = ["routed", "masked"]
_CASES = {
    "stage_1": RoutingCase((7, 7), (8, 8), 1, 2, 2, 32, 32),
    "stage_2": RoutingCase((7, 7), (4, 4), 4, 2, 4, 32, 32),
    "stage_3": RoutingCase((7, 7), (2, 2), 16, 2, 8, 32, 32),
    "uneven": RoutingCase((3, 5), (11, 7), 4, 2, 3, 48, 80, popular=True),
    "repeats": RoutingCase((4, 4), (5, 3), 20, 2, 2, 64, 16, repeats=True, popular=True),
}


def _using(mode: str):
    """Forces one of the two kinds of tiles."""
    return mock.patch.object(plan, "prefers_mask", return_value=mode == "masked")


@pytest.mark.parametrize(("dtype", "tolerance"), _TOLERANCES, ids=str)
@pytest.mark.parametrize("mode", _MODES)
@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES.keys())
def test_cases(case, mode, dtype, tolerance):
    with _using(mode):
        check_case(case, fused, dtype, tolerance, device="cuda")


@pytest.mark.parametrize("dim", [16, 24, 32, 64, 80, 128, 256])
@pytest.mark.parametrize(("dtype", "tolerance"), _TOLERANCES, ids=str)
def test_dims(dim, dtype, tolerance):
    if dtype == torch.float32 and dim > 128:
        dim = 127
    check_case(RoutingCase((3, 3), (5, 4), 3, 1, 2, dim, dim), fused, dtype, tolerance, device="cuda")


@settings(max_examples=50, deadline=None)
@given(case=routing_cases(5, 9), mode=st.sampled_from(_MODES))
def test_random_cases(case, mode):
    with _using(mode):
        check_case(case, fused, torch.float32, 2e-5, device="cuda")


@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES.keys())
def test_plain_pytorch(case):
    check_case(case, cpu, torch.float64, 1e-9, device="cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", _MODES)
def test_results_are_deterministic(mode, dtype):
    case = RoutingCase((7, 7), (4, 4), 16, 4, 4, 32, 32, popular=True)
    with _using(mode):
        first = case.results(fused, dtype, "cuda")
        for _ in range(3):
            for name, tensor in case.results(fused, dtype, "cuda").items():
                assert torch.equal(tensor, first[name]), name


@pytest.mark.parametrize("regions", [4, 49, 256, 2500])
def test_ties_are_broken_by_the_lower_region_index(regions):
    side = int(regions**0.5)
    query = torch.ones(1, side, side, 1, 1, device="cuda")
    assert route_regions(query, query, side, regions).tolist() == [[list(range(regions))] * regions]


def test_routes_out_of_range_are_clamped():
    query = torch.randn(1, 8, 8, 1, 32, device="cuda")
    routes = torch.tensor([[[-5], [9], [1], [2**40]]], device="cuda")
    for backend in ("triton", "torch", "reference"):
        actual = routed_attention_2d(query, query, query, routes, 2, backend=backend)
        expected = routed_attention_2d(query, query, query, routes.clamp(0, 3), 2, backend=backend)
        assert torch.equal(actual, expected)


def test_calls_do_not_synchronize_with_the_gpu():
    query = torch.randn(2, 28, 28, 2, 32, device="cuda", requires_grad=True)

    def run() -> None:
        routed_attention_2d(query, query, query, route_regions(query, query, 7, 4), 7).sum().backward()

    run()  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_empty_batch():
    query = torch.randn(0, 8, 8, 2, 32, device="cuda", requires_grad=True)
    out = routed_attention_2d(query, query, query, route_regions(query, query, 2, 1), 2, backend="triton")
    out.sum().backward()
    assert out.shape == query.shape


def _peak(attention, shape: tuple[int, ...], regions: int, topk: int) -> int:
    """Returns the peak memory of a forward and a backward pass in bfloat16, in bytes beyond the operands."""
    query, key, value = (torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    routes = route_regions(query, key, regions, topk)
    upstream = torch.randn(shape, device="cuda", dtype=torch.bfloat16)

    def run():
        out = attention(query, key, value, routes, regions)
        return torch.autograd.grad(out, (query, key, value), upstream)

    run()
    return peak_memory(run, torch.device("cuda"))


# The stages of BiFormer-S, and an image of 600x500 pixels (padded to complete regions) at the first stage.
@pytest.mark.parametrize(
    ("shape", "topk"),
    [((8, 56, 56, 2, 32), 1), ((8, 28, 28, 4, 32), 4), ((8, 14, 14, 8, 32), 16), ((1, 154, 126, 2, 32), 4)],
    ids=str,
)
def test_peak_memory_is_at_most_a_quarter_of_the_reference_implementations(shape, topk):
    ours = _peak(lambda *arguments: routed_attention_2d(*arguments, backend="triton"), shape, 7, topk)
    reference = GatherAttention(7)
    assert 4 * ours <= _peak(lambda *arguments: reference(*arguments[:4]), shape, 7, topk)


def test_memory_is_linear_in_the_map():
    def peak(height: int, width: int) -> int:
        return _peak(routed_attention_2d, (1, height, width, 2, 32), 7, 8)

    small, large = peak(154, 126), peak(602, 504)
    growth = 602 * 504 / (154 * 126)
    assert large < 1.1 * growth * small
    # The output and three gradients, and two float32 numbers per query and head.
    assert large < 5 * 602 * 504 * 2 * 32 * 2
