"""Tests that the recipes of the agent transformers match the published ones."""

from __future__ import annotations

import ast
import json
import re

import pytest

from attnzoo import get_pretrained_cfg, list_models
from attnzoo.zoo.config import list_configs, load_config
from attnzoo.zoo.config.loading import CONFIG_ROOT
from support import parity

RECIPES = {
    load_config(name).model.backbone.type: name
    for name in list_configs()
    if name.startswith("agent/") and "_in1k" in name
}
TRAINING = {
    variant["variant"]: variant["training"]
    for variant in json.loads((parity.ROOT / "agent_attention" / "family.json").read_text())["variants"]
}
AVERAGED = {
    "agent_cswin_tiny": 0.99984,
    "agent_cswin_small": 0.99984,
    "agent_cswin_base": 0.99992,
    "agent_cswin_base_384": 0.9998,
}


def number(model: str, pattern: str) -> float:
    """Returns the number that follows a pattern in the published training settings; None counts as 0."""
    match = re.search(pattern + r" (\d[\d.]*(?:e-\d+)?|None)", TRAINING[model])
    assert match is not None, pattern
    return 0.0 if match[1] == "None" else float(match[1])


def test_every_published_model_has_a_recipe():
    assert sorted(RECIPES) == sorted(list_models(family="agent")) == sorted(TRAINING)


@pytest.mark.parametrize("model", RECIPES)
def test_recipe_matches_the_published_one(model: str):
    name = RECIPES[model]
    cfg, published = load_config(name), get_pretrained_cfg(model)
    text = ast.get_docstring(ast.parse((CONFIG_ROOT / f"{name}.py").read_text())) or ""
    size = published.input_size[1]
    batch, cooldown = number(model, "per-GPU batch"), number(model, "cool-down")
    epochs = int(re.findall(r"(\d+) epochs", TRAINING[model])[0])
    factor = 8 * batch / 512
    assert name == f"agent/{model}_8xb{batch:.0f}_{epochs}e_in1k"
    assert f"Published: {published.top1} % top-1 at {size}x{size}" in text

    optimizer, schedule = cfg.optim_wrapper.optimizer, cfg.param_scheduler
    clip = number(model, "gradient clipping")
    assert (cfg.optim_wrapper.type, optimizer.type) == ("OptimWrapper", "AdamW")
    assert optimizer.lr == pytest.approx(factor * number(model, "base lr"))
    assert optimizer.weight_decay == number(model, "weight decay")
    assert cfg.optim_wrapper.clip_grad == ({"max_norm": clip} if clip else None)
    assert (schedule.type, schedule.warmup_epochs) == ("WarmupCosine", number(model, "warm-up"))
    assert schedule.min_lr == pytest.approx(factor * number(model, "cosine to"))
    if schedule.warmup_epochs:
        assert schedule.warmup_lr == pytest.approx(factor * number(model, r"warm-up \d+ from"))
    assert (schedule.cooldown_epochs, cfg.train_cfg.max_epochs) == (cooldown, epochs + cooldown)
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.auto_scale_lr.base_batch_size == 8 * batch
    assert cfg.model.backbone.get("drop_path_rate", 0.0) == number(model, "drop path")

    train, val = cfg.train_dataloader.dataset.transform, cfg.val_dataloader.dataset.transform
    assert train.size == val.size == size
    assert (train.rand_augment, train.random_erasing, train.color_jitter) == ("rand-m9-mstd0.5-inc1", 0.25, 0.4)
    assert train.interpolation == val.interpolation == "bicubic"
    assert (val.crop_pct, val.crop_mode) == (published.crop_pct, "squash")
    assert published.crop_mode == "squash"
    assert published.crop_pct == (1.0 if model in ("agent_swin_small_288", "agent_swin_base_384") else 0.875)
    assert cfg.test_dataloader.to_dict() == cfg.val_dataloader.to_dict()
    assert cfg.model.data_preprocessor == {"mean": published.mean, "std": published.std}
    assert cfg.model.mixing == {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "label_smoothing": 0.1}
    assert cfg.model.loss == {"type": "SoftTargetCrossEntropy"}

    hooks = [{"type": "EMAHook", "decay": AVERAGED[model]}] if model in AVERAGED else []
    assert cfg.custom_hooks == hooks
    assert ("EMA" in TRAINING[model]) == (model in AVERAGED)
    if "fine-tuned" in TRAINING[model]:
        assert cfg.model.init_weights == get_pretrained_cfg(model.removesuffix("_384")).url
        assert "It starts from the weights trained at 224x224" in " ".join(text.split())
    else:
        assert "init_weights" not in cfg.model
