"""Learning curves: read from a training's log, drawn as a picture."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.plots.curves import draw_learning_curve, read_learning_curve
from attnzoo.zoo.work_dir import SCALARS


def write_log(work_dir: Path, records: list[dict]) -> None:
    (work_dir / SCALARS).write_text("".join(json.dumps(record) + "\n" for record in records))


def training_record(iteration: int, loss: float | None, epoch_length: int = 10) -> dict:
    epoch = (iteration - 1) // epoch_length + 1
    return {"mode": "train", "epoch": epoch, "iter": iteration, "lr": 1e-3 / iteration, "loss": loss}


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    """Four epochs of 10 iterations, logged twice an epoch."""
    records = []
    for epoch, top1 in ((1, 50.0), (2, 60.0), (3, 70.0), (4, 65.0)):
        records += [training_record(10 * epoch - 5, 2 / epoch), training_record(10 * epoch, 1 / epoch)]
        records.append({"mode": "val", "epoch": epoch, "iter": 10 * epoch, "top1": top1, "top5": top1 + 20})
    write_log(tmp_path, records)
    return tmp_path


def test_positions_are_epochs(work_dir: Path):
    curve = read_learning_curve(work_dir)
    assert curve.epochs == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0])
    assert curve.losses == pytest.approx([2, 1, 1, 1 / 2, 2 / 3, 1 / 3, 2 / 4, 1 / 4])
    assert curve.learning_rates[0] == pytest.approx(2e-4)
    assert curve.metrics == {
        "top1": [(1.0, 50.0), (2.0, 60.0), (3.0, 70.0), (4.0, 65.0)],
        "top5": [(1.0, 70.0), (2.0, 80.0), (3.0, 90.0), (4.0, 85.0)],
    }


def test_losses_that_are_not_finite_are_gaps(tmp_path: Path):
    write_log(tmp_path, [training_record(1, None), training_record(2, 0.5)])
    curve = read_learning_curve(tmp_path)
    assert math.isnan(curve.losses[0])
    assert draw_learning_curve(tmp_path).is_file()


def test_a_folder_without_a_training_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="There is no training log"):
        read_learning_curve(tmp_path)


def test_the_picture_shows_the_curves(work_dir: Path, tmp_path: Path):
    path = draw_learning_curve(work_dir)
    assert path == work_dir / "learning_curve.png"
    with Image.open(path) as image:
        assert image.size[0] >= 1000
        assert image.size[1] >= 400
        pixels = np.asarray(image.convert("RGB")).astype(int)
    half = pixels.shape[1] // 2
    blue = (np.abs(pixels - np.array([31, 119, 180])).sum(-1) < 30).sum(axis=0)
    orange = (np.abs(pixels - np.array([255, 127, 14])).sum(-1) < 30).sum(axis=0)
    assert blue[:half].sum() > 300  # the loss
    assert blue[half:].sum() > 300  # top1
    assert orange[half:].sum() > 300  # top5
    assert orange[:half].sum() == 0
    assert sorted(p.name for p in work_dir.iterdir() if p.is_file()) == ["learning_curve.png", SCALARS]


@pytest.mark.parametrize(
    "names",
    [("mIoU", "mAcc"), ("coco/bbox_mAP_50", "coco/segm_mAP"), ("F1", "recall")],
    ids=["segmentation", "detection", "unknown"],
)
def test_figures_of_every_task_are_drawn(names: tuple[str, str], tmp_path: Path):
    records: list[dict] = [training_record(i, 1 / i) for i in (10, 20)]
    for epoch in (1, 2):
        values = {name: 30.0 * epoch + place for place, name in enumerate(names)}
        records.append({"mode": "val", "epoch": epoch, "iter": 10 * epoch, **values, "mAP_s": -1.0})
    write_log(tmp_path, records)
    with Image.open(draw_learning_curve(tmp_path)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    right = pixels[:, pixels.shape[1] // 2 :]
    for colour in ((31, 119, 180), (255, 127, 14)):
        assert (np.abs(right - np.array(colour)).sum(-1) < 30).sum() > 300


def test_without_a_validation_the_loss_is_drawn_alone(tmp_path: Path):
    write_log(tmp_path, [training_record(i, 1 / i) for i in range(1, 200)])
    assert draw_learning_curve(tmp_path, tmp_path / "elsewhere.png", title="a title").stat().st_size > 10_000
