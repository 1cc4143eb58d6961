"""Agent-DeiT, its tokens and its position embedding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from attnzoo.backbones.agent import (
    TokenAttention,
)
from support.agent_attention import randomised, split_heads
from support.agents import tiny


def test_plain_attention_of_tokens():
    attn = randomised(TokenAttention(8, 2))
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    q, k, v = (split_heads(one, 2) for one in attn.qkv(x).chunk(3, dim=-1))
    out = (((q @ k.transpose(2, 3)) * 4**-0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attn(x), attn.proj(out))
    torch.testing.assert_close(attn(x, (2, 3)), attn.proj(out))
    with pytest.raises(ValueError, match="num_heads must divide dim"):
        TokenAttention(8, 3)


class TestAgentDeiT:
    @torch.no_grad()
    def test_resizes_the_embedding_of_places(self):
        model = tiny("deit").eval()
        tokens, grid_size = model.stem(torch.zeros(1, 3, 41, 40))
        assert grid_size == (6, 5)
        model.stem.proj.bias.zero_()
        tokens = model.stem(torch.zeros(1, 3, 41, 40))[0]
        maps = model.stem.pos_embed[:, 1:].unflatten(1, (4, 6)).permute(0, 3, 1, 2)
        expected = F.interpolate(maps, (6, 5), mode="bicubic").flatten(2).transpose(1, 2)
        torch.testing.assert_close(tokens[:, 1:], expected)
        assert torch.equal(tokens[:, :1], model.stem.cls_token + model.stem.pos_embed[:, :1])

    @torch.no_grad()
    def test_pools_what_it_is_told(self):
        model = tiny("deit").eval()
        images = torch.randn(2, 3, 32, 48)
        tokens = model.forward_features(images)
        assert tokens.shape == (2, 1 + 4 * 6, 8)
        for global_pool, expected in (
            ("token", tokens[:, 0]),
            ("avg", tokens[:, 1:].mean(1)),
            ("max", tokens[:, 1:].amax(1)),
            ("", tokens),
        ):
            model.reset_classifier(0, global_pool)
            assert torch.equal(model(images), expected), global_pool
        with pytest.raises(ValueError, match=r"Unknown global_pool 'tokens'\. Did you mean 'token'"):
            model.reset_classifier(0, "tokens")

    @torch.no_grad()
    def test_gives_class_tokens_with_the_maps(self):
        model = tiny("deit").eval()
        images = torch.randn(2, 3, 33, 48)
        pairs = model.forward_intermediates(images, intermediates_only=True, return_prefix_tokens=True, norm=True)
        maps = model.forward_intermediates(images, intermediates_only=True, norm=True)
        tokens = model.forward_features(images)
        assert [one.shape for one, _ in pairs] == [(2, 8, 5, 6)] * 2
        assert all(torch.equal(one, other) for (one, _), other in zip(pairs, maps, strict=True))
        assert torch.equal(pairs[-1][1], tokens[:, :1])
        assert torch.equal(pairs[-1][0].flatten(2).transpose(1, 2), tokens[:, 1:])
        with pytest.raises(ValueError, match="Unknown output_fmt 'NLC'"):
            model.forward_intermediates(images, output_fmt="NLC")
