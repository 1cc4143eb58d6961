"""Wrong keys, types and values are refused with the full key and the nearest right one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from attnzoo.zoo.config import ConfigError, check_config, load_config
from attnzoo.zoo.config.writing import config_text
from support.configs import problems


def test_a_right_config_passes(config: Path):
    cfg = load_config(config)
    before = cfg.to_dict()
    check_config(cfg)
    assert cfg.to_dict() == before


@pytest.mark.parametrize(
    "option",
    [
        "model.backbone.type=nat_tiny.in1k",
        "model.backbone.dilations=[1,2]",
        "model.backbone.layer_scale=1e-5",
        "model.mixing=none",
        "train_dataloader.prefetch_factor=none",
        "train_dataloader.sampler.num_repeats=3",
        "custom_hooks=[]",
        "default_hooks.checkpoint=none",
        "optim_wrapper.type=AmpOptimWrapper",
        "optim_wrapper.clip_grad={'type': 'value', 'clip_value': 0.1}",
        "optim_wrapper.clip_grad={'type': 'adaptive', 'clip_factor': 0.01, 'exclude': ['head.fc']}",
        "param_scheduler=none",
        "param_scheduler=[{'type': 'CosineAnnealingLR', 'T_max': 10, 'by_epoch': True, 'convert_to_iter_based': True}]",
        "train_cfg.val_interval=2",
        "compile=true",
        "randomness.seed=none",
        "val_evaluator=[{'type': 'Accuracy', 'topk': [1]}]",
    ],
)
def test_other_right_values_pass(config: Path, option: str):
    check_config(load_config(config, [option]))


@pytest.mark.parametrize(
    ("option", "key", "nearest"),
    [
        ("model.bakbone={}", "model.bakbone", "backbone"),
        ("model.backbone.drop_path=0.1", "model.backbone.drop_path", "drop_path_rate"),
        ("model.backbone.kernelsize=3", "model.backbone.kernelsize", "kernel_size"),
        ("model.backbone.typ=3", "model.backbone.typ", "type"),
        ("model.data_preprocessor.men=[1]", "model.data_preprocessor.men", "mean"),
        ("model.mixing.mixup=1.0", "model.mixing.mixup", "mixup_alpha"),
        ("train_dataloader.batchsize=3", "train_dataloader.batchsize", "batch_size"),
        ("train_dataloader.dataset.transform.pading=3", "train_dataloader.dataset.transform.pading", "padding"),
        ("train_dataloader.sampler.shufle=true", "train_dataloader.sampler.shufle", "shuffle"),
        ("train_cfg.max_epoch=3", "train_cfg.max_epoch", "max_epochs"),
        ("optim_wrapper.optimiser=3", "optim_wrapper.optimiser", "optimizer"),
        (
            "optim_wrapper.clip_grad={'type': 'adaptive', 'clip_facto': 0.01}",
            "optim_wrapper.clip_grad.clip_facto",
            "clip_factor",
        ),
        ("optim_wrapper.optimizer.weight_decy=0.1", "optim_wrapper.optimizer.weight_decy", "weight_decay"),
        ("optim_wrapper.paramwise_cfg.layer_decay=0.1", "optim_wrapper.paramwise_cfg.layer_decay", "layer_decay_rate"),
        ("param_scheduler.0.warmup=3", "param_scheduler.0.warmup", "warmup_lr"),
        ("default_hooks.checkpoint.savebest=top1", "default_hooks.checkpoint.savebest", "save_best"),
        ("custom_hooks.0.decays=0.9", "custom_hooks.0.decays", "decay"),
        ("val_evaluator.top_k=[1]", "val_evaluator.top_k", "topk"),
        ("test_evaluator.0.top_k=[1]", "test_evaluator.0.top_k", "topk"),
        ("randomness.sed=1", "randomness.sed", "seed"),
        ("env_cfg.dist_cfg.backnd=gloo", "env_cfg.dist_cfg.backnd", "backend"),
    ],
)
def test_wrong_keys_name_the_nearest(config: Path, option: str, key: str, nearest: str):
    (problem,) = problems(config, option)
    assert re.match(rf"{re.escape(key)}: (\S.* has no|Unknown) .*'{re.escape(key.rpartition('.')[2])}'\.", problem)
    assert f"'{nearest}'" in problem.split("Did you mean")[1]


@pytest.mark.parametrize(
    ("option", "key", "nearest"),
    [
        ("model.type=Clasifier", "model.type", "Classifier"),
        ("model.backbone.type=nat_minni", "model.backbone.type", "nat_mini"),
        ("model.loss.type=CrossEntropi", "model.loss.type", "CrossEntropy"),
        (
            "train_dataloader.dataset.transform.type=SmallTrain",
            "train_dataloader.dataset.transform.type",
            "SmallImageTrain",
        ),
        ("train_dataloader.collate_fn.type=colate", "train_dataloader.collate_fn.type", "classification_collate"),
        ("train_cfg.type=EpochLoop", "train_cfg.type", "EpochTrainLoop"),
        ("optim_wrapper.optimizer.type=Adamw2", "optim_wrapper.optimizer.type", "AdamW"),
        ("param_scheduler.0.type=Cosine", "param_scheduler.0.type", "WarmupCosine"),
        ("custom_hooks.0.type=EMA", "custom_hooks.0.type", "EMAHook"),
        ("val_evaluator.type=Acuracy", "val_evaluator.type", "Accuracy"),
    ],
)
def test_wrong_types_name_the_nearest(config: Path, option: str, key: str, nearest: str):
    problem = problems(config, option)[0]
    assert problem.startswith(f"{key}: Unknown ")
    assert f"'{nearest}'" in problem


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("model=3", "model: a config needs model=dict(type=...)."),
        ("model.backbone.num_classes=three", "model.backbone.num_classes: must be int or None, got 'three'."),
        ("model.backbone.drop_path_rate=[0.1]", "model.backbone.drop_path_rate: must be float or None, got [0.1]."),
        ("model.backbone.depths=2", "model.backbone.depths: must be list of int, got 2."),
        ("model.backbone.stem=cnov", "model.backbone.stem: must be 'conv' or 'patch', got 'cnov'."),
        ("train_dataloader.batch_size=4.5", "train_dataloader.batch_size: must be int or None, got 4.5."),
        ("train_dataloader.sampler.shuffle=1", "train_dataloader.sampler.shuffle: must be bool, got 1."),
        (
            "train_dataloader.dataset.transform.padding=a",
            "train_dataloader.dataset.transform.padding: must be int, got 'a'.",
        ),
        ("train_dataloader=4", "train_dataloader: must be a dict, got 4."),
        ("train_dataloader.dataset=imagenet", "train_dataloader.dataset: must be dict(type=...), got 'imagenet'."),
        ("param_scheduler.0.min_lr=low", "param_scheduler.0.min_lr: must be float, got 'low'."),
        ("optim_wrapper.optimizer.lr=[0.1]", "optim_wrapper.optimizer.lr: must be float or Tensor, got [0.1]."),
        ("model.backbone=[{'type': 'nat_mini'}]", "model.backbone: must be "),
        (
            "model.backbone.type=3",
            "model.backbone.type: The type of a model must be a registered name or a class, got 3.",
        ),
        ("optim_wrapper.clip_grad.max_norm={'x': 1}", "optim_wrapper.clip_grad.max_norm: must be float, got {'x': 1}."),
        ("train_dataloader.dataset.split={'type': 'Evaluation'}", "train_dataloader.dataset.split: must be "),
        ("model.backbone._scope_=[1]", "model.backbone._scope_: must be the name of a scope, got [1]."),
        (
            "optim_wrapper.paramwise_cfg.custom_keys.stem=none",
            "optim_wrapper.paramwise_cfg.custom_keys.stem: must be a dict, got None.",
        ),
        ("custom_hooks=3", "custom_hooks: must be a dict or a list, got 3."),
        ("train_cfg.max_epochs=ten", "train_cfg.max_epochs: must be int, got 'ten'."),
        ("launcher=mpi", "launcher: must be 'none' or 'pytorch' or 'slurm', got 'mpi'."),
        (
            "train_dataloader.sampler.dataset=3",
            "train_dataloader.sampler.dataset: is set by the Runner. Leave it out.",
        ),
    ],
)
def test_values_of_a_wrong_kind(config: Path, option: str, said: str):
    assert any(problem.startswith(said) for problem in problems(config, option))


def test_missing_arguments_are_named(config: Path):
    cfg = load_config(config)
    del cfg.train_dataloader["sampler"]
    del cfg.train_dataloader.dataset["root"]
    del cfg.train_cfg["max_epochs"]
    del cfg.val_cfg["type"]
    with pytest.raises(ConfigError) as error:
        check_config(cfg)
    assert set(str(error.value).split("\n")) == {
        "train_dataloader.sampler: is missing.",
        "train_dataloader.dataset.root: is missing, but ImageClassificationDataset requires it.",
        "train_cfg.max_epochs: is missing, but EpochTrainLoop requires it.",
        "val_cfg.type: is missing: the type of the loop.",
    }


def test_every_mistake_is_told_at_once(config: Path):
    found = problems(config, "model.backbone.depth=[1]", "train_cfg.max_epoch=3", "optim_wrapper.optimizer.lr=fast")
    assert [problem.split(":")[0] for problem in found] == [
        "model.backbone.depth",
        "train_cfg.max_epoch",
        "optim_wrapper.optimizer.lr",
    ]


def test_types_may_come_from_a_users_module(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "users_hook.py").write_text(
        "from mmengine.hooks import Hook\nfrom attnzoo.zoo.registry import HOOKS\n\n"
        "@HOOKS.register_module()\nclass UsersHook(Hook):\n    def __init__(self, often: int) -> None: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = config.read_text() + "\ncustom_imports = dict(imports=['users_hook'])\n"
    config.write_text(text + "custom_hooks = [dict(type='UsersHook', often=3)]\n")
    check_config(load_config(config))
    assert problems(config, "custom_hooks.0.often=x") == ["custom_hooks.0.often: must be int, got 'x'."]
    config.write_text(text + "custom_hooks = [dict(type='users_hook.UsersHook', often=3)]\n")
    check_config(load_config(config))


def test_keys_of_dicts_inside_of_lists_are_checked(config: Path):
    options: dict[str, Any] = {
        "visualizer": {"type": "Visualizer", "vis_backends": [{"type": "LocalVisBackend", "dir": 1}]}
    }
    with pytest.raises(ConfigError, match=r"visualizer.vis_backends.0.dir: LocalVisBackend has no argument"):
        check_config(load_config(config, options))


def test_classes_and_functions_stand_for_their_names(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "users_types.py").write_text(
        "from attnzoo.zoo.data.common.collate import classification_collate\n"
        "from attnzoo.zoo.evaluation import Accuracy\nfrom mmengine.hooks import Hook\n\n"
        "class UsersHook(Hook):\n    def __init__(self, often: int) -> None:\n        self.often = often\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config.write_text(
        "from users_types import Accuracy, UsersHook, classification_collate\n"
        + config.read_text().replace('type="Accuracy"', "type=Accuracy")
        + "custom_hooks = [dict(type=UsersHook, often=3)]\n"
        "train_dataloader['collate_fn'] = dict(type=classification_collate)\n"
    )
    cfg = load_config(config)
    check_config(cfg)
    assert problems(config, "custom_hooks.0.often=x") == ["custom_hooks.0.often: must be int, got 'x'."]
    assert "UsersHook has no argument 'oftn'" in problems(config, "custom_hooks.0.oftn=3")[0]
    written = tmp_path / "written.py"
    written.write_text(config_text(cfg))
    again = load_config(written)
    assert again.custom_hooks[0].type == "users_types.UsersHook"
    check_config(again)


def test_a_model_may_be_a_class(config: Path, tmp_path: Path):
    config.write_text(config.read_text() + "from attnzoo.zoo.tasks import Classifier\nmodel['type'] = Classifier\n")
    check_config(load_config(config))
    assert "Classifier has no argument 'bakbone'" in problems(config, "model.bakbone={}")[0]


def test_mistakes_in_sections_for_testing_are_not_repeated(config: Path):
    assert problems(config, "val_dataloader.batchsize=3")[1:] == []
    assert problems(config, "test_dataloader.batchsize=3")[0].startswith("test_dataloader.batchsize: ")
