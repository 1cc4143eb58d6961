"""Learning curves: joined over resumptions, drawn with what was logged."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.reports.curves import draw_learning_curve, find_scalar_logs, read_learning_curve


def write_log(work_dir: Path, start: str, rows: list[dict], tail: str = "") -> None:
    path = work_dir / start / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)


def training_row(iteration: int, epoch: int, loss: float) -> dict:
    return {"lr": 1e-3 / iteration, "time": 0.1, "loss": loss, "iter": iteration, "epoch": epoch, "step": iteration}


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    """10 iterations an epoch; cut off in epoch 3 and resumed from the end of epoch 2."""
    first = [training_row(5 * i, (5 * i + 9) // 10, 2 / i) for i in range(1, 6)]
    first.insert(2, {"top1": 50.0, "top5": 80.0, "time": 0.1, "step": 1})
    first.insert(5, {"top1": 60.0, "top5": 85.0, "time": 0.1, "step": 2})
    first.append({"top1": 1.0, "step": 3})
    write_log(tmp_path, "20240101_000000", first, tail='{"loss": 0.')
    second = [training_row(5 * i, (5 * i + 9) // 10, 20 / i) for i in range(5, 9)]
    second += [{"top1": 70.0, "top5": 90.0, "step": 3}, {"top1": 65.0, "top5": 91.0, "step": 4}]
    write_log(tmp_path, "20240101_000100", second)
    write_log(tmp_path, "20240101_000200", [{"top1": 99.0, "step": 0}])  # an evaluation's
    return tmp_path


def test_a_resumed_training_is_one_curve(work_dir: Path):
    assert len(find_scalar_logs(work_dir)) == 3
    curve = read_learning_curve(work_dir)
    assert curve.epochs == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0])
    assert curve.losses == pytest.approx([2, 1, 2 / 3, 0.5, 4, 20 / 6, 20 / 7, 2.5])
    assert curve.learning_rates[0] == pytest.approx(2e-4)
    assert curve.metrics == {
        "top1": [(1.0, 50.0), (2.0, 60.0), (3.0, 70.0), (4.0, 65.0)],
        "top5": [(1.0, 80.0), (2.0, 85.0), (3.0, 90.0), (4.0, 91.0)],
    }


def test_losses_that_are_not_finite_are_gaps(tmp_path: Path):
    write_log(tmp_path, "1", [training_row(1, 1, math.nan), training_row(2, 1, 0.5)])
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
    assert sorted(p.name for p in work_dir.iterdir() if p.is_file()) == ["learning_curve.png"]


def test_without_a_validation_the_loss_is_drawn_alone(tmp_path: Path):
    write_log(tmp_path, "1", [training_row(i, 1, 1 / i) for i in range(1, 200)])
    assert draw_learning_curve(tmp_path, tmp_path / "elsewhere.png", title="a title").stat().st_size > 10_000
