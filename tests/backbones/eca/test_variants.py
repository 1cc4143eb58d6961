"""The published ECA-Nets: architectures, sizes and checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.models import get_pretrained_cfg as timm_cfg  # pyright: ignore[reportPrivateImportUsage]  # it is public
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.backbones import get_pretrained_cfg, list_models
from attnzoo.backbones.common.conv import ConvNormAct
from attnzoo.backbones.eca import ECAMobileNetV2, ECAResNet
from support.ecas import _FACTS, OF_TIMM, PACKS, gates, on_meta
from support.slow import slow_except

OFFICIAL = {one["variant"]: one for one in _FACTS["variants"]}


FAMILY = {**OFFICIAL, **OF_TIMM}
PRETRAINED = list_models(family="eca", pretrained=True)


def macs(model: nn.Module, size: int) -> float:
    """Multiply-accumulates of one image, in billions."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, size, size, device="meta"))
    return counter.get_total_flops() / 2e9


def test_every_convolution_before_a_norm_is_of_the_shared_kind():
    for name in PACKS:
        kinds = [one for one in on_meta(name).modules() if isinstance(one, ConvNormAct)]
        assert 2 * len(kinds) == sum(isinstance(one, (nn.Conv2d, nn.BatchNorm2d)) for one in on_meta(name).modules())


class TestParity:
    @pytest.mark.parametrize("name", slow_except(FAMILY, list(FAMILY)[:3]))
    def test_parameters_and_operations(self, name: str):
        facts, model, cfg = FAMILY[name], on_meta(name), get_pretrained_cfg(name)
        assert sum(parameter.numel() for parameter in model.parameters()) == facts["params"] == cfg.params
        assert macs(model, 224) == pytest.approx(facts["macs_g_224"], abs=5.1e-5)

    @pytest.mark.parametrize("name", slow_except(PRETRAINED, PRETRAINED[:4]))
    def test_operations_at_the_size_of_the_checkpoint(self, name: str):
        cfg = get_pretrained_cfg(name)
        assert macs(on_meta(name.partition(".")[0]), cfg.input_size[1]) == pytest.approx(cfg.macs, abs=5.1e-5)

    def test_every_model_is_there(self):
        assert set(FAMILY) == set(list_models(family="eca"))
        assert set(OF_TIMM) == set(timm.list_models("ecaresne*"))

    @pytest.mark.parametrize("name", list(OFFICIAL))
    def test_published_facts(self, name: str):
        facts, cfg = OFFICIAL[name], get_pretrained_cfg(name)
        (file,) = facts["pretrained"]
        assert (cfg.url, cfg.top1, cfg.license) == (file["google_drive"], file["top1"], "mit")
        assert (cfg.tag, cfg.verified) == ("in1k", False)

    @pytest.mark.parametrize(
        ("name", "file"), [(name, file) for name, facts in OF_TIMM.items() for file in facts["pretrained"]]
    )
    def test_published_facts_of_timm(self, name: str, file: dict[str, Any]):
        cfg = get_pretrained_cfg(file["name"])
        if "hub" in file:
            assert (cfg.url, cfg.hf_hub_id, cfg.license) == (file["url"], file["hub"], file["license"])
            assert (list(cfg.input_size), cfg.crop_pct) == (file["input_size"], file["crop_pct"])
            assert (list(cfg.test_input_size or ()), cfg.test_crop_pct, cfg.top1) == (
                file["test_input_size"],
                file["results"][0]["crop_pct"],
                file["results"][0]["top1"],
            )
            assert file["results"][0]["input"] == file["test_input_size"][1]
            assert not cfg.verified
        else:
            assert not cfg.has_weights
        theirs = timm_cfg(file["name"])
        assert theirs is not None
        for key in ("input_size", "test_input_size", "crop_pct", "test_crop_pct", "interpolation", "mean", "std"):
            if key != "test_crop_pct" or cfg.test_input_size:
                assert getattr(cfg, key) == getattr(theirs, key), key
        assert cfg.pool_size == theirs.pool_size

    @pytest.mark.parametrize("name", list(FAMILY))
    def test_published_kernel_sizes(self, name: str):
        config, found = FAMILY[name]["config"], gates(on_meta(name))
        if name in OF_TIMM:
            published = list(config["eca_kernel_by_stage"].values())
            assert [sorted(set(stage)) for stage in found] == published
            assert [len(stage) for stage in found] == config["layers"]
        elif name == "eca_mobilenet_v2":
            assert found == [[1] * 3, [1] * 3, [1] * 4 + [3] * 3, [3] * 4]
        else:
            assert found == [[k] * d for k, d in zip(config["k_size"], config["depths"], strict=True)]

    @pytest.mark.parametrize("name", list(FAMILY))
    def test_published_layers(self, name: str):
        model = on_meta(name)
        norms = [one for one in model.modules() if isinstance(one, nn.BatchNorm2d)]
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}
        acts = {type(one) for one in model.modules() if isinstance(one, (nn.ReLU, nn.ReLU6))}
        assert acts == {nn.ReLU6 if name == "eca_mobilenet_v2" else nn.ReLU}
        assert all(conv.bias is None for conv in model.modules() if isinstance(conv, (nn.Conv1d, nn.Conv2d)))
        reductions = [stage["reduction"] for stage in model.feature_info]
        assert reductions == ([4, 8, 16, 32] if name == "eca_mobilenet_v2" else [2, 4, 8, 16, 32])

    def test_the_formula_is_an_option(self):
        assert gates(ECAResNet((1,) * 4, k_size=None)) == [[5], [5], [5], [7]]
        assert gates(ECAResNet((1,) * 4, block="basic")) == [[3], [5], [5], [5]]
        assert gates(ECAResNet((1, 2), (64, 128), block="basic", k_size=9)) == [[9], [9, 9]]
        assert gates(ECAMobileNetV2(k_size=None, width_mult=0.25))[0] == [3, 3, 3]
