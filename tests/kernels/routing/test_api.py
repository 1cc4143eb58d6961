"""The selection of routes."""

from __future__ import annotations

import pytest
import torch

from attnzoo.kernels import route_regions


def test_routes_are_the_regions_with_the_largest_products_of_means():
    query, key = (torch.randn(2, 6, 8, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    routes = route_regions(query, key, (3, 2), 4)
    assert (routes.shape, routes.dtype, routes.requires_grad) == ((2, 6, 4), torch.int64, False)
    for image in range(2):
        means = [
            [one[image, 2 * (i // 2) : 2 * (i // 2) + 2, 4 * (i % 2) : 4 * (i % 2) + 4].mean((0, 1)) for i in range(6)]
            for one in (query, key)
        ]
        for i in range(6):
            products = [(means[0][i] * means[1][j]).sum().item() for j in range(6)]
            assert routes[image, i].tolist() == sorted(range(6), key=lambda j: -products[j])[:4]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [3, 9])
def test_of_equal_products_the_lower_region_comes_first(size, dtype):
    """Includes a number of regions at which an unstable sort changes the order."""
    regions = size * size
    query, key = torch.ones(1, size, size, 1, 1, dtype=dtype), torch.ones(1, size, size, 1, 1, dtype=dtype)
    assert route_regions(query, key, size, regions).tolist() == [[list(range(regions))] * regions]
    key[0, 1, 1] = 2
    better = size + 1
    expected = [better, *(one for one in range(regions) if one != better)]
    assert route_regions(query, key, size, regions)[0, 0].tolist() == expected


def test_routing_under_autocast_is_in_float32():
    query, key = torch.randn(2, 2, 28, 28, 2, 32).unbind(0)
    expected = route_regions(query, key, 7, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(route_regions(query, key, 7, 4), expected)
