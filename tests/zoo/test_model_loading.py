"""Loading a model by name, from a saved folder, or from a config."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import attnzoo
from attnzoo.zoo.model_loading import load_model

SMALL = {"depths": (1, 1), "embed_dims": (8, 16), "num_heads": (1, 2), "kernel_size": 3}


def test_a_name_with_weights(tmp_path: Path):
    model = attnzoo.create_model("nat_mini", num_classes=3, **SMALL)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    loaded = load_model("nat_mini", weights=str(tmp_path / "weights.pth"), num_classes=3, **SMALL)
    assert not loaded.model.training
    assert loaded.image_size == (224, 224)
    assert (loaded.in_chans, loaded.architecture) == (3, "nat_mini")
    assert loaded.backbone is loaded.model
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.model.state_dict()[name]), name


def test_a_config_of_a_task():
    loaded = load_model("eca_semantic-fpn_scenes", on_meta=True)
    assert loaded.backbone is not loaded.model
    assert next(loaded.model.parameters()).is_meta
    assert loaded.architecture.startswith("eca_")


def test_the_meta_device_needs_no_weights(tmp_path: Path):
    loaded = load_model("nat_mini", weights=str(tmp_path / "nowhere.pth"), on_meta=True)
    assert next(loaded.model.parameters()).is_meta


def test_arguments_that_do_not_apply_raise():
    with pytest.raises(ValueError, match="--cfg-options are settings of a config, but nat_mini is a model"):
        load_model("nat_mini", cfg_options=["model.x=1"])
    with pytest.raises(ValueError, match="apply to a model's name"):
        load_model("nat_digits", pretrained=True)
    with pytest.raises(ValueError, match="features_only apply to a model's name"):
        load_model("nat_digits", features_only=True)
