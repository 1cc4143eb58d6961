"""The BiFormer family against the official code's outputs and figures."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo import load_weights
from attnzoo.backbones import get_pretrained_cfg, list_models, model_entrypoint
from attnzoo.backbones.biformer import BiFormer, BiLevelRoutingAttention, FullAttention
from attnzoo.backbones.biformer.model import PatchMerging
from attnzoo.backbones.common.features import FeatureMaps
from support import parity
from support.biformers import blocks_of, official_names, tiny, tiny_stl

PACKS = ("biformer_tiny", "biformer_tiny_nwin8")
CASES = [(name, case["name"]) for name in PACKS for case in parity.load_pack("biformer", name)[0]["cases"]]
FAMILY = {one["variant"]: one for one in json.loads((parity.ROOT / "biformer" / "family.json").read_text())}


@functools.cache
def on_meta(name: str) -> BiFormer:
    with torch.device("meta"):
        return model_entrypoint(name)().eval()


@functools.cache
def official_weights(variant: str) -> dict[str, torch.Tensor]:
    return parity.filled_state_dict(parity.load_pack("biformer", variant)[0])


@functools.cache
def classifier() -> BiFormer:
    model = model_entrypoint("biformer_tiny")().eval()
    load_weights(model, official_weights("biformer_tiny"))
    return model


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

    def test_names_and_shapes_are_the_official_ones(self):
        model = classifier()
        names = official_names(model)
        shapes = {names[name]: list(value.shape) for name, value in model.state_dict().items()}
        assert shapes == parity.load_pack("biformer", "biformer_tiny")[0]["state_dict"]

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_parameters_and_operations(self, variant: str):
        facts = FAMILY[variant]
        model = on_meta(variant)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, 224, 224, device="meta"))
        assert sum(parameter.numel() for parameter in model.parameters()) == facts["params"]
        assert counter.get_total_flops() / 2e9 == pytest.approx(facts["macs_g_224"], abs=1e-4)

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_facts(self, variant: str):
        facts = FAMILY[variant]
        cfg = get_pretrained_cfg(variant)
        assert cfg.url == facts["pretrained"][0]["url"]
        assert (cfg.top1, cfg.params, cfg.macs) == (facts["paper"]["in1k_top1"], facts["params"], facts["macs_g_224"])
        assert (cfg.input_size, cfg.crop_pct, cfg.interpolation) == ((3, 224, 224), 0.875, "bicubic")
        assert (cfg.mean, cfg.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        assert cfg.license == "mit"
        assert not cfg.verified
        assert cfg.note is not None
        assert "broken" in cfg.note
        assert facts["pretrained"][0]["reachable"].rpartition("?e=")[2] in cfg.note

    def test_every_published_model_is_there(self):
        assert set(FAMILY) == set(list_models(family="biformer"))
        assert len(list_models(family="biformer", pretrained=True)) == len(FAMILY)

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_architecture(self, variant: str):
        config = FAMILY[variant]["config"]
        model = on_meta(variant)
        is_stl = "stl" in variant
        assert model.depths == tuple(config["depths"])
        assert [stage["num_chs"] for stage in model.feature_info] == config["embed_dims"]
        for norm in (module for module in model.modules() if isinstance(module, nn.LayerNorm | nn.BatchNorm2d)):
            assert norm.eps == (1e-6 if isinstance(norm, nn.LayerNorm) else 1e-5)
        convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        assert all(one.bias is not None and one.padding_mode == "zeros" for one in convolutions)
        assert (type(model.norm), type(model.stem).__name__) == (nn.BatchNorm2d, "PatchStem" if is_stl else "ConvStem")
        numerator, _, power = config["attn_scale"][0].partition("**")
        assert (float(numerator), power) == (config["embed_dims"][0], "-0.5")
        for index, blocks in enumerate(blocks_of(model)):
            dim, heads, topk = config["embed_dims"][index], config["num_heads"][index], config["topks"][index]
            width = float(config["attn_scale"][index].removesuffix("**-0.5"))
            for block in blocks:
                attn: Any = block.attn
                assert (attn.num_heads, attn.scale) == (heads, width**-0.5)
                assert (attn.qkv.bias is not None) == config["qkv_bias"][index]
                assert attn.proj.bias is not None
                assert attn.lepe.kernel_size == (config["side_dwconv"],) * 2
                assert (attn.lepe.padding, attn.lepe.groups) == ((config["side_dwconv"] // 2,) * 2, dim)
                if topk > 0:
                    windows = config["n_wins"][index] if is_stl else config["n_win"]
                    assert isinstance(attn, BiLevelRoutingAttention)
                    assert (attn.topk, attn.num_regions) == (topk, (windows, windows))
                else:
                    assert isinstance(attn, FullAttention)
                    assert attn.lepe_of == ("value" if variant == "biformer_stl_nchw" else "input")
                assert (type(block.mlp.act), block.mlp.act.approximate) == (nn.GELU, "none")
                assert block.mlp.fc1.out_features == dim * config["mlp_ratios"][index]
                assert (block.pos_embed is None) == is_stl
                if block.pos_embed is not None:
                    assert (block.pos_embed.kernel_size, block.pos_embed.padding) == ((3, 3), (1, 1))

    @pytest.mark.parametrize(("data_set", "regions"), [("coco", 16), ("ade20k", 8)])
    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_dense_settings(self, variant: str, data_set: str, regions: int):
        build = model_entrypoint(variant)
        with torch.device("meta"):
            if "stl" in variant:
                with pytest.raises(ValueError, match="No setting for dense prediction was published"):
                    build(dense=data_set)
                return
            model, other = build(dense=data_set), build(dense=data_set, num_regions=5)
        assert regions_of(model) == [(regions, regions)] * 3
        assert regions_of(other) == [(5, 5)] * 3
        features = FeatureMaps(model)
        norms: list[Any] = [features.get_submodule(f"norm{index}") for index in range(4)]
        assert all(isinstance(norm, nn.LayerNorm) and norm.eps == 1e-6 for norm in norms)

    def test_the_official_name_of_the_regions(self):
        with torch.device("meta"):
            assert regions_of(model_entrypoint("biformer_tiny")(n_win=8)) == [(8, 8)] * 3
            assert regions_of(model_entrypoint("biformer_tiny")(dense="coco", n_win=8)) == [(8, 8)] * 3
            assert regions_of(model_entrypoint("biformer_stl")(n_win=(9, 8, 7, 7))) == [(9, 9), (8, 8), (7, 7)]
            with pytest.raises(ValueError, match="num_regions=7 and n_win=8 name the same thing"):
                model_entrypoint("biformer_tiny")(num_regions=7, n_win=8)
            with pytest.raises(ValueError, match=r"no dense setting of biformer_tiny 'ade'\. Did you mean 'ade20k'"):
                model_entrypoint("biformer_tiny")(dense="ade")


def regions_of(model: BiFormer) -> list[tuple[int, int]]:
    found = [getattr(blocks[0].attn, "num_regions", None) for blocks in blocks_of(model)]
    return [one for one in found if one is not None]


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
            ({"topks": (10, 3, -2)}, r"topks\[0\]: .*10 of 3 x 3 = 9 regions.*full attention choose -2 \(with LePE\)"),
            ({"topks": (0, 3, -2)}, r"topks\[0\]: topk must be an integer >= 1, got 0"),
            ({"topks": (-3, 3, -2)}, r"topks\[0\]: .*got -3"),
            ({"num_regions": (3, 2)}, "num_regions must have one entry per stage, got 2 for 3 stages"),
            (
                {"num_regions": (3, (2, 0), 2)},
                r"num_regions\[1\] must be a positive integer or a pair .*, got \(2, 0\)",
            ),
            ({"mlp_ratio": 0}, "mlp_ratio must leave at least one hidden channel, got 0"),
            ({"patches": "convs"}, "no patches 'convs'. Did you mean 'conv'"),
            ({"full_lepe": "v"}, "no full_lepe 'v'"),
            ({"linear_init": "normal"}, "no linear_init 'normal'"),
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
        """Zeros below and on the right, behind the batch norm, complete the last patches."""
        model = tiny_stl().eval()
        set_statistics(model)
        images = torch.randn(1, 3, *size)
        maps = FeatureMaps(copy.deepcopy(model))(images)
        for stride, one in zip((4, 8, 16), maps, strict=True):
            assert one.shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))
        merging = cast("Any", model.stages[1]).downsample
        assert isinstance(merging, PatchMerging)
        x = torch.randn(1, 8, 5, 7)
        padded = F.pad(merging.bn(x), (0, 1, 0, 1))
        torch.testing.assert_close(merging(x), merging.conv(padded))

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
