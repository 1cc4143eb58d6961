"""Gates over channels: equal to timm's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers import EcaModule, SEModule  # pyright: ignore[reportPrivateImportUsage]  # they are public

from attnzoo.backbones.common.channel_attention import EfficientChannelAttention, SqueezeExcite, adaptive_kernel_size


class TestEfficientChannelAttention:
    def test_adaptive_sizes_are_timms(self):
        for channels in (1, 3, 16, 24, 64, 96, 128, 256, 320, 512, 1024, 1280, 2048, 4096):
            assert adaptive_kernel_size(channels) == EcaModule(channels).conv.kernel_size[0]
        assert [adaptive_kernel_size(channels) for channels in (64, 256, 512, 1024, 2048)] == [3, 5, 5, 5, 7]

    @pytest.mark.parametrize("channels_last", [False, True])
    def test_equals_timms(self, channels_last: bool):
        own, other = EfficientChannelAttention(24, 5), EcaModule(kernel_size=5)
        other.load_state_dict(own.state_dict())
        x = torch.randn(2, 24, 5, 7)
        x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
        shortcut = torch.randn_like(x)
        expected = other(x).detach()
        torch.testing.assert_close(own(x), expected)
        torch.testing.assert_close(own(x, shortcut), expected + shortcut)
        with torch.no_grad():
            torch.testing.assert_close(own(x), expected)
            kept = shortcut.clone()
            out = own(x, shortcut)
            torch.testing.assert_close(out, expected + kept)
            assert out is x
            assert torch.equal(shortcut, kept)

    def test_shortcuts_of_another_type(self):
        own = EfficientChannelAttention(4)
        x, shortcut = torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3, dtype=torch.float64)
        with torch.no_grad():
            assert own(x, shortcut).dtype == torch.float64

    def test_gradients(self):
        own = EfficientChannelAttention(6).double()
        x, shortcut = torch.randn(2, 2, 6, 3, 3, dtype=torch.float64, requires_grad=True).unbind()
        assert torch.autograd.gradcheck(own, (x, shortcut))

    @pytest.mark.parametrize("size", [0, 2, 3.0])
    def test_sizes_are_odd(self, size: Any):
        with pytest.raises(ValueError, match="kernel_size must be"):
            EfficientChannelAttention(8, size)


def test_squeeze_and_excitation_is_timms():
    own = SqueezeExcite(16, 4)
    other = SEModule(16, rd_channels=4)
    other.load_state_dict(own.state_dict())
    x = torch.randn(2, 16, 5, 7)
    torch.testing.assert_close(own(x), other(x))
