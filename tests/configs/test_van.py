"""Tests that the recipes of VAN match the published ones."""

from __future__ import annotations

import pytest

from attnzoo import get_pretrained_cfg, list_models
from attnzoo.zoo.config import list_configs, load_config

RECIPES = [name for name in list_configs() if name.startswith("van/") and "_in1k" in name]
DROP_PATH = {"van_b0": 0.1, "van_b1": 0.1, "van_b2": 0.1, "van_b3": 0.2, "van_b4": 0.2, "van_b5": 0.2, "van_b6": 0.3}


def test_every_published_training_run_has_a_recipe():
    found = sorted((load_config(name).model.backbone.type, "384" in name) for name in RECIPES)
    fine_tuned = ("van_b4", "van_b5", "van_b6")
    assert found == sorted(
        [(name, False) for name in list_models(family="van")] + [(name, True) for name in fine_tuned]
    )


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_matches_the_published_one(name: str):
    cfg = load_config(name)
    model = cfg.model.backbone.type
    assert name.startswith(f"van/{model}_")
    tag = "in1k" if model < "van_b4" else "in22k_ft_in1k_384" if "384" in name else "in22k_ft_in1k"
    published = get_pretrained_cfg(f"{model}.{tag}")
    train, val = cfg.train_dataloader.dataset.transform, cfg.val_dataloader.dataset.transform
    assert cfg.model.backbone.drop_path_rate == DROP_PATH[model]
    assert train.size == val.size == published.input_size[1]
    assert (train.rand_augment, train.random_erasing, train.color_jitter) == ("rand-m9-mstd0.5-inc1", 0.25, 0.4)
    assert (val.crop_pct, val.get("crop_mode", "center")) == (published.crop_pct, published.crop_mode)
    assert val.interpolation == "bicubic"
    assert cfg.test_dataloader.to_dict() == cfg.val_dataloader.to_dict()
    assert cfg.model.data_preprocessor == {"mean": published.mean, "std": published.std}
    assert train.get("mean", published.mean) == published.mean
    optimizer, schedule = cfg.optim_wrapper.optimizer, cfg.param_scheduler
    assert (optimizer.type, cfg.optim_wrapper.clip_grad) == ("AdamW", None)
    assert schedule.type == "WarmupCosine"
    assert schedule.min_lr == 1e-6
    assert not cfg.custom_hooks
    batch = cfg.train_dataloader.batch_size
    if tag == "in1k":
        assert (optimizer.lr, optimizer.weight_decay) == (1e-3, 0.05)
        assert (batch, cfg.auto_scale_lr.base_batch_size) == (128, 8 * 128)
        assert (schedule.warmup_epochs, schedule.warmup_lr, schedule.cooldown_epochs) == (5, 1e-6, 10)
        assert cfg.train_cfg.max_epochs == 310
        assert train.interpolation == "random"
        assert cfg.model.mixing == {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "label_smoothing": 0.1}
        assert cfg.model.loss == {"type": "SoftTargetCrossEntropy"}
    else:
        assert (optimizer.lr, optimizer.weight_decay) == (5e-5, 1e-8)
        assert (batch, cfg.auto_scale_lr.base_batch_size) == (16 if "384" in name else 32, 512)
        assert "warmup_epochs" not in schedule
        assert cfg.train_cfg.max_epochs == 30
        assert train.interpolation == "bicubic"
        assert cfg.model.mixing is None
        assert cfg.model.loss == {"type": "CrossEntropy", "label_smoothing": 0.1}
        assert cfg.model.init_weights == get_pretrained_cfg(f"{model}.in22k").url
