"""Large kernel attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from attnzoo.backbones.van import LargeKernelAttention


class TestAttention:
    def test_the_gate_multiplies_what_the_convolutions_see(self):
        torch.manual_seed(0)
        attn = LargeKernelAttention(6).double()
        x = torch.randn(2, 11, 8, 6, dtype=torch.float64)
        maps = x.permute(0, 3, 1, 2)
        given = F.gelu(attn.proj_1(maps))
        expected = maps + attn.proj_2(given * attn.conv1(attn.conv_spatial(attn.conv0(given))))
        torch.testing.assert_close(attn(x), expected.permute(0, 2, 3, 1))

    @pytest.mark.parametrize(
        ("kernel_size", "dilation", "kernels"), [(21, 3, (5, 7)), (7, 2, (3, 5)), (11, 2, (3, 7)), (5, 1, (1, 5))]
    )
    def test_the_kernel_is_taken_apart_as_in_the_paper(self, kernel_size: int, dilation: int, kernels: tuple[int, int]):
        attn = LargeKernelAttention(4, 2, kernel_size, dilation)
        assert (attn.conv0.kernel_size[0], attn.conv_spatial.kernel_size[0]) == kernels
        assert attn(torch.randn(1, 3, 4, 4)).shape == (1, 3, 4, 4)

    @pytest.mark.parametrize("argument", ["dim", "num_heads", "kernel_size", "dilation"])
    def test_wrong_arguments_are_named(self, argument: str):
        with pytest.raises(ValueError, match=f"{argument} must be an integer >= 1, got 0"):
            LargeKernelAttention(**{"dim": 4, argument: 0})
