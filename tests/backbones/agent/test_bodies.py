"""What the four bodies with agent attention have in common."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import nn

from attnzoo.backbones.common.features import FeatureMaps
from support.agents import BODIES, blocks_of, tiny


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
