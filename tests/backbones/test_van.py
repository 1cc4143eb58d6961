"""The VAN family against the official code's outputs, names and figures."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo import load_weights
from attnzoo.backbones import get_pretrained_cfg, list_models, model_entrypoint
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.registry import IMAGENET_MEAN, IMAGENET_STD, checkpoint_filter
from attnzoo.backbones.van import VAN, LargeKernelAttention
from support import parity
from support.weights import assert_same_weights

FAMILY = {one["variant"]: one for one in json.loads((parity.ROOT / "van" / "family.json").read_text())}
PACK, GOLDEN = parity.load_pack("van", "van_b0")


def tiny(**kwargs: Any) -> VAN:
    """A VAN of two stages."""
    defaults: dict[str, Any] = {"depths": (2, 1), "embed_dims": (8, 16), "mlp_ratios": (4, 2), "num_classes": 5}
    return VAN(**{**defaults, **kwargs})


def blocks_of(model: VAN) -> list[list[Any]]:
    stages: list[Any] = list(model.stages)
    return [list(stage.blocks) for stage in stages]


@functools.cache
def on_meta(variant: str) -> VAN:
    with torch.device("meta"):
        return model_entrypoint(variant)().eval()


@functools.cache
def classifier() -> VAN:
    model = model_entrypoint("van_b0")().eval()
    load_weights(model, parity.filled_state_dict(PACK))
    return model


def official_name(name: str) -> str:
    """Gives the official name of an entry of the model's state dict."""
    name = re.sub(r"^stem\.", "patch_embed1.", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.", lambda match: f"patch_embed{int(match[1]) + 1}.", name)
    name = re.sub(r"^stages\.(\d)\.blocks\.", lambda match: f"block{int(match[1]) + 1}.", name)
    name = re.sub(r"^stages\.(\d)\.norm\.", lambda match: f"norm{int(match[1]) + 1}.", name)
    name = re.sub(r"\.attn\.(conv\w+)\.", r".attn.spatial_gating_unit.\1.", name)
    name = re.sub(r"\.ls([12])\.gamma$", r".layer_scale_\1", name)
    return name.replace(".dwconv.", ".dwconv.dwconv.").replace("head.fc.", "head.")


def as_openmmlab(name: str) -> str:
    """Renames an official entry as mmpretrain's converter does."""
    if name.startswith("head."):
        return name.replace("head.", "head.fc.")
    if name.startswith("patch_embed"):
        name = name.replace(".proj.", ".projection.")
    name = re.sub(r"^block", "blocks", name)
    name = name.replace(".conv0.", ".DW_conv.").replace(".conv_spatial.", ".DW_D_conv.")
    return "backbone." + name.replace(".dwconv.dwconv.", ".dwconv.")


def as_transformers(name: str) -> str:
    """Renames an official entry as transformers' converter does."""
    if name.startswith("head."):
        return name.replace("head.", "classifier.")
    match = re.match(r"^(patch_embed|block|norm)(\d)\.(.*)$", name)
    assert match is not None
    stage, rest = f"van.encoder.stages.{int(match[2]) - 1}.", match[3]
    if match[1] == "norm":
        return f"{stage}normalization.{rest}"
    if match[1] == "patch_embed":
        return f"{stage}embeddings.{rest.replace('proj.', 'convolution.').replace('norm.', 'normalization.')}"
    for ours, theirs in (
        ("norm1.", "pre_normomalization."),  # sic
        ("norm2.", "post_normalization."),
        ("attn.proj_1.", "attention.pre_projection.conv."),
        ("attn.spatial_gating_unit.conv0.", "attention.attention_layer.attention.depth_wise."),
        ("attn.spatial_gating_unit.conv_spatial.", "attention.attention_layer.attention.depth_wise_dilated."),
        ("attn.spatial_gating_unit.conv1.", "attention.attention_layer.attention.point_wise."),
        ("attn.proj_2.", "attention.post_projection."),
        ("layer_scale_1", "attention_scaling.weight"),
        ("layer_scale_2", "mlp_scaling.weight"),
        ("mlp.fc1.", "mlp.in_dense."),
        ("mlp.dwconv.dwconv.", "mlp.depth_wise."),
        ("mlp.fc2.", "mlp.out_dense."),
    ):
        rest = rest.replace(ours, theirs)
    return f"{stage}layers.{rest}"


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

    def test_names_and_shapes_are_the_official_ones(self):
        shapes = {official_name(name): list(value.shape) for name, value in classifier().state_dict().items()}
        assert shapes == PACK["state_dict"]

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_parameters_and_operations(self, variant: str):
        facts, model = FAMILY[variant], on_meta(variant)
        assert sum(parameter.numel() for parameter in model.parameters()) == facts["params"]
        macs = {}
        for side in (224, 384) if "in22k_to_1k" in facts["paper"] else (224,):
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                model(torch.empty(1, 3, side, side, device="meta"))
            macs[side] = counter.get_total_flops() / 2e9
        assert macs[224] == pytest.approx(facts["macs_g_224"], abs=1e-4)
        for name in list_models(f"{variant}.*", pretrained=True):
            assert get_pretrained_cfg(name).macs == pytest.approx(facts["macs_g_224"])
        for published in facts["paper"].get("in22k_to_1k", ()):
            # The paper rounds, and counts norms.
            assert macs[published["size"]] == pytest.approx(published["flops_g"], rel=0.01)
            tag = "in22k_ft_in1k" if published["size"] == 224 else "in22k_ft_in1k_384"
            cfg = get_pretrained_cfg(f"{variant}.{tag}")
            assert cfg.macs == pytest.approx(macs[published["size"]], abs=1e-4)
            assert (cfg.top1, cfg.input_size[1]) == (published["top1"], published["size"])
            assert not cfg.has_weights

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_facts(self, variant: str):
        facts = FAMILY[variant]
        cfg = get_pretrained_cfg(variant)
        assert (cfg.params, cfg.macs, cfg.license) == (facts["params"], facts["macs_g_224"], "apache-2.0")
        assert not cfg.verified
        on_1k = variant in ("van_b0", "van_b1", "van_b2", "van_b3")
        assert cfg.tag == ("in1k" if on_1k else "in22k")
        assert cfg.top1 == (facts["paper"]["in1k_top1"] if on_1k else None)
        assert cfg.num_classes == (1000 if on_1k else 21841)
        assert (cfg.mean, cfg.std) == (((0.5,) * 3,) * 2 if on_1k else (IMAGENET_MEAN, IMAGENET_STD))
        assert cfg.crop_pct == (0.9 if on_1k else 0.875)
        if on_1k:
            assert cfg.hf_hub_id == facts["pretrained"][0]["hub_id"]
            assert cfg.hf_hub_filename == facts["pretrained"][0]["file"]
        urls = {one["url"] for one in facts["pretrained"]}
        own = {get_pretrained_cfg(name).url for name in list_models(f"{variant}.*", pretrained=True)} - {None}
        assert own == {url for url in urls if not url.endswith("/")}
        (folder,) = {url for url in urls if url.endswith("/")} or {None}
        assert folder is None or folder in (cfg.note or "")

    def test_b4_on_1k_alone(self):
        cfg = get_pretrained_cfg("van_b4.in1k")
        assert cfg.top1 == FAMILY["van_b4"]["paper"]["in1k_top1"]
        assert not cfg.has_weights
        assert "checkpoint_path" in (cfg.note or "")

    def test_every_model_is_there(self):
        assert set(FAMILY) == set(list_models(family="van"))

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_architecture(self, variant: str):
        config, model = FAMILY[variant]["config"], on_meta(variant)
        assert [len(stage) for stage in blocks_of(model)] == config["depths"]
        assert [stage["num_chs"] for stage in model.feature_info] == config["embed_dims"]
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.eps == 1e-5
            elif isinstance(module, nn.LayerNorm):
                assert module.eps == 1e-6
            elif isinstance(module, nn.GELU):
                assert module.approximate == "none"
        for stage, ratio, dim in zip(blocks_of(model), config["mlp_ratios"], config["embed_dims"], strict=True):
            for block in stage:
                assert block.mlp.fc1.out_channels == ratio * dim
                assert (block.attn.conv0.kernel_size, block.attn.conv0.padding) == ((5, 5), (2, 2))
                assert (block.attn.conv_spatial.kernel_size, block.attn.conv_spatial.padding) == ((7, 7), (9, 9))
                assert block.attn.conv_spatial.dilation == (3, 3)


class TestCheckpoints:
    @pytest.mark.parametrize("rename", [official_name, as_openmmlab, as_transformers])
    def test_every_published_form_loads_strictly(self, rename: Any):
        official = parity.filled_state_dict(PACK)
        given = official if rename is official_name else {rename(name): value for name, value in official.items()}
        if rename is as_transformers:
            given |= {f"van.layernorm.{kind}": torch.full((256,), 7.0) for kind in ("weight", "bias")}
        own = classifier().state_dict().keys()
        assert len([name for name in given if name not in own]) > 0.9 * len(official)
        model = model_entrypoint("van_b0")()
        load_weights(model, given)
        assert_same_weights(model, classifier())
        other = model_entrypoint("van_b0")()
        other.load_state_dict(checkpoint_filter(other)(given))
        assert_same_weights(other, classifier())

    def test_a_segmentation_file_without_classifier_loads_into_the_maps(self):
        official = parity.filled_state_dict(PACK)
        dense = {name: value for name, value in official.items() if not name.startswith("head.")}
        features = FeatureMaps(model_entrypoint("van_b0")()).eval()
        load_weights(features, {f"backbone.{name}": value for name, value in dense.items()})
        images = parity.image((1, 3, 45, 64), 0)
        with torch.no_grad():
            expected = classifier().forward_intermediates(images, intermediates_only=True)
            for own, other in zip(features(images), expected, strict=True):
                assert torch.equal(own, other)

    def test_own_names_pass_and_the_argument_is_left_alone(self):
        model = tiny()
        own = model.state_dict()
        assert checkpoint_filter(model)(own).keys() == own.keys()
        official = {official_name(name): value for name, value in own.items()}
        names = set(official)
        renamed = checkpoint_filter(model)(official)
        assert set(official) == names
        assert renamed.keys() == own.keys()

    def test_unknown_and_missing_names_are_reported(self):
        model = tiny()
        own = model.state_dict()
        filtered = checkpoint_filter(model)
        with pytest.raises(RuntimeError, match=r"Unexpected key.*stages\.0\.blocks\.0\.attn\.extra"):
            model.load_state_dict(filtered({**own, "block1.0.attn.extra": torch.zeros(1)}))
        with pytest.raises(RuntimeError, match=r"Missing key.*stages\.1\.norm\.weight"):
            model.load_state_dict(filtered({name: own[name] for name in own if name != "stages.1.norm.weight"}))


class TestAttention:
    def test_the_gate_multiplies_what_the_convolutions_see(self):
        torch.manual_seed(0)
        attn = LargeKernelAttention(6).double()
        x = torch.randn(2, 11, 8, 6, dtype=torch.float64)
        maps = x.permute(0, 3, 1, 2)
        given = F.gelu(attn.proj_1(maps))
        expected = maps + attn.proj_2(given * attn.conv1(attn.conv_spatial(attn.conv0(given))))
        torch.testing.assert_close(attn(x), expected.permute(0, 2, 3, 1))

    @pytest.mark.parametrize(
        ("kernel_size", "dilation", "kernels"), [(21, 3, (5, 7)), (7, 2, (3, 5)), (11, 2, (3, 7)), (5, 1, (1, 5))]
    )
    def test_the_kernel_is_taken_apart_as_in_the_paper(self, kernel_size: int, dilation: int, kernels: tuple[int, int]):
        attn = LargeKernelAttention(4, 2, kernel_size, dilation)
        assert (attn.conv0.kernel_size[0], attn.conv_spatial.kernel_size[0]) == kernels
        assert attn(torch.randn(1, 3, 4, 4)).shape == (1, 3, 4, 4)

    @pytest.mark.parametrize("argument", ["dim", "num_heads", "kernel_size", "dilation"])
    def test_wrong_arguments_are_named(self, argument: str):
        with pytest.raises(ValueError, match=f"{argument} must be an integer >= 1, got 0"):
            LargeKernelAttention(**{"dim": 4, argument: 0})


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
