"""A model gives the same scores however it is saved, loaded or exported: its preprocessing travels with its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import timm.data
import torch
from PIL import Image

from attnzoo import Predictor, create_model, load_weights, register_in_timm, save_pretrained
from attnzoo.tools import export as export_tool
from attnzoo.tools import train as train_tool
from attnzoo.zoo.config import load_config
from attnzoo.zoo.export import export_onnx, exportable
from attnzoo.zoo.registry import MODELS
from support.tiny_classifier import BACKBONE, write_config

TIMM: Any = timm
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NAMES = ("blue", "green", "red")

# The model is registered with ImageNet's mean and 224 pixels; so is none of this.
_CONFIG = """
_base_ = ["tiny.py"]
model = dict(data_preprocessor=dict(mean=(0.4, 0.3, 0.2), std=(0.3, 0.2, 0.1)))
_evaluation = dict(
    type="Evaluation",
    size=(96, 80),
    crop_pct=0.9,
    crop_mode="border",
    interpolation="bilinear",
    mean=(0.4, 0.3, 0.2),
)
train_dataloader = dict(dataset=dict(transform=dict(size=(96, 80))))
val_dataloader = dict(dataset=dict(transform=_evaluation))
test_dataloader = dict(dataset=dict(transform=_evaluation))
train_cfg = dict(max_epochs=1)
"""


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of a classifier that was trained with an unusual preprocessing."""
    folder = tmp_path_factory.mktemp("unusual")
    write_config(folder)
    (folder / "unusual.py").write_text(_CONFIG)
    assert train_tool.main([str(folder / "unusual.py"), "--work-dir", str(folder / "work")]) == 0
    return folder / "work"


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((170, 120), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def expected(work_dir: Path, photo: Image.Image) -> torch.Tensor:
    return scores(Predictor(work_dir), photo)


def scores(predictor: Predictor, photo: Image.Image) -> torch.Tensor:
    assert predictor.classes == NAMES
    return predictor(photo).scores


def close(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((actual - expected).abs().max() < 1e-5)


def checkpoint(work_dir: Path) -> Path:
    return work_dir / "epoch_1.pth"


def test_the_checkpoint_carries_the_preprocessing(work_dir: Path) -> None:
    meta = torch.load(checkpoint(work_dir), weights_only=True)["meta"]
    assert meta["preprocessing"] == {
        "mean": [0.4, 0.3, 0.2],
        "std": [0.3, 0.2, 0.1],
        "input_size": [3, 96, 80],
        "crop_pct": 0.9,
        "crop_mode": "border",
        "interpolation": "bilinear",
        "label_names": list(NAMES),
    }


def test_by_name_and_from_modules(work_dir: Path, photo: Image.Image, expected: torch.Tensor) -> None:
    path = checkpoint(work_dir)
    assert close(scores(Predictor(path), photo), expected)
    created: Any = create_model("nat_mini", checkpoint_path=path, **BACKBONE)
    assert created.pretrained_cfg["mean"] == (0.4, 0.3, 0.2)
    loaded = create_model("nat_mini", num_classes=3, **BACKBONE)
    load_weights(loaded, path)
    later = create_model("nat_mini", num_classes=3, **BACKBONE)
    for predictor in (Predictor(created), Predictor(loaded), Predictor(later, weights=path)):
        assert close(scores(predictor, photo), expected)


def test_saved_folders(work_dir: Path, photo: Image.Image, expected: torch.Tensor, tmp_path: Path) -> None:
    created = create_model("nat_mini", checkpoint_path=checkpoint(work_dir), **BACKBONE)
    folder = save_pretrained(created, tmp_path / "saved")
    source = f"local-dir:{folder}"
    again: Any = create_model("nat_mini", num_classes=3, **BACKBONE)
    load_weights(again, folder / "model.safetensors")
    for predictor in (Predictor(source), Predictor(again)):
        assert close(scores(predictor, photo), expected)
    register_in_timm()
    model = TIMM.create_model(source, pretrained=True).eval()
    data = TIMM.data.resolve_model_data_config(model)
    with torch.no_grad():
        logits = model(TIMM.data.create_transform(**data, is_training=False)(photo)[None])
    assert close(logits.softmax(-1)[0], expected)
    assert model.pretrained_cfg["label_names"] == NAMES


def test_a_saved_task(work_dir: Path, photo: Image.Image, expected: torch.Tensor, tmp_path: Path) -> None:
    """The task's preprocessor and what its checkpoint carries are saved, although the backbone was built by name."""
    task: Any = MODELS.build(load_config(work_dir / "config.py").model)
    load_weights(task.backbone, checkpoint(work_dir))
    folder = save_pretrained(task, tmp_path / "saved")
    assert close(scores(Predictor(f"local-dir:{folder}"), photo), expected)


def run_onnx(path: Path, photo: Image.Image) -> torch.Tensor:
    """Scores an image with onnxruntime and nothing but the file's own metadata."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    assert json.loads(texts["attnzoo.classes"]) == list(NAMES)
    transform = TIMM.data.create_transform(
        tuple(json.loads(texts["attnzoo.image_size"])),
        mean=json.loads(texts["attnzoo.mean"]),
        std=json.loads(texts["attnzoo.std"]),
        crop_pct=json.loads(texts["attnzoo.crop_pct"]),
        crop_mode=texts["attnzoo.crop_mode"],
        interpolation=texts["attnzoo.interpolation"],
    )
    (logits,) = session.run(["logits"], {"image": transform(photo)[None].numpy()})
    return torch.from_numpy(np.asarray(logits)).softmax(-1)[0]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["work dir", "config", "folder"])
def test_the_export_tool(
    work_dir: Path, photo: Image.Image, expected: torch.Tensor, tmp_path: Path, model: str
) -> None:
    path = tmp_path / "model.onnx"
    arguments = [str(work_dir)]
    if model == "config":
        arguments = [str(work_dir / "config.py"), "--weights", str(checkpoint(work_dir))]
    elif model == "folder":
        created = create_model("nat_mini", checkpoint_path=checkpoint(work_dir), **BACKBONE)
        arguments = [f"local-dir:{save_pretrained(created, tmp_path / 'saved')}"]
    assert export_tool.main([*arguments, "--out", str(path)]) == 0
    assert close(run_onnx(path, photo), expected)


@pytest.mark.slow
def test_an_exported_file(work_dir: Path, photo: Image.Image, expected: torch.Tensor, tmp_path: Path) -> None:
    model = create_model("nat_mini", checkpoint_path=checkpoint(work_dir), **BACKBONE)
    export_onnx(exportable(model), tmp_path / "model.onnx", (96, 80), dynamic_batch=False, batch_size=1)
    assert close(run_onnx(tmp_path / "model.onnx", photo), expected)


def test_checkpoints_outside_of_a_work_dir_need_a_model(work_dir: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.pth"
    alone.write_bytes(checkpoint(work_dir).read_bytes())
    with pytest.raises(ValueError, match=r"alone\.pth is a checkpoint without a config\.py in its folder"):
        Predictor(alone)
    with pytest.raises(ValueError, match="is a checkpoint, so weights= must be omitted"):
        Predictor(checkpoint(work_dir), alone)


def test_another_preprocessing_of_the_config_is_a_warning(work_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = {"model.data_preprocessor.mean": (0.1, 0.1, 0.1)}
    Predictor(work_dir / "config.py", checkpoint(work_dir), cfg_options=options)
    assert "mean [0.4, 0.3, 0.2], not [0.1, 0.1, 0.1]" in caplog.text


def test_a_task_in_memory(work_dir: Path, photo: Image.Image, expected: torch.Tensor) -> None:
    task: Any = MODELS.build(load_config(work_dir / "config.py").model)
    report = load_weights(task.backbone, checkpoint(work_dir))
    assert report.preprocessing is not None
    report.preprocessing.write_to(task)  # as training does
    assert close(scores(Predictor(task), photo), expected)
