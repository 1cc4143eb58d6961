"""VAN: outputs of the reference implementation, and the options of the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.van import VAN
from support import parity
from support.vans import GOLDEN, PACK, blocks_of, classifier, tiny


class TestParity:
    @pytest.mark.parametrize("case", PACK["cases"], ids=lambda case: case["name"])
    def test_official_outputs(self, case: dict[str, Any]):
        images = parity.image(case["shape"], case["seed"])
        with torch.no_grad():
            if case["call"] == "logits":
                outputs = {"logits": classifier()(images)}
            else:
                features = FeatureMaps(model_entrypoint("van_b0")()).eval()
                load_weights(features, parity.filled_state_dict(PACK))
                outputs = {f"stage{index + 1}": one for index, one in enumerate(features(images))}
        assert {name: list(one.shape) for name, one in outputs.items()} == case["outputs"]
        for name, output in outputs.items():
            error = parity.relative_error(output, GOLDEN[f"{case['name']}/{name}"])
            assert error <= parity.tolerance(PACK), (name, error)


class TestModel:
    def test_initial_values_are_the_published_ones(self):
        torch.manual_seed(0)
        model = VAN(depths=(1, 1), embed_dims=(64, 128), mlp_ratios=(4, 4))
        stds = {
            "stem.proj.weight": (2 / (49 * 64)) ** 0.5,
            "stages.1.downsample.proj.weight": (2 / (9 * 128)) ** 0.5,
            "stages.1.blocks.0.attn.proj_1.weight": (2 / 128) ** 0.5,
            "stages.1.blocks.0.attn.conv_spatial.weight": (2 / 49) ** 0.5,
            "stages.1.blocks.0.mlp.dwconv.weight": (2 / 9) ** 0.5,
            "head.fc.weight": 0.02,
        }
        for name, std in stds.items():
            assert model.get_parameter(name).std().item() == pytest.approx(std, rel=0.05), name
        assert not any(value.any() for name, value in model.named_parameters() if name.endswith("bias"))
        for index in (1, 2):
            assert torch.equal(model.get_parameter(f"stages.0.blocks.0.ls{index}.gamma"), torch.full((64,), 1e-2))

    def test_drop_path_grows_linearly_over_all_blocks(self):
        model = tiny(depths=(2, 3), drop_path_rate=0.4)
        rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in blocks_of(model) for block in stage]
        assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])

    def test_the_norms_of_the_stages_lie_in_the_main_path(self):
        model = tiny().eval()
        with torch.no_grad():
            model.get_parameter("stages.0.norm.weight").zero_()
            one, two = (model(torch.randn(1, 3, 40, 40)) for _ in range(2))
        assert torch.equal(one, two)

    def test_a_tiny_image_is_enough(self):
        assert tiny().eval()(torch.randn(1, 3, 1, 2)).shape == (1, 5)

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            (
                {"depths": (2,)},
                "depths, embed_dims and mlp_ratios must have one entry per stage, got 1, 2 and 2",
            ),
            ({"depths": (2, 0)}, r"depths\[1\] must be an integer >= 1, got 0"),
            ({"embed_dims": (8, 0)}, r"embed_dims\[1\] must be an integer >= 1"),
            ({"mlp_ratios": (4, 0)}, r"mlp_ratios\[1\] must leave at least one hidden channel, got 0"),
            ({"kernel_size": 0}, "kernel_size must be an integer >= 1"),
            ({"dilation": 0}, "dilation must be an integer >= 1"),
            ({"proj_drop_rate": 1.0}, "proj_drop_rate must be >= 0 and < 1"),
        ],
    )
    def test_wrong_arguments_are_named(self, kwargs: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            tiny(**kwargs)
