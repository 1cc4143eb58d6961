"""The preprocessing that travels with weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from attnzoo.zoo.preprocessing import Preprocessing
from attnzoo.zoo.tasks.dense_preprocessing import DensePreprocessor
from attnzoo.zoo.tasks.preprocessing import ImagePreprocessor

from .weights.small_models import small

EVALUATION = {"type": "Evaluation", "size": (96, 80), "crop_pct": 0.9, "crop_mode": "squash"}


class Task(nn.Module):
    def __init__(self, kind: str = "classification", **settings: Any) -> None:
        super().__init__()
        self.kind = kind
        self.backbone = small()
        make = ImagePreprocessor if kind == "classification" else DensePreprocessor
        self.data_preprocessor = make(**settings)


def test_it_survives_a_file() -> None:
    task = Task(mean=(0.485, 0.1, 1 / 3), std=(0.229, 0.2, 0.3))
    found = Preprocessing.from_task(task, EVALUATION, ["a", "b"])
    assert found.mean is not None
    assert found.mean[:2] == (0.485, 0.1)
    assert torch.equal(torch.tensor(found.mean), task.data_preprocessor.mean.flatten())
    assert (found.input_size, found.crop_pct, found.crop_mode) == ((3, 96, 80), 0.9, "squash")
    assert Preprocessing.from_dict(found.to_dict()) == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"maen": [0.5]}, "Did you mean 'mean'"),
        ({"mean": "0.5"}, "mean must be a sequence"),
        ({"mean": [True, 0.5, 0.5]}, "mean has a value of a wrong type"),
        ({"input_size": [96, 96]}, "input_size must be a sequence of 3 values"),
        ({"input_size": [3, 96.0, 96]}, "input_size has a value of a wrong type"),
        ({"crop_pct": "1"}, "crop_pct has a wrong type"),
        ({"label_names": [1, 2]}, "label_names has a value of a wrong type"),
        ({"transform": []}, "transform has a wrong type"),
    ],
)
def test_malformed_entries_are_rejected(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_dict(given)


def test_a_transform_that_does_not_describe_itself_is_recorded() -> None:
    scale = {"type": "DetectionTest", "scale": (64, 64)}
    found = Preprocessing.from_task(Task("detection"), scale)
    assert found.transform == {"type": "DetectionTest", "scale": [64, 64]}
    assert found.input_size is None
    # The color of the border is the mean in a `pretrained_cfg`.
    other = {**EVALUATION, "crop_mode": "border", "mean": (0.1, 0.1, 0.1)}
    assert Preprocessing.from_task(Task(), other).transform is not None
    assert Preprocessing.from_task(Task(mean=(0.1, 0.1, 0.1)), other).crop_mode == "border"


def test_a_new_size_replaces_the_larger_one_of_other_weights() -> None:
    cfg = {"input_size": (3, 224, 224), "crop_pct": 0.8, "test_input_size": (3, 288, 288), "test_crop_pct": 1.0}
    published = Preprocessing.from_pretrained_cfg(cfg)
    assert (published.evaluation_size, published.evaluation_crop_pct) == ((288, 288), 1.0)
    fixed = Preprocessing.from_pretrained_cfg({**cfg, "fixed_input_size": True})
    assert (fixed.evaluation_size, fixed.evaluation_crop_pct) == ((224, 224), 0.8)
    changed = Preprocessing(input_size=(3, 96, 96)).to_cfg({**cfg, "pool_size": (7, 7)})
    assert changed == {"input_size": (3, 96, 96), "crop_pct": 0.8, "pool_size": None}


def test_class_names_are_those_of_the_last_weights() -> None:
    model = small(num_classes=2)
    Preprocessing(label_names=("a", "b")).write_to(model)
    assert model.pretrained_cfg["label_names"] == ("a", "b")
    Preprocessing(label_names=("a", "b", "c")).write_to(model)
    assert "label_names" not in model.pretrained_cfg
    Preprocessing(mean=(0.1, 0.2, 0.3)).write_to(nn.Linear(1, 1))  # has no configuration to update


def test_feature_maps_and_their_backbone_agree() -> None:
    model = small(features_only=True, num_classes=None)
    Preprocessing(mean=(0.1, 0.2, 0.3)).write_to(model)
    assert model.pretrained_cfg["mean"] == model.body.default_cfg["mean"] == (0.1, 0.2, 0.3)


def test_models_in_memory() -> None:
    task = Task(mean=(0.1, 0.2, 0.3))
    found = Preprocessing.from_model(task)
    assert (found.mean, found.input_size) == ((0.1, 0.2, 0.3), (3, 224, 224))
    detector = Task("detection", mean=(0.1, 0.2, 0.3))
    assert Preprocessing.from_model(detector).input_size is None  # that of the backbone is a classifier's
    Preprocessing(label_names=("a",)).write_to(detector)
    found = Preprocessing.from_model(detector)
    assert (found.mean, found.label_names) == ((0.1, 0.2, 0.3), ("a",))
