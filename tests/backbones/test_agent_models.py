"""The agent transformers as models: initial values, sizes, definitions, arguments."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.common.features import FeatureMaps
from support.agents import BODIES, blocks_of, official, tiny


class TestModels:
    @pytest.mark.parametrize("body", BODIES)
    def test_initial_values_are_the_published_ones(self, body: str):
        torch.manual_seed(0)
        wide = {"embed_dims": (64, 64)} if body == "pvt" else {"embed_dim": 64}
        model = tiny(body, num_agents=(49, 49), img_size=224, **wide)
        biases = 0
        for name, parameter in model.named_parameters():
            kind = name.rpartition(".")[2]
            if re.fullmatch(r"[a-z]{2}_bias|pos_embed|cls_token|rpb", kind):
                biases += 1
                assert parameter.std().item() == pytest.approx(0.02, rel=0.3), name
        assert biases
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1), name
                assert module.bias is None or not module.bias.any(), name
            elif isinstance(module, nn.Conv2d):
                bound = module.weight[0].numel() ** -0.5
                assert module.weight.abs().max().item() == pytest.approx(bound, rel=0.05), name

    @pytest.mark.parametrize("body", BODIES)
    def test_drop_path_grows_linearly_over_all_blocks(self, body: str):
        rates = [
            getattr(block.drop_path, "drop_prob", 0.0)
            for stage in blocks_of(tiny(body, drop_path_rate=0.3))
            for block in stage
        ]
        assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])

    @torch.no_grad()
    @pytest.mark.parametrize(("height", "width"), [(32, 48), (37, 50), (32, 32), (71, 33)])
    def test_agent_pvt_follows_its_definition(self, height: int, width: int):
        torch.manual_seed(0)
        model = tiny("pvt").double().eval()
        weights = {name: nn.init.normal_(value, std=0.5) for name, value in official(model).items()}
        load_weights(model, weights)
        images = torch.randn(2, 3, height, width, dtype=torch.float64)
        torch.testing.assert_close(model(images), pvt_by_definition(weights, images, (2, 2), (2, 2), ((8, 12), (4, 6))))

    @torch.no_grad()
    def test_agent_pvt_resizes_each_embedding_from_its_own_grid(self):
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

    @torch.no_grad()
    def test_agent_deit_resizes_the_embedding_of_places(self):
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
    def test_agent_deit_pools_what_it_is_told(self):
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
        with pytest.raises(ValueError, match=r"no global_pool 'tokens'\. Did you mean 'token'"):
            model.reset_classifier(0, "tokens")

    @torch.no_grad()
    def test_agent_deit_gives_class_tokens_with_the_maps(self):
        model = tiny("deit").eval()
        images = torch.randn(2, 3, 33, 48)
        pairs = model.forward_intermediates(images, intermediates_only=True, return_prefix_tokens=True, norm=True)
        maps = model.forward_intermediates(images, intermediates_only=True, norm=True)
        tokens = model.forward_features(images)
        assert [one.shape for one, _ in pairs] == [(2, 8, 5, 6)] * 2
        assert all(torch.equal(one, other) for (one, _), other in zip(pairs, maps, strict=True))
        assert torch.equal(pairs[-1][1], tokens[:, :1])
        assert torch.equal(pairs[-1][0].flatten(2).transpose(1, 2), tokens[:, 1:])
        with pytest.raises(ValueError, match="no output_fmt 'NLC'"):
            model.forward_intermediates(images, output_fmt="NLC")

    @pytest.mark.parametrize("body", BODIES)
    def test_no_weight_decay(self, body: str):
        model = tiny(body)
        expected = {
            "deit": {"stem.cls_token", "stem.pos_embed"},
            "swin": {f"stages.{place}.attn.rpb" for place in ("0.blocks.1", "1.blocks.0", "1.blocks.1")},
        }.get(body, set())
        assert model.no_weight_decay() == expected

    @torch.no_grad()
    @pytest.mark.parametrize("body", BODIES)
    def test_small_and_odd_images(self, body: str):
        model = tiny(body).eval()
        least = model.min_input_size
        for size in ((least, least), (least, 3 * least + 1), (65, 40)):
            if min(size) < least:
                continue
            maps = FeatureMaps(copy.deepcopy(model))(torch.randn(1, 3, *size))
            for one, stride in zip(maps, [stage["reduction"] for stage in model.feature_info], strict=True):
                fill = 0 if model.cuts_edges else stride - 1
                assert one.shape[2:] == ((size[0] + fill) // stride, (size[1] + fill) // stride)
                assert one.isfinite().all()

    @torch.no_grad()
    @pytest.mark.parametrize("body", BODIES)
    def test_bfloat16_autocast(self, body: str):
        torch.manual_seed(0)
        model = tiny(body).eval()
        images = torch.randn(2, 3, 37, 50)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        torch.testing.assert_close(logits.float(), model(images), atol=0.05, rtol=0.05)

    @torch.no_grad()
    @pytest.mark.parametrize("body", BODIES)
    def test_exported_models_equal_the_eager_one(self, body: str):
        torch.manual_seed(0)
        blocks = {"agent_blocks": (1, 0)} if body in ("deit", "swin", "cswin") else {}
        model = tiny(body, depths=(1, 1), **blocks).eval()
        images = torch.randn(2, 3, 37, 48)
        exported: Any = torch.export.export(model, (images,)).module()
        torch.testing.assert_close(exported(images), model(images))

    @pytest.mark.parametrize(
        ("body", "kwargs", "message"),
        [
            ("deit", {"depths": ()}, "depths and num_agents must have one entry per stage, got 0 and 2"),
            ("deit", {"num_heads": 3}, "num_heads must divide dim, got dim=8 and num_heads=3"),
            ("deit", {"patch_size": 0}, "patch_size must be an integer >= 1"),
            ("deit", {"global_pool": ""}, "global_pool='' returns maps"),
            ("deit", {"agent_blocks": (3, 1)}, r"agent_blocks\[0\] must be <= depths\[0\] = 2, got 3"),
            (
                "pvt",
                {"num_heads": (1,)},
                "num_heads, num_agents and mlp_ratios must have one entry per stage, got 2, 2, 1, 2 and 2",
            ),
            ("pvt", {"mlp_ratios": (1,)}, "mlp_ratios must have one entry per stage, got 2, 2, 2, 2 and 1"),
            ("pvt", {"mlp_ratios": (1, 0)}, r"mlp_ratios\[1\] must leave at least one hidden channel, got 0"),
            ("pvt", {"img_size": 7}, "img_size must be >= 8 for 2 stages, got 7"),
            ("pvt", {"img_size": (32, 0)}, "img_size must be a positive integer or a pair"),
            ("swin", {"num_agents": (9, 10)}, None),
            ("swin", {"num_agents": (10, 9)}, "num_agents must be a square number, got 10"),
            ("swin", {"agent_blocks": (1,)}, r"agent_blocks must have one number per stage \(2\), got 1"),
            ("swin", {"agent_blocks": (-1, 0)}, r"agent_blocks\[0\] must be an integer >= 0"),
            ("swin", {"agent_shapes": ((3, 3),)}, r"agent_shapes must have one entry per stage, got 1 for 2 stages"),
            ("swin", {"agent_shapes": ((3, 0), 3)}, r"agent_shapes\[0\] must be a positive integer or a pair"),
            ("swin", {"window_size": 0}, "window_size must be an integer >= 1"),
            ("swin", {"mlp_ratio": 0.1}, "mlp_ratio must leave at least one hidden channel"),
            ("swin", {"drop_path_rate": 1.0}, "drop_path_rate must be >= 0 and < 1"),
            ("cswin", {"stripe_sizes": (0, 1)}, r"stripe_sizes\[0\] must be an integer >= 1"),
            ("cswin", {"num_heads": (1, 2)}, "num_heads and dim must be even, got num_heads=1 and dim=8"),
            ("cswin", {"embed_dim": 0}, "embed_dim must be an integer >= 1"),
            ("cswin", {"proj_drop_rate": -0.1}, "proj_drop_rate must be >= 0"),
        ],
    )
    def test_invalid_arguments_raise(self, body: str, kwargs: dict[str, Any], message: str | None):
        if message is None:  # valid, because the last stage has no agents
            tiny(body, **kwargs)
            return
        with pytest.raises(ValueError, match=message):
            tiny(body, **kwargs)


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
