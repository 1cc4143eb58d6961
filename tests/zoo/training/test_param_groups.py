"""Learning rate and weight decay of each parameter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.optim import param_groups_layer_decay  # pyright: ignore[reportPrivateImportUsage]  # it is public
from torch import nn

import attnzoo
from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.training import parameter_groups


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.position = nn.Parameter(torch.zeros(5, 4))
        self.block = nn.ModuleDict({"norm": nn.LayerNorm(4), "fc": nn.Linear(4, 4)})
        self.scale = nn.Parameter(torch.ones(4))

    def no_weight_decay(self):
        return {"position"}


class Task(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(4, 2)


def decays(model, **options):
    groups = parameter_groups(model, 1.0, 0.5, options)
    return {name: group["weight_decay"] for group in groups for name in group["param_names"]}


def rates(model, **options):
    groups = parameter_groups(model, 1.0, 0.5, options)
    return {name: group["lr"] for group in groups for name in group["param_names"]}


def test_weight_decay_rules():
    model = Task()
    decayed = {name for name, value in decays(model).items() if value}
    assert decayed == {"backbone.stem.weight", "backbone.block.fc.weight", "head.weight"}
    assert decays(model, use_no_weight_decay=False)["backbone.position"] == 0.5
    found = decays(model, norm_decay_mult=0.1, bias_decay_mult=0.2, flat_decay_mult=0.4)
    assert found["backbone.block.norm.weight"] == found["backbone.block.norm.bias"] == 0.05
    assert found["head.bias"] == 0.1
    assert found["backbone.scale"] == 0.2


def test_all_kinds_of_norms_are_found():
    norms = nn.ModuleList([nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.RMSNorm(4), nn.BatchNorm1d(4), nn.SyncBatchNorm(4)])
    assert set(decays(norms, norm_decay_mult=0.2, bias_decay_mult=0.6, flat_decay_mult=0.6).values()) == {0.1}


def test_patterns_in_no_weight_decay():
    model = Task()
    model.backbone.no_weight_decay = lambda: {"block.*.weight"}
    assert decays(model)["backbone.block.fc.weight"] == 0.0
    assert decays(model)["backbone.position"] == 0.5


def test_custom_keys_longest_first():
    custom = {"backbone": {"lr_mult": 0.1}, "backbone.stem": {"lr_mult": 0.5, "decay_mult": 2.0}}
    found = rates(Task(), custom_keys=custom)
    assert found["backbone.stem.weight"] == 0.5
    assert found["backbone.scale"] == pytest.approx(0.1)
    assert found["head.weight"] == 1.0
    assert decays(Task(), custom_keys=custom)["backbone.stem.weight"] == 1.0


def test_frozen_parameters_are_in_no_group_and_all_others_in_one():
    model = Task()
    model.backbone.stem.requires_grad_(False)
    groups = parameter_groups(model, 1.0, 0.5)
    names = [name for group in groups for name in group["param_names"]]
    assert sorted(names) == sorted(name for name, p in model.named_parameters() if p.requires_grad)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="frozen"):
        parameter_groups(model, 1.0, 0.5)


def test_layer_decay_is_timms():
    backbone: Any = attnzoo.create_model("nat_mini", num_classes=3)
    ours = {
        name: (group["lr_scale"], group["weight_decay"])
        for group in parameter_groups(backbone, 1.0, 0.5, {"layer_decay_rate": 0.75})
        for name in group["param_names"]
    }
    names = {id(parameter): name for name, parameter in backbone.named_parameters()}
    theirs = {
        names[id(parameter)]: (group["lr_scale"], group["weight_decay"])
        for group in param_groups_layer_decay(
            backbone, 0.5, no_weight_decay_list=backbone.no_weight_decay(), layer_decay=0.75
        )
        for parameter in group["params"]
    }
    assert ours == theirs
    assert len({scale for scale, _ in ours.values()}) > 5

    task = nn.ModuleDict({"backbone": backbone, "neck": nn.Linear(2, 2)})
    inside = rates(task, layer_decay_rate=0.75)
    assert all(inside[f"backbone.{name}"] == scale for name, (scale, _) in ours.items())
    assert inside["neck.weight"] == 1.0


@pytest.mark.parametrize(("backbone", "norms"), [("dinat_mini", True), ("van_b0", False)])
def test_layer_decay_of_a_detector_ends_below_its_heads(backbone: str, norms: bool):
    part: dict[str, Any] = {"type": backbone, "features_only": True, **({"dense": "coco"} if norms else {})}
    with torch.device("meta"):
        detector = MODELS.build(
            {
                "type": "SingleStageDetector",
                "backbone": part,
                "neck": {"type": "FPN", "out_channels": 8, "start_level": 1, "add_extra_convs": "on_input"},
                "bbox_head": {"type": "RetinaHead", "num_classes": 3, "feat_channels": 8},
            }
        )
    found = rates(detector, layer_decay_rate=0.5)
    assert found.keys() == {name for name, _ in detector.named_parameters()}
    for name, rate in found.items():
        assert name.startswith("backbone.body.") == (rate < 1), name
    assert ("backbone.norm0.weight" in found) == norms
    stages = detector.backbone.body.stages
    blocks = [
        f"backbone.body.stages.{i}.blocks.{j}." for i, stage in enumerate(stages) for j in range(len(stage.blocks))
    ]
    for depth, block in enumerate(reversed(blocks), start=1):
        assert {rate for name, rate in found.items() if name.startswith(block)} == {0.5**depth}
    stem = {rate for name, rate in found.items() if name.startswith("backbone.body.stem.")}
    assert stem == {0.5 ** (len(blocks) + 1)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_decay": 0.7}, "Did you mean 'layer_decay_rate'"),
        ({"layer_decay_rate": 1.5}, "layer_decay_rate"),
        ({"layer_decay_rate": 0.9}, "group_matcher"),
        ({"custom_keys": {"stemm": {"lr_mult": 1.0}}}, "'stemm'"),
        ({"custom_keys": {"stem": {"lr_mul": 1.0}}}, "Did you mean 'lr_mult'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        parameter_groups(Task(), 1.0, 0.5, options)
