"""Tests that the recipes of the ECA family match the published ones."""

from __future__ import annotations

import ast

import pytest

from attnzoo import get_pretrained_cfg, list_models
from attnzoo.backbones.registry import get_tags
from attnzoo.zoo.config import list_configs, load_config
from attnzoo.zoo.config.loading import CONFIG_ROOT
from attnzoo.zoo.registry import OPTIMIZERS

RECIPES = [name for name in list_configs() if name.startswith("eca/") and "_in1k" in name]
OFFICIAL = [name for name in RECIPES if name.startswith("eca/eca_")]
STRIKES_BACK = {
    "eca/ecaresnet50t_8xb256_600e_in1k": "a1",
    "eca/ecaresnet50t_8xb256_300e_in1k": "a2",
    "eca/ecaresnet50t_8xb256_100e_in1k-160": "a3",
}


def docstring(name: str) -> str:
    return ast.get_docstring(ast.parse((CONFIG_ROOT / f"{name}.py").read_text())) or ""


def test_exactly_the_published_training_runs_have_a_recipe():
    with_recipe = {load_config(name).model.backbone.type for name in RECIPES}
    assert with_recipe == {name for name in list_models(family="eca") if name.startswith("eca_")} | {
        "ecaresnet26t",
        "ecaresnet50t",
    }
    assert set(RECIPES) == {*OFFICIAL, *STRIKES_BACK, "eca/ecaresnet26t_2xb352_700e_in1k"}
    for model in list_models(family="eca"):
        for tag in get_tags(model):
            cfg = get_pretrained_cfg(f"{model}.{tag}")
            is_noted = "The training recipe was not published in full." in (cfg.note or "")
            has_recipe = tag in ("in1k", "a1_in1k", "a2_in1k", "a3_in1k") or model == "ecaresnet26t"
            assert is_noted == (cfg.has_weights and not has_recipe), (model, tag)


@pytest.mark.parametrize("name", RECIPES)
def test_common_settings(name: str):
    cfg, text = load_config(name), docstring(name)
    model = cfg.model.backbone.type
    assert name.startswith(f"eca/{model}_")
    tag = f"{STRIKES_BACK[name]}_in1k" if name in STRIKES_BACK else get_tags(model)[0]
    published = get_pretrained_cfg(f"{model}.{tag}")
    size = (published.test_input_size or published.input_size)[1]
    assert f"Published: {published.top1} % top-1 at {size}x{size}" in text
    train, val = cfg.train_dataloader.dataset.transform, cfg.val_dataloader.dataset.transform
    assert (train.size, val.size) == (published.input_size[1], size)
    assert val.crop_pct == (published.test_crop_pct or published.crop_pct)
    assert val.interpolation == published.interpolation
    assert cfg.test_dataloader.to_dict() == cfg.val_dataloader.to_dict()
    assert cfg.model.data_preprocessor == {"mean": published.mean, "std": published.std}
    gpus, batch = name.rpartition("/")[2].removeprefix(f"{model}_").split("_")[0].split("xb")
    assert cfg.train_dataloader.batch_size == int(batch)
    assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch)
    assert f"_{cfg.train_cfg.max_epochs}e_" in name
    assert OPTIMIZERS.get(cfg.optim_wrapper.optimizer.type) is not None


