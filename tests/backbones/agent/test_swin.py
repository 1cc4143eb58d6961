"""Agent-Swin's shifted windows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from attnzoo.backbones.agent import (
    ShiftedWindowAttention,
)
from support.agent_attention import randomised, split_heads


class TestShiftedWindowAttention:
    @pytest.mark.parametrize("always_shift", [False, True])
    @pytest.mark.parametrize("shift", [0, 1])
    @pytest.mark.parametrize("size", [(6, 9), (5, 7), (3, 3), (2, 7), (1, 1)])
    def test_definition(self, size: tuple[int, int], shift: int, always_shift: bool):
        """Pads, rolls the map, and masks what did not belong together, as Swin does."""
        window = 3
        attn = randomised(ShiftedWindowAttention(8, 2, window, shift, always_shift=always_shift))
        x = torch.randn(2, *size, 8, dtype=torch.float64)
        rows, cols = (-(-side // window) * window for side in size)
        shift = shift if always_shift or min(size) > window else 0
        padded = F.pad(x, (0, 0, 0, cols - size[1], 0, rows - size[0])).roll((-shift, -shift), (1, 2))
        region = torch.zeros(1, rows, cols, 1)
        for index, side in enumerate((rows, cols)):
            places = torch.arange(side)
            border = (places >= side - window).long() + (places >= side - shift) if shift else torch.zeros(side)
            region = region + (3**index * border).view([1, -1, 1, 1] if index == 0 else [1, 1, -1, 1])

        def windows(maps: torch.Tensor) -> torch.Tensor:
            maps = maps.unflatten(2, (-1, window)).unflatten(1, (-1, window)).transpose(2, 3)
            return maps.flatten(3, 4).flatten(0, 2)

        parts = windows(region).squeeze(-1)
        mask = (parts[:, :, None] == parts[:, None]).repeat(2, 1, 1)[:, None]
        places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij"), -1).flatten(
            0, 1
        )
        offset = places[:, None] - places[None] + window - 1  # query minus key
        bias = attn.rpb[:, offset[..., 0], offset[..., 1]]
        query, key, value = (split_heads(one, 2) for one in attn.qkv(windows(padded)).chunk(3, dim=-1))
        scores = (query @ key.transpose(2, 3)) * 4**-0.5 + bias
        out = (scores.masked_fill(~mask, -torch.inf).softmax(-1) @ value).transpose(1, 2).flatten(2)
        out = (
            out.reshape(2, rows // window, cols // window, window, window, 8).transpose(2, 3).reshape(2, rows, cols, 8)
        )
        out = out.roll((shift, shift), (1, 2))[:, : size[0], : size[1]]
        torch.testing.assert_close(attn(x), attn.proj(out))

    def test_invalid_arguments_raise(self):
        with pytest.raises(ValueError, match="shift_size must be < window_size, got shift_size=3 and window_size=3"):
            ShiftedWindowAttention(8, 2, 3, 3)
        with pytest.raises(ValueError, match="num_heads must divide dim"):
            ShiftedWindowAttention(8, 3)
