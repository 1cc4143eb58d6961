"""Comparing mixers: configs that differ only in the mixer, and fingerprints of recipes."""

from __future__ import annotations

from typing import Any

import pytest

from attnzoo.zoo.analysis import mixer_comparison
from attnzoo.zoo.analysis.mixer_comparison import check_recipe, one_line, recipe_fingerprint
from attnzoo.zoo.config import list_configs, load_config


def test_the_fingerprint_depends_on_settings_but_not_on_folders():
    recipe = load_config("compare/metaformer_digits")
    first = recipe_fingerprint(recipe)
    recipe.work_dir, recipe.resume = "elsewhere", True
    assert recipe_fingerprint(recipe) == first
    recipe.optim_wrapper.optimizer.lr *= 2
    assert recipe_fingerprint(recipe) != first


def test_an_error_is_one_line():
    assert one_line(ValueError("first\nsecond")) == "ValueError: first"
    assert one_line(KeyError()) == "KeyError: no reason given"


def test_a_recipe_needs_a_body_with_a_mixer_and_validation():
    recipe = load_config("compare/metaformer_digits")
    with pytest.raises(ValueError, match="Unknown mixer 'poool'"):
        check_recipe(recipe, "digits", ["pool", "lka,poool"])
    with pytest.raises(ValueError, match=r"quick: model\.backbone must be a body that takes a mixer"):
        check_recipe(load_config("nat_digits"), "quick", ["pool"])
    recipe.val_evaluator = None
    with pytest.raises(ValueError, match="digits has no val_dataloader or no val_evaluator"):
        check_recipe(recipe, "digits", ["pool"])


@pytest.mark.parametrize("name", [name for name in list_configs() if name.startswith("compare/")])
def test_shipped_comparisons_differ_in_nothing_but_the_mixer(name: str):
    cfg = load_config(name)
    assert cfg.model.backbone.type == "metaformer_micro"
    assert "mixer_kwargs" not in cfg.model.backbone
    assert cfg.train_cfg.max_epochs % cfg.train_cfg.val_interval == 0
    one, other = (
        mixer_comparison.with_mixer(cfg_with_folder(name), "lka"),
        mixer_comparison.with_mixer(cfg_with_folder(name), "halo"),
    )
    assert one.pop("work_dir") != other.pop("work_dir")
    other.model.backbone.mixer = "lka"
    assert one.to_dict() == other.to_dict()


def cfg_with_folder(name: str) -> Any:
    cfg = load_config(name)
    cfg.work_dir = "work_dirs/compare"
    return cfg
