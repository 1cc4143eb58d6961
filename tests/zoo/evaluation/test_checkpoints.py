"""Evaluation of checkpoints: its config and the content of results.json. The command's tests evaluate end to end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from attnzoo.zoo.config import load_config
from attnzoo.zoo.evaluation.checkpoints import (
    evaluation_config,
    evaluation_results,
    headline_metrics,
    load_evaluated_weights,
)


def test_an_evaluation_config_has_no_training():
    cfg = evaluation_config(load_config("nat_digits"), "nat_digits", pretrained=False)
    assert not {"train_dataloader", "optim_wrapper", "val_dataloader", "resume"} & set(cfg.keys())
    assert cfg.custom_hooks == []
    assert cfg.test_cfg["type"] == "TestLoop"
    assert cfg.model.backbone.pretrained is False


def test_what_cannot_be_evaluated():
    cfg = load_config("nat_digits")
    cfg.test_evaluator = None
    with pytest.raises(ValueError, match="nat_digits has no test_dataloader or no test_evaluator"):
        evaluation_config(cfg, "nat_digits", pretrained=False)
    with pytest.raises(ValueError, match=r"scenes has heads .* the catalog has no published checkpoint"):
        evaluation_config(load_config("nat_mask-rcnn_scenes"), "scenes", pretrained=True)


def test_headlines_leave_out_secondary_metrics():
    assert headline_metrics({"bbox_mAP": 40.0, "bbox_mAP_s": 20.0, "own_metric": 1, "table": [1]}) == {
        "bbox_mAP": 40.0,
        "own_metric": 1,
    }


def test_a_head_for_other_classes_is_an_error():
    report = SimpleNamespace(head_classes=(5, 3))
    model: Any = SimpleNamespace(backbone=SimpleNamespace(load_report=report), classes_key="model.num_classes")
    with pytest.raises(ValueError, match=r"has 5 outputs, but the config's model has 3 \(model\.num_classes\)"):
        load_evaluated_weights(model, None, raw=False)
    report.head_classes = None
    assert load_evaluated_weights(model, None, raw=False) is report


def test_results_have_numbers_and_their_source():
    model: Any = nn.Linear(2, 1)
    model.backbone = SimpleNamespace(pretrained_cfg={"architecture": "nat_mini"})
    report: Any = SimpleNamespace(source="'a.pth'", is_ema=True)
    results = evaluation_results({"top1": 90.0, "table": [1]}, 30, 1.5, model, report, "digits")
    assert (results["top1"], results["images_per_second"], results["parameters"]) == (90.0, 20.0, 3)
    assert (results["checkpoint"], results["model"], results["averaged_weights"]) == ("a.pth", "nat_mini", True)
    assert "table" not in results
