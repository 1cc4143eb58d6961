"""The definition of routed attention."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch

from attnzoo.kernels import exportable_operators, route_regions, routed_attention_2d, use_backend
from support.routing_cases import RoutingCase

_CASE = RoutingCase((2, 3), (3, 2), topk=2, batch=2, heads=2, dim=4, dim_v=3, repeats=True)


@contextlib.contextmanager
def _backend(name: str) -> Iterator[None]:
    with exportable_operators() if name == "exportable" else use_backend(name):
        yield


def _per_query(query, key, value, routes, rows, cols, scale):
    """Computes attention one query at a time, from the description of the operation."""
    batch, height, width, heads, _ = query.shape
    out = torch.zeros(batch, height, width, heads, value.shape[4], dtype=query.dtype)
    tall, wide = height // rows, width // cols
    for image in range(batch):
        for y in range(height):
            for x in range(width):
                tops = [
                    (int(one) // cols * tall, int(one) % cols * wide)
                    for one in routes[image, y // tall * cols + x // wide]
                ]
                keys, values = (
                    torch.cat([one[image, top : top + tall, left : left + wide].flatten(0, 1) for top, left in tops])
                    for one in (key, value)
                )
                for head in range(heads):
                    weights = (scale * keys[:, head] @ query[image, y, x, head]).softmax(0)
                    out[image, y, x, head] = weights @ values[:, head]
    return out


@pytest.mark.parametrize("backend", ["reference", "torch", "exportable"])
def test_every_query_sees_the_keys_of_its_regions_routes(backend):
    operands, routes = _CASE.operands(torch.float64), _CASE.routes()
    expected = _per_query(**operands, routes=routes, rows=2, cols=3, scale=0.4)
    with _backend(backend):
        actual = routed_attention_2d(**operands, routes=routes, num_regions=_CASE.grid, scale=0.4)
    torch.testing.assert_close(actual, expected)


def test_a_repeated_region_counts_twice():
    operands = RoutingCase((1, 2), (2, 2), 1, dim=3).operands(torch.float64)
    once, twice = torch.tensor([[[0, 1], [1, 0]]]), torch.tensor([[[0, 1, 1], [1, 0, 0]]])
    doubled = {}
    for backend in ("torch", "reference"):
        doubled[backend] = routed_attention_2d(**operands, routes=twice, num_regions=(1, 2), backend=backend)
        assert not torch.allclose(doubled[backend], routed_attention_2d(**operands, routes=once, num_regions=(1, 2)))
    torch.testing.assert_close(doubled["torch"], doubled["reference"])


def test_all_regions_equal_full_attention():
    query, key, value = (torch.randn(2, 6, 6, 2, 8, dtype=torch.float64) for _ in range(3))
    routes = route_regions(query, key, 3, 9)
    flat = [one.flatten(1, 2).transpose(1, 2) for one in (query, key, value)]
    expected = torch.nn.functional.scaled_dot_product_attention(flat[0], flat[1], flat[2])
    expected = expected.transpose(1, 2).view_as(query)
    torch.testing.assert_close(routed_attention_2d(query, key, value, routes, 3), expected)
