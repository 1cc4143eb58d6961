"""What routed attention's kernels read and write: any strides, no uninitialized memory, the same results each time."""

from __future__ import annotations

import functools
from unittest import mock

import pytest
import torch

from attnzoo.kernels.routing import fused
from attnzoo.kernels.routing.fused import plan
from attnzoo.kernels.triton_common.addressing import needs_int64_offsets
from support.routing_cases import RoutingCase, strided_views

_NAN = float("nan")
_MODES = ["routed", "masked"]
_CASE = RoutingCase((2, 2), (2, 1), 2, heads=2, dim=5, dim_v=6, repeats=True, popular=True)


def _using(mode: str):
    """Makes every case use one of the two kinds of tiles."""
    return mock.patch.object(plan, "prefers_mask", return_value=mode == "masked")


@functools.cache
def _expected(mode: str) -> dict[str, torch.Tensor]:
    with _using(mode):
        return _CASE.results(fused, torch.float32)


def _assert_equal(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in actual.items():
        assert torch.equal(tensor, expected[name]), name


def _scattered(tensor: torch.Tensor) -> torch.Tensor:
    """Copies a tensor into memory with other strides, surrounded by NaN."""
    order = list(reversed(range(tensor.ndim)))
    around = torch.full([size * 2 + 1 for size in tensor.permute(order).shape], _NAN)
    inner = around[tuple(slice(1, None, 2) for _ in range(tensor.ndim))]
    inner.copy_(tensor.permute(order))
    return inner.permute(order)


@pytest.mark.parametrize("mode", _MODES)
def test_any_strides_and_nothing_besides_the_operands(mode):
    scattered = {name: _scattered(one.detach()) for name, one in _CASE.operands(torch.float32).items()}
    with _using(mode):
        _assert_equal(_CASE.results(fused, torch.float32, changed=scattered), _expected(mode))


def test_views_of_models_and_expanded_gradients():
    case = RoutingCase((1, 2), (6, 5), 1, batch=2, heads=2)
    views = strided_views()["channels first"] | {"upstream": torch.ones(()).expand(2, 6, 10, 2, 4)}
    expected = case.results(fused, torch.float32, changed={name: one.contiguous() for name, one in views.items()})
    _assert_equal(case.results(fused, torch.float32, changed=views), expected)


@pytest.mark.parametrize("mode", _MODES)
def test_every_output_is_written(mode):
    expected = _expected(mode)

    def poisoned(allocate):
        def allocate_nan(*args, **kwargs):
            tensor = allocate(*args, **kwargs)
            return tensor.fill_(_NAN) if tensor.is_floating_point() else tensor

        return allocate_nan

    with (
        _using(mode),
        mock.patch.object(torch, "empty", poisoned(torch.empty)),
        mock.patch.object(torch, "empty_like", poisoned(torch.empty_like)),
        mock.patch.object(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty)),
    ):
        _assert_equal(_CASE.results(fused, torch.float32), expected)


@pytest.mark.parametrize("mode", _MODES)
def test_results_are_the_same_each_time_and_operands_unchanged(mode):
    operands = {name: one.detach() for name, one in _CASE.operands(torch.float32).items()}
    before = {name: one.clone() for name, one in operands.items()}
    with _using(mode):
        _assert_equal(_CASE.results(fused, torch.float32, changed=operands), _expected(mode))
    _assert_equal(operands, before)


@pytest.mark.parametrize("mode", _MODES)
def test_routes_out_of_range_are_clamped(mode):
    """As on a GPU, where routes are not checked."""
    operands = {name: one.detach() for name, one in _CASE.operands(torch.float32).items()}
    routes = _CASE.routes()
    wrong = torch.where(routes == 0, -7, routes)
    assert not torch.equal(wrong, routes)
    with _using(mode):
        actual = _CASE.results(fused, torch.float32, changed=operands | {"routes": wrong})
        _assert_equal(actual, _CASE.results(fused, torch.float32, changed=operands | {"routes": wrong.clamp(0, 3)}))


@pytest.mark.parametrize("mode", _MODES)
def test_offsets_beyond_32_bits(mode):
    """Rows 2^30 elements apart. The system provides only those of the 4 GiB that are written."""
    case = RoutingCase((3, 1), (1, 3), 2, dim=16, dim_v=16)
    operands = [one.detach().half() for one in case.operands(torch.float32).values()]
    storage = torch.empty(2**31 + 2**12, dtype=torch.float16)
    far = storage.as_strided((3, 1, 3, 3, 1, 16), (256, 0, 2**30, 32, 16, 1))
    far.copy_(torch.stack(operands))
    assert needs_int64_offsets(far[0])
    names = ("query", "key", "value")
    with _using(mode):
        expected = case.results(fused, torch.float16, changed=dict(zip(names, operands, strict=True)))
        _assert_equal(case.results(fused, torch.float16, changed=dict(zip(names, far, strict=True))), expected)
