"""Bi-level routing attention against plain code."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnzoo.backbones.biformer import BiLevelRoutingAttention, FullAttention
from support.biformers import gathered_attention


class TestAttention:
    @pytest.mark.parametrize(
        ("height", "width", "num_regions", "topk"),
        [(6, 9, 3, 2), (5, 7, 3, 2), (2, 4, 3, 5), (7, 5, (2, 3), 4), (8, 6, (4, 1), 1), (5, 5, 2, 4), (4, 4, 1, 1)],
    )
    def test_routing_and_padding(self, height: int, width: int, num_regions: Any, topk: int):
        torch.manual_seed(0)
        attn = BiLevelRoutingAttention(8, 2, num_regions, topk).double()
        nn.init.normal_(attn.qkv.bias)
        nn.init.normal_(attn.qkv.weight)
        x = torch.randn(2, height, width, 8, dtype=torch.float64)
        rows, cols = num_regions if isinstance(num_regions, tuple) else (num_regions, num_regions)
        padded = F.pad(x, (0, 0, 0, -width % cols, 0, -height % rows))
        query, key, value = attn.qkv(padded).chunk(3, dim=-1)
        if rows == cols:
            out = gathered_attention(query, key, value, 2, rows, topk, 8**-0.5)
        else:
            out = masked_attention(query, key, value, attn.routes(x), (rows, cols), 2, 8**-0.5)
        assert attn.lepe is not None
        out = out + F.conv2d(value.permute(0, 3, 1, 2), attn.lepe.weight, attn.lepe.bias, padding=2, groups=8).permute(
            0, 2, 3, 1
        )
        torch.testing.assert_close(attn(x), attn.proj(out)[:, :height, :width])

    def test_routes(self):
        torch.manual_seed(0)
        attn = BiLevelRoutingAttention(8, 2, (2, 3), topk=4)
        x = torch.randn(2, 5, 7, 8)
        routes = attn.routes(x)
        assert (routes.shape, routes.dtype, routes.requires_grad) == ((2, 6, 4), torch.int64, False)
        query, key, _ = attn.qkv(F.pad(x, (0, 0, 0, 2, 0, 1))).chunk(3, dim=-1)
        means = [one.unflatten(2, (3, 3)).unflatten(1, (2, 3)).mean((2, 4)).flatten(1, 2) for one in (query, key)]
        likeness = means[0] @ means[1].mT
        assert torch.equal(routes, likeness.argsort(dim=-1, descending=True)[..., :4])

    def test_all_regions_are_full_attention(self):
        torch.manual_seed(0)
        attn = BiLevelRoutingAttention(8, 2, 2, topk=4, lepe_kernel_size=0)
        assert attn.lepe is None
        x = torch.randn(1, 4, 6, 8)
        query, key, value = (part.reshape(1, 24, 2, 4).transpose(1, 2) for part in attn.qkv(x).chunk(3, dim=-1))
        out = F.scaled_dot_product_attention(query, key, value, scale=8**-0.5).transpose(1, 2).reshape(1, 4, 6, 8)
        torch.testing.assert_close(attn(x), attn.proj(out))

    def test_queries_and_keys_learn_from_attention_alone(self):
        """With one position a region and one region each, the softmax is 1 whatever queries and keys are."""
        attn = BiLevelRoutingAttention(8, 2, 3, topk=1)
        attn(torch.randn(1, 3, 3, 8)).square().sum().backward()
        assert attn.qkv.weight.grad is not None
        assert attn.qkv.weight.grad[:16].abs().max() < 1e-7
        assert attn.qkv.weight.grad[16:].abs().max() > 1e-3

    @pytest.mark.parametrize("lepe", ["input", "value", None])
    def test_full_attention(self, lepe: Any):
        torch.manual_seed(0)
        attn = FullAttention(8, 2, lepe=lepe).double()
        assert attn.qkv.bias is None
        x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
        query, key, value = attn.qkv(x).chunk(3, dim=-1)
        out = gathered_attention(query, key, value, 2, 1, 1, 4**-0.5)
        if attn.lepe is not None:
            seen = x if lepe == "input" else value
            out = out + F.conv2d(
                seen.permute(0, 3, 1, 2), attn.lepe.weight, attn.lepe.bias, padding=2, groups=8
            ).permute(0, 2, 3, 1)
        torch.testing.assert_close(attn(x), attn.proj(out))
        assert (attn.lepe is None) == (lepe is None)

    def test_options(self):
        attn = BiLevelRoutingAttention(8, 2, qkv_bias=False, scale=0.5, lepe_kernel_size=3)
        assert (attn.num_regions, attn.topk, attn.scale) == ((7, 7), 4, 0.5)
        names = {"qkv.weight", "lepe.weight", "lepe.bias", "proj.weight", "proj.bias"}
        assert {name for name, _ in attn.named_parameters()} == names
        assert attn(torch.randn(1, 4, 5, 8)).shape == (1, 4, 5, 8)

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"num_heads": 3}, "num_heads must divide dim, got dim=8 and num_heads=3"),
            ({"num_regions": 0}, "num_regions must be a positive integer or a pair"),
            ({"num_regions": (2, 2, 2)}, r"num_regions must be a positive integer or a pair.*\(2, 2, 2\)"),
            ({"topk": 0}, "topk must be an integer >= 1, got 0"),
            ({"topk": -2}, "topk must be an integer >= 1, got -2"),
            ({"num_regions": (2, 3), "topk": 7}, "at most the number of regions, got 7 with 2 x 3 = 6 regions"),
            ({"lepe_kernel_size": 4}, "lepe_kernel_size must be odd, got 4"),
            ({"lepe_kernel_size": -1}, "lepe_kernel_size must be an integer >= 1"),
        ],
    )
    def test_wrong_arguments_are_named(self, kwargs: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            BiLevelRoutingAttention(**{"dim": 8, "num_heads": 2, **kwargs})

    def test_wrong_arguments_of_full_attention_are_named(self):
        with pytest.raises(ValueError, match="num_heads must divide dim, got dim=12 and num_heads=8"):
            FullAttention(12)
        with pytest.raises(ValueError, match=r"Unknown lepe 'values'\. Did you mean 'value'"):
            FullAttention(8, lepe=cast("Any", "values"))


def masked_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    routes: torch.Tensor,
    num_regions: tuple[int, int],
    heads: int,
    scale: float,
) -> torch.Tensor:
    """Attention over the whole map, with all but the routed regions masked."""
    batch, height, width, dim = query.shape
    rows, cols = num_regions
    region = (torch.arange(height) // (height // rows))[:, None] * cols + torch.arange(width) // (width // cols)
    region = region.flatten()
    seen = torch.zeros(batch, rows * cols, rows * cols, dtype=torch.bool)
    seen.scatter_(2, routes, torch.ones_like(routes, dtype=torch.bool))
    mask = seen[:, region][:, :, region][:, None]
    parts = [one.reshape(batch, height * width, heads, -1).transpose(1, 2) for one in (query, key, value)]
    out = F.scaled_dot_product_attention(*parts, attn_mask=mask, scale=scale)
    return out.transpose(1, 2).reshape(batch, height, width, dim)
