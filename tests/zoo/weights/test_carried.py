"""The preprocessing that files carry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from attnzoo import create_model, load_weights, save_pretrained
from attnzoo.zoo.weights import CheckpointError

from .small_models import SMALL, small

IMAGES = {"mean": [0.1, 0.2, 0.3], "input_size": [3, 96, 96], "crop_pct": 0.9, "label_names": list("abcde")}


def training_checkpoint(path: Path, images: Any = IMAGES) -> Path:
    torch.save({"meta": {"epoch": 1, "preprocessing": images}, "state_dict": small().state_dict()}, path)
    return path


def test_training_checkpoints(tmp_path: Path) -> None:
    path = training_checkpoint(tmp_path / "a.pth")
    model = small(seed=1)
    report = load_weights(model, path)
    assert report.preprocessing is not None
    assert report.preprocessing.to_dict() == IMAGES
    cfg = model.pretrained_cfg
    assert (cfg["mean"], cfg["input_size"], cfg["label_names"]) == ((0.1, 0.2, 0.3), (3, 96, 96), tuple("abcde"))
    # With another head, the class names are not the model's.
    other = small(seed=1, num_classes=2)
    load_weights(other, path)
    assert "label_names" not in other.pretrained_cfg
    fresh = small(seed=1)
    load_weights(fresh, path, fresh_head=True)
    assert "label_names" not in fresh.pretrained_cfg


def test_given_fields_take_precedence(tmp_path: Path) -> None:
    path = training_checkpoint(tmp_path / "a.pth")
    overlay = {"file": str(path), "mean": (0.5, 0.5, 0.5)}
    model: Any = create_model("nat_mini", True, num_classes=5, pretrained_cfg_overlay=overlay, **SMALL)
    assert (model.pretrained_cfg["mean"], model.pretrained_cfg["crop_pct"]) == ((0.5, 0.5, 0.5), 0.9)


@pytest.mark.parametrize("images", [{"maen": [1.0]}, {"mean": "x"}, {"input_size": [1]}])
def test_malformed_entries_leave_the_model_unchanged(tmp_path: Path, images: Any) -> None:
    model = small(seed=1)
    before = model.stem.convs[0].weight.clone()
    with pytest.raises(CheckpointError, match="preprocessing that the checkpoint carries is malformed"):
        load_weights(model, training_checkpoint(tmp_path / "a.pth", images))
    assert torch.equal(before, model.stem.convs[0].weight)


@pytest.mark.parametrize("form", ["file alone", "folder of an older version", "folder of timm", "damaged"])
def test_saved_models(tmp_path: Path, form: str) -> None:
    source = save_pretrained(small(), tmp_path / "saved", preprocessing={"mean": (0.1, 0.2, 0.3), "crop_pct": 0.9})
    if form == "file alone":
        (source / "config.json").unlink()
    else:  # the weights carry nothing
        save_file(small().state_dict(), source / "model.safetensors", metadata={"format": "pt"})
    if form == "damaged":
        (source / "config.json").write_text("{")
        with pytest.raises(CheckpointError, match="malformed"):
            load_weights(small(), source)
        return
    model = small(seed=1)
    load_weights(model, source / "model.safetensors")
    assert (model.pretrained_cfg["mean"], model.pretrained_cfg["crop_pct"]) == ((0.1, 0.2, 0.3), 0.9)


def test_other_config_files_are_ignored(tmp_path: Path) -> None:
    save_file(small().state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nat"}))
    model = small(seed=1)
    assert load_weights(model, tmp_path).preprocessing is None
    assert model.pretrained_cfg["mean"] == (0.485, 0.456, 0.406)


def test_old_folders_open(tmp_path: Path) -> None:
    """The first version of the format had our name, fields that timm does not have, and features_only of its own."""
    model = small(seed=3, features_only=True, num_classes=None, out_indices=(0, 2))
    folder = save_pretrained(model, tmp_path / "saved")
    config = json.loads((folder / "config.json").read_text())
    own = config["attnzoo"]
    config["architecture"] = "nat_mini"
    config["pretrained_cfg"] |= own.pop("pretrained_cfg")
    own |= {"format": 1, **{name: config["model_args"].pop(name) for name in ("features_only", "out_indices")}}
    (folder / "config.json").write_text(json.dumps(config))
    again: Any = create_model(f"local-dir:{folder}")
    assert again.out_indices == [0, 2]
    assert again.pretrained_cfg["paper"] == model.pretrained_cfg["paper"]
