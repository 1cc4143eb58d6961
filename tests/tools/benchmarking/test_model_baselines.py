"""Tests that baselines of complete models compute the same with the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attnzoo import create_model
from attnzoo.tools.benchmarking import model_baselines
from attnzoo.tools.benchmarking.model_baselines import flex_model, plain_model, randomize_statistics, timm_model


@pytest.mark.parametrize("name", ["nat_mini", "biformer_tiny", "van_b0", "agent_deit_tiny", "agent_swin_tiny"])
@torch.no_grad()
def test_plain_models_match_the_model(name: str):
    model = create_model(name).eval()
    randomize_statistics(model)
    plain = plain_model(name, model)
    replaced = {type(module) for module in plain.modules()} - {type(module) for module in model.modules()}
    assert any(cls.__module__ == model_baselines.__name__ for cls in replaced)
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain(images), model(images), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_timm_model_matches_the_model():
    model = create_model("davit_tiny").eval()
    other = timm_model("davit_tiny", model)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(other(images), model(images), rtol=1e-3, atol=1e-4)


def test_missing_baselines_raise_an_error():
    model = create_model("vitrpb_small")
    for name in ("vitrpb_small", "halonet_h1"):  # timm's halonet_h1 differs from the paper's
        with pytest.raises(ValueError, match=f"timm has no model '{name}'"):
            timm_model(name, model)
    with pytest.raises(ValueError, match="'vitrpb_small' has no neighborhood attention"):
        flex_model("vitrpb_small", model)
    with pytest.raises(ValueError, match="'davit_tiny' is of the family 'davit', but plain implementations exist only"):
        plain_model("davit_tiny", model)


def test_statistics_are_randomized():
    norm = nn.BatchNorm2d(8)
    randomize_statistics(norm)
    assert norm.running_var is not None
    for tensor in (norm.weight, norm.running_var):
        assert 0.75 <= tensor.min() < tensor.max() <= 1.25
