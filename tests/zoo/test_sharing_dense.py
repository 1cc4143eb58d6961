"""Detectors and segmentors predict the same from a work dir, a checkpoint and an exported file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from attnzoo import Predictor
from attnzoo.tools import export as export_tool
from attnzoo.zoo.config import load_config
from attnzoo.zoo.data.examples.scenes import make_scenes
from attnzoo.zoo.inference.preprocessing import prepare_image
from attnzoo.zoo.registry import TRANSFORMS
from attnzoo.zoo.training import build_runner

pytestmark = pytest.mark.slow
OPTIONS = [
    "model.backbone.depths=[1,1,1]",
    "model.backbone.planes=[8,16,16]",
    "model.neck.out_channels=16",
    "model.decode_head.channels=16",
    "model.data_preprocessor.mean=[0.4,0.3,0.2]",
    "train_dataloader.dataset.transform.crop_size=[64,64]",
    "test_dataloader.dataset.transform.scale=[128,96]",
    "train_cfg.max_epochs=1",
    "param_scheduler.warmup_iters=1",
]


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of a segmentor that was trained for a few steps with an unusual preprocessing."""
    folder = tmp_path_factory.mktemp("segmentor")
    make_scenes(folder / "scenes", size=64, train=8, val=2, most=2)
    cfg = load_config("eca_semantic-fpn_scenes", OPTIONS)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.root = str(folder / "scenes")
        loader.num_workers, loader.persistent_workers = 0, False
    cfg.work_dir = str(folder / "work")
    build_runner(cfg).train()
    return folder / "work"


def test_a_segmentor(work_dir: Path, tmp_path: Path) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    predictor: Any = Predictor(work_dir)
    expected = predictor(photo).label_map
    (checkpoint,) = work_dir.glob("epoch_*.pth")
    carried = torch.load(checkpoint, weights_only=True)["meta"]["preprocessing"]
    assert carried["mean"] == [0.4, 0.3, 0.2]
    assert carried["transform"]["scale"] == [128, 96]
    assert tuple(carried["label_names"]) == predictor.classes
    for other in (Predictor(checkpoint), Predictor(work_dir / "config.py", checkpoint)):
        assert torch.equal(other(photo).label_map, expected)
    path = tmp_path / "segmentor.onnx"
    arguments = [str(work_dir), "--weights", str(checkpoint), "--size", "96", "128", "--out", str(path)]
    assert export_tool.main([*arguments, "--fixed-batch", "--batch-size", "1"]) == 0
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(texts["attnzoo.classes"])) == predictor.classes
    sample = prepare_image(photo, "segmentation", TRANSFORMS.build(json.loads(texts["attnzoo.transform"])))
    mean, std = (torch.tensor(json.loads(texts[f"attnzoo.{name}"])).view(3, 1, 1) for name in ("mean", "std"))
    image = ((sample["image"].float() / 255 - mean) / std)[None]
    task = Predictor(checkpoint).task
    batch = task.data_preprocessor({"image": [sample["image"]], "info": [sample["info"]]})
    with torch.no_grad():
        logits = task(image=batch["image"], mode="tensor")
    (exported,) = session.run(["logits"], {"image": image.numpy()})
    np.testing.assert_allclose(np.asarray(exported), logits.numpy(), atol=1e-4 * float(logits.abs().max()))
