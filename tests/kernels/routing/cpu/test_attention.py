"""Routed attention on a CPU against the definition."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnzoo.kernels import route_regions, routed_attention_2d
from attnzoo.kernels.routing import cpu
from attnzoo.kernels.routing.cpu import attention, parts
from attnzoo.kernels.routing.operands import Operands
from attnzoo.zoo.analysis.timing import peak_memory
from support.routing_cases import RoutingCase, check_case, routing_cases, strided_views

_WAYS = ["routed", "masked"]


def _forced(way: str):
    """Forces gathering or masking in all cases."""
    return mock.patch.object(parts, "prefers_mask", return_value=way == "masked")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=routing_cases(), way=st.sampled_from(_WAYS), chunk_bytes=st.sampled_from([1, 2000, 20_000, 1 << 19]))
def test_random_cases(case, way, chunk_bytes):
    with mock.patch.object(parts, "_CHUNK_BYTES", chunk_bytes), _forced(way):
        check_case(case, cpu, torch.float64, 1e-9)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(case=routing_cases(6, 7), way=st.sampled_from(_WAYS), chunk_bytes=st.sampled_from([1, 2000, 20_000, 1 << 19]))
def test_many_random_cases(case, way, chunk_bytes):
    with mock.patch.object(parts, "_CHUNK_BYTES", chunk_bytes), _forced(way):
        check_case(case, cpu, torch.float64, 1e-9)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(case=routing_cases())
def test_random_cases_in_float32(case):
    check_case(case, cpu, torch.float32, 2e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(case=routing_cases(), way=st.sampled_from(_WAYS))
def test_products_for_other_devices(case, way):
    """Tests, on a CPU, the products that run on a GPU without Triton."""
    with mock.patch.object(attention, "_has_sdpa", return_value=False), _forced(way):
        check_case(case, cpu, torch.float64, 1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-3), (torch.bfloat16, 8e-3)])
@pytest.mark.parametrize("way", _WAYS)
def test_half_precision_rounds_only_operands_and_results(way, dtype, tolerance):
    with _forced(way):
        check_case(RoutingCase((3, 2), (4, 4), 3, 2, 2, 16, 24), cpu, dtype, tolerance)


@pytest.mark.parametrize("stage", [(8, 2, 1), (4, 4, 4), (2, 8, 16)], ids=str)
def test_the_stages_of_biformer(stage):
    side, heads, topk = stage
    case = RoutingCase((7, 7), (side, side), topk, 1, heads, 32, 32)
    check_case(case, cpu, torch.float32, 1e-5)


@pytest.mark.parametrize("name", strided_views())
@pytest.mark.parametrize("way", _WAYS)
def test_strides_do_not_matter(name, way):
    views = strided_views()[name]
    assert any(not one.is_contiguous() for one in views.values())
    case = RoutingCase((2, 5), (3, 2), 3, batch=2, heads=2)
    upstream = torch.randn(2, 10, 6, 2, 4).transpose(1, 2)  # not contiguous either
    with _forced(way):
        actual = case.results(cpu, torch.float32, changed=views | {"upstream": upstream})
        copies = {one: tensor.contiguous() for one, tensor in views.items()}
        expected = case.results(cpu, torch.float32, changed=copies | {"upstream": upstream.contiguous()})
    for one, tensor in actual.items():
        assert tensor.is_contiguous()
        assert torch.equal(tensor, expected[one]), one


@pytest.mark.parametrize("way", _WAYS)
def test_no_uninitialized_memory_is_read(way):
    """New memory is filled with NaN, so results show whether it is read before it is written."""
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        with _forced(way):
            check_case(RoutingCase((3, 3), (2, 3), 2, 2, 2, 4, 3, popular=True), cpu, torch.float64, 1e-9)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("way", _WAYS)
def test_results_are_reproducible_and_operands_are_not_modified(way):
    case = RoutingCase((4, 4), (3, 3), 3, 2, 2, 32, 32)
    operands = {name: one.detach() for name, one in case.operands(torch.float32).items()}
    before = {name: one.clone() for name, one in operands.items()}
    with _forced(way):
        first, second = (case.results(cpu, torch.float32, changed=operands) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(operands[name], before[name]) for name in operands)


@pytest.mark.parametrize("way", _WAYS)
def test_large_values_in_regions_that_are_not_seen_have_no_effect(way):
    query, key, value = (torch.randn(1, 4, 12, 1, 4) for _ in range(3))
    routes = torch.tensor([[[0], [0], [2]]])
    far_key, far_value = key.clone(), value.clone()
    far_key[:, :, 8:], far_value[:, :, 8:] = 1e30, 1e30
    with _forced(way):
        expected, _ = cpu.forward(Operands(query, key, value, routes), (1, 3), 0.5)
        actual, _ = cpu.forward(Operands(query, far_key, far_value, routes), (1, 3), 0.5)
    assert torch.equal(actual[:, :, :8], expected[:, :, :8])


def _peaks(side: int, topk: int, batch: int = 1, regions: int = 7) -> tuple[int, int]:
    """Measures the peak bytes of a forward and a backward pass beyond operands and results, for 2 heads of dim 16."""
    noise = torch.Generator().manual_seed(0)
    query, key, value, upstream = (torch.randn(batch, side, side, 2, 16, generator=noise) for _ in range(4))
    operands = Operands(query, key, value, route_regions(query, key, regions, topk))
    settings = ((regions, regions), 0.3)
    out, lse = cpu.forward(operands, *settings)
    gradients = cpu.backward(upstream, operands, out, lse, *settings)
    return (
        peak_memory(lambda: cpu.forward(operands, *settings), query.device) - out.nbytes - lse.nbytes,
        peak_memory(lambda: cpu.backward(upstream, operands, out, lse, *settings), query.device)
        - sum(one.nbytes for one in gradients if one is not None),
    )


@pytest.mark.parametrize("pass_", [0, 1], ids=["forward", "backward"])
def test_memory_beyond_results_does_not_grow_with_batch_or_topk(pass_):
    chunk = parts._CHUNK_BYTES
    small = _peaks(56, topk=2)[pass_]
    assert 0 < small < 10 * chunk
    for other in (_peaks(56, topk=2, batch=6), _peaks(56, topk=8)):
        assert other[pass_] < 1.5 * small


@pytest.mark.parametrize("pass_", [0, 1], ids=["forward", "backward"])
def test_memory_of_a_large_map_is_that_of_one_regions_keys(pass_):
    """Memory grows with the map where one region fills a chunk, but not by `topk` copies of all keys."""
    side, topk = 35, 8
    seen = side * side * 2 * 16 * 4 / 49 * topk  # bytes of the keys that a region sees
    with mock.patch.object(parts, "_CHUNK_BYTES", 1):
        small, large = (_peaks(one, topk)[pass_] for one in (side, 2 * side))
    # Gathered keys and values and their gradients, each of which is copied to another layout once.
    assert small < 9 * seen < 49 * seen / 5
    assert 3 < large / small < 5  # four times as many tokens


def test_autograd_saves_only_operands_and_results():
    query, key, value = (torch.randn(1, 28, 28, 2, 8, requires_grad=True) for _ in range(3))
    routes = route_regions(query, key, 7, 16)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        out = routed_attention_2d(query, key, value, routes, 7)
    operands = {one.data_ptr() for one in (query, key, value, routes, out)}
    others = [one for one in kept if one.data_ptr() not in operands]
    assert len(kept) == 6
    assert [one.shape for one in others] == [(1, 28, 28, 2)]
