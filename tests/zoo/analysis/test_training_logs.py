"""Logs of trainings: scalars read, chosen by name, best values, times, running means."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from attnzoo.zoo.analysis.training_logs import (
    ScalarHistory,
    best_index,
    choose_scalars,
    higher_is_better,
    read_learning_curve,
    read_training_log,
    read_training_logs,
    running_mean,
)
from attnzoo.zoo.plots.tables import scalar_table
from attnzoo.zoo.work_dir import SCALARS
from support.training_logs import write_log


def test_scalars_are_told_apart_by_who_logged_them(tmp_path: Path):
    log = read_training_log(write_log(tmp_path / "mask_rcnn"))
    assert log.name == "mask_rcnn"
    assert list(log.scalars) == [
        *("lr", "time", "data_time", "loss", "loss_rpn_cls", "acc", "bbox_mAP", "bbox_mAP_50", "val/loss"),
    ]
    loss, validated = log.scalars["loss"], log.scalars["val/loss"]
    assert loss.iterations == list(range(5, 41, 5))
    assert loss.epochs == pytest.approx(np.arange(0.5, 4.1, 0.5))
    assert loss.values == pytest.approx([1 / iteration for iteration in range(5, 41, 5)])
    assert (loss.validation, validated.validation) == (False, True)
    assert (validated.epochs, validated.values) == ([1, 2, 3, 4], [2, 1, 0, -1])


def test_values_that_are_not_finite_are_left_out(tmp_path: Path):
    lines = [{"mode": "train", "epoch": 1, "iter": 1, "loss": None, "flag": True, "name": "x"}]
    lines += [{"mode": "train", "epoch": 1, "iter": 2, "loss": 0.5}]
    (tmp_path / SCALARS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    log = read_training_log(tmp_path)
    assert list(log.scalars) == ["loss"]
    assert log.scalars["loss"].values == [0.5]
    assert log.seconds_per_iteration is None
    assert "-" in scalar_table([log], ["loss"])


def test_folders_of_one_name_are_called_by_their_paths(tmp_path: Path):
    folders = [write_log(tmp_path / "a" / "run"), write_log(tmp_path / "b" / "run"), write_log(tmp_path / "other")]
    assert [log.name for log in read_training_logs(folders)] == [str(folders[0]), str(folders[1]), "other"]
    with pytest.raises(ValueError, match="There is no training log"):
        read_training_logs([tmp_path])


def test_scalars_are_chosen_by_name_and_pattern(tmp_path: Path):
    logs = [read_training_log(write_log(tmp_path / "run"))]
    assert choose_scalars(logs) == ["loss", "bbox_mAP"]
    assert choose_scalars(logs, ["lr", "loss*", "loss"]) == ["lr", "loss", "loss_rpn_cls"]
    assert choose_scalars(logs, ["val/*"]) == ["val/loss"]
    with pytest.raises(ValueError, match=r"Unknown scalar 'bbox_map50'\. Did you mean 'bbox_mAP_50'"):
        choose_scalars(logs, ["bbox_map50"])
    # Without a main metric, the first ones that were logged in validation.
    del logs[0].scalars["bbox_mAP"]
    assert choose_scalars(logs) == ["loss", "bbox_mAP_50", "val/loss"]


def test_what_is_better():
    assert higher_is_better("s0.loss_cls") is False
    assert higher_is_better("val/loss") is False
    assert higher_is_better("ema/top1") is True
    assert [higher_is_better(key) for key in ("lr", "base_lr", "data_time", "grad_norm", "loss_scale")] == [None] * 5
    history = ScalarHistory(True, [1, 2, 3], [1, 2, 3], [5.0, 7.0, 7.0])
    assert best_index("top1", history) == 1
    assert best_index("loss", history) == 0
    assert best_index("lr", history) is None


def test_times_count_by_the_iterations_they_stand_for(tmp_path: Path):
    seconds = {1: 10.0, 10: 1.0}
    lines = [{"mode": "train", "epoch": 1, "iter": iteration, "time": time} for iteration, time in seconds.items()]
    (tmp_path / SCALARS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    log = read_training_log(tmp_path)
    assert log.seconds_per_iteration == pytest.approx((1 * 10 + 9 * 1) / 10)
    assert log.hours == pytest.approx(19 / 3600)
    assert log.data_share is None


def test_running_means_are_centered():
    assert running_mean([0.0, 3.0, 0.0, 3.0, 9.0], 1) == [0, 1, 2, 4, 9]
    assert running_mean([1.0, 2.0], 0) == [1, 2]
    assert running_mean([4.0] * 7, 3) == [4.0] * 7


def test_learning_curves_have_positions_in_epochs(tmp_path: Path):
    curve = read_learning_curve(write_log(tmp_path / "run", iterations=20))
    assert curve.epochs == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert curve.losses == pytest.approx([1 / 5, 1 / 10, 1 / 15, 1 / 20])
    assert curve.learning_rates[0] == pytest.approx(2e-4)
    assert curve.metrics == {
        "bbox_mAP": [(1.0, 10.0), (2.0, 20.0)],
        "bbox_mAP_50": [(1.0, 20.0), (2.0, 40.0)],
        "loss": [(1.0, 2.0), (2.0, 1.0)],
    }


def test_learning_curves_have_nan_for_losses_that_were_not_finite(tmp_path: Path):
    lines = [{"mode": "train", "epoch": 1, "iter": step, "loss": loss} for step, loss in ((1, None), (2, 0.5))]
    (tmp_path / SCALARS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    curve = read_learning_curve(tmp_path)
    assert math.isnan(curve.losses[0])
    assert curve.losses[1] == 0.5
    assert np.isnan(curve.learning_rates).all()
    with pytest.raises(ValueError, match="There is no training log"):
        read_learning_curve(tmp_path / "none")
