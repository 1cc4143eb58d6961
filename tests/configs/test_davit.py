"""Tests that the recipes of DaViT match the published ones."""

from __future__ import annotations

import pytest

from attnzoo import get_pretrained_cfg
from attnzoo.zoo.config import list_configs, load_config

RECIPES = [name for name in list_configs() if name.startswith("davit/") and "_in1k" in name]
DROP_PATH = {"davit_tiny": 0.1, "davit_small": 0.2, "davit_base": 0.4}


def test_every_published_training_run_has_a_recipe():
    assert sorted(load_config(name).model.backbone.type for name in RECIPES) == sorted(DROP_PATH)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_matches_the_published_one(name: str):
    cfg = load_config(name)
    model = cfg.model.backbone.type
    published = get_pretrained_cfg(model)
    assert name == f"davit/{model}_8xb128_300e_in1k"
    assert cfg.model.backbone.drop_path_rate == DROP_PATH[model]
    optimizer, schedule = cfg.optim_wrapper.optimizer, cfg.param_scheduler
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay, optimizer.eps) == ("AdamW", 1e-3, 0.05, 1e-8)
    assert cfg.optim_wrapper.type == "AmpOptimWrapper"
    assert cfg.optim_wrapper.clip_grad.max_norm == 1.0
    assert (schedule.type, schedule.warmup_epochs, schedule.warmup_lr) == ("WarmupCosine", 5, 1e-6)
    assert (schedule.min_lr, schedule.cooldown_epochs, cfg.train_cfg.max_epochs) == (1e-5, 10, 300 + 10)
    assert (cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size) == (128, 8 * 128)
    assert cfg.model.mixing == {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "label_smoothing": 0.1}
    assert cfg.model.loss == {"type": "SoftTargetCrossEntropy"}
    assert not cfg.custom_hooks  # no averaged weights
    train, val = cfg.train_dataloader.dataset.transform, cfg.val_dataloader.dataset.transform
    assert train.size == val.size == published.input_size[1] == 224
    assert (train.rand_augment, train.random_erasing, train.color_jitter) == ("rand-m9-mstd0.5-inc1", 0.25, 0.4)
    assert train.interpolation == val.interpolation == "bicubic"
    assert val.crop_pct == 0.9
    assert cfg.test_dataloader.to_dict() == cfg.val_dataloader.to_dict()
    assert cfg.model.data_preprocessor == {"mean": published.mean, "std": published.std}
