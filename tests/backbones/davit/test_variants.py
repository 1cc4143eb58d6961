"""The published DaViTs: architectures, sizes, checkpoints and settings for dense prediction."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.backbones import get_pretrained_cfg, list_models, model_entrypoint
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.davit import ChannelAttention, WindowAttention
from attnzoo.backbones.registry import get_tags
from support.davits import FAMILY, blocks_of, on_meta
from support.slow import slow_except

TOWERS = ("davit_base_fl", "davit_huge_fl")


class TestParity:
    @pytest.mark.parametrize("variant", slow_except(FAMILY, list(FAMILY)[:3]))
    def test_parameters_and_operations(self, variant: str):
        facts = FAMILY[variant]
        with torch.device("meta"):
            model = model_entrypoint(variant)(num_classes=facts["config"]["num_classes"]).eval()
        assert sum(parameter.numel() for parameter in model.parameters()) == facts["params"]
        size = facts["config"]["img_size"]  # elsewhere the official code projects padded positions too, and drops them
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, size, size, device="meta"))
        assert counter.get_total_flops() / 2e9 == pytest.approx(facts[f"macs_g_{size}"], abs=1e-4)

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_facts(self, variant: str):
        facts = FAMILY[variant]
        cfg = get_pretrained_cfg(variant)
        size = facts["config"]["img_size"]
        head = 0 if facts["config"]["num_classes"] else (on_meta(variant).num_features + 1) * 1000
        assert cfg.params == facts["params"] + head
        assert cfg.macs == pytest.approx(facts[f"macs_g_{size}"] + head / 1e9, abs=1e-4)
        assert (cfg.input_size, cfg.num_classes) == ((3, size, size), facts["config"]["num_classes"])
        assert not cfg.verified
        by_names = {one["names"]: one for one in facts["pretrained"]}
        if not by_names:
            assert get_tags(variant) == ["untrained"]
            assert not cfg.has_weights
        elif variant in TOWERS:
            assert [cfg.hf_hub_id] == [one["hub_id"] for one in by_names.values()]
            assert get_tags(variant) == ["florence2"]
        else:
            openmmlab = get_pretrained_cfg(f"{variant}.openmmlab_in1k")
            assert get_tags(variant) == ["in1k", "openmmlab_in1k"]
            assert (cfg.url, cfg.hf_hub_id) == (by_names["official"]["url"], by_names["timm's"]["hub_id"])
            assert openmmlab.url == by_names["mmpretrain's"]["url"]
            assert openmmlab.sha256 is not None
            assert f"-{openmmlab.sha256}.pth" in by_names["mmpretrain's"]["url"]
            assert cfg.top1 == openmmlab.top1 == facts["paper"]["in1k_top1"]
            assert cfg.crop_pct == facts["paper"]["timm_measured"]["crop_pct"]
            assert (cfg.license, openmmlab.license) == ("mit", "apache-2.0")

    def test_every_model_is_there(self):
        assert set(FAMILY) == set(list_models(family="davit"))

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_architecture(self, variant: str):
        config = FAMILY[variant]["config"]
        model = on_meta(variant)
        stages = blocks_of(model)
        assert [len(blocks) for blocks in stages] == config["blocks_per_stage"]
        assert [blocks[0].norm1.normalized_shape[0] for blocks in stages] == config["embed_dims"]
        for norm in (module for module in model.modules() if isinstance(module, nn.LayerNorm)):
            assert norm.eps == config["layer_norm_eps"]
        for heads, blocks in zip(config["num_heads"], stages, strict=True):
            for place, block in enumerate(blocks):
                assert isinstance(block.attn, ChannelAttention if place % 2 else WindowAttention)
                assert block.attn.num_heads == heads
                assert block.attn.qkv.bias is not None
                assert type(block.mlp.act) is nn.GELU
                assert block.mlp.act.approximate == "none"
                assert block.mlp.fc1.out_features == 4 * block.mlp.fc1.in_features
                if place % 2:
                    assert block.attn.v2 == config["channel_attn_v2"]
                else:
                    assert (block.attn.window_size, block.attn.scale) == (config["window_size"], 32**-0.5)
        for stage in list(model.stages)[1:]:
            assert stage.get_submodule("downsample.conv").kernel_size == (config["down_kernel_size"],) * 2

    @pytest.mark.parametrize("data_set", ["coco", "ade20k"])
    def test_dense_models_have_output_norms(self, data_set: str):
        with torch.device("meta"):
            dense = FeatureMaps(model_entrypoint("davit_tiny")(dense=data_set))
            with pytest.raises(ValueError, match=r"davit_tiny has no dense setting 'cocoa'\. Did you mean 'coco'"):
                model_entrypoint("davit_tiny")(dense="cocoa")
        norms = [dense.get_submodule(f"norm{index}") for index in range(4)]
        assert [(norm.normalized_shape, norm.eps) for norm in norms] == [((d,), 1e-5) for d in (96, 192, 384, 768)]
