"""How routed attention's launches are planned."""

from __future__ import annotations

import itertools

import pytest
import torch

from attnzoo.kernels.routing.fused import plan


def test_only_tiny_regions_use_a_mask():
    assert plan.prefers_mask(regions=49, topk=16, tokens=4)
    assert not plan.prefers_mask(regions=49, topk=1, tokens=4)
    assert not plan.prefers_mask(regions=2500, topk=16, tokens=4)
    assert not plan.prefers_mask(regions=49, topk=49, tokens=16)


@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 49, 64, 6192, 65537, 2**30, 2**31 - 1])
def test_division_by_a_reciprocal_is_exact(divisor):
    """As `addressing.divide` computes it, in Python, at the edges of every quotient's range."""
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


def test_routes_are_inverted_in_order():
    routes = torch.tensor([[[1, 0], [1, 1], [9, 0]], [[2, 2], [-3, 2], [1, 0]]])
    starts, sources = plan.source_regions(routes, 3)
    lists = [sources[start:end].tolist() for start, end in itertools.pairwise(starts)]
    assert lists == [[0, 2], [0, 1, 1], [2], [1, 2], [2], [0, 0, 1]]


def test_the_mask_holds_logarithms_of_counts():
    routes = torch.tensor([[[1, 0, 1, 1, 1], [5, 1, 0, 0, -2]]])
    never = -torch.inf
    expected = torch.tensor([[[0.0, 2.0], [torch.tensor(3.0).log2(), 1.0]]])
    assert torch.equal(plan.log2_times_seen(routes, 2), expected)
    assert plan.log2_times_seen(routes[:, :, :1], 2).tolist() == [[[never, 0.0], [never, 0.0]]]


def test_a_plan_of_large_regions():
    query = torch.empty(1, 56, 28, 2, 32, dtype=torch.float16)
    made = plan.make_plan(query, torch.zeros(1, 49, 4, dtype=torch.int64), (7, 7))
    assert not made.masked
    assert (made.grid.regions, made.grid.region_cols, made.grid.map_width, made.grid.map_tokens) == (49, 7, 28, 56 * 28)
    assert (made.grid.rows, made.grid.cols, made.grid.tokens) == (8, 4, 32)
    options = made.options("forward", query, query)
    # No larger than a region, with fewer warps.
    assert (options["TILE"], options["num_warps"]) == (32, 2)
    assert made.tiles(32) == 49
    assert made.tiles(16) == 98


def test_a_plan_of_tiny_regions():
    query = torch.empty(1, 14, 14, 2, 32, dtype=torch.float16)
    made = plan.make_plan(query, torch.zeros(1, 49, 16, dtype=torch.int64), (7, 7))
    assert made.masked
    assert made.options("forward", query, query)["TILE"] == 64
    assert made.tiles(64) == 4
