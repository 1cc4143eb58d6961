"""The attention modules of the NAT family."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnzoo.backbones.nat import GlobalAttention, NeighborhoodAttention


def window(position: int, length: int, kernel_size: int, dilation: int) -> list[int]:
    """The keys of a query along one axis, as the papers define them: the nearest ones of its dilation group."""
    group = list(range(position % dilation, length, dilation))
    place = position // dilation
    start = min(max(place - kernel_size // 2, 0), len(group) - kernel_size)
    return group[start : start + kernel_size]


class TestAttention:
    @pytest.mark.parametrize(("height", "width", "dilation"), [(2, 9, 1), (5, 4, 2), (6, 7, 2), (3, 3, 3)])
    def test_padded_positions_are_neighbors_with_the_bias_of_qkv(self, height: int, width: int, dilation: int):
        torch.manual_seed(0)
        attn = NeighborhoodAttention(8, 2, kernel_size=3, dilation=dilation).double()
        nn.init.normal_(attn.qkv.bias)
        assert attn.rpb is not None
        nn.init.normal_(attn.rpb)
        x = torch.randn(2, height, width, 8, dtype=torch.float64)
        rows, cols = max(height, 3 * dilation), max(width, 3 * dilation)
        padded = torch.zeros(2, rows, cols, 8, dtype=torch.float64)
        padded[:, :height, :width] = x
        query, key, value = (
            part.reshape(2, rows * cols, 2, 4).transpose(1, 2) for part in attn.qkv(padded).chunk(3, dim=-1)
        )
        bias = torch.full((2, rows, cols, rows, cols), -torch.inf, dtype=torch.float64)
        for y in range(rows):
            for x_at in range(cols):
                for ky in window(y, rows, 3, dilation):
                    for kx in window(x_at, cols, 3, dilation):
                        dy, dx = (ky - y) // dilation, (kx - x_at) // dilation
                        bias[:, y, x_at, ky, kx] = attn.rpb[:, dy + 2, dx + 2]
        bias = bias.reshape(1, 2, rows * cols, rows * cols)
        out = F.scaled_dot_product_attention(query, key, value, bias).transpose(1, 2).reshape(2, rows, cols, 8)
        torch.testing.assert_close(attn(x), attn.proj(out)[:, :height, :width])

    @pytest.mark.parametrize(("height", "width"), [(4, 4), (2, 3), (4, 7), (6, 5)])
    def test_global_attention(self, height: int, width: int):
        torch.manual_seed(0)
        attn = GlobalAttention(8, 2, table_size=4).double()
        x = torch.randn(2, height, width, 8, dtype=torch.float64)
        rows, cols = max(height, 4), max(width, 4)
        table = attn.rpb[None].detach()
        if (rows, cols) != (4, 4):
            table = F.interpolate(table, size=(2 * rows - 1, 2 * cols - 1), mode="bicubic", align_corners=False)
        positions = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1).flatten(
            0, 1
        )
        offset = positions[None, :] - positions[:, None]  # key minus query
        bias = table[:, :, offset[..., 0] + rows - 1, offset[..., 1] + cols - 1]
        query, key, value = (
            part.reshape(2, height * width, 2, 4).transpose(1, 2) for part in attn.qkv(x).chunk(3, dim=-1)
        )
        out = F.scaled_dot_product_attention(query, key, value, bias).transpose(1, 2).reshape(2, height, width, 8)
        torch.testing.assert_close(attn(x), attn.proj(out), rtol=1e-6, atol=1e-6)  # the table is stretched in float32
        attn(x).sum().backward()
        assert attn.rpb.grad is not None
        assert attn.rpb.grad.abs().sum() > 0

    def test_without_biases(self):
        attn = NeighborhoodAttention(8, 2, kernel_size=3, qkv_bias=False, rel_pos_bias=False)
        assert attn.qkv.bias is None
        assert {name for name, _ in attn.named_parameters()} == {"qkv.weight", "proj.weight", "proj.bias"}
        assert attn(torch.randn(1, 4, 5, 8)).shape == (1, 4, 5, 8)


class TestModel:
    def test_attention_modules_check_their_own_arguments(self):
        for module in (NeighborhoodAttention, GlobalAttention):
            with pytest.raises(ValueError, match="num_heads must divide dim, got dim=10 and num_heads=4"):
                module(10, 4)
