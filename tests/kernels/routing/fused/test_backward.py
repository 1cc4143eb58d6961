"""Outputs and gradients of routed attention against the definition, in Triton's interpreter."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnzoo.kernels import routed_attention_2d
from attnzoo.kernels.routing import fused
from attnzoo.kernels.routing.fused import plan
from support.routing_cases import RoutingCase, check_case, routing_cases
from support.slow import slow_except

_MODES = ["routed", "masked"]
_CASES = {
    "several_tiles_and_steps": RoutingCase((2, 1), (9, 8), 1, dim=8, dim_v=8),
    "unseen_regions": RoutingCase((3, 1), (3, 2), 2, 2, 2, 20, 9, popular=True),
    "repeats": RoutingCase((2, 2), (3, 5), 6, dim=16, dim_v=33, repeats=True),
    "regions_of_one_token": RoutingCase((3, 5), (1, 1), 4, dim=4, dim_v=1),
    "one_region": RoutingCase((1, 1), (3, 6), 1, dim=1, dim_v=4, scale=-0.7),
    "rows": RoutingCase((1, 4), (1, 9), 3, dim=24, dim_v=40),
    "columns": RoutingCase((3, 1), (7, 1), 1, dim=33, dim_v=4),
}


def _using(mode: str):
    """Makes every case use one of the two kinds of tiles."""
    return mock.patch.object(plan, "prefers_mask", return_value=mode == "masked")


@pytest.mark.parametrize("mode", _MODES)
@pytest.mark.parametrize("name", slow_except(_CASES, {"several_tiles_and_steps", "unseen_regions", "repeats"}))
def test_float32(name, mode):
    with _using(mode):
        check_case(_CASES[name], fused, torch.float32, 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("mode", slow_except(_MODES, ["routed"]))
def test_half_precision(mode, dtype, tolerance):
    with _using(mode):
        check_case(RoutingCase((2, 2), (2, 3), 3, dim=8, dim_v=5), fused, dtype, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "topk", "mode"),
    [(8, 1, "routed"), (4, 4, "routed"), (4, 4, "masked"), (2, 16, "routed"), (2, 16, "masked")],
)
def test_the_stages_of_biformer(side, topk, mode):
    with _using(mode):
        check_case(RoutingCase((7, 7), (side, side), topk, dim=32, dim_v=32), fused, torch.float32, 1e-5)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=routing_cases(3, 5), mode=st.sampled_from(_MODES))
def test_random_cases(case, mode):
    with _using(mode):
        check_case(case, fused, torch.float32, 2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [15, 16, 17, 48, 80, 96, 128, 130, 256])
def test_dims(dim):
    dtype, tolerance = (torch.float32, 1e-5) if dim <= 128 else (torch.float16, 2e-3)
    check_case(RoutingCase((2, 2), (2, 3), 2, dim=dim, dim_v=9), fused, dtype, tolerance)
    check_case(RoutingCase((2, 2), (4, 5), 2, dim=9, dim_v=dim), fused, dtype, tolerance)


def test_no_images():
    query = torch.zeros(0, 4, 4, 1, 4, requires_grad=True)
    out = routed_attention_2d(query, query, query, torch.zeros(0, 4, 1, dtype=torch.int64), 2, backend="triton")
    out.sum().backward()
    assert query.grad is not None
