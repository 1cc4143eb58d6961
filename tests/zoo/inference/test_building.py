"""A predictor is built from a model's name, a config, a work dir or a module, or the error says what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import attnzoo
from attnzoo import Predictor
from attnzoo.zoo.config import load_config
from attnzoo.zoo.inference import building
from attnzoo.zoo.inference.classifiers import evaluation_transform
from attnzoo.zoo.training import read_training_checkpoint
from support.tiny_classifier import BACKBONE, COLORS

Trained = tuple[Path, Path]
NOISE = np.random.default_rng(1).integers(0, 256, (18, 25, 3), dtype=np.uint8)
GONE = {"test_dataloader.dataset.root": "gone"}


@pytest.fixture(scope="module")
def predictor(trained: Trained) -> Predictor:
    return Predictor(trained[1], progress=False)


def tiny_model(**options: Any) -> Any:
    torch.manual_seed(0)
    return attnzoo.create_model("nat_mini", **{**BACKBONE, "num_classes": 3, **options}).eval()


def test_a_work_dir_equals_its_config_with_its_checkpoint(trained: Trained, predictor: Predictor):
    config, work_dir = trained
    expected = predictor(NOISE).scores
    assert predictor.classes == tuple(COLORS)
    assert predictor.kind == "classification"
    assert predictor.weights.endswith("best_top1.pth")
    for weights in (work_dir, work_dir / "best_top1.pth", read_training_checkpoint(work_dir / "best_top1.pth")):
        other = Predictor(config, weights)
        assert torch.equal(other(NOISE).scores, expected)
    assert Predictor(config, work_dir).classes == tuple(COLORS)
    assert Predictor(load_config(config), work_dir).classes == tuple(COLORS)
    assert Predictor(load_config(config).to_dict(), False).classes == tuple(COLORS)  # those of the data's folder
    assert Predictor(config, False, cfg_options=GONE).classes == ()


def test_the_check_of_a_model_can_be_skipped(trained: Trained, monkeypatch: pytest.MonkeyPatch):
    config, work_dir = trained
    checked = []
    monkeypatch.setattr(building, "check_config", lambda cfg, **options: checked.append(cfg))
    Predictor(config, work_dir, check=False)
    assert not checked
    Predictor(config, work_dir)
    assert len(checked) == 1


def test_class_names_come_from_the_config_first(trained: Trained):
    config, work_dir = trained
    options = {"test_dataloader.dataset.class_map": ["a", "b", "c"]}
    assert Predictor(config, work_dir, cfg_options=options).classes == ("a", "b", "c")
    options = {"test_dataloader.dataset.class_map": ["n01440764", "n01443537", "n01484850"]}
    assert Predictor(config, False, cfg_options=options).classes == ("tench", "goldfish", "great white shark")
    options = {"test_dataloader.dataset.class_map": "gone.txt"}
    assert Predictor(config, work_dir, cfg_options=options).classes == tuple(COLORS)
    assert Predictor(config, False, cfg_options=GONE)(NOISE).name in ("0", "1", "2")
    assert Predictor(config, False, classes=["x", "y", "z"]).classes == ("x", "y", "z")
    with pytest.raises(ValueError, match="classes has 2 names, but the model has 3 classes"):
        Predictor(config, False, classes=["x", "y"])


def test_a_models_name_implies_the_preprocessing_of_its_weights(tmp_path: Path):
    model = tiny_model()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "nat_mini", "model_args": {**BACKBONE, "num_classes": 3}})
    )
    predictor = Predictor(f"local-dir:{tmp_path}")
    assert predictor.weights == "published"
    cfg = model.pretrained_cfg
    transform = evaluation_transform(cfg)
    pixels = transform(Image.fromarray(NOISE)).float() / 255
    mean, std = (torch.tensor(cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    assert pixels.shape == (3, 224, 224)
    with torch.no_grad():
        expected = model(((pixels - mean) / std)[None]).softmax(-1)[0]
    torch.testing.assert_close(predictor(NOISE).scores, expected, atol=1e-6, rtol=0)


def test_a_saved_model_has_its_class_names(tmp_path: Path):
    model = tiny_model()
    attnzoo.save_pretrained(model, tmp_path / "named", class_names=list(COLORS))
    attnzoo.save_pretrained(model, tmp_path / "unnamed")
    predictor = Predictor(f"local-dir:{tmp_path / 'named'}")
    assert predictor.classes == tuple(COLORS)
    assert predictor(NOISE).name in COLORS
    assert Predictor(attnzoo.create_model(f"local-dir:{tmp_path / 'named'}")).classes == tuple(COLORS)
    assert Predictor(f"local-dir:{tmp_path / 'unnamed'}").classes == ()


def test_published_imagenet_weights_have_class_names(monkeypatch: pytest.MonkeyPatch):
    model = tiny_model(num_classes=1000)
    monkeypatch.setattr("attnzoo.zoo.inference.building.create_model", lambda name, **options: model)
    predictor = Predictor("nat_mini.in1k", transform={"type": "Evaluation", "size": 16})
    assert predictor.classes[2] == "great white shark"
    assert len(set(predictor.classes)) >= 998  # ImageNet has a class or two twice
    assert Predictor("nat_mini.in1k", weights=False, transform={"type": "Evaluation", "size": 16}).classes == ()


def test_modules_are_used_with_a_transform():
    model = tiny_model()
    transform = {"type": "Evaluation", "size": 16}
    by_cfg = Predictor(model, transform=transform)(NOISE)
    assert by_cfg.scores.sum().item() == pytest.approx(1, abs=1e-5)

    class LinearClassifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.layer(image.mean((2, 3)))

    model = LinearClassifier()

    def normalizing(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1

    result = Predictor(model, transform=normalizing, classes=list("abcd"))(NOISE)
    expected = model(normalizing(Image.fromarray(NOISE))[None]).softmax(-1)[0]
    torch.testing.assert_close(result.scores, expected.detach(), atol=1e-6, rtol=0)
    assert result.name in "abcd"
    with pytest.raises(ValueError, match="needs a transform"):
        Predictor(model)
    with pytest.raises(ValueError, match="must return normalized floats"):
        Predictor(model, transform=transform)(NOISE)
    with pytest.raises(ValueError, match="must return a tensor"):
        Predictor(model, transform=lambda image: image)(NOISE)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("nat_mni", {}, "Did you mean 'nat_mini'"),
        ("nat_mini.in2k", {}, "in1k"),
        ("nat_digits", {}, "is a config, which has no weights"),
        ("{tmp}", {}, "has no config.py"),
        ("{tmp}/a.py", {}, "There is no file"),
        (3, {}, "got int"),
        ("nat_mini", {"weights": False, "device": "tpus"}, "There is no device 'tpus'"),
        ("nat_mini", {"weights": False, "device": "cuda:99"}, "torch sees [0-9]+ GPUs"),
        ("nat_mini", {"weights": False, "dtype": "int8"}, "Unknown dtype 'int8'"),
        ("nat_mini", {"weights": False, "batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ("nat_mini", {"weights": False, "on_error": "ignore"}, "Unknown on_error 'ignore'"),
        ("nat_mini", {"weights": False, "cfg_options": ["a=1"]}, "cfg_options change a config"),
        ("nat_mini", {"weights": "gone.pth"}, "gone.pth"),
        ({"model": {"type": "Classifier", "backbone": {"type": "nat_mini"}}}, {"weights": False}, "pass transform="),
        ({}, {"weights": False}, "has no `model`"),
    ],
)
def test_wrong_arguments_are_errors(model: object, options: dict, message: str, tmp_path: Path):
    model = model.format(tmp=tmp_path) if isinstance(model, str) else model
    with pytest.raises((ValueError, OSError), match=message):
        Predictor(model, **options)  # pyright: ignore[reportArgumentType]


def test_an_untrained_head_is_rejected(trained: Trained):
    config, work_dir = trained
    with pytest.raises(ValueError, match="The checkpoint's head has 3 outputs"):
        Predictor(config, work_dir, cfg_options={"model.backbone.num_classes": 5})


def test_weights_in_the_config_are_not_downloaded(trained: Trained, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ATTNZOO_OFFLINE", "1")
    options = {"model.backbone.pretrained": True, "model.init_weights": "gone.pth"}
    predictor = Predictor(trained[0], trained[1], cfg_options=options)
    assert torch.equal(predictor(NOISE).scores, Predictor(trained[1])(NOISE).scores)


def test_names_for_another_number_of_classes_are_ignored(trained: Trained, tmp_path: Path):
    copied = Path(shutil.copytree(trained[1], tmp_path / "copied"))
    (copied / "classes.json").write_text('["a", "b"]')
    assert Predictor(copied, cfg_options=GONE).classes == tuple(COLORS)  # the checkpoint carries them
    for path in copied.glob("*.pth"):  # as older versions wrote it
        checkpoint = torch.load(path, weights_only=True)
        del checkpoint["meta"]["preprocessing"]
        torch.save(checkpoint, path)
    assert Predictor(copied, cfg_options=GONE).classes == ()
    assert Predictor(copied).classes == tuple(COLORS)
    (copied / "classes.json").write_text('["a", "b", "c"]')
    assert Predictor(copied).classes == ("a", "b", "c")
    (copied / "classes.json").write_text('{"a": 0}')
    with pytest.raises(ValueError, match="must contain a list of names"):
        Predictor(copied)


def test_no_config_is_read_from_a_checkpoint(trained: Trained, tmp_path: Path):
    copied = Path(shutil.copytree(trained[1], tmp_path / "copied"))
    (copied / "config.py").unlink()
    with pytest.raises(ValueError, match=r"has no config\.py"):
        Predictor(copied)
