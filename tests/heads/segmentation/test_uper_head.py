"""Adaptive pooling of UPerNet."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from attnzoo.heads.segmentation.uper_head import AdaptivePooling


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 6), (7, 11), (16, 3), (31, 40)])
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_pooling_is_torchs_adaptive_pooling(bins: int, size: tuple[int, int]):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), requires_grad=True)
    pooled, expected = AdaptivePooling(bins)(x), F.adaptive_avg_pool2d(x, bins)
    torch.testing.assert_close(pooled, expected)
    weight = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((one * weight).sum(), x)[0] for one in (pooled, expected)]
    torch.testing.assert_close(*gradients)


def test_pooling_in_half_precision_neither_overflows_nor_drifts():
    x = 200 + torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    for bins in (1, 3, 6):
        pooled = AdaptivePooling(bins)(x.half()).float()
        torch.testing.assert_close(pooled, F.adaptive_avg_pool2d(x.half().float(), bins), rtol=2e-3, atol=0)
