"""The parts of a config are looked up once, whatever wraps them and wherever they are registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import Dataset

from attnzoo.zoo.config import load_config
from attnzoo.zoo.config.parts import ConfigParts, config_parts, leaves
from attnzoo.zoo.registry import DATASETS


def parts_of(name: str | Path, **changes: Any) -> ConfigParts:
    cfg = load_config(name).to_dict()
    for key, value in changes.items():
        here: Any = cfg
        *path, last = key.split("__")
        for part in path:
            here = here[part]
        here[last] = value
    return config_parts(cfg)


def test_a_classifier(config: Path):
    parts = parts_of(config)
    assert parts.backbone is not None
    assert (parts.model.type, parts.backbone.key, parts.backbone.type) == ("Classifier", "model.backbone", "nat_mini")
    assert (parts.kind, parts.classes_key, parts.num_classes) == ("classification", "model.backbone.num_classes", 3)
    assert not parts.has_separate_heads
    assert [dataset.key for dataset in parts.datasets] == [
        "train_dataloader.dataset",
        "val_dataloader.dataset",
        "test_dataloader.dataset",
    ]
    assert [dataset.is_training for dataset in parts.datasets] == [True, False, False]
    assert {dataset.image_size for dataset in parts.datasets} == {(16, 16)}
    assert {dataset.kind for dataset in parts.datasets} == {"classification"}
    assert parts.datasets[0].class_names() == ("cat", "dog", "owl")
    assert [info.name for info in parts.metrics or ()] == ["top1", "top2"]


def test_the_published_number_of_classes_counts_where_none_is_given(config: Path):
    parts = parts_of(config, model__backbone={"type": "nat_mini"})
    assert parts.num_classes == 1000


@pytest.mark.parametrize(
    ("name", "kind", "classes_key", "num_classes"),
    [
        ("quickstart/nat_mask-rcnn_scenes", "detection", "model.roi_head.num_classes", 10),
        (
            "nat/nat_mini_upernet_160k_ade20k",
            "segmentation",
            "model.decode_head.num_classes",
            150,
        ),
    ],
)
def test_tasks_with_heads(name: str, kind: str, classes_key: str, num_classes: int):
    parts = parts_of(name)
    assert (parts.kind, parts.classes_key, parts.num_classes) == (kind, classes_key, num_classes)
    assert parts.has_separate_heads


def test_data_sets_are_found_inside_of_wrappers(config: Path):
    dataset = load_config(config).train_dataloader.dataset.to_dict()
    repeated = {"type": "RepeatDataset", "times": 2, "dataset": dataset}
    joined = {"type": "ConcatDataset", "datasets": [repeated, dataset]}
    parts = parts_of(config, train_dataloader__dataset=joined)
    assert [part.key for part in parts.datasets[:2]] == [
        "train_dataloader.dataset.datasets.0.dataset",
        "train_dataloader.dataset.datasets.1",
    ]
    assert all(part.type == "ImageClassificationDataset" for part in parts.datasets)


def test_a_data_set_that_says_nothing_of_itself_is_not_taken_for_an_image_folder(config: Path):
    DATASETS.register_module(name="Silent", module=type("Silent", (Dataset,), {}))
    try:
        parts = parts_of(config, val_dataloader__dataset={"type": "Silent", "root": "nowhere", "split": "val"})
        silent = next(part for part in parts.datasets if part.type == "Silent")
        assert (silent.kind, silent.class_names(), list(silent.missing_paths())) == (None, None, [])
    finally:
        DATASETS.module_dict.pop("Silent")


def test_leaves():
    nested = {"a": [1, {"b": (2, None)}], "c": {}, "d": "x"}
    assert list(leaves(nested)) == [("a.0", "", 1), ("a.1.b.0", "", 2), ("a.1.b.1", "", None), ("d", "d", "x")]
