"""The errors that neighborhood, window and halo attention raise for wrong arguments."""

from __future__ import annotations

import pytest
import torch

from attnzoo.kernels import (
    halo_attention_2d,
    neighborhood_attention_2d,
    window_attention_2d,
)

_MAP = torch.randn(2, 9, 8, 4, 6)
_WINDOW_MAP = torch.randn(2, 8, 12, 4, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 1}, "kernel_size must be >= 2, got 1 for the height"),
        ({"kernel_size": (3, 1)}, "kernel_size must be >= 2, got 1 for the width"),
        ({"kernel_size": 3, "stride": 4}, "stride must be between 1 and kernel_size = 3, got 4"),
        (
            {"kernel_size": 3, "stride": (1, 0)},
            "stride must be between 1 and kernel_size = 3, got 0 for the width",
        ),
        ({"kernel_size": 3, "dilation": 0}, "dilation must be >= 1, got 0"),
        ({"kernel_size": 9}, r"got 9 \* 1 > 8 for the width"),
        ({"kernel_size": 3, "dilation": (4, 1)}, r"got 3 \* 4 > 9 for the height"),
        ({"kernel_size": 3.0}, r"kernel_size must be an int or a pair \(rows, columns\) of ints, got 3.0"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size must be an int or a pair"),
        ({"kernel_size": True}, "kernel_size must be an int or a pair"),
        ({"kernel_size": 3, "is_causal": 1}, r"is_causal must be a bool or a pair \(rows, columns\) of bools, got 1"),
        ({"kernel_size": 3, "rpb": torch.zeros(4, 5, 3)}, r"rpb must have the shape .* = \(4, 5, 5\)"),
        ({"kernel_size": 3, "rpb": torch.zeros(4, 5, 5, dtype=torch.float16)}, "rpb must have the query's dtype"),
        ({"kernel_size": 3, "rpb": torch.zeros(4, 5, 5, device="meta")}, "rpb must have the query's dtype and device"),
        ({"kernel_size": 3, "query": _MAP[0]}, r"query must have the shape \(batch, height, width, heads, dim\)"),
        ({"kernel_size": 3, "key": _MAP[:, 1:]}, "key and value must have equal shapes except for dim"),
        ({"kernel_size": 3, "query": _MAP[..., :5]}, "query and key must have equal batch sizes and dims"),
        ({"kernel_size": 3, "query": _MAP[:, 1:]}, "as many queries as keys, got 8 queries and 9 keys for the height"),
        (
            {"kernel_size": 3, "key": _MAP[..., :3, :], "value": _MAP[..., :3, :]},
            "The key's heads must divide the query's heads, got 3 key heads and 4 query heads",
        ),
        ({"kernel_size": 3, "query": _MAP[..., :0], "key": _MAP[..., :0]}, "dim must be >= 1, got 0"),
        ({"kernel_size": 3, "value": _MAP[..., :0]}, "The value's dim must be >= 1, got 0"),
        ({"kernel_size": 3, "key": _MAP.double()}, "key must have the query's dtype and device"),
        (
            {"kernel_size": 3, "query": _MAP.int(), "key": _MAP.int(), "value": _MAP.int()},
            "query and the other operands must be float64, float32, float16 or bfloat16, got torch.int32",
        ),
        (
            {"kernel_size": 3, "additional_keys": torch.zeros(2, 1, 4, 6)},
            "additional_keys and additional_values must be given together",
        ),
        (
            {
                "kernel_size": 3,
                "additional_keys": torch.zeros(2, 1, 4, 6),
                "additional_values": torch.zeros(2, 2, 4, 6),
            },
            r"additional_values must have the shape .* = \(2, 1, 4, 6\)",
        ),
        ({"kernel_size": 3, "backend": "tritn"}, "Unknown backend 'tritn'. Did you mean 'triton'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_wrong_arguments_of_neighborhoods_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        neighborhood_attention_2d(**{"query": _MAP, "key": _MAP, "value": _MAP} | arguments)


def test_half_operands_take_a_float32_bias():
    half = _MAP.half()
    rpb = torch.randn(4, 5, 5)
    for backend in ("torch", "reference"):
        out = neighborhood_attention_2d(half, half, half, 3, rpb=rpb, backend=backend)
        expected = neighborhood_attention_2d(half.float(), half.float(), half.float(), 3, rpb=rpb, backend="reference")
        torch.testing.assert_close(out.float(), expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (
            window_attention_2d,
            {"window_size": 5},
            "window_size must be >= 1 and divide the map's sides, got 5 for a height of 8",
        ),
        (window_attention_2d, {"window_size": (4, 5)}, "got 5 for a width of 12"),
        (window_attention_2d, {"window_size": 0}, "window_size must be >= 1"),
        (
            window_attention_2d,
            {"window_size": 4, "shift_size": 4},
            "shift_size must be between 0 and window_size - 1 = 3, got 4 for the height",
        ),
        (
            window_attention_2d,
            {"window_size": 4, "shift_size": (0, -1)},
            "shift_size must be between 0 and window_size - 1 = 3, got -1 for the width",
        ),
        (window_attention_2d, {"window_size": 4.0}, "window_size must be an int or a pair"),
        (
            window_attention_2d,
            {"window_size": 4, "rpb": torch.zeros(4, 7, 5)},
            r"rpb must have the shape .* = \(4, 7, 7\)",
        ),
        (window_attention_2d, {"window_size": 4, "query": _WINDOW_MAP[0]}, "query must have the shape"),
        (halo_attention_2d, {"block_size": 0, "halo_size": 1}, "block_size must be >= 1"),
        (halo_attention_2d, {"block_size": 4, "halo_size": -1}, "halo_size must be between 0 and 32768, got -1"),
        (
            halo_attention_2d,
            {"block_size": 4, "halo_size": 1, "query_stride": 3},
            "query_stride must be >= 1 and divide block_size",
        ),
        (halo_attention_2d, {"block_size": 4, "halo_size": 1, "query_stride": 2}, "one query per 2 keys"),
        (halo_attention_2d, {"block_size": 4, "halo_size": 1, "query": _WINDOW_MAP[0]}, "query must have the shape"),
        (
            halo_attention_2d,
            {"block_size": 4, "halo_size": 1, "row_embedding": torch.zeros(9, 6)},
            r"row_embedding must have the shape \(2 \* window - 1, dim\) = \(11, 6\), got \(9, 6\)",
        ),
        (
            halo_attention_2d,
            {"block_size": 4, "halo_size": 1, "col_embedding": torch.zeros(11, 6).double()},
            "col_embedding must have the query's dtype and device",
        ),
    ],
)
def test_wrong_arguments_of_windows_and_halos_raise(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(**{"query": _WINDOW_MAP, "key": _WINDOW_MAP, "value": _WINDOW_MAP} | arguments)
