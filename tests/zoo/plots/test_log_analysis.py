"""Scalars of several trainings: read, chosen by name, drawn, best and last values, times."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.plots.curves import smoothed
from attnzoo.zoo.plots.log_analysis import (
    Series,
    best_of,
    choose_keys,
    draw_runs,
    format_runs,
    higher_is_better,
    read_run,
    read_runs,
)
from attnzoo.zoo.work_dir import SCALARS

BLUE, ORANGE = (31, 119, 180), (255, 127, 14)


def write_log(work_dir: Path, scale: float = 1.0, iterations: int = 40) -> Path:
    """Epochs of 10 iterations, logged every 5; an evaluation an epoch."""
    work_dir.mkdir(parents=True)
    records: list[dict[str, Any]] = []
    for iteration in range(5, iterations + 1, 5):
        epoch = (iteration - 1) // 10 + 1
        values = {"lr": 1e-3 / iteration, "time": 0.5, "data_time": 0.1, "loss": scale / iteration}
        records.append({"mode": "train", "epoch": epoch, "iter": iteration, **values, "loss_rpn_cls": 0.1, "acc": 50.0})
        if iteration % 10 == 0:
            figures = {"bbox_mAP": 10 * scale * (epoch % 3), "bbox_mAP_50": 20.0 * epoch, "loss": 3.0 - epoch}
            records.append({"mode": "val", "epoch": epoch, "iter": iteration, **figures})
    (work_dir / SCALARS).write_text("".join(json.dumps(record) + "\n" for record in records))
    return work_dir


def test_scalars_are_told_apart_by_who_logged_them(tmp_path: Path):
    run = read_run(write_log(tmp_path / "mask_rcnn"))
    assert run.name == "mask_rcnn"
    assert list(run.series) == [
        *("lr", "time", "data_time", "loss", "loss_rpn_cls", "acc", "bbox_mAP", "bbox_mAP_50", "val/loss"),
    ]
    loss, validated = run.series["loss"], run.series["val/loss"]
    assert loss.iterations == list(range(5, 41, 5))
    assert loss.epochs == pytest.approx(np.arange(0.5, 4.1, 0.5))
    assert loss.values == pytest.approx([1 / iteration for iteration in range(5, 41, 5)])
    assert (loss.validation, validated.validation) == (False, True)
    assert (validated.epochs, validated.values) == ([1, 2, 3, 4], [2, 1, 0, -1])


def test_values_that_are_not_finite_are_left_out(tmp_path: Path):
    lines = [{"mode": "train", "epoch": 1, "iter": 1, "loss": None, "flag": True, "name": "x"}]
    lines += [{"mode": "train", "epoch": 1, "iter": 2, "loss": 0.5}]
    (tmp_path / SCALARS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(tmp_path)
    assert list(run.series) == ["loss"]
    assert run.series["loss"].values == [0.5]
    assert run.seconds_per_iteration is None
    assert "-" in format_runs([run], ["loss"])


def test_folders_of_one_name_are_called_by_their_paths(tmp_path: Path):
    folders = [write_log(tmp_path / "a" / "run"), write_log(tmp_path / "b" / "run"), write_log(tmp_path / "other")]
    assert [run.name for run in read_runs(folders)] == [str(folders[0]), str(folders[1]), "other"]
    with pytest.raises(ValueError, match="There is no training log"):
        read_runs([tmp_path])


def test_scalars_are_chosen_by_name_and_pattern(tmp_path: Path):
    runs = [read_run(write_log(tmp_path / "run"))]
    assert choose_keys(runs) == ["loss", "bbox_mAP"]
    assert choose_keys(runs, ["lr", "loss*", "loss"]) == ["lr", "loss", "loss_rpn_cls"]
    assert choose_keys(runs, ["val/*"]) == ["val/loss"]
    with pytest.raises(ValueError, match=r"no scalar 'bbox_map50'\. Did you mean 'bbox_mAP_50'"):
        choose_keys(runs, ["bbox_map50"])
    # Without a main figure, those that evaluations logged.
    del runs[0].series["bbox_mAP"]
    assert choose_keys(runs) == ["loss", "bbox_mAP_50", "val/loss"]


def test_what_is_better():
    assert higher_is_better("s0.loss_cls") is False
    assert higher_is_better("val/loss") is False
    assert higher_is_better("ema/top1") is True
    assert [higher_is_better(key) for key in ("lr", "base_lr", "data_time", "grad_norm", "loss_scale")] == [None] * 5
    series = Series(True, [1, 2, 3], [1, 2, 3], [5.0, 7.0, 7.0])
    assert best_of("top1", series) == 1
    assert best_of("loss", series) == 0
    assert best_of("lr", series) is None


def test_the_table_has_best_and_last_values_and_times(tmp_path: Path):
    runs = [read_run(write_log(tmp_path / "first")), read_run(write_log(tmp_path / "second", scale=2, iterations=20))]
    values, times = format_runs(runs, ["loss", "bbox_mAP", "lr"]).split("\n\n")
    assert [line.split() for line in values.splitlines()[1:]] == [
        ["first", "loss", "0.025", "4", "0.025", "4"],
        ["first", "bbox_mAP", "20", "2", "10", "4"],
        ["first", "lr", "-", "-", "2.5e-05", "4"],
        ["second", "loss", "0.1", "2", "0.1", "2"],
        ["second", "bbox_mAP", "40", "2", "40", "2"],
        ["second", "lr", "-", "-", "5e-05", "2"],
    ]
    assert [line.split() for line in times.splitlines()[1:]] == [
        ["first", "40", "0.5", "20.0", "%", "0.3", "min"],
        ["second", "20", "0.5", "20.0", "%", "0.2", "min"],
    ]


def test_times_count_by_the_iterations_they_stand_for(tmp_path: Path):
    seconds = {1: 10.0, 10: 1.0}
    lines = [{"mode": "train", "epoch": 1, "iter": iteration, "time": time} for iteration, time in seconds.items()]
    (tmp_path / SCALARS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(tmp_path)
    assert run.seconds_per_iteration == pytest.approx((1 * 10 + 9 * 1) / 10)
    assert run.hours == pytest.approx(19 / 3600)
    assert run.data_share is None


def pixels_of(content: bytes, colour: tuple[int, int, int]) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.abs(np.asarray(image.convert("RGB")).astype(int) - np.array(colour)).sum(-1) < 30


def test_curves_of_a_kind_share_a_panel(tmp_path: Path):
    runs = [read_run(write_log(tmp_path / "first"))]
    losses = draw_runs(runs, ["loss", "loss_rpn_cls"])
    assert pixels_of(losses, BLUE).sum() > 300
    assert pixels_of(losses, ORANGE).sum() > 300
    mixed = draw_runs(runs, ["loss", "bbox_mAP"], by="iter", title="a title")
    blue, orange = pixels_of(mixed, BLUE), pixels_of(mixed, ORANGE)
    half = blue.shape[1] // 2
    assert min(blue[:, :half].sum(), blue[:, half:].sum()) > 300
    assert orange.sum() == 0
    assert blue.shape[1] > pixels_of(losses, BLUE).shape[1]


def test_every_run_has_a_colour(tmp_path: Path):
    runs = [read_run(write_log(tmp_path / "first")), read_run(write_log(tmp_path / "second", scale=2))]
    picture = draw_runs(runs, ["loss"])
    assert min(pixels_of(picture, BLUE).sum(), pixels_of(picture, ORANGE).sum()) > 300
    # A run without a scalar has no curve of it.
    del runs[1].series["loss"]
    assert pixels_of(draw_runs(runs, ["loss"]), ORANGE).sum() == 0


def test_smoothing_is_a_centred_mean():
    assert smoothed([0.0, 3.0, 0.0, 3.0, 9.0], 1) == [0, 1, 2, 4, 9]
    assert smoothed([1.0, 2.0], 0) == [1, 2]
    assert smoothed([4.0] * 7, 3) == [4.0] * 7
