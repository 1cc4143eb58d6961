"""Frozen stages get no gradients and stay in evaluation mode."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from attnzoo import create_model
from attnzoo.zoo.tasks.freezing import freeze_stages, keep_frozen


def body() -> Any:
    return create_model("metaformer_micro", depths=(1, 1), embed_dims=(32, 64), num_classes=3)


@pytest.mark.parametrize("stages", [-1, 0, 1, 2])
def test_the_stem_and_the_first_stages_are_frozen(stages: int):
    model = body()
    frozen = freeze_stages(model, stages)
    trained = {
        name.split(".")[0] if name[:6] != "stages" else name[:8]
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    kept = [] if stages == -1 else ["stem", *(f"stages.{index}" for index in range(stages))]
    assert trained == {"stem", "stages.0", "stages.1", "norm", "head"} - set(kept)
    model.train()
    keep_frozen(model, frozen, norm_eval=False)
    assert all(not module.training for module in frozen)
    assert model.head.training


def test_statistics_of_batch_norms_are_kept_on_demand():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).train()
    keep_frozen(model, [], norm_eval=False)
    assert model[1].training
    keep_frozen(model, [], norm_eval=True)
    assert (model[0].training, model[1].training) == (True, False)


@pytest.mark.parametrize("stages", [3, -2, 1.5])
def test_numbers_of_stages_out_of_range_raise(stages: int):
    with pytest.raises(ValueError, match=r"frozen_stages must be -1 \(nothing\) or between 0 and 2"):
        freeze_stages(body(), stages)
    with pytest.raises(ValueError, match="which Linear lacks"):
        freeze_stages(nn.Linear(1, 1), 0)
