"""Routed attention's fused kernels against the definition, and what they read and write."""

from __future__ import annotations

import functools
import itertools
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnzoo.kernels import routed_attention_2d
from attnzoo.kernels.routing import fused
from attnzoo.kernels.routing.fused import plan
from attnzoo.kernels.routing.operands import Operands
from attnzoo.kernels.triton_common import launch
from support.routing_cases import RoutingCase, check_case, routing_cases, strided_views

_NAN = float("nan")
_WAYS = ["routed", "masked"]
_CASE = RoutingCase((2, 2), (2, 1), 2, heads=2, dim=5, dim_v=6, repeats=True, popular=True)
_CASES = {
    "several_tiles_and_steps": RoutingCase((2, 1), (9, 8), 1, dim=8, dim_v=8),
    "unseen_regions": RoutingCase((3, 1), (3, 2), 2, 2, 2, 20, 9, popular=True),
    "repeats": RoutingCase((2, 2), (3, 5), 6, dim=16, dim_v=33, repeats=True),
    "regions_of_one_token": RoutingCase((3, 5), (1, 1), 4, dim=4, dim_v=1),
    "one_region": RoutingCase((1, 1), (3, 6), 1, dim=1, dim_v=4, scale=-0.7),
    "rows": RoutingCase((1, 4), (1, 9), 3, dim=24, dim_v=40),
    "columns": RoutingCase((3, 1), (7, 1), 1, dim=33, dim_v=4),
}


def _forced(way: str):
    """Has every case take one way of the two."""
    return mock.patch.object(plan, "prefers_mask", return_value=way == "masked")


@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES.keys())
def test_float32(case, way):
    with _forced(way):
        check_case(case, fused, torch.float32, 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("way", _WAYS)
def test_half_precision(way, dtype, tolerance):
    with _forced(way):
        check_case(RoutingCase((2, 2), (2, 3), 3, dim=8, dim_v=5), fused, dtype, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "topk", "way"),
    [(8, 1, "routed"), (4, 4, "routed"), (4, 4, "masked"), (2, 16, "routed"), (2, 16, "masked")],
)
def test_the_stages_of_biformer(side, topk, way):
    with _forced(way):
        check_case(RoutingCase((7, 7), (side, side), topk, dim=32, dim_v=32), fused, torch.float32, 1e-5)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=routing_cases(3, 5), way=st.sampled_from(_WAYS))
def test_random_cases(case, way):
    with _forced(way):
        check_case(case, fused, torch.float32, 2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [15, 16, 17, 48, 80, 96, 128, 130, 256])
def test_dims(dim):
    dtype, tolerance = (torch.float32, 1e-5) if dim <= 128 else (torch.float16, 2e-3)
    check_case(RoutingCase((2, 2), (2, 3), 2, dim=dim, dim_v=9), fused, dtype, tolerance)
    check_case(RoutingCase((2, 2), (4, 5), 2, dim=9, dim_v=dim), fused, dtype, tolerance)


def test_tiny_regions_take_a_mask_and_others_do_not():
    assert plan.prefers_mask(regions=49, topk=16, tokens=4)
    assert not plan.prefers_mask(regions=49, topk=1, tokens=4)
    assert not plan.prefers_mask(regions=2500, topk=16, tokens=4)
    assert not plan.prefers_mask(regions=49, topk=49, tokens=16)


