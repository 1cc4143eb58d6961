"""Agent-CSwin's stripes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from attnzoo.backbones.agent import (
    GlobalAttention,
    StripeAttention,
)
from support.agent_attention import randomised, split_heads


class TestCrossShapedWindows:
    @pytest.mark.parametrize("size", [(6, 4), (5, 7), (1, 3), (2, 2)])
    def test_stripes(self, size: tuple[int, int]):
        attn = randomised(StripeAttention(8, 4, 2))
        x = torch.randn(2, *size, 8, dtype=torch.float64)
        rows, cols = (-(-side // 2) * 2 for side in size)
        qkv = attn.qkv(F.pad(x, (0, 0, 0, cols - size[1], 0, rows - size[0]))).chunk(3, dim=-1)
        out = torch.empty(2, rows, cols, 8, dtype=torch.float64)
        for half, count in ((0, cols // 2), (1, rows // 2)):
            channels = slice(4 * half, 4 * half + 4)
            for index in range(count):
                line = slice(2 * index, 2 * index + 2)
                where = (slice(None), line, slice(None)) if half else (slice(None), slice(None), line)
                query, key, value = (one[(*where, channels)] for one in qkv)
                height, width = query.shape[1:3]
                tokens = (split_heads(one.flatten(1, 2), 2) for one in (query, key, value))
                q, k, v = tokens
                attended = ((q @ k.transpose(2, 3)) * 2**-0.5).softmax(-1) @ v
                maps = attn.dwc[half](value.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
                out[(*where, channels)] = attended.transpose(1, 2).reshape(2, height, width, 4) + maps
        torch.testing.assert_close(attn(x), attn.proj(out[:, : size[0], : size[1]]))

    def test_whole_map(self):
        attn = randomised(GlobalAttention(8, 2))
        x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
        query, key, value = attn.qkv(x).chunk(3, dim=-1)
        q, k, v = (split_heads(one.flatten(1, 2), 2) for one in (query, key, value))
        out = (((q @ k.transpose(2, 3)) * 4**-0.5).softmax(-1) @ v).transpose(1, 2).reshape(2, 3, 5, 8)
        torch.testing.assert_close(attn(x), attn.proj(out + attn.dwc(value.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)))

    def test_invalid_arguments_raise(self):
        with pytest.raises(ValueError, match="num_heads and dim must be even, got num_heads=3 and dim=9"):
            StripeAttention(9, 3)
        with pytest.raises(ValueError, match="stripe_size must be an integer >= 1"):
            StripeAttention(8, 2, 0)
        with pytest.raises(ValueError, match="num_heads must divide dim"):
            GlobalAttention(8, 3)
