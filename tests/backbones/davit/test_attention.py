"""The attention modules of the DaViT family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from attnzoo.backbones.davit import ChannelAttention, WindowAttention


class TestAttention:
    @pytest.mark.parametrize("shortcuts", [False, True])
    @pytest.mark.parametrize(("height", "width"), [(3, 6), (4, 5), (1, 2), (7, 3)])
    def test_windows_pad_with_the_bias_of_qkv(self, height: int, width: int, shortcuts: bool):
        torch.manual_seed(0)
        attn = WindowAttention(8, 2, window_size=3).double()
        nn.init.normal_(attn.qkv.bias)
        x = torch.randn(2, height, width, 8, dtype=torch.float64)
        rows, cols = -(-height // 3) * 3, -(-width // 3) * 3
        padded = torch.zeros(2, rows, cols, 8, dtype=torch.float64)
        padded[:, :height, :width] = x
        expected = torch.empty_like(padded)
        for top in range(0, rows, 3):
            for left in range(0, cols, 3):
                window = padded[:, top : top + 3, left : left + 3].reshape(2, 9, 8)
                query, key, value = (
                    part.reshape(2, 9, 2, 4).transpose(1, 2) for part in attn.qkv(window).chunk(3, dim=-1)
                )
                weights = (query @ key.mT * 4**-0.5).softmax(-1)
                expected[:, top : top + 3, left : left + 3] = (weights @ value).transpose(1, 2).reshape(2, 3, 3, 8)
        with torch.set_grad_enabled(not shortcuts):
            torch.testing.assert_close(attn(x), attn.proj(expected)[:, :height, :width])

    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize("v2", [False, True])
    def test_channels(self, v2: bool, batch: int):
        torch.manual_seed(0)
        attn = ChannelAttention(12, 3, v2=v2).double()
        nn.init.normal_(attn.qkv.weight)
        x = torch.randn(batch, 3, 5, 12, dtype=torch.float64)
        query, key, value = attn.qkv(x).flatten(1, 2).chunk(3, dim=-1)
        mixed = torch.empty(batch, 15, 12, dtype=torch.float64)
        for group in range(3):
            part = slice(4 * group, 4 * group + 4)
            q, k, v = query[..., part], key[..., part], value[..., part]
            logits = q.mT @ k * 15**-0.5 if v2 else k.mT @ v * 4**-0.5
            mixed[..., part] = (v if v2 else q) @ logits.softmax(-1).mT
        torch.testing.assert_close(attn(x), attn.proj(mixed.view_as(x)))

    @pytest.mark.parametrize("attention", [WindowAttention, ChannelAttention])
    def test_arguments(self, attention: Any):
        attn = attention(8, 2, qkv_bias=False)
        assert {name for name, _ in attn.named_parameters()} == {"qkv.weight", "proj.weight", "proj.bias"}
        assert attn(torch.randn(1, 4, 9, 8)).shape == (1, 4, 9, 8)
        dropped = attention(8, 2, proj_drop=0.9)(torch.randn(1, 4, 9, 8))
        assert (dropped == 0).float().mean() > 0.5
        with pytest.raises(ValueError, match="num_heads must divide dim, got dim=10 and num_heads=4"):
            attention(10, 4)
        with pytest.raises(ValueError, match="window_size must be an integer >= 1, got 0"):
            WindowAttention(8, 2, window_size=0)
