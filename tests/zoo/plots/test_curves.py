"""Plots of learning curves, and of scalars of several trainings."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.analysis.training_logs import read_training_log
from attnzoo.zoo.plots.curves import draw_learning_curve, draw_scalars
from attnzoo.zoo.work_dir import SCALARS
from support import training_logs

BLUE, ORANGE = (31, 119, 180), (255, 127, 14)


def write_records(work_dir: Path, records: list[dict]) -> None:
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
    write_records(tmp_path, records)
    return tmp_path


def test_losses_that_are_not_finite_are_gaps(tmp_path: Path):
    write_records(tmp_path, [training_record(1, None), training_record(2, 0.5)])
    assert draw_learning_curve(tmp_path).is_file()


def test_the_plot_shows_the_curves(work_dir: Path, tmp_path: Path):
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
def test_metrics_of_every_task_are_plotted(names: tuple[str, str], tmp_path: Path):
    records: list[dict] = [training_record(i, 1 / i) for i in (10, 20)]
    for epoch in (1, 2):
        values = {name: 30.0 * epoch + place for place, name in enumerate(names)}
        records.append({"mode": "val", "epoch": epoch, "iter": 10 * epoch, **values, "mAP_s": -1.0})
    write_records(tmp_path, records)
    with Image.open(draw_learning_curve(tmp_path)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    right = pixels[:, pixels.shape[1] // 2 :]
    for color in (BLUE, ORANGE):
        assert (np.abs(right - np.array(color)).sum(-1) < 30).sum() > 300


def test_without_validation_only_the_loss_is_plotted(tmp_path: Path):
    write_records(tmp_path, [training_record(i, 1 / i) for i in range(1, 200)])
    assert draw_learning_curve(tmp_path, tmp_path / "elsewhere.png", title="a title").stat().st_size > 10_000


def pixels_of(content: bytes, color: tuple[int, int, int]) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.abs(np.asarray(image.convert("RGB")).astype(int) - np.array(color)).sum(-1) < 30


def test_curves_of_a_kind_share_a_panel(tmp_path: Path):
    logs = [read_training_log(training_logs.write_log(tmp_path / "first"))]
    losses = draw_scalars(logs, ["loss", "loss_rpn_cls"])
    assert pixels_of(losses, BLUE).sum() > 300
    assert pixels_of(losses, ORANGE).sum() > 300
    mixed = draw_scalars(logs, ["loss", "bbox_mAP"], by="iter", title="a title")
    blue, orange = pixels_of(mixed, BLUE), pixels_of(mixed, ORANGE)
    half = blue.shape[1] // 2
    assert min(blue[:, :half].sum(), blue[:, half:].sum()) > 300
    assert orange.sum() == 0
    assert blue.shape[1] > pixels_of(losses, BLUE).shape[1]


def test_every_training_has_a_color(tmp_path: Path):
    logs = [
        read_training_log(training_logs.write_log(tmp_path / "first")),
        read_training_log(training_logs.write_log(tmp_path / "second", scale=2)),
    ]
    plot = draw_scalars(logs, ["loss"])
    assert min(pixels_of(plot, BLUE).sum(), pixels_of(plot, ORANGE).sum()) > 300
    # A training that did not log a scalar has no curve for it.
    del logs[1].scalars["loss"]
    assert pixels_of(draw_scalars(logs, ["loss"]), ORANGE).sum() == 0
