"""Weight initialization."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attnzoo.backbones.common.init import init_conv, init_linear, trunc_normal_


def test_trunc_normal():
    torch.manual_seed(0)
    tensor = torch.empty(10000)
    assert trunc_normal_(tensor, std=1.5) is tensor
    assert tensor.abs().max() <= 2
    assert tensor.mean().item() == pytest.approx(0, abs=0.05)
    assert trunc_normal_(torch.empty(3, device="meta"), std=1).is_meta


def test_linear_layers():
    torch.manual_seed(0)
    layer = nn.Linear(100, 100)
    nn.Sequential(layer, nn.ReLU()).apply(init_linear)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not layer.bias.any()
    init_linear(nn.Linear(2, 2, bias=False))
    conv = nn.Conv2d(4, 4, 1)
    before = conv.weight.clone()
    init_linear(conv)
    assert torch.equal(conv.weight, before)


@pytest.mark.parametrize("groups", [1, 8, 64])
def test_convolutions(groups: int):
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 64, 5, groups=groups)
    init_conv(conv)
    assert conv.weight.std().item() == pytest.approx((2 / (25 * 64 / groups)) ** 0.5, rel=0.1)
    assert conv.bias is not None
    assert not conv.bias.any()
