"""Tasks declare their kind, the parts to export and the layers that depend on the number of classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.tasks import TASK_KINDS, Classifier, Segmentor, SingleStageDetector, TwoStageDetector, task_kind
from attnzoo.zoo.tasks.base import backbone_output, build_part, is_task, map_channels

BODY: dict[str, Any] = {"type": "metaformer_micro", "depths": (1, 1), "embed_dims": (32, 64)}
MAPS = {**BODY, "features_only": True}


def classifier() -> Classifier:
    return MODELS.build({"type": "Classifier", "backbone": {**BODY, "num_classes": 3}})


def segmentor() -> Segmentor:
    return MODELS.build({"type": "Segmentor", "backbone": MAPS, "decode_head": {"type": "FCNHead", "num_classes": 3}})


def test_every_task_declares_its_kind():
    assert (Classifier.kind, Segmentor.kind) == ("classification", "segmentation")
    assert SingleStageDetector.kind == TwoStageDetector.kind == "detection"
    assert {Classifier.kind, Segmentor.kind, TwoStageDetector.kind} < set(TASK_KINDS)
    assert task_kind(segmentor()) == "segmentation"
    assert task_kind(nn.Linear(1, 1)) == "classification"
    assert is_task(classifier())
    assert not is_task(nn.Linear(1, 1))


def test_the_parts_to_export_run():
    task, image = segmentor().eval(), torch.randn(1, 3, 32, 32)
    parts = task.export_parts()
    assert {name: part.outputs for name, part in parts.items()} == {"whole": ("logits",), "backbone": ("map",)}
    torch.testing.assert_close(parts["whole"].run(task, image), task(image=image, mode="tensor"))
    assert len(parts["backbone"].run(task, image)) == 2
    assert classifier().export_parts()["backbone"].outputs == ("logits",)


def test_the_dummy_pass_runs_every_layer_of_an_inference():
    task, ran = segmentor().eval(), set()
    for name, module in task.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.add(name))
    assert task.forward_dummy(torch.randn(1, 3, 32, 32), 10, 5) == {}
    assert {"backbone", "decode_head.conv_seg"} <= ran


def test_heads_name_their_class_layers():
    assert segmentor().class_layers() == ["decode_head.conv_seg"]


def test_what_a_backbone_returns():
    assert backbone_output(segmentor().backbone) == "map"
    assert backbone_output(MODELS.build({**BODY, "num_classes": 0})) == "features"
    assert backbone_output(MODELS.build(BODY)) == "logits"
    assert map_channels(segmentor().backbone) == [32, 64]
    with pytest.raises(ValueError, match="Identity returns no feature maps"):
        map_channels(nn.Identity())


def test_parts_are_built_from_configs_and_modules():
    module = nn.Identity()
    assert build_part(module) is module
    assert build_part(None, "CrossEntropy").label_smoothing == 0
    assert build_part({"label_smoothing": 0.2}, "CrossEntropy", label_smoothing=0.1).label_smoothing == 0.2
    assert build_part({}, "CrossEntropy", label_smoothing=0.1).label_smoothing == 0.1
