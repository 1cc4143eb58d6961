"""A small, complete classification config, and what its checks report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnzoo.zoo.config import ConfigError, check_config, load_config, parse_options

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


def problems(config: Path, *options: str | dict[str, Any], paths: bool = True) -> list[str]:
    """Returns the lines of the ConfigError of a config with options: "key=value", or dicts by dotted key."""
    merged: dict[str, Any] = {}
    for option in options:
        merged |= option if isinstance(option, dict) else parse_options([option])
    with pytest.raises(ConfigError) as error:
        check_config(load_config(config, merged), paths=paths)
    return str(error.value).split("\n")