@pytest.mark.parametrize("name", OFFICIAL)
def test_recipes_of_the_authors(name: str):
    cfg = load_config(name)
    mobile = cfg.model.backbone.type == "eca_mobilenet_v2"
    optimizer, schedule = cfg.optim_wrapper.optimizer, cfg.param_scheduler
    assert cfg.optim_wrapper.type == "OptimWrapper"
    assert (optimizer.type, optimizer.momentum) == ("SGD", 0.9)
    assert (optimizer.lr, optimizer.weight_decay) == ((0.045, 4e-5) if mobile else (0.1, 1e-4))
    assert set(cfg.optim_wrapper.paramwise_cfg.values()) == {1.0}
    assert (schedule.type, schedule.by_epoch) == ("WarmupStep", True)
    assert (schedule.decay_rate, schedule.decay_epochs) == ((0.98, 1) if mobile else (0.1, 30))
    assert cfg.train_cfg.max_epochs == (400 if mobile else 100)
    assert cfg.auto_scale_lr.base_batch_size == (96 if mobile else 256)
    assert cfg.model.loss == {"type": "CrossEntropy"}
    assert cfg.model.get("mixing") is None
    assert cfg.model.backbone.get("drop_rate", 0.0) == (0.25 if mobile else 0.0)
    train = cfg.train_dataloader.dataset.transform
    assert (train.rand_augment, train.color_jitter, train.random_erasing) == (None, None, 0.0)
    assert train.interpolation == "bilinear"


@pytest.mark.parametrize("name", list(STRIKES_BACK))
def test_recipes_of_resnet_strikes_back(name: str):
    cfg, procedure = load_config(name), STRIKES_BACK[name]
    optimizer, schedule = cfg.optim_wrapper.optimizer, cfg.param_scheduler
    assert (optimizer.type, cfg.optim_wrapper.type) == ("LAMB", "AmpOptimWrapper")
    assert cfg.optim_wrapper.get("clip_grad") is None
    found = (cfg.train_cfg.max_epochs, optimizer.lr, optimizer.weight_decay, cfg.model.mixing.mixup_alpha)
    assert (
        found == {"a1": (600, 5e-3, 0.01, 0.2), "a2": (300, 5e-3, 0.02, 0.1), "a3": (100, 8e-3, 0.02, 0.1)}[procedure]
    )
    assert (schedule.type, schedule.warmup_epochs) == ("WarmupCosine", 5)
    assert cfg.auto_scale_lr.base_batch_size == 2048
    assert cfg.model.mixing.cutmix_alpha == 1.0
    assert cfg.model.mixing.label_smoothing == (0.1 if procedure == "a1" else 0.0)
    assert cfg.model.loss == {"type": "BinaryCrossEntropy", "target_threshold": 0.2}
    assert cfg.model.backbone.get("drop_path_rate", 0.0) == (0.0 if procedure == "a3" else 0.05)
    assert cfg.train_dataloader.sampler.num_repeats == (1 if procedure == "a3" else 3)
    train = cfg.train_dataloader.dataset.transform
    assert train.rand_augment == f"rand-m{6 if procedure == 'a3' else 7}-mstd0.5-inc1"
    assert train.random_erasing == 0.0
    assert not cfg.custom_hooks


def test_ra2_recipe():
    cfg = load_config("eca/ecaresnet26t_2xb352_700e_in1k")
    optimizer, schedule = cfg.optim_wrapper.optimizer, cfg.param_scheduler
    assert optimizer == {
        "type": "RMSpropTF",
        "lr": 0.082,
        "alpha": 0.9,
        "eps": 1e-3,
        "momentum": 0.9,
        "weight_decay": 1e-5,
    }
    assert (schedule.type, schedule.decay_rate, schedule.decay_epochs) == ("WarmupStep", 0.988, 1)
    assert (schedule.warmup_epochs, schedule.warmup_lr, schedule.by_epoch) == (3, 1e-6, True)
    assert cfg.custom_hooks == [{"type": "EMAHook", "decay": 0.999987}]
    assert cfg.model.mixing == {"mixup_alpha": 0.19, "cutmix_alpha": 0.0, "label_smoothing": 0.1}
    backbone = cfg.model.backbone
    assert (backbone.drop_rate, backbone.drop_path_rate) == (0.19, 0.1)
    assert cfg.train_dataloader.dataset.transform.rand_augment == "rand-m9-mstd1.0-inc1"
    text = " ".join(docstring("eca/ecaresnet26t_2xb352_700e_in1k").split())
    assert "The rest is not published: " in text
    assert "is omitted" in text
