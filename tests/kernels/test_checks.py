"""Argument checks that operations share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attnzoo.kernels import checks
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


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ("1", "scale must be a number or None, got '1'"),
        (True, "scale must be a number"),
        (1j, "scale must be a number"),
        (torch.tensor(1.0), r"scale must be a number or None, got tensor\(1\.\)"),
        (float("nan"), "scale must be finite, got nan"),
        (-float("inf"), "scale must be finite"),
        (10**400, "scale must be finite, got an object of type int"),
    ],
)
def test_scales_that_are_no_numbers(scale, message):
    with pytest.raises(ValueError, match=message):
        checks.to_scale(scale, 4)


@pytest.mark.parametrize(("scale", "expected"), [(None, 0.5), (0, 0.0), (-2, -2.0), (np.float32(0.25), 0.25)])
def test_scales(scale, expected):
    assert checks.to_scale(scale, 4) == expected


def test_tensors_and_flags():
    checks.check_tensors({"query": torch.zeros(1), "rpb": None}, {"rpb"})
    checks.check_flag("return_lse", False)
    with pytest.raises(ValueError, match="query must be a tensor, got None"):
        checks.check_tensors({"query": None}, {"rpb"})
    with pytest.raises(ValueError, match="rpb must be a tensor or None, got an object of type list"):
        checks.check_tensors({"rpb": [0.5] * 100}, {"rpb"})
    with pytest.raises(ValueError, match="return_lse must be True or False, got 1"):
        checks.check_flag("return_lse", 1)


def test_huge_sizes():
    with pytest.raises(ValueError, match=r"kernel_size must be below 2\^31, got \(3, 2147483648\)"):
        checks.to_pair("kernel_size", (3, 2**31), int)
