"""The recipes of detectors and segmentors: which shipped recipe, and what is changed."""

from __future__ import annotations

import pytest

from attnzoo import get_pretrained_cfg
from attnzoo.zoo.finetune.dense import find_recipe, model_config
from attnzoo.zoo.finetune.options import Options


@pytest.mark.parametrize(
    ("model", "kind", "has_masks", "expected"),
    [
        ("davit_tiny", "detection", True, "davit_tiny_mask-rcnn_1x_coco"),
        ("davit_tiny", "detection", False, "davit_tiny_retinanet_1x_coco"),
        ("agent_pvt_tiny", "segmentation", False, "agent_pvt_tiny_semantic-fpn_40k_ade20k"),
        ("davit_tiny", "segmentation", False, "davit_tiny_upernet_160k_ade20k"),
        ("eca_resnet18", "detection", True, None),
    ],
)
def test_the_shortest_recipe_is_chosen(model: str, kind: str, has_masks: bool, expected: str | None):
    assert find_recipe(model, kind, has_masks) == expected


def test_a_base_file_takes_the_maps_that_its_heads_want():
    cfg = get_pretrained_cfg("eca_resnet18")
    for base, indices in (("mask_rcnn", (1, 2, 3, 4)), ("retinanet", (2, 3, 4)), ("semantic_fpn", (1, 2, 3, 4))):
        model = model_config(base, "eca_resnet18", 3, True, cfg, Options(weights="none"))
        assert model["backbone"]["out_indices"] == indices


def test_published_weights_and_their_normalization_are_used():
    cfg = get_pretrained_cfg("van_b0")
    model = model_config("mask_rcnn", "van_b0", 3, True, cfg, Options(freeze=1))
    assert model["backbone"]["pretrained"] is True
    assert model["data_preprocessor"] == {"mean": cfg.mean, "std": cfg.std, "size_divisor": 32}
    assert (model["frozen_stages"], model["roi_head"]["num_classes"]) == (1, 3)
