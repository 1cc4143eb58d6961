"""The published BiFormers: architectures, sizes, checkpoints and settings for dense prediction."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.backbones import get_pretrained_cfg, list_models, model_entrypoint
from attnzoo.backbones.biformer import BiFormer, BiLevelRoutingAttention, FullAttention
from attnzoo.backbones.common.features import FeatureMaps
from support import parity
from support.biformer_weights import classifier, regions_of
from support.biformers import blocks_of, official_names
from support.slow import slow_except

FAMILY = {one["variant"]: one for one in json.loads((parity.ROOT / "biformer" / "family.json").read_text())}


@functools.cache
def on_meta(name: str) -> BiFormer:
    with torch.device("meta"):
        return model_entrypoint(name)().eval()


class TestParity:
    def test_names_and_shapes_are_the_official_ones(self):
        model = classifier()
        names = official_names(model)
        shapes = {names[name]: list(value.shape) for name, value in model.state_dict().items()}
        assert shapes == parity.load_pack("biformer", "biformer_tiny")[0]["state_dict"]

    @pytest.mark.parametrize("variant", slow_except(FAMILY, list(FAMILY)[:3]))
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
                with pytest.raises(ValueError, match="No dense prediction setting was published"):
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
            with pytest.raises(ValueError, match="num_regions=7 and n_win=8 are the same argument"):
                model_entrypoint("biformer_tiny")(num_regions=7, n_win=8)
            with pytest.raises(ValueError, match=r"biformer_tiny has no dense setting 'ade'\. Did you mean 'ade20k'"):
                model_entrypoint("biformer_tiny")(dense="ade")
