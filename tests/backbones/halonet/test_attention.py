"""Halo attention, global attention and lambda layers."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import bottleneck_attn, lambda_layer
from torch import nn

from attnzoo.backbones.halonet import GlobalRelativeAttention, HaloAttention, LambdaLayer
from support.halonets import filled


def dense_attention(attn: HaloAttention, x: torch.Tensor) -> torch.Tensor:
    """The definition, position by position: (B, H, W, C) with its own loop over queries."""
    batch, height, width, _ = x.shape
    heads, block, halo, step = attn.num_heads, attn.block_size, attn.halo_size, attn.query_stride
    window = block + 2 * halo
    query = attn.q(x).reshape(batch, height, width, heads, -1)
    kv = attn.kv(x).reshape(batch, height, width, heads, -1)
    key, value = kv[..., : attn.qk_head_dim], kv[..., attn.qk_head_dim :]
    rows = range(0, height, step)
    cols = range(0, width, step)
    out = x.new_zeros(batch, len(rows), len(cols), heads, attn.v_head_dim)
    for y in rows:
        for x_at in cols:
            top, left = y // block * block, x_at // block * block
            last_y, last_x = min(top + block, height) + halo, min(left + block, width) + halo
            logits, values = [], []
            for ky in range(top - halo, last_y):
                for kx in range(left - halo, last_x):
                    inside = 0 <= ky < height and 0 <= kx < width
                    if not inside and attn.mask_halo:
                        continue
                    one = query[:, y, x_at]
                    dy = ky - (top - halo) - (y - top) // step + window - 1
                    dx = kx - (left - halo) - (x_at - left) // step + window - 1
                    logit = one @ attn.row_embedding[dy] + one @ attn.col_embedding[dx]
                    if inside:
                        logit = logit + attn.scale * (one * key[:, ky, kx]).sum(-1)
                    logits.append(logit)
                    values.append(value[:, ky, kx] if inside else torch.zeros_like(value[:, 0, 0]))
            weights = torch.stack(logits).softmax(dim=0)
            out[:, y // step, x_at // step] = (weights[..., None] * torch.stack(values)).sum(0)
    out = out.flatten(3)
    if attn.pools:
        padded = F.pad(out, (0, 0, 0, width % 2, 0, height % 2))
        there = F.pad(torch.ones_like(out), (0, 0, 0, width % 2, 0, height % 2))

        def quarters(one: torch.Tensor) -> torch.Tensor:
            return one[:, ::2, ::2] + one[:, 1::2, ::2] + one[:, ::2, 1::2] + one[:, 1::2, 1::2]

        out = quarters(padded) / quarters(there)
    return out


class TestHaloAttention:
    @pytest.mark.parametrize(
        ("size", "kwargs"),
        [
            ((8, 4), {}),
            ((7, 5), {}),
            ((1, 3), {}),
            ((8, 8), {"stride": 2}),
            ((7, 9), {"stride": 2}),
            ((6, 7), {"stride": 2, "block_size": 3}),
            ((7, 5), {"stride": 2, "block_size": 3}),
            ((5, 6), {"qk_head_dim": 3, "dim_out": 12}),
            ((5, 6), {"mask_halo": True}),
            ((5, 6), {"halo_size": 0}),
        ],
    )
    def test_equals_its_definition_at_any_size(self, size: tuple[int, int], kwargs: dict[str, Any]):
        torch.manual_seed(0)
        attn = HaloAttention(8, 2, **{"block_size": 4, "halo_size": 2, **kwargs}).double()
        x = torch.randn(2, *size, 8, dtype=torch.float64)
        torch.testing.assert_close(attn(x), dense_attention(attn, x))

    def test_first_embeddings_are_never_used(self):
        attn = HaloAttention(8, 2, block_size=4, halo_size=2)
        attn(torch.randn(1, 8, 8, 8)).square().sum().backward()
        for embedding in (attn.row_embedding, attn.col_embedding):
            assert embedding.grad is not None
            assert not embedding.grad[:4].any()
            assert embedding.grad[4:].any(dim=1).all()

    def test_arguments_for_other_bodies(self):
        attn = HaloAttention(8, 2, block_size=4, halo_size=1, qkv_bias=True, proj=True)
        assert isinstance(attn.proj, nn.Linear)
        assert attn.q.bias is not None
        x = torch.randn(1, 5, 6, 8)
        plain = HaloAttention(8, 2, block_size=4, halo_size=1, qkv_bias=True)
        plain.load_state_dict({name: value for name, value in attn.state_dict().items() if "proj" not in name})
        torch.testing.assert_close(attn(x), attn.proj(plain(x)))

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"num_heads": 3}, "num_heads must divide"),
            ({"block_size": 0}, "block_size must be an integer >= 1"),
            ({"halo_size": -1}, "halo_size must be an integer >= 0"),
            ({"stride": 3}, "stride must be 1 or 2, got 3"),
            ({"qk_head_dim": 0}, "qk_head_dim must be"),
        ],
    )
    def test_invalid_arguments_raise(self, kwargs: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            HaloAttention(**{"dim": 8, "num_heads": 2, **kwargs})


class TestOtherMixers:
    def test_lambda_layer_equals_timms(self):
        torch.manual_seed(0)
        ours, theirs = LambdaLayer(8, 2, 5).eval(), lambda_layer.LambdaLayer(8, num_heads=2, r=5).eval()
        state_dict = filled(theirs.state_dict())
        theirs.load_state_dict(state_dict)
        ours.load_state_dict(
            {
                **state_dict,
                "qkv.weight": state_dict["qkv.weight"].flatten(1),
                "conv_lambda.weight": state_dict["conv_lambda.weight"].squeeze(-1),
            }
        )
        x = torch.randn(2, 6, 9, 8)
        torch.testing.assert_close(ours(x), theirs(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))

    def test_global_attention_equals_timms(self):
        torch.manual_seed(0)
        ours = GlobalRelativeAttention(8, 2, 5)
        theirs = bottleneck_attn.BottleneckAttn(8, num_heads=2, feat_size=(5, 5))
        theirs.load_state_dict(
            {
                "qkv.weight": ours.qkv.weight[..., None, None],
                "pos_embed.height_rel": ours.row_embedding,
                "pos_embed.width_rel": ours.col_embedding,
            }
        )
        x = torch.randn(2, 5, 5, 8)
        torch.testing.assert_close(ours(x), theirs(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))

    @pytest.mark.parametrize("size", [(4, 4), (2, 3), (6, 4), (5, 7)])
    def test_global_attention_sees_the_map_with_stretched_embeddings(self, size: tuple[int, int]):
        torch.manual_seed(0)
        attn = GlobalRelativeAttention(8, 2, table_size=4).double()
        height, width = size
        x = torch.randn(2, height, width, 8, dtype=torch.float64)

        def by_offset(embedding: torch.Tensor, length: int) -> torch.Tensor:
            """Embeddings (query, key, dim)."""
            if length > 4:
                grid = torch.linspace(0, 6, 2 * length - 1, dtype=torch.float64)
                low = grid.floor().long().clamp(max=5)
                share = (grid - low)[:, None]
                embedding = embedding[low] * (1 - share) + embedding[low + 1] * share
            places = torch.arange(length)
            return embedding[places[None] - places[:, None] + len(embedding) // 2]

        query, key, value = attn.qkv(x).unflatten(-1, (3, 2, 4)).unbind(3)
        logits = torch.einsum("byxhc,bvwhc->bhyxvw", query * attn.scale, key)
        logits = logits + torch.einsum("byxhc,yvc->bhyxv", query, by_offset(attn.row_embedding, height))[..., None]
        logits = logits + torch.einsum("byxhc,xwc->bhyxw", query, by_offset(attn.col_embedding, width))[..., None, :]
        weights = logits.flatten(4).softmax(dim=-1).unflatten(-1, size)
        out = torch.einsum("bhyxvw,bvwhc->byxhc", weights, value).flatten(3)
        torch.testing.assert_close(attn(x), out, rtol=1e-6, atol=1e-6)  # embeddings are stretched in float32

    def test_stride_averages(self):
        torch.manual_seed(0)
        for build in (
            functools.partial(GlobalRelativeAttention, 8, 2, 4),
            functools.partial(LambdaLayer, 8, 2, 3),
        ):
            whole, halved = build().eval(), build(stride=2).eval()
            halved.load_state_dict(whole.state_dict())
            x = torch.randn(1, 5, 4, 8)
            expected = F.avg_pool2d(whole(x).permute(0, 3, 1, 2), 2, ceil_mode=True, count_include_pad=False)
            torch.testing.assert_close(halved(x), expected.permute(0, 2, 3, 1))

    def test_invalid_arguments_raise(self):
        with pytest.raises(ValueError, match="must be odd, got 4"):
            LambdaLayer(8, 2, 4)
        with pytest.raises(ValueError, match="table_size must be"):
            GlobalRelativeAttention(8, 2, 0)
        with pytest.raises(ValueError, match="stride must be 1 or 2, got 4"):
            GlobalRelativeAttention(8, 2, 4, stride=4)
