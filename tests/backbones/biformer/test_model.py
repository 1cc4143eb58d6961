"""BiFormer: outputs of the reference implementation, and the options of the model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import nn

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.biformer import BiFormer, BiLevelRoutingAttention
from attnzoo.backbones.biformer.model import PatchMerging
from attnzoo.backbones.common.features import FeatureMaps
from support import parity
from support.biformer_weights import classifier, official_weights, regions_of
from support.biformers import blocks_of, tiny, tiny_stl

PACKS = ("biformer_tiny", "biformer_tiny_nwin8")


CASES = [(name, case["name"]) for name in PACKS for case in parity.load_pack("biformer", name)[0]["cases"]]


def set_statistics(model: nn.Module) -> None:
    """Gives batch norms statistics and layers biases that show."""
    torch.manual_seed(3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2)
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.2)


class TestParity:
    @pytest.mark.parametrize(("variant", "case_name"), CASES)
    def test_official_outputs(self, variant: str, case_name: str):
        pack, golden = parity.load_pack("biformer", variant)
        (case,) = (one for one in pack["cases"] if one["name"] == case_name)
        images = parity.image(case["shape"], case["seed"])
        kwargs = {} if variant == "biformer_tiny" else {"dense": "ade20k", "output_norms": False}
        with torch.no_grad():
            if case["call"] == "logits":
                outputs = {"logits": classifier()(images)}
            else:
                features = FeatureMaps(model_entrypoint("biformer_tiny")(**kwargs)).eval()
                load_weights(features, official_weights(variant))
                outputs = {f"stage{index + 1}": one for index, one in enumerate(features(images))}
        assert {name: list(one.shape) for name, one in outputs.items()} == case["outputs"]
        for name, output in outputs.items():
            error = parity.relative_error(output, golden[f"{case_name}/{name}"])
            assert error <= parity.tolerance(pack), (name, error)


class TestModel:
    @pytest.mark.parametrize("body", [{}, {"patches": "patch", "pos_embed": False}])
    def test_initial_values_are_the_published_ones(self, body: dict[str, Any]):
        torch.manual_seed(0)
        wide: dict[str, Any] = {"depths": (1, 1), "embed_dims": (64, 128), "num_heads": (2, 4), "topks": (1, -2)}
        model = BiFormer(**wide, **body)
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1), name
                assert module.bias is None or not module.bias.any(), name
            elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
                assert torch.equal(module.weight, torch.ones_like(module.weight))
                assert not module.bias.any()
            elif isinstance(module, nn.Conv2d):
                bound = module.weight[0].numel() ** -0.5  # PyTorch's uniform distribution
                assert module.weight.abs().max().item() == pytest.approx(bound, rel=0.05), name
                assert module.bias is not None
                assert module.bias.any()

    def test_the_refactored_stl_keeps_pytorchs_initial_values(self):
        torch.manual_seed(0)
        model = model_entrypoint("biformer_stl_nchw")(embed_dims=(32, 64, 64, 64), num_heads=(2, 2, 2, 8))
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and name != "head.fc":
                bound = module.in_features**-0.5
                assert module.weight.abs().max().item() == pytest.approx(bound, rel=0.05), name
                assert module.bias is None or module.bias.any(), name
        assert model.get_parameter("head.fc.weight").std().item() == pytest.approx(0.02, rel=0.1)

    def test_drop_path_grows_linearly_over_all_blocks(self):
        model = tiny(depths=(2, 2, 1), drop_path_rate=0.4)
        rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in blocks_of(model) for block in stage]
        assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])

    def test_full_attention_without_lepe(self):
        model = tiny(topks=(1, 3, -1))
        assert cast("Any", blocks_of(model)[2][0].attn).lepe is None
        assert model(torch.randn(1, 3, 32, 32)).shape == (1, 5)

    @pytest.mark.parametrize("num_regions", [(3, (2, 4), 1), 5])
    def test_regions(self, num_regions: Any):
        model = tiny(num_regions=num_regions)
        expected = [(5, 5), (5, 5)] if num_regions == 5 else [(3, 3), (2, 4)]
        assert regions_of(model) == expected

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            (
                {"depths": (2,)},
                "depths, embed_dims, num_heads and topks must have one entry per stage, got 1, 3, 3 and 3",
            ),
            ({"topks": (1, 2)}, "num_heads and topks must have one entry per stage"),
            ({"depths": (2, 0, 1)}, r"depths\[1\] must be an integer >= 1, got 0"),
            ({"num_heads": (1, 3, 2)}, r"num_heads\[1\] must divide embed_dims\[1\], got 3 heads and 16 channels"),
            ({"embed_dims": (1, 16, 16)}, r"embed_dims\[0\] must be an integer >= 2"),
            ({"topks": (10, 3, -2)}, r"topks\[0\]: .*10 with 3 x 3 = 9 regions.*full attention, use -2 \(with LePE\)"),
            ({"topks": (0, 3, -2)}, r"topks\[0\]: topk must be an integer >= 1, got 0"),
            ({"topks": (-3, 3, -2)}, r"topks\[0\]: .*got -3"),
            ({"num_regions": (3, 2)}, "num_regions must have one entry per stage, got 2 for 3 stages"),
            (
                {"num_regions": (3, (2, 0), 2)},
                r"num_regions\[1\] must be a positive integer or a pair .*, got \(2, 0\)",
            ),
            ({"mlp_ratio": 0}, "mlp_ratio must leave at least one hidden channel, got 0"),
            ({"patches": "convs"}, "Unknown patches 'convs'. Did you mean 'conv'"),
            ({"full_lepe": "v"}, "Unknown full_lepe 'v'"),
            ({"linear_init": "normal"}, "Unknown linear_init 'normal'"),
            ({"num_classes": -1}, "num_classes must be an integer >= 0, got -1"),
            ({"in_chans": 0}, "in_chans must be an integer >= 1"),
            ({"proj_drop_rate": -0.1}, "proj_drop_rate must be >= 0"),
            ({"drop_path_rate": 1.5}, "drop_path_rate must be >= 0 and < 1, got 1.5"),
        ],
    )
    def test_wrong_arguments_are_named(self, kwargs: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            tiny(**kwargs)

    @pytest.mark.parametrize("size", [(16, 16), (33, 50), (64, 17)])
    def test_any_size_with_plain_patches(self, size: tuple[int, int]):
        """Rows and columns that do not fill a patch are dropped, as by the reference implementation."""
        model = tiny_stl().eval()
        set_statistics(model)
        images = torch.randn(1, 3, *size)
        maps = FeatureMaps(copy.deepcopy(model))(images)
        for stride, one in zip((4, 8, 16), maps, strict=True):
            assert one.shape[2:] == (size[0] // stride, size[1] // stride)
        merging = cast("Any", model.stages[1]).downsample
        assert isinstance(merging, PatchMerging)
        x = torch.randn(1, 8, 5, 7)
        torch.testing.assert_close(merging(x), merging(x[:, :, :4, :6]))

    def test_stage_4_of_stl_is_7x10_for_224x336_pixels(self):
        with torch.device("meta"):
            maps = model_entrypoint("biformer_stl")().forward_intermediates(torch.empty(1, 3, 224, 336))[1]
        assert [tuple(one.shape[2:]) for one in maps] == [(56, 84), (28, 42), (14, 21), (7, 10)]

    def test_images_below_the_minimum_are_refused(self):
        assert tiny().min_input_size == 16
        with pytest.raises(ValueError, match=r"at least 16 pixels high and wide.*got height 15"):
            tiny()(torch.randn(1, 3, 15, 64))
        with pytest.raises(ValueError, match="at least 16 pixels"):
            tiny().routes(torch.randn(1, 3, 64, 15))

    def test_a_map_of_one_position_still_routes(self):
        model = tiny(num_regions=7).eval()
        assert model(torch.randn(2, 3, 16, 16)).isfinite().all()

    @torch.no_grad()
    def test_routes_of_images(self):
        torch.manual_seed(0)
        model = tiny().eval()
        set_statistics(model)
        images = torch.randn(2, 3, 48, 64)
        seen: dict[str, torch.Tensor] = {}

        def keep(name: str, attn: BiLevelRoutingAttention) -> None:
            attn.register_forward_pre_hook(lambda _, args: seen.update({name: attn.routes(args[0])}))

        for name, module in model.named_modules():
            if isinstance(module, BiLevelRoutingAttention):
                keep(name.removesuffix(".attn"), module)
        model(images)
        routes = model.routes(images)
        assert list(routes) == ["stages.0.blocks.0", "stages.0.blocks.1", "stages.1.blocks.0"]
        assert all(torch.equal(one.indices, seen[name]) for name, one in routes.items())
        first, last = routes["stages.0.blocks.0"], routes["stages.1.blocks.0"]
        # Maps of 12 x 16 and 6 x 8 positions, strides 4 and 8: 16 columns in 3 regions are padded to 18.
        assert (first.indices.shape, first.num_regions, first.region_size) == ((2, 9, 1), (3, 3), (16, 24))
        assert (last.indices.shape, last.num_regions, last.region_size) == ((2, 4, 3), (2, 2), (24, 32))

    @pytest.mark.parametrize("make", [tiny, tiny_stl])
    def test_shortcuts_of_inference_change_nothing(self, make: Callable[..., BiFormer]):
        model = make().eval()
        set_statistics(model)
        images = torch.randn(2, 3, 64, 48)
        expected = model(images)
        with torch.no_grad():
            torch.testing.assert_close(model(images), expected.detach())
            block = blocks_of(model)[0][0]
            x = torch.randn(2, 8, 5, 7).contiguous(memory_format=torch.channels_last)
            before = x.clone()
            block(x)
            assert torch.equal(x, before)

    def test_batch_norms_convert_to_synchronised_ones(self):
        model = nn.SyncBatchNorm.convert_sync_batchnorm(tiny()).eval()
        assert isinstance(model.norm, nn.SyncBatchNorm)
        assert model(torch.randn(1, 3, 32, 32)).shape == (1, 5)

    def test_maps_are_channels_last_in_memory(self):
        for model in (tiny().eval(), tiny_stl().eval()):
            for one in FeatureMaps(model)(torch.randn(2, 3, 64, 48)):
                assert one.is_contiguous(memory_format=torch.channels_last)

    def test_bfloat16_autocast(self):
        model = tiny().eval()
        images = torch.randn(2, 3, 32, 32)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        torch.testing.assert_close(logits.float(), model(images), atol=0.05, rtol=0.05)

    @pytest.mark.slow
    def test_compiled_model_equals_the_eager_one(self):
        model = tiny(depths=(1, 1, 1)).train()
        compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
        images = torch.randn(2, 3, 32, 40)
        for one in (model, compiled):
            one(images).square().sum().backward()
        for parameter, other in zip(model.parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-3, atol=1e-4)

    def test_exported_model_equals_the_eager_one(self):
        model = tiny().eval()
        images = torch.randn(2, 3, 32, 40)
        exported = torch.export.export(model, (images,)).module()
        torch.testing.assert_close(exported(images), model(images))
