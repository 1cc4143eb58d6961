"""Tests that the recipes of BiFormer match the published ones."""

from __future__ import annotations

import json

import pytest

from attnzoo import get_pretrained_cfg, list_models
from attnzoo.zoo.config import list_configs, load_config
from attnzoo.zoo.config.loading import CONFIG_ROOT
from support import parity

RECIPES = [name for name in list_configs() if name.startswith("biformer/") and "_in1k" in name]
FAMILY = {one["variant"]: one for one in json.loads((parity.ROOT / "biformer" / "family.json").read_text())}


def test_every_published_model_has_a_recipe():
    models = [load_config(name).model.backbone.type for name in RECIPES]
    assert sorted(models) == sorted(list_models(family="biformer"))
    assert all(name == f"biformer/{model}_8xb128_300e_in1k" for name, model in zip(RECIPES, models, strict=True))


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_matches_the_published_one(name: str):
    cfg = load_config(name)
    model = cfg.model.backbone.type
    published = get_pretrained_cfg(model)
    assert f"Published: {published.top1} % top-1 at 224x224" in (CONFIG_ROOT / f"{name}.py").read_text()
    assert cfg.model.backbone.drop_path_rate == FAMILY[model]["config"]["drop_path_rate"]
    wrapper, schedule = cfg.optim_wrapper, cfg.param_scheduler
    assert (wrapper.type, wrapper.clip_grad) == ("AmpOptimWrapper", None)
    optimizer = {"type": "AdamW", "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.05}
    assert wrapper.optimizer == optimizer
    assert (cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size) == (128, 1024)
    assert (schedule.type, schedule.warmup_epochs, schedule.warmup_lr) == ("WarmupCosine", 5, 1e-6)
    assert (schedule.min_lr, schedule.cooldown_epochs, schedule.by_epoch) == (1e-5, 0, True)
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.train_dataloader.sampler == {"type": "EpochSampler", "shuffle": True, "num_repeats": 3}
    train, val = cfg.train_dataloader.dataset.transform, cfg.val_dataloader.dataset.transform
    assert (train.size, train.interpolation) == (224, "bicubic")
    assert (train.rand_augment, train.random_erasing, train.color_jitter) == ("rand-m9-mstd0.5-inc1", 0.25, 0.4)
    assert (val.size, val.crop_pct, val.interpolation) == (224, 0.875, "bicubic")
    assert cfg.test_dataloader.to_dict() == cfg.val_dataloader.to_dict()
    assert cfg.model.data_preprocessor == {"mean": published.mean, "std": published.std}
    assert cfg.model.mixing == {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "label_smoothing": 0.1}
    assert cfg.model.loss == {"type": "SoftTargetCrossEntropy"}
    assert cfg.custom_hooks == [{"type": "EMAHook", "decay": 0.99996, "evaluate_raw": True}]
    assert cfg.default_hooks.checkpoint.save_best == "raw_top1"
    assert "init_weights" not in cfg.model