@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 49, 64, 6192, 65537, 2**30, 2**31 - 1])
def test_division_is_exact(divisor):
    """As `places.divide` computes it, in Python, at the edges of every quotient's range."""
    reciprocal = plan._reciprocal(divisor) % 2**32
    numbers = {0, 1, 2**31 - 1, 2**31 - 2}
    for quotient in (1, 2, 3, 100, 2**31 // divisor):
        numbers |= {quotient * divisor + step for step in (-1, 0, 1)}
    for number in sorted(one for one in numbers if 0 <= one < 2**31):
        quotient = number * reciprocal >> 32
        remainder = number - quotient * divisor
        assert 0 <= remainder < 2 * divisor
        assert -(2**31) <= plan._reciprocal(divisor) < 2**31
        quotient += remainder >= divisor
        assert quotient == number // divisor


def test_routes_are_turned_around_in_order():
    routes = torch.tensor([[[1, 0], [1, 1], [9, 0]], [[2, 2], [-3, 2], [1, 0]]])
    starts, seers = plan.seen_by(routes, 3)
    lists = [seers[start:end].tolist() for start, end in itertools.pairwise(starts)]
    assert lists == [[0, 2], [0, 1, 1], [2], [1, 2], [2], [0, 0, 1]]


@functools.cache
def _expected(way: str) -> dict[str, torch.Tensor]:
    with _forced(way):
        return _CASE.results(fused, torch.float32)


def _assert_equal(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in actual.items():
        assert torch.equal(tensor, expected[name]), name


def _scattered(tensor: torch.Tensor) -> torch.Tensor:
    """The same values in memory with other strides, among NaN."""
    order = list(reversed(range(tensor.ndim)))
    around = torch.full([size * 2 + 1 for size in tensor.permute(order).shape], _NAN)
    inner = around[tuple(slice(1, None, 2) for _ in range(tensor.ndim))]
    inner.copy_(tensor.permute(order))
    return inner.permute(order)


@pytest.mark.parametrize("way", _WAYS)
def test_any_strides_and_nothing_beside_the_operands(way):
    scattered = {name: _scattered(one.detach()) for name, one in _CASE.operands(torch.float32).items()}
    with _forced(way):
        _assert_equal(_CASE.results(fused, torch.float32, changed=scattered), _expected(way))


def test_views_of_models_and_expanded_gradients():
    case = RoutingCase((1, 2), (6, 5), 1, batch=2, heads=2)
    views = strided_views()["channels first"] | {"upstream": torch.ones(()).expand(2, 6, 10, 2, 4)}
    expected = case.results(fused, torch.float32, changed={name: one.contiguous() for name, one in views.items()})
    _assert_equal(case.results(fused, torch.float32, changed=views), expected)


@pytest.mark.parametrize("way", _WAYS)
def test_every_output_is_written(way):
    expected = _expected(way)

    def poisoned(allocate):
        def allocate_nan(*args, **kwargs):
            tensor = allocate(*args, **kwargs)
            return tensor.fill_(_NAN) if tensor.is_floating_point() else tensor

        return allocate_nan

    with (
        _forced(way),
        mock.patch.object(torch, "empty", poisoned(torch.empty)),
        mock.patch.object(torch, "empty_like", poisoned(torch.empty_like)),
        mock.patch.object(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty)),
    ):
        _assert_equal(_CASE.results(fused, torch.float32), expected)


@pytest.mark.parametrize("way", _WAYS)
def test_the_same_each_time_and_operands_unchanged(way):
    operands = {name: one.detach() for name, one in _CASE.operands(torch.float32).items()}
    before = {name: one.clone() for name, one in operands.items()}
    with _forced(way):
        _assert_equal(_CASE.results(fused, torch.float32, changed=operands), _expected(way))
    _assert_equal(operands, before)


@pytest.mark.parametrize("way", _WAYS)
def test_routes_out_of_range_are_the_nearest_in_range(way):
    """On a GPU, where they are not looked for."""
    operands = {name: one.detach() for name, one in _CASE.operands(torch.float32).items()}
    routes = _CASE.routes()
    wrong = torch.where(routes == 0, -7, routes)
    assert not torch.equal(wrong, routes)
    with _forced(way):
        actual = _CASE.results(fused, torch.float32, changed=operands | {"routes": wrong})
        _assert_equal(actual, _CASE.results(fused, torch.float32, changed=operands | {"routes": wrong.clamp(0, 3)}))


@pytest.mark.parametrize("way", _WAYS)
def test_offsets_beyond_32_bits(way):
    """Rows 2^30 elements apart: of the 4 GiB only what is used ever becomes memory."""
    case = RoutingCase((3, 1), (1, 3), 2, dim=16, dim_v=16)
    operands = [one.detach().half() for one in case.operands(torch.float32).values()]
    storage = torch.empty(2**31 + 2**12, dtype=torch.float16)
    far = storage.as_strided((3, 1, 3, 3, 1, 16), (256, 0, 2**30, 32, 16, 1))
    far.copy_(torch.stack(operands))
    assert launch.is_wide(far[0])
    names = ("query", "key", "value")
    with _forced(way):
        expected = case.results(fused, torch.float16, changed=dict(zip(names, operands, strict=True)))
        _assert_equal(case.results(fused, torch.float16, changed=dict(zip(names, far, strict=True))), expected)


def test_no_images():
    query = torch.zeros(0, 4, 4, 1, 4, requires_grad=True)
    out = routed_attention_2d(query, query, query, torch.zeros(0, 4, 1, dtype=torch.int64), 2, backend="triton")
    out.sum().backward()
    assert query.grad is not None


@pytest.mark.parametrize(
    ("dtype", "dim", "dim_v", "message"),
    [
        (torch.float64, 4, 4, r"takes torch.float32, .* but the operands are torch.float64.*backend=.torch"),
        (torch.float32, 129, 4, "dims of up to 128, but query and key have 129"),
        (torch.bfloat16, 4, 300, "dims of up to 256, but value have 300"),
    ],
)
def test_what_the_kernels_do_not_take(dtype, dim, dim_v, message):
    query, value = torch.zeros(1, 2, 2, 1, dim, dtype=dtype), torch.zeros(1, 2, 2, 1, dim_v, dtype=dtype)
    operands = Operands(query, query, value, torch.zeros(1, 1, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=message):
        fused.forward(operands, (1, 1), 1.0)
    with pytest.raises(ValueError, match=message):
        fused.backward(value, operands, value, value[..., 0], (1, 1), 1.0)
