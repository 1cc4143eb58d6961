"""Convolution, normalization and activation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from attnzoo.heads.conv_module import ConvModule


class TestConvModule:
    def test_names_and_bias(self):
        assert set(ConvModule(4, 8, 3).state_dict()) == {"conv.weight", "conv.bias"}
        assert {name for name, _ in ConvModule(4, 8, 3, norm="BN").named_parameters()} == {
            "conv.weight",
            "bn.weight",
            "bn.bias",
        }
        assert set(ConvModule(4, 64, 3, norm="GN").state_dict()) == {"conv.weight", "gn.weight", "gn.bias"}

    @pytest.mark.parametrize("norm", [None, "BN", "GN"])
    def test_order_of_layers(self, norm: Any):
        unit = ConvModule(4, 64, 3, stride=2, padding=2, dilation=2, norm=norm)
        x = torch.randn(2, 4, 9, 11)
        y = unit.conv(x)
        if norm is not None:
            y = getattr(unit, norm.lower())(y)
        assert unit.conv.dilation == (2, 2)
        torch.testing.assert_close(unit(x), y.relu())
        unit.act = nn.Identity()
        assert (unit(x) < 0).any()

    def test_without_activation(self):
        assert (ConvModule(4, 8, 1, act=False)(torch.randn(2, 4, 5, 5)) < 0).any()

    def test_initialization(self):
        torch.manual_seed(0)
        unit = ConvModule(16, 64, 3)
        assert unit.conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.03)
        assert unit.conv.bias is not None
        assert not unit.conv.bias.any()

    def test_invalid_norms_raise(self):
        with pytest.raises(ValueError, match="multiple of 32, got 40"):
            ConvModule(4, 40, 1, norm="GN")
        with pytest.raises(ValueError, match="Allowed: 'BN', 'GN'"):
            ConvModule(4, 40, 1, norm="SyncBN")  # pyright: ignore[reportArgumentType]
