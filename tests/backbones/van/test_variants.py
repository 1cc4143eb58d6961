"""The published VANs: architectures, sizes and checkpoints."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.backbones import get_pretrained_cfg, list_models, model_entrypoint
from attnzoo.backbones.registry import IMAGENET_MEAN, IMAGENET_STD
from attnzoo.backbones.van import VAN
from support import parity
from support.slow import slow_except
from support.vans import blocks_of

FAMILY = {one["variant"]: one for one in json.loads((parity.ROOT / "van" / "family.json").read_text())}


@functools.cache
def on_meta(variant: str) -> VAN:
    with torch.device("meta"):
        return model_entrypoint(variant)().eval()


class TestParity:
    @pytest.mark.parametrize("variant", slow_except(FAMILY, list(FAMILY)[:3]))
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
