"""Checkpoints of detectors and segmentors in OpenMMLab's format are loaded completely and strictly into tasks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from attnzoo import load_weights
from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.weights import WeightsMismatchError, weights_target
from support import parity

CLASSES = 5


def detector(classes: int = CLASSES, **backbone: Any) -> Any:
    return MODELS.build(
        {
            "type": "TwoStageDetector",
            "backbone": {"type": "dinat_mini", "features_only": True, "dense": "coco", **backbone},
            "neck": {"type": "FPN", "out_channels": 16},
            "rpn_head": {"type": "RPNHead", "in_channels": 16, "feat_channels": 16},
            "roi_head": {
                "type": "StandardRoIHead",
                "num_classes": classes,
                "in_channels": 16,
                "bbox_head": {"fc_channels": 16},
                "mask_head": {"num_convs": 1, "conv_channels": 16},
            },
        }
    )


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    """What mmdetection saves of such a detector: the official backbone with its additional norms, and the heads."""
    pack = parity.load_pack("nat", "dinat_mini")[0]
    body = {name: x for name, x in parity.filled_state_dict(pack).items() if not name.startswith(("head.", "norm."))}
    for index, channels in enumerate((64, 128, 256, 512)):
        body |= {f"norm{index}.{part}": parity.fill(f"norm{index}.{part}", [channels]) for part in ("weight", "bias")}
    shapes = {name: x.shape for name, x in detector().state_dict().items() if not name.startswith("backbone.")}
    heads = {name: parity.fill(name, list(shape)) for name, shape in shapes.items()}
    state_dict = {**{f"backbone.{name}": x for name, x in body.items()}, **heads}
    return {"meta": {"mmcv_version": "1.4.8", "CLASSES": tuple("abcde")}, "state_dict": state_dict, "optimizer": {}}


def test_backbone_neck_and_heads_are_loaded(published: dict[str, Any]):
    model = detector()
    report = load_weights(model, published)
    assert report.form == "OpenMMLab checkpoint"
    assert report.loaded == len(model.state_dict())
    assert not report.kept
    assert not report.dropped
    given = published["state_dict"]
    state = model.state_dict()
    for name in ("neck.fpn_convs.3.conv.weight", "rpn_head.rpn_cls.bias", "roi_head.mask_head.conv_logits.weight"):
        assert torch.equal(state[name], given[name])
    assert torch.equal(state["backbone.norm2.weight"], given["backbone.norm2.weight"])
    # The backbone equals one that its own checkpoint is loaded into.
    alone = detector()
    body = {name.removeprefix("backbone."): x for name, x in given.items() if name.startswith("backbone.")}
    load_weights(alone.backbone, body)
    image = parity.image((1, 3, 64, 64), 0)
    with torch.no_grad():
        for ours, theirs in zip(model.eval().backbone(image), alone.eval().backbone(image), strict=True):
            assert torch.equal(ours, theirs)


def test_a_saved_task_loads_into_itself(published: dict[str, Any]):
    model = detector()
    load_weights(model, published)
    again = detector()
    report = load_weights(again, {"state_dict": model.state_dict()})
    assert report.renamed == 0
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in model.state_dict().items())


def test_layers_with_other_classes_keep_their_values(published: dict[str, Any]):
    model = detector(classes=2)
    before = copy.deepcopy(model.state_dict())
    report = load_weights(model, published)
    assert report.head_classes == (CLASSES + 1, 3)
    assert "The head was not loaded" in str(report)
    state, given = model.state_dict(), published["state_dict"]
    for layer in ("bbox_head.fc_cls", "bbox_head.fc_reg", "mask_head.conv_logits"):
        name = f"roi_head.{layer}.weight"
        assert torch.equal(state[name], before[name])
    name = "roi_head.bbox_head.shared_fcs.0.weight"
    assert torch.equal(state[name], given[name])


def test_a_missing_part_is_listed_and_nothing_is_loaded(published: dict[str, Any]):
    model = detector()
    before = copy.deepcopy(model.state_dict())
    state_dict = {name: x for name, x in published["state_dict"].items() if not name.startswith("neck.")}
    with pytest.raises(WeightsMismatchError, match=r"neck\.lateral_convs\.0"):
        load_weights(model, {"state_dict": state_dict})
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_weights_target_depends_on_the_checkpoint(published: dict[str, Any]):
    model = detector()
    body = {
        name.removeprefix("backbone."): x for name, x in published["state_dict"].items() if name.startswith("backbone.")
    }
    assert weights_target(model) is model
    assert weights_target(model, published) is model
    assert weights_target(model, {"state_dict": body}) is model.backbone
    assert weights_target(model.backbone) is model.backbone
