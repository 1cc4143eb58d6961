"""The published NATs: architectures, sizes, checkpoints and settings for dense prediction."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.backbones import get_pretrained_cfg, list_models, model_entrypoint
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.nat import NAT
from attnzoo.backbones.nat import attention as nat_attention
from support import parity
from support.nats import blocks_of
from support.slow import slow_except

FAMILY = {one["variant"]: one for one in json.loads((parity.ROOT / "nat" / "family.json").read_text())["variants"]}


HEADLESS_VARIANTS = {"dinat_large_21k": "dinat_large.in22k", "dinat_s_large_21k": "dinat_s_large.in22k"}


@functools.cache
def on_meta(variant: str) -> NAT:
    with torch.device("meta"):
        return model_entrypoint(model_name(variant))().eval()


def model_name(variant: str) -> str:
    return HEADLESS_VARIANTS.get(variant, variant)


class TestParity:
    @pytest.mark.parametrize("variant", slow_except(FAMILY, list(FAMILY)[:3]))
    def test_parameters_and_operations(self, variant: str, monkeypatch: pytest.MonkeyPatch):
        facts = FAMILY[variant]
        attention_macs = 0

        def counting(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kernel_size: Any, **kwargs: Any):
            nonlocal attention_macs
            rows, cols = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
            attention_macs += 2 * query.numel() * rows * cols
            return value

        monkeypatch.setattr(nat_attention, "neighborhood_attention_2d", counting)
        model = on_meta(variant)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, facts["input"], facts["input"], device="meta"))
        assert sum(parameter.numel() for parameter in model.parameters()) == facts["params"]
        total = (counter.get_total_flops() / 2 + attention_macs) / 1e9
        assert total == pytest.approx(facts["macs_g"], abs=1e-4)

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_facts(self, variant: str):
        facts = FAMILY[variant]
        cfg = get_pretrained_cfg(model_name(variant))
        assert cfg.url == facts["pretrained"][0]["url"]
        assert (cfg.top1, cfg.params, cfg.macs) == (facts["paper"]["imagenet1k_top1"], facts["params"], facts["macs_g"])
        assert cfg.input_size == (3, facts["input"], facts["input"])
        assert cfg.num_classes == (facts["pretrained"][0]["num_classes"] or 21841)
        assert cfg.license == "mit"
        assert not cfg.verified
        hub = [one["hub"] for one in facts["pretrained"] if "hub" in one]
        assert hub in ([], [cfg.hf_hub_id])

    def test_every_model_and_every_published_file_is_there(self):
        names = {model_name(variant).partition(".")[0] for variant in FAMILY}
        assert names == set(list_models(family="nat"))
        urls = {one["url"] for facts in FAMILY.values() for one in facts["pretrained"] if "url" in one}
        assert urls == {get_pretrained_cfg(name).url for name in list_models(family="nat", pretrained=True)}

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_architecture(self, variant: str):
        config = FAMILY[variant]["config"]
        model = on_meta(variant)
        blocks = [block for stage in blocks_of(model) for block in stage]
        for norm in (module for module in model.modules() if isinstance(module, nn.LayerNorm)):
            assert norm.eps == 1e-5
        for block in blocks:
            assert block.attn.scale == 32**-0.5
            assert type(block.mlp.act) is nn.GELU
            assert block.mlp.act.approximate == "none"
            assert block.mlp.fc1.out_features == int(block.mlp.fc1.in_features * config["mlp_ratio"])
            assert hasattr(block.ls1, "gamma") == bool(config.get("layer_scale"))
        if config["class"] == "NATIsotropic":
            expected = [1, config["dilation"]] * (len(blocks) // 2)
            assert len(blocks) == config["depth"]
        else:
            dilations = config["dilations"] or [[1] * depth for depth in config["depths"]]
            expected = [value for stage in dilations for value in stage]
            assert model.depths == tuple(config["depths"])
        if config["kernel_size"] is None:
            assert all(block.attn.table_size == 14 for block in blocks)
        else:
            assert [block.attn.dilation for block in blocks] == expected
            assert {block.attn.kernel_size for block in blocks} == {config["kernel_size"]}

    @pytest.mark.parametrize("data_set", ["coco", "ade20k"])
    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_dense_dilations(self, variant: str, data_set: str):
        facts = FAMILY[variant]
        build = model_entrypoint(model_name(variant))
        with torch.device("meta"):
            if not facts["dense_dilations"] and facts["config"]["class"] != "NAT":
                with pytest.raises(ValueError, match="No dense prediction setting was published"):
                    build(dense=data_set)
                return
            model = build(dense=data_set)
        published = [
            setting["dilations"]
            for name, setting in (facts["dense_dilations"] or {}).items()
            if name.endswith(data_set)
        ] or [[[1] * depth for depth in model.depths]]
        own = [[block.attn.dilation for block in stage] for stage in blocks_of(model)]
        assert all(own == one for one in published)
        features = FeatureMaps(model)
        assert [features.get_submodule(f"norm{index}").eps for index in range(4)] == [1e-5] * 4
