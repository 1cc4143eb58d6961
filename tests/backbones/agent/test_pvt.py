"""Agent-PVT."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from support.agents import official, tiny


def pvt_by_definition(
    weights: dict[str, torch.Tensor],
    x: torch.Tensor,
    depths: tuple[int, ...],
    heads: tuple[int, ...],
    grids: tuple[tuple[int, int], ...],
) -> torch.Tensor:
    """Agent-PVT from its official weights, as plainly as can be."""
    for stage, (depth, num_heads, grid) in enumerate(zip(depths, heads, grids, strict=True), start=1):
        stem = {
            name.partition(".")[2]: value for name, value in weights.items() if name.startswith(f"patch_embed{stage}.")
        }
        x = F.conv2d(x, stem["proj.weight"], stem["proj.bias"], stride=4 if stage == 1 else 2)
        height, width = x.shape[2:]
        dim = x.shape[1]
        x = F.layer_norm(x.flatten(2).transpose(1, 2), (dim,), stem["norm.weight"], stem["norm.bias"], eps=1e-5)
        embedding = weights[f"pos_embed{stage}"].transpose(1, 2).unflatten(2, grid)
        x = x + F.interpolate(embedding, (height, width), mode="bilinear").flatten(2).transpose(1, 2)
        for index in range(depth):
            start = f"block{stage}.{index}."
            block = {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
            y = F.layer_norm(x, (dim,), block["norm1.weight"], block["norm1.bias"], eps=1e-6)
            query = F.linear(y, block["attn.q.weight"], block["attn.q.bias"])
            key, value = F.linear(y, block["attn.kv.weight"], block["attn.kv.bias"]).chunk(2, dim=-1)
            side = int(block["attn.an_bias"].shape[1] ** 0.5)
            maps = query.transpose(1, 2).unflatten(2, (height, width))
            agents = F.adaptive_avg_pool2d(maps, side).flatten(2).transpose(1, 2)
            q, k, v, a = (one.unflatten(2, (num_heads, -1)).transpose(1, 2) for one in (query, key, value, agents))
            lines = block["attn.ah_bias"][0] + block["attn.aw_bias"][0]
            bias = F.interpolate(block["attn.an_bias"], (height, width), mode="bilinear")
            bias = (bias + F.interpolate(lines, (height, width), mode="bilinear")).flatten(2)
            scale = (dim // num_heads) ** -0.5
            gathered = (scale * a @ k.transpose(2, 3) + bias).softmax(-1) @ v
            lines = (block["attn.ha_bias"][0] + block["attn.wa_bias"][0]).permute(0, 3, 1, 2)
            bias = F.interpolate(block["attn.na_bias"], (height, width), mode="bilinear")
            bias = (bias + F.interpolate(lines, (height, width), mode="bilinear")).flatten(2).transpose(1, 2)
            out = ((scale * q @ a.transpose(2, 3) + bias).softmax(-1) @ gathered).transpose(1, 2).flatten(2)
            maps = value.transpose(1, 2).unflatten(2, (height, width))
            maps = F.conv2d(maps, block["attn.dwc.weight"], block["attn.dwc.bias"], padding=1, groups=dim)
            out = out + maps.flatten(2).transpose(1, 2)
            x = x + F.linear(out, block["attn.proj.weight"], block["attn.proj.bias"])
            y = F.layer_norm(x, (dim,), block["norm2.weight"], block["norm2.bias"], eps=1e-6)
            y = F.gelu(F.linear(y, block["mlp.fc1.weight"], block["mlp.fc1.bias"]))
            x = x + F.linear(y, block["mlp.fc2.weight"], block["mlp.fc2.bias"])
        x = x.transpose(1, 2).unflatten(2, (height, width))
    return F.linear(x.mean((2, 3)), weights["head.weight"], weights["head.bias"])


class TestAgentPVT:
    @torch.no_grad()
    @pytest.mark.parametrize(("height", "width"), [(32, 48), (37, 50), (32, 32), (71, 33)])
    def test_follows_its_definition(self, height: int, width: int):
        torch.manual_seed(0)
        model = tiny("pvt").double().eval()
        weights = {name: nn.init.normal_(value, std=0.5) for name, value in official(model).items()}
        load_weights(model, weights)
        images = torch.randn(2, 3, height, width, dtype=torch.float64)
        torch.testing.assert_close(model(images), pvt_by_definition(weights, images, (2, 2), (2, 2), ((8, 12), (4, 6))))

    @torch.no_grad()
    def test_resizes_each_embedding_from_its_own_grid(self):
        model: Any = model_entrypoint("agent_pvt_tiny")(img_size=64, depths=(1, 1, 1, 1))
        for size in (
            (128, 128),
            (56, 80),
            (64, 96),
        ):  # at 128x128 stage 2 has as many positions as stage 1 was made for
            maps = model.forward_intermediates(torch.zeros(1, 3, *size), intermediates_only=True)
            assert [tuple(one.shape[2:]) for one in maps] == [(size[0] // s, size[1] // s) for s in (4, 8, 16, 32)]
        second = model.stages[1].downsample
        assert torch.equal(second.embedding(8, 8), second.pos_embed.unflatten(1, (8, 8)))
        expected = F.interpolate(second.pos_embed.unflatten(1, (8, 8)).permute(0, 3, 1, 2), (16, 16), mode="bilinear")
        assert torch.equal(second.embedding(16, 16), expected.permute(0, 2, 3, 1))
