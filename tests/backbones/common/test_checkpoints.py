"""Prefixes of wrappers and task models."""

from __future__ import annotations

import pytest

from attnzoo.backbones.common.checkpoints import strip_prefixes


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "_orig_mod.module.", "body.", "backbone.", "model.backbone."]
)
def test_prefixes_are_removed(prefix: str):
    given = {f"{prefix}stem.weight": 1, f"{prefix}norm.bias": 2}
    before = dict(given)
    assert strip_prefixes(given) == {"stem.weight": 1, "norm.bias": 2}
    assert given == before


def test_of_task_models_only_the_backbone_and_its_classifier_are_kept():
    given = {"backbone.stem.weight": 1, "neck.conv.weight": 2, "head.fc.bias": 3, "head.other": 4}
    assert strip_prefixes(given) == {"stem.weight": 1, "head.fc.bias": 3}


def test_prefixes_inside_names_stay():
    assert strip_prefixes({"stages.0.model.weight": 1}) == {"stages.0.model.weight": 1}
