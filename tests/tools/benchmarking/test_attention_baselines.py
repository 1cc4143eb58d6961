"""Tests that the baselines match the reference implementations."""

from __future__ import annotations

import pytest
import torch

from attnzoo.kernels import (
    halo_attention_2d,
    neighborhood_attention_2d,
    route_regions,
    routed_attention_2d,
    window_attention_2d,
)
from attnzoo.tools.benchmarking.attention_baselines import (
    DenseAttention,
    GatherAttention,
    PartitionAttention,
    SelectAttention,
    UnfoldAttention,
    UnfoldHaloAttention,
)


def random_qkv(*shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    query, key, value = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    return query, key, value


@pytest.mark.parametrize("baseline", [UnfoldAttention, DenseAttention])
@pytest.mark.parametrize("size", [(5, 8), (9, 7)])
def test_neighborhood_attention(baseline, size):
    query, key, value = random_qkv(2, *size, 2, 4)
    for rpb in (None, torch.randn(2, 9, 9)):
        expected = neighborhood_attention_2d(query, key, value, 5, rpb=rpb, backend="reference")
        torch.testing.assert_close(baseline(5)(query, key, value, rpb), expected)


@pytest.mark.parametrize("baseline", [GatherAttention, SelectAttention])
@pytest.mark.parametrize("size", [(6, 9), (12, 3)])
def test_routed_attention(baseline, size):
    query, key, value = random_qkv(2, *size, 2, 4)
    routes = route_regions(query, key, 3, 4)
    expected = routed_attention_2d(query, key, value, routes, 3, backend="reference")
    torch.testing.assert_close(baseline(3)(query, key, value, routes), expected)


def test_window_attention():
    query, key, value = random_qkv(2, 6, 9, 2, 4)
    expected = window_attention_2d(query, key, value, 3, backend="reference")
    torch.testing.assert_close(PartitionAttention(3)(query, key, value), expected)


def test_halo_attention():
    query, key, value = random_qkv(2, 8, 12, 2, 4)
    rows, cols = torch.randn(2, 15, 4, generator=torch.Generator().manual_seed(1))
    expected = halo_attention_2d(query, key, value, 4, 2, row_embedding=rows, col_embedding=cols, backend="reference")
    torch.testing.assert_close(UnfoldHaloAttention(4, 2)(query, key, value, rows, cols), expected)
