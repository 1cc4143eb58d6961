"""The errors that routing and routed attention raise for wrong arguments."""

from __future__ import annotations

import pytest
import torch

from attnzoo.kernels import route_regions, routed_attention_2d

_MAP = torch.randn(2, 6, 8, 2, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_regions": 0}, "num_regions must be a positive int or a pair .* of positive ints, got 0"),
        ({"num_regions": (2, 2, 2)}, "num_regions must be a positive int or a pair"),
        ({"num_regions": 2.0}, "num_regions must be a positive int or a pair"),
        (
            {"num_regions": (4, 2)},
            "The height must be a positive multiple of its number of regions, got height 6 and 4 regions",
        ),
        (
            {"num_regions": (2, 3)},
            "The width must be a positive multiple of its number of regions, got width 8 and 3 regions",
        ),
        ({"topk": 0}, "topk must be an int between 1 and the number of regions, 4, got 0"),
        ({"topk": 5}, "topk must be .* got 5"),
        ({"topk": 1.0}, "topk must be .* got 1.0"),
        ({"query": _MAP[0]}, r"query must have the shape \(batch, height, width, heads, dim\)"),
        ({"key": _MAP[:, :3]}, "key must have the query's shape"),
        ({"key": _MAP.double()}, "key must have the query's dtype and device"),
        (
            {"query": _MAP.int(), "key": _MAP.int()},
            "query and the other operands must be float64, float32, float16 or bfloat16, got torch.int32",
        ),
        ({"query": _MAP[..., :0], "key": _MAP[..., :0]}, "dim must be >= 1"),
    ],
    ids=lambda value: (
        value if isinstance(value, str) else ""
    ),  # the representation of tensors differs between processes
)
def test_wrong_arguments_of_routing_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        route_regions(**{"query": _MAP, "key": _MAP, "num_regions": 2, "topk": 1} | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_regions": 4}, "got height 6 and 4 regions"),
        ({"value": _MAP[:, :3]}, "value must have the query's shape except for dim"),
        ({"value": _MAP[..., :0]}, "The value's dim must be >= 1, got 0"),
        ({"key": _MAP[..., :3]}, "key must have the query's shape"),
        ({"routes": torch.zeros(2, 5, 1, dtype=torch.int64)}, r"routes must have the shape .* \(2, 4, topk >= 1\)"),
        ({"routes": torch.zeros(2, 4, 0, dtype=torch.int64)}, "routes must have the shape"),
        ({"routes": torch.zeros(2, 4, dtype=torch.int64)}, "routes must have the shape"),
        ({"routes": torch.zeros(2, 4, 1, dtype=torch.int32)}, "routes must be int64 on the query's device, cpu"),
        ({"routes": torch.zeros(2, 4, 1, dtype=torch.int64, device="meta")}, "routes must be int64 on"),
        ({"routes": torch.full((2, 4, 1), 4)}, "routes must be region indices between 0 and 3, got 4"),
        ({"routes": torch.full((2, 4, 1), -1)}, "routes must be region indices between 0 and 3, got -1"),
        ({"routes": torch.full((2, 4, 1), 4), "backend": "reference"}, "between 0 and 3, got 4"),
        ({"backend": "tritn"}, "Unknown backend 'tritn'. Did you mean 'triton'"),
    ],
    ids=lambda value: (
        value if isinstance(value, str) else ""
    ),  # the representation of tensors differs between processes
)
def test_wrong_arguments_of_attention_raise(arguments, message):
    routes = torch.zeros(2, 4, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        routed_attention_2d(
            **{"query": _MAP, "key": _MAP, "value": _MAP, "routes": routes, "num_regions": 2} | arguments
        )
