"""The bias table that kernels look biases up in, in Triton's interpreter."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import pad

from attnzoo.kernels.neighborhood.fused.padded_bias import pad_bias
from attnzoo.kernels.neighborhood.fused.plan import Grid, plan_keys, plan_queries
from attnzoo.kernels.neighborhood.geometry import Geometry, Neighborhood
from attnzoo.kernels.triton_common.tile_sizes import TileSizes

_ARGUMENTS = (
    Geometry(Neighborhood(3), Neighborhood(5)),
    Grid(9, 9),
    Grid(9, 9),
    TileSizes(16, 16, 1, 1),
)


def test_the_table_is_padded_with_zeros_and_scaled():
    rpb = torch.randn(9, 5, 2).permute(2, 1, 0)
    plans = plan_queries(*_ARGUMENTS), plan_keys(*_ARGUMENTS)
    padded = pad_bias(rpb, *plans)
    assert padded.table is not None
    low = padded.table.low
    assert low == (min(plan.rows.bias_low for plan in plans), min(plan.cols.bias_low for plan in plans))
    below, right = padded.shape[0] + low[0] - 5, padded.shape[1] + low[1] - 9
    expected = pad(rpb, (-low[1], right, -low[0], below)) * math.log2(math.e)
    torch.testing.assert_close(padded.table.data, expected)
    assert padded.shape == expected.shape[1:]


def test_every_bias_index_of_the_plans_is_in_the_table():
    plans = plan_queries(*_ARGUMENTS), plan_keys(*_ARGUMENTS)
    padded = pad_bias(torch.randn(1, 5, 9), *plans)
    assert padded.table is not None
    for plan in plans:
        for axis, low, size in zip((plan.rows, plan.cols), padded.table.low, padded.shape, strict=True):
            assert low <= axis.bias_low
            assert axis.bias_high < low + size
    assert padded.shape.cols % 8 == 0


def test_no_table():
    assert pad_bias(None, plan_queries(*_ARGUMENTS)) == (None, (0, 0))
