"""Costs by module: equal to what can be counted by hand, and to what is known of published models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from attnzoo import create_model, get_pretrained_cfg
from attnzoo.zoo.analysis.flops import ModelCost, count_cost
from attnzoo.zoo.analysis.summary import count_macs
from attnzoo.zoo.registry import MODELS
from support.small_detector import MASK_RCNN, NAT


def by_name(cost: ModelCost) -> dict[str, Any]:
    return {one.name: one for one in cost.modules}


def test_costs_that_can_be_counted_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 4 * 5, 6), nn.ReLU())
    cost = count_cost(model, (4, 5))
    assert (cost.macs, cost.flops) == (27 * 8 * 20 + 160 * 6, 2 * (27 * 8 * 20 + 160 * 6))
    assert cost.activations == 8 * 20 + 6
    parts = by_name(cost)
    assert (parts["0"].macs, parts["0"].activations, parts["0"].parameters) == (27 * 8 * 20, 160, 27 * 8 + 8)
    assert (parts["2"].macs, parts["2"].activations) == (960, 6)
    assert "3" not in parts
    assert parts[""].macs == cost.macs


def test_attention_of_the_zoo_is_counted():
    with torch.device("meta"):
        model: Any = create_model("nat_mini", num_classes=5, **NAT)
    cost = count_cost(model, (64, 64))
    assert cost.macs == count_macs(model, (64, 64))
    parts = by_name(cost)
    attn, inner = parts["stages.1.blocks.0.attn"], "stages.1.blocks.0.attn."
    positions, channels, seen = 8 * 8, 32, 9
    linear = parts[inner + "qkv"].macs + parts[inner + "proj"].macs
    assert linear == positions * channels * 4 * channels
    assert attn.macs - linear == 2 * positions * seen * channels
    assert attn.activations == positions * channels * (3 + 1 + 1)
    for outer, inners in (("", ("stem", "stages", "head")), ("stages", ("stages.0", "stages.1", "stages.2"))):
        assert sum(parts[name].macs for name in inners) == parts[outer].macs


@pytest.mark.parametrize(
    "name", ["nat_mini", "van_b0", "davit_tiny", "eca_resnet18", "biformer_tiny", "agent_pvt_tiny"]
)
def test_published_models_cost_what_their_configurations_say(name: str):
    cfg = get_pretrained_cfg(name)
    with torch.device("meta"):
        model = create_model(name)
    cost = count_cost(model, cfg.input_size[1:])
    assert cfg.macs is not None
    assert cost.macs / 1e9 == pytest.approx(cfg.macs, rel=0.01)
    assert cost.parameters == cost.trained == cfg.params
    assert cost.activations > 0


def test_the_values_of_a_model_do_not_matter():
    torch.manual_seed(0)
    on_cpu = count_cost(create_model("davit_tiny", depths=(1,), embed_dims=(16,), num_heads=(2,)), (37, 50))
    with torch.device("meta"):
        on_meta = count_cost(create_model("davit_tiny", depths=(1,), embed_dims=(16,), num_heads=(2,)), (37, 50))
    assert on_cpu == on_meta


def detector(**changes: Any) -> Any:
    with torch.device("meta"):
        return MODELS.build({**MASK_RCNN, **changes})


def test_a_whole_detector_is_counted_with_its_regions():
    cost = count_cost(detector(), (64, 96), proposals=10, detections=4)
    parts = by_name(cost)
    assert parts["roi_head.bbox_head"].macs == 10 * (16 * 49 * 24 + 24 * 24 + 24 * (4 + 12))
    assert parts["roi_head.mask_head"].macs == 4 * (9 * 16 * 8 * 196 + 8 * 8 * 4 * 196 + 8 * 3 * 784)
    positions = 16 * 24 + 8 * 12 + 4 * 6
    assert parts["rpn_head"].macs == positions * (9 * 16 * 16 + 16 * 3 * 5)
    inner = ("backbone", "neck", "rpn_head", "roi_head")
    assert sum(parts[name].macs for name in inner) == cost.macs
    assert sum(parts[name].activations for name in inner) == cost.activations
    # What is not called itself, but part by part, costs what its parts cost.
    assert parts["backbone.body"].macs == parts["backbone"].macs
    assert parts["neck.lateral_convs"].macs + parts["neck.fpn_convs"].macs == parts["neck"].macs
    assert parts["roi_head"].macs == parts["roi_head.bbox_head"].macs + parts["roi_head.mask_head"].macs
    assert (cost.proposals, cost.detections) == (10, 4)
    twice = count_cost(detector(), (64, 96), proposals=20, detections=4)
    assert twice.macs - cost.macs == parts["roi_head.bbox_head"].macs


def test_cascades_are_counted_for_each_stage():
    cascade = {"type": "CascadeRoIHead", "num_classes": 3, "in_channels": 16, "strides": (4, 8, 16),
               "bbox_head": {"fc_channels": 24}}  # fmt: skip
    cost = count_cost(detector(roi_head=cascade), (64, 64), proposals=10)
    parts = by_name(cost)
    heads = [parts[f"roi_head.bbox_head.{stage}"].macs for stage in range(3)]
    assert heads == [10 * (16 * 49 * 24 + 24 * 24 + 24 * (4 + 4))] * 3
    assert cost.detections is None


def test_a_segmentors_auxiliary_head_costs_nothing_in_inference():
    head = {"type": "FCNHead", "in_index": 1, "num_classes": 3, "channels": 8, "num_convs": 1, "concat_input": False}
    config = {"type": "Segmentor", "backbone": MASK_RCNN["backbone"], "decode_head": head}
    with torch.device("meta"):
        alone, both = MODELS.build(config), MODELS.build({**config, "auxiliary_head": head})
    one, other = count_cost(alone, (64, 64)), count_cost(both, (64, 64))
    assert one.macs == other.macs > 0
    assert by_name(one)["decode_head"].macs == 8 * 8 * (9 * 32 * 8 + 8 * 3)
    assert other.parameters > one.parameters


def test_wrong_numbers_are_told():
    with pytest.raises(ValueError, match="proposals must be >= 1, got 0"):
        count_cost(detector(), (64, 64), proposals=0)
