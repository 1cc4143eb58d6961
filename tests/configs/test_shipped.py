"""Tests that every shipped config loads, passes its checks, builds its model and documents its source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from attnzoo import get_pretrained_cfg, list_models
from attnzoo.zoo.config import check_config, list_configs, load_config
from attnzoo.zoo.config.loading import CONFIG_ROOT
from attnzoo.zoo.config.parts import config_parts
from attnzoo.zoo.registry import MODELS
from support.recipes import most_of_them_slow

CONFIGS = list_configs()
PUBLISHED = [name for name in CONFIGS if name.startswith("nat/") and "_in1k" in name]


def build(name: str):
    model = load_config(name).model.to_dict()
    model["backbone"]["pretrained"] = False
    with torch.device("meta"):
        return MODELS.build(model)


def docstring(name: str) -> str:
    return ast.get_docstring(ast.parse((CONFIG_ROOT / f"{name}.py").read_text())) or ""


@pytest.mark.parametrize("name", most_of_them_slow(CONFIGS))
def test_config_passes_its_checks_and_builds_its_model(name: str):
    cfg = load_config(name)
    check_config(cfg, paths=False)
    assert build(name).num_classes == config_parts(cfg.to_dict()).num_classes


@pytest.mark.parametrize("name", most_of_them_slow(CONFIGS))
def test_dumped_config_loads_unchanged(name: str, tmp_path: Path):
    cfg = load_config(name)
    cfg.dump(tmp_path / "dumped.py")
    assert load_config(tmp_path / "dumped.py").to_dict() == cfg.to_dict()


@pytest.mark.parametrize("name", ["eca/eca_resnet18_8xb32_100e_in1k", *PUBLISHED[:1], "quickstart/nat_digits"])
def test_only_recipes_of_timm_and_its_kind_drop_the_last_batch(name: str):
    cfg = load_config(name)
    assert bool(cfg.train_dataloader.get("drop_last")) == (name == PUBLISHED[0])
    assert not cfg.val_dataloader.get("drop_last")


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_testing_follows_validation_and_keeps_every_sample(name: str):
    cfg = load_config(name, {"val_dataloader.dataset.root": "elsewhere"})
    assert cfg.test_dataloader == cfg.val_dataloader
    assert cfg.test_dataloader.dataset.root == "elsewhere"
    assert cfg.test_evaluator == cfg.val_evaluator
    assert cfg.test_cfg.type == "TestLoop"
    assert not cfg.test_dataloader.get("drop_last")
    if "in1k" not in name:
        assert cfg.train_dataloader.sampler.type == "InfiniteSampler" or not cfg.train_dataloader.get("drop_last")


@pytest.mark.parametrize("name", CONFIGS)
def test_docstring_has_paper_result_measurement_and_command(name: str):
    text = docstring(name)
    for word in ("Paper: ", "Published: ", "Measured here: ", "tools/train.py"):
        assert word in text, word
    assert name.rpartition("/")[2] in text
    assert len((CONFIG_ROOT / f"{name}.py").read_text().splitlines()) < 120


def test_every_published_model_has_a_recipe():
    recipes = {load_config(name).model.backbone.type: name for name in PUBLISHED}
    models = list_models(family="nat")
    assert sorted(recipes) == sorted(models)
    for model, name in recipes.items():
        assert name.startswith(f"nat/{model}_")


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_match_the_published_ones(name: str):
    cfg, text = load_config(name), docstring(name)
    model = cfg.model.backbone.type
    published = get_pretrained_cfg(model)
    large, base_of_one_resolution = (
        "large" in model,
        model in ("nat_isotropic_base", "dinat_isotropic_base", "vitrpb_base"),
    )
    assert f"Published: {published.top1} % top-1 at {published.input_size[1]}x{published.input_size[1]}" in text
    assert cfg.optim_wrapper.optimizer.type == "AdamW"
    assert cfg.optim_wrapper.optimizer.lr == (5e-5 if large else 1e-3)
    assert cfg.optim_wrapper.clip_grad.max_norm == 5.0
    assert cfg.train_dataloader.batch_size == (64 if large else 128)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size
    assert cfg.train_cfg.max_epochs == (30 if large else 300 + 10)
    transform = cfg.train_dataloader.dataset.transform
    assert transform.size == cfg.val_dataloader.dataset.transform.size == published.input_size[1]
    assert (transform.rand_augment, transform.random_erasing) == ("rand-m9-mstd0.5-inc1", 0.25)
    assert cfg.val_dataloader.dataset.transform.crop_pct == published.crop_pct
    assert cfg.test_dataloader.to_dict() == cfg.val_dataloader.to_dict()
    assert bool(cfg.custom_hooks) == base_of_one_resolution
    schedule = cfg.param_scheduler
    if large:
        assert schedule.type == "WarmupLinear"
        assert cfg.model.mixing is None
        assert cfg.model.loss == {"type": "CrossEntropy", "label_smoothing": 0.1}
        assert "imagenet22k" in cfg.model.init_weights
        assert cfg.model.backbone.drop_path_rate == 0.35
    else:
        assert (schedule.type, schedule.warmup_lr, schedule.min_lr) == ("WarmupCosine", 1e-6, 5e-6)
        assert (schedule.warmup_epochs, schedule.cooldown_epochs) == (50 if base_of_one_resolution else 20, 10)
        assert cfg.optim_wrapper.optimizer.weight_decay == 0.05
        assert cfg.model.mixing == {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "label_smoothing": 0.1}
        assert cfg.model.loss == {"type": "SoftTargetCrossEntropy"}
        assert "init_weights" not in cfg.model


def test_small_recipes_have_small_models():
    small = [name for name in CONFIGS if name.startswith(("quickstart/", "small/"))]
    sizes = {name: sum(p.numel() for p in build(name).parameters()) for name in small}
    for name in [name for name in sizes if name.startswith("quickstart/")]:
        assert sizes.pop(name) < 2_000_000
    assert sizes
    for name, size in sizes.items():
        assert name.startswith("small/")
        assert name.endswith(("_cifar10-like", "_coco-like"))
        assert size <= (2_000_000 if "cifar10" in name else 5_000_000), name


def test_data_folder_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    assert load_config(PUBLISHED[0]).train_dataloader.dataset.root == "data/imagenet"
    monkeypatch.setenv("IMAGENET", "/mnt/imagenet")
    assert load_config(PUBLISHED[0]).test_dataloader.dataset.root == "/mnt/imagenet"
