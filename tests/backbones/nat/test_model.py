"""NAT: outputs of the reference implementation, and the options of the model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.common.head import PooledHead
from attnzoo.backbones.nat import NAT, GlobalAttention, NeighborhoodAttention
from support import parity
from support.nats import PACKS, blocks_of, classifier, official_weights, tiny, tiny_isotropic

CASES = [(name, case["name"]) for name in PACKS for case in parity.load_pack("nat", name)[0]["cases"]]


class TestParity:
    @pytest.mark.parametrize(("variant", "case_name"), CASES)
    def test_official_outputs(self, variant: str, case_name: str):
        pack, golden = parity.load_pack("nat", variant)
        (case,) = (one for one in pack["cases"] if one["name"] == case_name)
        call, _, data_set = case["call"].partition(":")
        images = parity.image(case["shape"], case["seed"])
        with torch.no_grad():
            if call == "logits":
                outputs = {"logits": classifier(variant)(images)}
            else:
                kwargs = {"dense": data_set, "output_norms": False} if data_set else {}
                features = FeatureMaps(model_entrypoint(variant)(**kwargs)).eval()
                load_weights(features, official_weights(variant))
                outputs = {f"stage{index + 1}": one for index, one in enumerate(features(images))}
        assert {name: list(one.shape) for name, one in outputs.items()} == case["outputs"]
        for name, output in outputs.items():
            error = parity.relative_error(output, golden[f"{case_name}/{name}"])
            assert error <= parity.tolerance(pack), (name, error)


class TestModel:
    @pytest.mark.parametrize("body", [{}, {"downsample": "merge"}, {"attention": "global"}])
    def test_initial_values_are_the_published_ones(self, body: dict[str, Any]):
        torch.manual_seed(0)
        model = NAT(depths=(1, 1), embed_dims=(64, 128), num_heads=(2, 4), layer_scale=1e-5, drop_path_rate=0.1, **body)
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1), name
                assert module.bias is None or not module.bias.any(), name
            elif isinstance(module, nn.LayerNorm):
                assert torch.equal(module.weight, torch.ones_like(module.weight))
                assert not module.bias.any()
            elif isinstance(module, NeighborhoodAttention | GlobalAttention):
                assert module.rpb is not None
                assert module.rpb.std().item() == pytest.approx(0.02, rel=0.2), name
        assert torch.equal(model.get_parameter("stages.0.blocks.0.ls1.gamma"), torch.full((64,), 1e-5))
        bound = model.get_parameter("stem.convs.1.weight").abs().max().item()
        assert bound == pytest.approx((32 * 9) ** -0.5, rel=0.05)  # PyTorch's uniform distribution

    def test_drop_path_grows_linearly_over_all_blocks(self):
        model = tiny(depths=(2, 3), dilations=None, drop_path_rate=0.4)
        rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in blocks_of(model) for block in stage]
        assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])

    @pytest.mark.parametrize(
        ("dilations", "expected"),
        [
            (None, [[1, 1], [1]]),
            (2, [[2, 2], [2]]),
            ((2, 1), [[2, 2], [1]]),
            ([[1, 2], [3]], [[1, 2], [3]]),
            (([1, 2], 3), [[1, 2], [3]]),
        ],
    )
    def test_dilations(self, dilations: Any, expected: list[list[int]]):
        model = tiny(dilations=dilations)
        assert [[block.attn.dilation for block in stage] for stage in blocks_of(model)] == expected

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            (
                {"depths": (2,)},
                "depths, embed_dims and num_heads must have one entry per stage, got 1, 2 and 2",
            ),
            ({"depths": (2, 0)}, r"depths\[1\] must be an integer >= 1, got 0"),
            ({"depths": (2, 1.0)}, r"depths\[1\] must be an integer"),
            ({"num_heads": (1, 3)}, r"num_heads\[1\] must divide embed_dims\[1\], got 3 heads and 16 channels"),
            ({"embed_dims": (1, 16)}, r"embed_dims\[0\] must be an integer >= 2"),
            ({"kernel_size": 1}, "kernel_size must be an integer >= 2, got 1"),
            ({"dilations": (1,)}, "dilations must have one entry per stage, got 1 for 2 stages"),
            ({"dilations": ((1,), 1)}, r"dilations\[0\] must have one entry per block, got 1 for 2 blocks"),
            ({"dilations": ((1, 0), 1)}, r"dilations\[0\]\[1\] must be an integer >= 1, got 0"),
            ({"mlp_ratio": 0}, "mlp_ratio must leave at least one hidden channel, got 0"),
            ({"stem": "convs"}, "Unknown stem 'convs'. Did you mean 'conv'"),
            ({"stem_stride": 3}, "stem_stride of a convolutional stem must be 1, 2 or 4, got 3"),
            ({"stem": "patch", "stem_stride": 0}, "stem_stride must be an integer >= 1"),
            ({"downsample": "pool"}, "Unknown downsample 'pool'"),
            ({"downsample": "none"}, "embed_dims must all be equal if downsample is 'none'"),
            ({"attention": "local"}, "Unknown attention 'local'"),
            ({"attention": "global", "table_size": 1}, "table_size must be an integer >= 2"),
            ({"num_classes": -1}, "num_classes must be an integer >= 0, got -1"),
            ({"in_chans": 0}, "in_chans must be an integer >= 1"),
            ({"global_pool": "mean"}, "Unknown global_pool 'mean'"),
            ({"global_pool": ""}, "global_pool='' returns maps"),
            ({"drop_rate": 1.0}, "drop_rate must be >= 0 and < 1, got 1.0"),
            ({"proj_drop_rate": -0.1}, "proj_drop_rate must be >= 0"),
            ({"drop_path_rate": 1.5}, "drop_path_rate must be >= 0 and < 1, got 1.5"),
        ],
    )
    def test_wrong_arguments_are_named(self, kwargs: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            tiny(**kwargs)

    @pytest.mark.parametrize("stem_stride", [1, 2, 4])
    def test_stem_stride(self, stem_stride: int):
        features = FeatureMaps(tiny(stem_stride=stem_stride))
        strides = [stem_stride, 2 * stem_stride]
        assert features.feature_info.reduction() == strides
        for stride, one in zip(strides, features(torch.randn(1, 3, 19, 26)), strict=True):
            assert one.shape[2:] == (-(-19 // stride), -(-26 // stride))

    def test_images_below_the_minimum_are_refused(self):
        for model, least in ((tiny(), 8), (tiny_isotropic(), 16), (tiny_isotropic(attention="global"), 32)):
            assert model.min_input_size == least
            assert model(torch.randn(1, 3, least, least + 3)).shape == (1, 5)
            with pytest.raises(ValueError, match=f"at least {least} pixels high and wide.*got height {least - 1}"):
                model(torch.randn(1, 3, least - 1, 64))
            with pytest.raises(ValueError, match=f"at least {least} pixels"):
                FeatureMaps(model)(torch.randn(1, 3, 64, least - 1))

    def test_pruned_features_equal_the_full_ones(self):
        torch.manual_seed(0)
        model = tiny(output_norms=True).eval()
        full = FeatureMaps(copy.deepcopy(model))
        first = FeatureMaps(copy.deepcopy(model), out_indices=(0,))
        assert not any("stages.1" in name for name in first.state_dict())
        images = torch.randn(1, 3, 32, 32)
        assert torch.equal(first(images)[0], full(images)[0])
        assert first.out_indices == [0]
        assert FeatureMaps(copy.deepcopy(model), out_indices=1).out_indices == [1]
        assert FeatureMaps(copy.deepcopy(model), out_indices=(-1, 0)).out_indices == [0, 1]
        for wrong in ((2,), (0, 0), (), 3, 0, (0, -2)):
            with pytest.raises(ValueError, match=r"[Ss]tage.* must be"):
                FeatureMaps(copy.deepcopy(model), out_indices=wrong)

    def test_intermediates_with_norm(self):
        images = torch.randn(1, 3, 32, 32)
        for model, normed in ((tiny(), {1}), (tiny_isotropic(), {0, 1})):
            plain = model.forward_intermediates(images, intermediates_only=True, output_fmt="NHWC")
            maps = model.forward_intermediates(images, intermediates_only=True, output_fmt="NHWC", norm=True)
            for index, (bare, one) in enumerate(zip(plain, maps, strict=True)):
                torch.testing.assert_close(one, model.norm(bare) if index in normed else bare)
        with pytest.raises(ValueError, match="Unknown output_fmt 'NLC'"):
            tiny().forward_intermediates(images, output_fmt="NLC")

    def test_bfloat16_autocast(self):
        model = tiny().eval()
        images = torch.randn(2, 3, 32, 32)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        torch.testing.assert_close(logits.float(), model(images), atol=0.05, rtol=0.05)

    def test_compiled_model_equals_the_eager_one(self):
        model = tiny().train()
        compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
        images = torch.randn(2, 3, 32, 40)
        for one in (model, compiled):
            one(images).square().sum().backward()
        for parameter, other in zip(model.parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, other.grad)

    def test_heads(self):
        x = torch.randn(2, 4, 3, 5)
        assert torch.equal(PooledHead(4, 0)(x), x.mean(dim=(2, 3)))
        assert torch.equal(PooledHead(4, 0, "max")(x), x.amax(dim=(2, 3)))
        assert torch.equal(PooledHead(4, 0, "")(x), x)
        head = PooledHead(4, 3).double()
        head.reset(7)
        assert isinstance(head.fc, nn.Linear)
        assert head.fc.weight.dtype == torch.float64
        assert head.fc.out_features == 7
