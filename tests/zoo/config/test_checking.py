"""Wrong configs are refused before anything starts, with the full key and the nearest right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from attnzoo.zoo.config import ConfigError, check_config, load_config
from attnzoo.zoo.training import Runner
from attnzoo.zoo.training.default_hooks import DEFAULT_HOOKS

CONFIG = """
model = dict(
    type="Classifier",
    backbone=dict(
        type="nat_mini", depths=[1, 1], embed_dims=[32, 64], num_heads=[1, 2], kernel_size=3, stem_stride=2,
        num_classes=3, drop_path_rate=0.1,
    ),
    data_preprocessor=dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    loss=dict(type="CrossEntropy", label_smoothing=0.1),
    mixing=dict(mixup_alpha=0.8, cutmix_alpha=1.0),
)
_data = dict(type="ImageClassificationDataset", root="{root}")
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    collate_fn=dict(type="classification_collate"),
    sampler=dict(type="EpochSampler"),
    dataset=dict(split="train", transform=dict(type="SmallImageTrain", size=16, padding=2), **_data),
)
val_dataloader = dict(
    batch_size=4,
    collate_fn=dict(type="classification_collate"),
    sampler=dict(type="EvaluationSampler"),
    dataset=dict(split="val", transform=dict(type="Evaluation", size=16), **_data),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=(1, 2))
test_evaluator = [val_evaluator]
train_cfg = dict(type="EpochTrainLoop", max_epochs=10)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05, betas=(0.9, 0.999)),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(custom_keys=dict(stem=dict(lr_mult=0.1))),
)
param_scheduler = [dict(type="WarmupCosine", warmup_epochs=2, cooldown_epochs=1, min_lr=1e-5)]
default_hooks = dict(logger=dict(interval=5), checkpoint=dict(save_best="top1"))
custom_hooks = [dict(type="EMAHook", decay=0.99, priority="NORMAL")]
auto_scale_lr = dict(enable=False, base_batch_size=4)
randomness = dict(seed=0)
env_cfg = dict(cudnn_benchmark=True, dist_cfg=dict(backend="gloo"))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for split in ("train", "val"):
        for name in ("cat", "dog", "owl"):
            (root / split / name).mkdir(parents=True)
            Image.new("RGB", (20, 16)).save(root / split / name / "1.png")
    return root


@pytest.fixture
def config(root: Path, tmp_path: Path) -> Path:
    path = tmp_path / "config.py"
    path.write_text(CONFIG.replace("{root}", str(root)))
    return path


def problems(config: Path, *options: str, paths: bool = True) -> list[str]:
    with pytest.raises(ConfigError) as error:
        check_config(load_config(config, options), paths=paths)
    return str(error.value).split("\n")


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
    assert problem.startswith(f"{key}: There is no ")
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
    assert problem.startswith(f"{key}: There is no ")
    assert f"'{nearest}'" in problem


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("model=3", "model: a config needs a model, dict(type=...)."),
        ("model.backbone.num_classes=three", "model.backbone.num_classes: must be int or None, not 'three'."),
        ("model.backbone.drop_path_rate=[0.1]", "model.backbone.drop_path_rate: must be float or None, not [0.1]."),
        ("model.backbone.depths=2", "model.backbone.depths: must be list of int, not 2."),
        ("model.backbone.stem=cnov", "model.backbone.stem: must be 'conv' or 'patch', not 'cnov'."),
        ("train_dataloader.batch_size=4.5", "train_dataloader.batch_size: must be int or None, not 4.5."),
        ("train_dataloader.sampler.shuffle=1", "train_dataloader.sampler.shuffle: must be bool, not 1."),
        (
            "train_dataloader.dataset.transform.padding=a",
            "train_dataloader.dataset.transform.padding: must be int, not 'a'.",
        ),
        ("train_dataloader=4", "train_dataloader: must be a dict, not 4."),
        ("train_dataloader.dataset=imagenet", "train_dataloader.dataset: must be dict(type=...), not 'imagenet'."),
        ("param_scheduler.0.min_lr=low", "param_scheduler.0.min_lr: must be float, not 'low'."),
        ("custom_hooks=3", "custom_hooks: must be a dict or a list, not 3."),
        ("train_cfg.max_epochs=ten", "train_cfg.max_epochs: must be int, not 'ten'."),
        ("launcher=mpi", "launcher: must be 'none' or 'pytorch' or 'slurm', not 'mpi'."),
        (
            "train_dataloader.sampler.dataset=3",
            "train_dataloader.sampler.dataset: is given by the Runner; leave it out.",
        ),
    ],
)
def test_values_of_a_wrong_kind(config: Path, option: str, said: str):
    assert said in problems(config, option)


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
        "train_dataloader.dataset.root: is missing; ImageClassificationDataset needs it.",
        "train_cfg.max_epochs: is missing; EpochTrainLoop needs it.",
        "val_cfg.type: is missing; it names the loop to build.",
    }


