"""Tests that the recipes of the HaloNet family match the published settings and mark guessed ones."""

from __future__ import annotations

import ast

import pytest

from attnzoo import get_pretrained_cfg, list_models
from attnzoo.zoo.config import list_configs, load_config
from attnzoo.zoo.config.loading import CONFIG_ROOT

RECIPES = [name for name in list_configs() if name.startswith("halonet/") and "_in1k" in name]
BY_TAG = {
    tag: [name for name in RECIPES if get_pretrained_cfg(load_config(name).model.backbone.type).tag == tag]
    for tag in ("a1h_in1k", "c1_in1k", "ra2_in1k", "ra3_in1k", "untrained")
}
EPOCHS = {"a1h_in1k": 600, "c1_in1k": 240, "ra2_in1k": 450, "ra3_in1k": 450, "untrained": 350}
WARMUP = {"a1h_in1k": 5, "c1_in1k": 5, "ra2_in1k": 5, "ra3_in1k": 5, "untrained": 10}


def docstring(name: str) -> str:
    return " ".join((ast.get_docstring(ast.parse((CONFIG_ROOT / f"{name}.py").read_text())) or "").split())


def test_every_trained_model_has_a_recipe():
    with_recipe = [load_config(name).model.backbone.type for name in RECIPES]
    assert sorted([*with_recipe, "halonet_h1_timm"]) == sorted(list_models(family="halonet"))
    assert sorted(name for names in BY_TAG.values() for name in names) == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_common_settings(name: str):
    cfg, text = load_config(name), docstring(name)
    model = cfg.model.backbone.type
    published = get_pretrained_cfg(model)
    assert published.params is not None
    size = published.input_size[1]
    assert f"Published: {published.top1} % top-1 at {size}x{size}" in text
    assert f"{published.params / 1e6:.1f} M parameters" in text
    assert f"{published.macs:.1f} G multiply-accumulates" in text
    train, val = cfg.train_dataloader.dataset.transform, cfg.val_dataloader.dataset.transform
    assert train.size == val.size == size
    assert (val.crop_pct, val.interpolation) == (published.crop_pct, published.interpolation)
    assert cfg.test_dataloader.to_dict() == cfg.val_dataloader.to_dict()
    assert cfg.model.data_preprocessor == {"mean": published.mean, "std": published.std}
    assert (tuple(train.get("mean", published.mean)), tuple(train.get("std", published.std))) == (
        published.mean,
        published.std,
    )
    gpus, batch, epochs = name.rpartition("/")[2].removeprefix(f"{model}_").replace("xb", "_").split("_")[:3]
    assert cfg.train_dataloader.batch_size == int(batch)
    assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch)
    assert published.tag is not None
    assert epochs == f"{EPOCHS[published.tag]}e"
    assert cfg.train_cfg.max_epochs == EPOCHS[published.tag]
    assert cfg.param_scheduler.warmup_epochs == WARMUP[published.tag]
    assert "guesses" in text or "The values are those of timm's published command" in " ".join(text.split())


@pytest.mark.parametrize("name", BY_TAG["a1h_in1k"])
def test_a1h_recipes_are_a1_with_more_regularization(name: str):
    cfg = load_config(name)
    assert cfg.optim_wrapper.optimizer.type == "LAMB"
    assert (cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.optimizer.weight_decay) == (5e-3, 0.01)
    assert cfg.param_scheduler.type == "WarmupCosine"
    assert cfg.auto_scale_lr.base_batch_size == 2048
    assert cfg.model.loss.type == "BinaryCrossEntropy"
    assert (cfg.model.mixing.mixup_alpha, cfg.model.mixing.cutmix_alpha) == (0.2, 1.0)
    assert cfg.train_dataloader.sampler.num_repeats == 3
    assert cfg.model.backbone.drop_path_rate > 0.05
    assert cfg.model.backbone.drop_rate > 0
    assert cfg.train_dataloader.dataset.transform.rand_augment == "rand-m8-mstd0.5-inc1"


@pytest.mark.parametrize("name", [*BY_TAG["ra2_in1k"], *BY_TAG["ra3_in1k"]])
def test_ra_recipes_have_the_settings_of_efficientnet_b2(name: str):
    cfg = load_config(name)
    assert cfg.optim_wrapper.optimizer == {
        "type": "RMSpropTF",
        "lr": 0.016,
        "alpha": 0.9,
        "eps": 1e-3,
        "momentum": 0.9,
        "weight_decay": 1e-5,
    }
    schedule = cfg.param_scheduler
    assert (schedule.type, schedule.decay_rate, schedule.decay_epochs) == ("WarmupStep", 0.97, 2.4)
    assert cfg.auto_scale_lr.base_batch_size == 256
    assert [(hook.type, hook.decay) for hook in cfg.custom_hooks] == [("EMAHook", 0.9999)]
    assert (cfg.model.backbone.drop_rate, cfg.model.backbone.drop_path_rate) == (0.3, 0.2)
    transform = cfg.train_dataloader.dataset.transform
    assert (transform.rand_augment, transform.random_erasing) == ("rand-m9-mstd0.5", 0.2)
    assert cfg.model.loss == {"type": "CrossEntropy", "label_smoothing": 0.1}
    assert cfg.model.mixing is None


@pytest.mark.parametrize("name", BY_TAG["c1_in1k"])
def test_c1_recipes_use_adaptive_gradient_clipping(name: str):
    cfg = load_config(name)
    assert cfg.optim_wrapper.clip_grad == {
        "type": "adaptive",
        "clip_factor": 0.01,
        "eps": 1e-3,
        "exclude": ("head.fc",),
    }
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.nesterov, optimizer.lr, optimizer.weight_decay) == ("SGD", True, 0.6, 1e-4)
    assert cfg.auto_scale_lr.base_batch_size == 1536
    assert cfg.param_scheduler.type == "WarmupCosine"
    transform = cfg.train_dataloader.dataset.transform
    assert (transform.rand_augment, transform.random_erasing) == ("rand-m7-mstd0.5-inc1", 0.4)


@pytest.mark.parametrize("name", BY_TAG["untrained"])
def test_recipes_of_models_without_published_weights(name: str):
    cfg = load_config(name)
    assert cfg.model.loss == {"type": "CrossEntropy", "label_smoothing": 0.1}
    assert cfg.model.backbone.drop_path_rate > 0
    assert cfg.train_dataloader.dataset.transform.rand_augment.startswith("rand-")
    assert cfg.optim_wrapper.optimizer.weight_decay > 0
    assert cfg.param_scheduler.type == "WarmupCosine"
