"""Parts of a config that do not fit together are refused, and missing files are named."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attnzoo.zoo.config import ConfigError, check_config, consistency, load_config
from attnzoo.zoo.config.consistency import BuiltCheckHook
from attnzoo.zoo.data.classification.dataset import ClassificationDataset
from attnzoo.zoo.registry import DATASETS
from support.configs import problems

DETECTOR = "quickstart/nat_mask-rcnn_scenes"
SEGMENTOR = "nat/nat_mini_upernet_160k_ade20k"
TINY = ["model.backbone.depths=[1,1,1,1]"]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (
            "model.backbone.num_classes=10",
            "model.backbone.num_classes: is 10, but train_dataloader.dataset has 3 classes",
        ),
        (
            "train_dataloader.dataset.num_classes=5",
            "is 3, but train_dataloader.dataset has 5 classes (its num_classes)",
        ),
        ("val_dataloader.dataset.class_map=[cat,dog]", "but val_dataloader.dataset has 2 classes (its class_map)"),
        ("val_dataloader.dataset.class_map=imagenet-1k", "but val_dataloader.dataset has 1000 classes (its class_map)"),
        (
            "val_dataloader.dataset.transform.size=8",
            "val_dataloader.dataset.transform.size: is 8x8, smaller than the training",
        ),
        ("train_dataloader.batch_size=0", "train_dataloader.batch_size: must be >= 1, got 0"),
        ({"optim_wrapper.optimizer.lr": math.nan}, "optim_wrapper.optimizer.lr: must be a number, got nan"),
        ({"optim_wrapper.optimizer.lr": math.inf}, "optim_wrapper.optimizer.lr: must be finite, got inf"),
        ("train_dataloader.num_workers=100000", "train_dataloader.num_workers: must be <= 1000, got 100000"),
        ("model.backbone.depths=[1000000000,1]", "model.backbone.depths.0: must be <= 10000, got 1000000000"),
        ("optim_wrapper.optimizer.lr=-1.0", "optim_wrapper.optimizer.lr: must be >= 0.0, got -1.0"),
        ("optim_wrapper.clip_grad.max_norm=0.0", "optim_wrapper.clip_grad.max_norm: must be positive, got 0.0"),
        (
            "model.backbone.drop_path_rate=1.5",
            "model.backbone.drop_path_rate: must be >= 0 and < 1, got 1.5",
        ),
        ("train_cfg.max_epochs=3", "param_scheduler.0: warmup_epochs=2 and cooldown_epochs=1 leave no epochs of"),
        ("param_scheduler.0.warmup_epochs=-1", "param_scheduler.0.warmup_epochs: must not be negative, got -1"),
        (
            "param_scheduler.0.min_lr=1.0",
            "param_scheduler.0.min_lr: must not be greater than optim_wrapper.optimizer.lr=0.001, got 1.0",
        ),
        (
            "param_scheduler=[{'type': 'LinearLR', 'begin': 5, 'end': 5}]",
            "param_scheduler.0.end: must be greater than begin=5, got 5",
        ),
        ("model.backbone.num_heads=[3,2]", "model.backbone: "),
        ("model.backbone.in_chans=1", "model.backbone.in_chans: must be 3, the channels of all images, got 1"),
        (
            "model.data_preprocessor.mean=[0.5]",
            "model.data_preprocessor.mean: must have 3 values, one per channel, got 1",
        ),
        (
            "default_hooks.checkpoint.save_best=top5",
            "default_hooks.checkpoint.save_best: val_evaluator has no metric",
        ),
    ],
)
def test_parts_that_do_not_fit(config: Path, option: str | dict[str, Any], said: str):
    assert any(said in problem for problem in problems(config, option))


def test_images_that_are_too_small_for_the_model(config: Path):
    sizes = [f"{name}_dataloader.dataset.transform.size=2" for name in ("train", "val", "test")]
    (problem,) = problems(
        config, *sizes, "train_dataloader.dataset.transform.padding=0", "model.backbone.depths=[1,1,1]",
        "model.backbone.embed_dims=[32,32,32]", "model.backbone.num_heads=[1,1,1]",
    )  # fmt: skip
    assert problem.startswith("train_dataloader.dataset.transform.size: is 2x2, but the smallest side that nat_mini")


def test_paths_that_do_not_exist(config: Path, root: Path, tmp_path: Path):
    (problem,) = problems(config, f"train_dataloader.dataset.root={root}s")
    assert problem.startswith(f"train_dataloader.dataset.root: there is no {root}s")
    assert f"Did you mean {root}" in problem
    (problem,) = problems(config, "val_dataloader.dataset.split=valid")
    assert problem.startswith(
        f"val_dataloader.dataset.split: there is neither a folder {root / 'valid'} nor valid.tar."
    )
    assert f"Did you mean {root / 'val'}" in problem
    for key in ("load_from", "model.init_weights", "model.backbone.checkpoint_path", "resume"):
        (problem,) = problems(config, f"{key}={tmp_path / 'confik.py'}")
        assert problem.startswith(f"{key}: there is no file {tmp_path / 'confik.py'}. Did you mean {config}?")
    check_config(load_config(config, ["train_dataloader.dataset.root=nowhere", "load_from=nowhere.pth"]), paths=False)
    check_config(load_config(config, ["load_from=https://example.org/a.pth"]))


def test_nested_folders_are_left_to_the_data_set(config: Path, tmp_path: Path):
    for split in ("train", "val"):
        for name in ("cat/a", "cat/b", "dog/a", "owl/c"):
            (tmp_path / "nested" / split / name).mkdir(parents=True)
    options = [f"{name}_dataloader.dataset.root={tmp_path / 'nested'}" for name in ("train", "val", "test")]
    check_config(load_config(config, options))


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        (DETECTOR, "model.neck.out_channel=3", r"model\.neck\.out_channel: .* 'out_channels'"),
        (DETECTOR, "model.roi_head.bbox_head.fc_chanels=3", r"model\.roi_head\.bbox_head\.fc_chanels: .*'fc_channels'"),
        (DETECTOR, "model.roi_head.strides=[8,16]", r"model\.roi_head\.strides is \(8, 16\), but .*\(4, 8, 16\)"),
        (DETECTOR, "model.rpn_head.in_channels=32", r"model\.rpn_head\.in_channels is 32, but .* 64 channels"),
        (DETECTOR, "default_hooks.checkpoint.save_best=mAP", r"save_best: .*'bbox_mAP'"),
        (DETECTOR, "model.backbone.features_only=False", "features_only=True"),
        (DETECTOR, "val_dataloader.dataset.root=data/scene", r"val_dataloader\.dataset\.root: there is no data/scene"),
        (SEGMENTOR, "default_hooks.checkpoint.save_best=miou", r"save_best: .*'mIoU'"),
        (SEGMENTOR, "model.auxiliary_head.num_classes=19", r"decode_head.*150.*19|auxiliary_head.*19.*150"),
        (SEGMENTOR, "model.decode_head.in_channels=[64,128,256,500]", "do not fit together"),
        (SEGMENTOR, "model.decode_head.type=UperHead", "'UPerHead'"),
    ],
)
def test_what_cannot_work_is_said_with_its_key(name: str, option: str, words: str):
    cfg = load_config(name, [*(TINY if name == SEGMENTOR else ()), option])
    with pytest.raises(ConfigError, match=words):
        check_config(cfg, paths="root" in option)


@pytest.mark.parametrize("name", [DETECTOR, SEGMENTOR])
def test_the_config_itself_passes(name: str):
    check_config(load_config(name, TINY if name == SEGMENTOR else ()), paths=False)


def test_a_missing_folder_that_a_tool_makes_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no data/scenes .*`python tools/make_scenes\.py` makes it"):
        check_config(load_config(DETECTOR))


def test_a_data_set_for_another_kind_of_task_is_refused(config: Path, root: Path):
    dataset = {
        "type": "SegmentationFolders",
        "root": str(root),
        "transform": {"type": "SegmentationTest"},
        "_delete_": True,
    }
    options = {"val_dataloader.dataset": dataset}
    with pytest.raises(
        ConfigError, match=r"val_dataloader\.dataset: SegmentationFolders is for segmentation, but Clas"
    ):
        check_config(load_config(config, options), paths=False)


def test_classes_of_data_sets_with_fixed_names_are_counted():
    options = ["model.decode_head.num_classes=19", "model.auxiliary_head.num_classes=19", *TINY]
    with pytest.raises(ConfigError, match=r"model\.decode_head\.num_classes: is 19, but .* has 150 classes"):
        check_config(load_config(SEGMENTOR, options), paths=False)


def test_a_data_set_from_outside_is_asked_for_its_classes_and_paths(config: Path):
    class Wildlife(ClassificationDataset):
        def __init__(self, names: str, transform: dict | None = None) -> None: ...

        @classmethod
        def class_names(cls, **arguments: Any) -> tuple[str, ...]:
            return tuple(arguments["names"].split("+"))

        @classmethod
        def check_paths(cls, **arguments: Any) -> Iterator[str]:
            yield "names: there are no photos of elks."

    DATASETS.register_module(module=Wildlife)
    try:
        options = {
            f"{split}_dataloader.dataset": {"type": "Wildlife", "names": names, "_delete_": True}
            for split, names in (("train", "elk+moose+yak"), ("val", "elk+yak"), ("test", "elk+moose+yak"))
        }
        found = problems(config, options)
        assert found[1] == "val_dataloader.dataset.names: there are no photos of elks."
        (counted,) = problems(config, options, paths=False)
        assert counted.startswith("model.backbone.num_classes: is 3, but val_dataloader.dataset has 2 classes (in its")
    finally:
        DATASETS.module_dict.pop("Wildlife")


def test_the_hook_has_passed_only_after_the_check(monkeypatch: pytest.MonkeyPatch):
    hook = BuiltCheckHook()
    seen: list[tuple[Any, bool]] = []
    monkeypatch.setattr(consistency, "check_built", lambda runner: seen.append((runner, hook.passed)))
    hook.before_train("runner")
    assert seen == [("runner", False)]
    assert hook.passed