def test_every_mistake_is_told_at_once(config: Path):
    found = problems(config, "model.backbone.depth=[1]", "train_cfg.max_epoch=3", "optim_wrapper.optimizer.lr=fast")
    assert [problem.split(":")[0] for problem in found] == [
        "model.backbone.depth",
        "train_cfg.max_epoch",
        "optim_wrapper.optimizer.lr",
    ]


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
        ("train_dataloader.batch_size=0", "train_dataloader.batch_size: is 0, must be at least 1"),
        ("optim_wrapper.optimizer.lr=-1.0", "optim_wrapper.optimizer.lr: is -1.0, must be at least 0"),
        ("optim_wrapper.clip_grad.max_norm=0.0", "optim_wrapper.clip_grad.max_norm: is 0.0, must be more than 0"),
        (
            "model.backbone.drop_path_rate=1.5",
            "model.backbone.drop_path_rate: is 1.5, must be at least 0 and less than 1",
        ),
        ("train_cfg.max_epochs=3", "param_scheduler.0: warmup_epochs (2) and cooldown_epochs (1) leave nothing of"),
        ("param_scheduler.0.warmup_epochs=-1", "param_scheduler.0.warmup_epochs: is -1, must not be negative"),
        ("param_scheduler.0.min_lr=1.0", "param_scheduler.0.min_lr: is 1.0, more than optim_wrapper.optimizer.lr"),
        (
            "param_scheduler=[{'type': 'LinearLR', 'begin': 5, 'end': 5}]",
            "param_scheduler.0.end: is 5, must be more than begin, which is 5",
        ),
        ("model.backbone.num_heads=[3,2]", "model.backbone: "),
        ("model.backbone.in_chans=1", "model.backbone.in_chans: is 1, but the data sets give images of 3 channels"),
        (
            "model.data_preprocessor.mean=[0.5]",
            "model.data_preprocessor.mean: has 1 values, but images have 3 channels",
        ),
        (
            "default_hooks.checkpoint.save_best=top5",
            "default_hooks.checkpoint.save_best: There is no metric of val_eval",
        ),
    ],
)
def test_parts_that_do_not_fit(config: Path, option: str, said: str):
    assert any(said in problem for problem in problems(config, option))


def test_images_that_are_too_small_for_the_model(config: Path):
    sizes = [f"{name}_dataloader.dataset.transform.size=2" for name in ("train", "val", "test")]
    (problem,) = problems(
        config, *sizes, "train_dataloader.dataset.transform.padding=0", "model.backbone.depths=[1,1,1]",
        "model.backbone.embed_dims=[32,32,32]", "model.backbone.num_heads=[1,1,1]",
    )  # fmt: skip
    assert problem.startswith("train_dataloader.dataset.transform.size: is 2x2, but the least side that nat_mini")


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
        for name in ("a/cat", "a/dog", "b/owl"):
            (tmp_path / "nested" / split / name).mkdir(parents=True)
    options = [f"{name}_dataloader.dataset.root={tmp_path / 'nested'}" for name in ("train", "val", "test")]
    check_config(load_config(config, options))


def test_types_may_come_from_a_users_module(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "users_hook.py").write_text(
        "from mmengine.hooks import Hook\nfrom attnzoo.zoo.registry import HOOKS\n\n"
        "@HOOKS.register_module()\nclass UsersHook(Hook):\n    def __init__(self, often: int) -> None: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = config.read_text() + "\ncustom_imports = dict(imports=['users_hook'])\n"
    config.write_text(text + "custom_hooks = [dict(type='UsersHook', often=3)]\n")
    check_config(load_config(config))
    assert problems(config, "custom_hooks.0.often=x") == ["custom_hooks.0.often: must be int, not 'x'."]
    config.write_text(text + "custom_hooks = [dict(type='users_hook.UsersHook', often=3)]\n")
    check_config(load_config(config))


def test_keys_of_dicts_inside_of_lists_are_checked(config: Path):
    options: dict[str, Any] = {
        "visualizer": {"type": "Visualizer", "vis_backends": [{"type": "LocalVisBackend", "dir": 1}]}
    }
    with pytest.raises(ConfigError, match=r"visualizer.vis_backends.0.dir: There is no argument of LocalVisBackend"):
        check_config(load_config(config, options))


def test_the_hooks_of_every_run_are_those_of_the_runner():
    class Stub:
        registered: list[dict] = []

        def register_hook(self, hook: dict) -> None:
            self.registered.append(hook)

    Runner.register_default_hooks(Stub(), {name: {} for name in DEFAULT_HOOKS})  # pyright: ignore[reportArgumentType]
    assert sorted(hook.get("type", "unknown to the Runner") for hook in Stub.registered) == sorted(
        DEFAULT_HOOKS.values()
    )
