"""Argument checks that operations share."""

from __future__ import annotations

import pytest
import torch

from attnzoo.kernels.checks import check_dtype, check_map, check_matches_query, check_not_empty, to_pair


def test_pairs():
    assert to_pair("size", 3, int) == (3, 3)
    assert to_pair("size", (3, 4), int) == (3, 4)
    assert to_pair("size", [3, 4], int) == (3, 4)
    assert to_pair("flag", True, bool) == (True, True)


@pytest.mark.parametrize("value", [1.0, (1, 2, 3), True, (1, False), "1", None])
def test_other_values_are_not_pairs(value):
    with pytest.raises(ValueError, match=r"size must be an int or a pair \(rows, columns\) of ints, got"):
        to_pair("size", value, int)


def test_shapes_dtypes_and_devices():
    query = torch.zeros(1, 2, 3, 4, 5)
    check_map("query", query)
    check_dtype(query)
    check_matches_query("key", query, query)
    check_not_empty({"dim": 1})
    with pytest.raises(ValueError, match=r"query must have the shape .*, got shape \(2, 3, 4, 5\)"):
        check_map("query", query[0])
    with pytest.raises(ValueError, match=r"got torch\.int64"):
        check_dtype(query.long())
    with pytest.raises(ValueError, match=r"key must have .* \(torch.float32, cpu\), got torch.float64, cpu"):
        check_matches_query("key", query.double(), query)
    with pytest.raises(ValueError, match=r"key must have .* got torch.float32, meta"):
        check_matches_query("key", query.to("meta"), query)
    with pytest.raises(ValueError, match="dim must be >= 1, got 0"):
        check_not_empty({"heads": 2, "dim": 0})
