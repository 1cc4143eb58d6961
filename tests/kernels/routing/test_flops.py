"""Operation counts of routed attention."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.kernels import routed_attention_2d


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_flops_count_visible_pairs(device):
    query, key = (torch.randn(2, 14, 14, 4, 8, device=device, requires_grad=True) for _ in range(2))
    value = torch.randn(2, 14, 14, 4, 6, device=device, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        out = routed_attention_2d(query, key, value, torch.zeros(2, 49, 3, dtype=torch.int64, device=device), 7)
        pairs = 2 * 4 * 14 * 14 * (3 * 4)
        assert counter.get_total_flops() == 2 * pairs * (8 + 6)
        out.sum().backward()
        assert counter.get_total_flops() == 2 * pairs * ((8 + 6) + (3 * 8 + 2 * 6))
