"""Efficient channel attention as a token mixer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from attnzoo.backbones.eca import EfficientChannelAttentionMixer


class TestMixer:
    @pytest.mark.parametrize("mixing", ["conv", "pool"])
    def test_any_map_keeps_its_shape(self, mixing: Any):
        mixer = EfficientChannelAttentionMixer(12, 3, mixing=mixing)
        for shape in ((2, 5, 7, 12), (1, 1, 1, 12), (2, 8, 2, 12)):
            x = torch.randn(shape)
            kept = x.clone()
            with torch.no_grad():
                fast = mixer(x)
            assert fast.shape == shape
            assert fast.is_contiguous()
            assert torch.equal(x, kept)
            torch.testing.assert_close(fast, mixer(x))

    def test_convolution_and_gate(self):
        mixer = EfficientChannelAttentionMixer(6, window_size=5, kernel_size=3).double()
        assert mixer.conv is not None
        assert mixer.conv.weight.std().item() == pytest.approx(0.02, rel=0.3)
        nn.init.normal_(mixer.conv.weight)
        x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
        mixed = mixer.conv(x.permute(0, 3, 1, 2))
        means = nn.functional.pad(mixed.mean((2, 3)), (1, 1))
        gate = sum(mixer.attn.conv.weight[0, 0, i] * means[:, i : i + 6] for i in range(3))
        expected = mixed * torch.as_tensor(gate).sigmoid()[..., None, None]
        torch.testing.assert_close(mixer(x), expected.permute(0, 2, 3, 1))

    def test_pooling_leaves_out_what_lies_outside(self):
        mixer = EfficientChannelAttentionMixer(4, mixing="pool").double()
        nn.init.zeros_(mixer.attn.conv.weight)
        x = torch.randn(1, 3, 3, 4, dtype=torch.float64)
        out = 2 * mixer(x)
        torch.testing.assert_close(out[0, 0, 0], x[0, :2, :2].mean((0, 1)) - x[0, 0, 0])
        torch.testing.assert_close(out[0, 1, 1], x[0].mean((0, 1)) - x[0, 1, 1])
        assert not mixer(torch.ones(1, 4, 5, 4, dtype=torch.float64)).any()

    def test_gradients(self):
        mixer = EfficientChannelAttentionMixer(4).double()
        x = torch.randn(1, 3, 3, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(mixer, (x,))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"mixing": "cnov"}, "Did you mean 'conv'"),
            ({"window_size": 4}, "window_size must be odd"),
            ({"num_heads": 0}, "num_heads must be"),
            ({"kernel_size": 2}, "kernel_size must be odd"),
        ],
    )
    def test_invalid_arguments_raise(self, arguments: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            EfficientChannelAttentionMixer(8, **arguments)
