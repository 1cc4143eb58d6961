"""The HaloNets of timm and of the paper: architectures, sizes and checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.backbones import get_pretrained_cfg, list_models
from attnzoo.backbones.common.conv import ConvNormAct
from attnzoo.backbones.halonet import HaloAttention
from attnzoo.backbones.halonet import attention as halonet_attention
from attnzoo.backbones.halonet.model import AttentionBottleneck, Bottleneck
from support.halonets import FACTS, TIMM, blocks_of, on_meta, our_name

PAPER = {one["variant"]: one for one in FACTS["paper_models"]["table"]}


class TestPaper:
    @pytest.mark.parametrize("name", PAPER)
    def test_published_table(self, name: str):
        facts = PAPER[name]
        model, cfg = on_meta(name), get_pretrained_cfg(name)
        assert sum(parameter.numel() for parameter in model.parameters()) == facts["params_computed"] == cfg.params
        assert round(facts["params_computed"] / 1e6, 1) == facts["params_published_M"]
        assert cfg.top1 == facts["top1_published"]
        assert cfg.input_size == (3, facts["s"], facts["s"])
        assert not cfg.has_weights
        depths = [len([one for one in stage.blocks if isinstance(one, Bottleneck)]) for stage in model.stages]  # type: ignore[union-attr]
        assert depths == facts["depths"]
        widths = [round(width * facts["rb"]) for width in facts["widths"]]
        last = facts["df"] or widths[-1]
        assert [level["num_chs"] for level in model.feature_info] == [64, *widths[:-1], last]
        for block in blocks_of(model):
            assert isinstance(block, AttentionBottleneck)
            assert isinstance(block.attn, HaloAttention)
            stage = facts["widths"].index(block.conv1.conv.out_channels)
            assert block.attn.num_heads == facts["heads"][stage]
            assert (block.attn.block_size, block.attn.halo_size) == (facts["b"], facts["h"])
            assert block.attn.qk_head_dim * block.attn.num_heads == facts["widths"][stage]
            assert block.attn.v_head_dim * block.attn.num_heads == facts["widths"][stage] * facts["rv"]
            assert type(block.norm) is nn.Identity
        stages: list[Any] = list(model.stages)
        for stage, first in enumerate(stage.blocks[0] for stage in stages):
            assert isinstance(first.shortcut, ConvNormAct)
            assert first.attn.query_stride == (2 if stage else 1)

    def test_all_models_are_there(self):
        assert set(list_models(family="halonet")) == {*map(our_name, TIMM), *PAPER}


class TestOperations:
    @pytest.mark.parametrize("name", [*map(our_name, TIMM), *PAPER])
    def test_multiply_accumulates(self, name: str, monkeypatch: pytest.MonkeyPatch):
        attention_macs = 0

        def counting(
            query: torch.Tensor,
            key: torch.Tensor,
            value: torch.Tensor,
            block_size: int | tuple[int, int],
            halo_size: int,
            query_stride: int = 1,
            **kwargs: Any,
        ) -> torch.Tensor:
            nonlocal attention_macs
            sides = block_size if isinstance(block_size, tuple) else (block_size, block_size)
            rows, cols = (side + 2 * halo_size for side in sides)
            queries = query.numel() // query.shape[-1]
            relative = sum(len(kwargs[one]) for one in ("row_embedding", "col_embedding"))
            attention_macs += queries * (rows * cols * (query.shape[-1] + value.shape[-1]) + relative * query.shape[-1])
            return query.new_empty(*query.shape[:-1], value.shape[-1])

        monkeypatch.setattr(halonet_attention, "halo_attention_2d", counting)
        cfg = get_pretrained_cfg(name)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            on_meta(name)(torch.empty(1, *cfg.input_size, device="meta"))
        total = (counter.get_total_flops() / 2 + attention_macs) / 1e9
        assert total == pytest.approx(cfg.macs, abs=1e-4)
        if name in PAPER:
            # The estimate for H7, whose maps are no multiples of its stride, rounds their sides down.
            assert total == pytest.approx(
                PAPER[name]["macs_g_estimated_at_s"], rel=0.03 if name == "halonet_h7" else 3e-3
            )


class TestTimm:
    @pytest.mark.parametrize("timm_name", TIMM)
    def test_published_facts(self, timm_name: str):
        facts = TIMM[timm_name]
        cfg = get_pretrained_cfg(our_name(timm_name))
        assert (cfg.params, cfg.macs) == (facts["params"], facts["macs_g"])
        assert cfg.input_size == (3, facts["input"], facts["input"])
        (published,) = facts["pretrained"]
        assert published["name"] == f"{timm_name}.{cfg.tag}"
        if "url" not in published:
            assert not cfg.has_weights
            return
        assert (cfg.url, cfg.hf_hub_id) == (published["url"], published["hub"])
        assert not cfg.verified
        assert cfg.top1 == facts["timm_results"]["top1"]
        for name in ("license", "crop_pct", "interpolation"):
            assert getattr(cfg, name) == published[name]
        for name in ("mean", "std", "input_size"):
            assert list(getattr(cfg, name)) == published[name]
