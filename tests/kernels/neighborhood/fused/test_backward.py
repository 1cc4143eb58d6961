"""Outputs and gradients against the definition, in Triton's interpreter: every rule and option, any dim."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from attnzoo.kernels.neighborhood.geometry import AxisRule, Blocks, Neighborhood
from support.attention_cases import AttentionCase, Axis, attention_cases, check_case
from support.slow import slow_except


def _axis(rule: AxisRule, keys: int) -> Axis:
    return Axis(rule, keys if isinstance(rule, Neighborhood) else -(-keys // rule.query_stride), keys)


_SMALL = _axis(Neighborhood(2), 3)
_CASES = {
    # The last tile of 8 has 7 queries, and windows at the border are shifted inwards past its halo.
    "partial_tiles": AttentionCase(_axis(Neighborhood(7), 15), _axis(Neighborhood(7), 7), has_rpb=True),
    "halo": AttentionCase(_axis(Blocks(4, 2), 8), _axis(Blocks(4, 3), 4), has_rpb=True),
    "halo_wider_than_blocks": AttentionCase(_axis(Blocks(2, 5), 6), _SMALL, has_rpb=True),
    "downsampling_halo": AttentionCase(_axis(Blocks(8, 3, 2), 16), _axis(Blocks(4, 1, 2), 4), tokens=3, has_rpb=True),
    "clipped_halo": AttentionCase(
        _axis(Blocks(8, 3, 2, clip=True), 8), _axis(Blocks(4, 2, clip=True), 8), has_rpb=True
    ),
    "windows": AttentionCase(_axis(Blocks(7), 14), _axis(Blocks(3), 3), has_rpb=True, dim=24, dim_v=40),
    "block_of_several_tiles": AttentionCase(_axis(Blocks(20, 1), 20), _axis(Blocks(1, 2), 2), has_rpb=True),
    "one_query_a_block": AttentionCase(_axis(Blocks(4, 0, 4), 8), _axis(Blocks(2, 3, 2), 2), has_rpb=True),
    "causal_stride_dilation_with_bias": AttentionCase(
        _axis(Neighborhood(4, 3, 2, is_causal=True), 11), _axis(Neighborhood(3, 2, 3), 10), has_rpb=True
    ),
    "shared_keys_and_tokens": AttentionCase(
        _axis(Neighborhood(3), 5), _SMALL, heads_kv=2, group=2, dim=20, dim_v=5, has_rpb=True, tokens=35
    ),
    "negative_scale": AttentionCase(_SMALL, _axis(Neighborhood(3), 5), dim=33, dim_v=1, scale=-0.7),
    "shifted_windows": AttentionCase(_axis(Blocks(4, shift=1), 8), _axis(Blocks(3, shift=2), 6), has_rpb=True),
    "shifted_halo": AttentionCase(_axis(Blocks(4, 2, 2, shift=2), 9), _SMALL, has_rpb=True, has_row_terms=True),
    "cut_blocks": AttentionCase(_axis(Blocks(4, 3), 5), _axis(Blocks(4, 1, clip=True), 6), has_rpb=True),
    "terms_of_halo": AttentionCase(
        _axis(Blocks(8, 3, 2), 11), _axis(Blocks(4, 2), 5), dim=5, dim_v=9, has_row_terms=True, has_col_terms=True
    ),
    "terms_of_neighborhood_and_bias": AttentionCase(
        _axis(Neighborhood(3, dilation=2), 7),
        _axis(Neighborhood(3, 2, is_causal=True), 5),
        has_rpb=True,
        has_row_terms=True,
        has_col_terms=True,
    ),
    "terms_shared_keys_and_tokens": AttentionCase(
        _SMALL, _axis(Blocks(4, 1), 6), group=2, tokens=3, has_rpb=True, has_col_terms=True
    ),
    "two_images": AttentionCase(_SMALL, _axis(Neighborhood(3), 9), batch=2, heads_kv=2, has_rpb=True),
}


_QUICK = {"partial_tiles", "clipped_halo", "windows", "negative_scale", "terms_of_halo", "shared_keys_and_tokens"}


@pytest.mark.parametrize("name", slow_except(_CASES, _QUICK))
def test_float32(name):
    check_case(_CASES[name], "triton", torch.float32, 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("name", slow_except(["clipped_halo", "negative_scale", "terms_of_halo"], ["clipped_halo"]))
def test_half_precision(name, dtype, tolerance):
    check_case(_CASES[name], "triton", dtype, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("size", range(7, 24))
def test_map_sizes(size):
    axis = _axis(Neighborhood(7), size)
    check_case(AttentionCase(axis, _SMALL, has_rpb=True), "triton", torch.float32, 1e-5)
    check_case(AttentionCase(_SMALL, axis, has_rpb=True), "triton", torch.float32, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [1, 15, 16, 17, 48, 80, 96, 128, 130, 256])
def test_dims(dim):
    dtype, tolerance = (torch.float32, 1e-5) if dim <= 128 else (torch.float16, 2e-3)
    check_case(AttentionCase(_SMALL, _SMALL, dim=dim, dim_v=9, tokens=2, has_rpb=True), "triton", dtype, tolerance)
    check_case(AttentionCase(_SMALL, _SMALL, dim=9, dim_v=dim, tokens=2, has_rpb=True), "triton", dtype, tolerance)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=attention_cases(extra=8))
def test_random_cases(case):
    check_case(case, "triton", torch.float32, 2e-5)
