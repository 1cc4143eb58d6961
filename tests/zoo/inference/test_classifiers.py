"""Classifiers become tasks with the preprocessing of their weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from attnzoo import create_model
from attnzoo.zoo.inference.classifiers import build_classifier_task, evaluation_transform
from support.tiny_classifier import BACKBONE

NOISE = np.random.default_rng(1).integers(0, 256, (18, 25, 3), dtype=np.uint8)


def test_a_larger_test_size_takes_precedence():
    cfg = {"input_size": (3, 160, 160), "test_input_size": (3, 192, 192), "crop_pct": 0.9, "test_crop_pct": 1.0}
    cfg |= {"interpolation": "bicubic", "mean": (0.5,) * 3}
    image = Image.fromarray(NOISE)
    assert evaluation_transform(cfg)(image).shape == (3, 192, 192)
    assert evaluation_transform({**cfg, "fixed_input_size": True})(image).shape == (3, 160, 160)


def test_the_preprocessor_normalizes_with_the_models_mean_and_std():
    model: Any = create_model("nat_mini", **{**BACKBONE, "num_classes": 3})
    task: Any = build_classifier_task(model, has_transform=False, name="nat_mini")
    image = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    expected = (1 - torch.tensor(model.pretrained_cfg["mean"])) / torch.tensor(model.pretrained_cfg["std"])
    torch.testing.assert_close(task.data_preprocessor({"image": image})["image"][0, :, 0, 0], expected)
    assert task.num_classes == 3


def test_a_module_without_configuration_needs_normalized_images():
    task: Any = build_classifier_task(nn.Flatten(), has_transform=True, name="Flatten")
    floats = torch.rand(1, 3, 2, 2)
    assert torch.equal(task.data_preprocessor({"image": floats})["image"], floats)
    with pytest.raises(ValueError, match=r"returns torch\.uint8, and Flatten has no pretrained_cfg"):
        task.data_preprocessor({"image": floats.byte()})
    assert task.num_classes == 0
    with pytest.raises(ValueError, match="A Flatten needs a transform"):
        build_classifier_task(nn.Flatten(), has_transform=False, name="Flatten")


def test_a_backbone_without_a_head_is_rejected():
    model = create_model("nat_mini", **{**BACKBONE, "num_classes": 0})
    with pytest.raises(ValueError, match="nat_mini has no classifier"):
        build_classifier_task(model, has_transform=True, name="nat_mini")
