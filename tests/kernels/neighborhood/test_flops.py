"""Operation counts of ranged attention."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.kernels import (
    halo_attention_2d,
    neighborhood_attention_2d,
)
from attnzoo.kernels.neighborhood import ranged_attention_2d
from attnzoo.kernels.neighborhood.geometry import Blocks, Neighborhood


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_flops_count_visible_pairs(device):
    query = torch.randn(2, 14, 14, 4, 8, device=device, requires_grad=True)
    key, value = (torch.randn(2, 14, 14, 2, dim, device=device, requires_grad=True) for dim in (8, 6))
    tokens = torch.randn(2, 3, 2, 8, device=device), torch.randn(2, 3, 2, 6, device=device)
    with FlopCounterMode(display=False) as counter:
        out = neighborhood_attention_2d(query, key, value, 7, additional_keys=tokens[0], additional_values=tokens[1])
        pairs = 2 * 4 * 14 * 14 * (7 * 7 + 3)
        assert counter.get_total_flops() == 2 * pairs * (8 + 6)
        out.sum().backward()
        assert counter.get_total_flops() == 2 * pairs * ((8 + 6) + (3 * 8 + 2 * 6))


def test_flops_of_causal_windows_and_clipped_blocks():
    query = torch.randn(1, 6, 8, 1, 4, device="meta")
    with FlopCounterMode(display=False) as counter:
        ranged_attention_2d(query, query, query, Neighborhood(3, is_causal=True), Blocks(4, halo=1, clip=True))
    rows, cols = 1 + 2 + 3 * 4, 8 * 5
    assert counter.get_total_flops() == 2 * rows * cols * 8


def test_flops_of_halo_attention_include_embeddings():
    query, embedding = torch.randn(2, 7, 8, 3, 4, device="meta"), torch.randn(11, 4, device="meta")
    with FlopCounterMode(display=False) as counter:
        halo_attention_2d(query, query, query, 4, 1, 1, embedding, embedding)
    rows, cols = 4 * 6 + 3 * 5, 4 * 6 + 4 * 6
    embedded = 2 * 2 * (7 * 8 * 3 * 2) * 4 * 9
    assert counter.get_total_flops() == 2 * 2 * 3 * rows * cols * 8 + embedded
