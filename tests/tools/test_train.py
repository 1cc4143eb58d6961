"""End-to-end tests of tools/train.py on a tiny folder of images."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from attnzoo import create_model
from attnzoo.tools import train as train_tool
from attnzoo.zoo.config import load_config
from attnzoo.zoo.plots import curves
from attnzoo.zoo.tasks import Classifier
from attnzoo.zoo.training import EXIT_PREEMPTED, Preempted, Runner, read_scalars, read_training_checkpoint
from support.tiny_classifier import BACKBONE


def test_training_writes_checkpoints_logs_and_a_learning_curve(trained: Path):
    names = {path.name for path in trained.iterdir()}
    assert {"epoch_2.pth", "best_top1.pth", "scalars.jsonl", "config.py", "learning_curve.png"} <= names
    records = read_scalars(trained)
    assert [record["epoch"] for record in records if record["mode"] == "val"] == [1, 2]
    with Image.open(trained / "learning_curve.png") as image:
        assert image.size[0] > 1000
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 50
    assert load_config(trained / "config.py").randomness.seed == 3


@pytest.mark.parametrize("use_ema", [False, True])
def test_checkpoints_load_through_create_model(trained: Path, use_ema: bool):
    checkpoint = trained / "epoch_2.pth"
    model = create_model("nat_mini", checkpoint_path=checkpoint, use_ema=use_ema, **BACKBONE)
    assert model.num_classes == 3
    state = read_training_checkpoint(checkpoint)["ema_state_dict" if use_ema else "state_dict"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[f"backbone.{name}"]), name


def test_resuming_continues_where_training_stopped(config: Path, copied: Path, capsys: pytest.CaptureFixture[str]):
    options = ["--cfg-options", "train_cfg.max_epochs=3"]
    assert train_tool.main([str(config), "--work-dir", str(copied), "--resume", *options]) == 0
    epochs = [record["epoch"] for record in read_scalars(copied) if record["mode"] == "train"]
    assert sorted(set(epochs)) == [1, 2, 3]
    assert read_training_checkpoint(copied / "epoch_3.pth")["meta"]["epoch"] == 3
    assert "Resumed from" in "".join(capsys.readouterr())


def test_resuming_from_a_checkpoint_path(config: Path, trained: Path, tmp_path: Path):
    options = ["--cfg-options", "train_cfg.max_epochs=3"]
    arguments = [str(config), "--work-dir", str(tmp_path / "new"), "--resume", str(trained / "epoch_1.pth")]
    assert train_tool.main([*arguments, *options]) == 0
    assert read_training_checkpoint(tmp_path / "new" / "epoch_3.pth")["meta"]["iter"] == 9


def test_dry_run_prints_a_summary_and_writes_nothing(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    work_dir = tmp_path / "dry"
    arguments = [str(config), "--work-dir", str(work_dir), "--dry-run", "--amp"]
    assert train_tool.main(arguments) == 0
    assert not work_dir.exists()
    summary = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if "  " in line)
    assert summary["training"] == "18 images, 3 iterations per epoch"
    assert summary["validation"] == "9 images"
    assert summary["length"] == "2 epochs, 6 iterations"
    count = sum(p.numel() for p in create_model("nat_mini", num_classes=3, **BACKBONE).parameters())
    assert summary["parameters"] == f"{count:,}, {count:,} of them trainable"
    assert "G multiply-accumulates at 16x16" in summary["model"]
    assert summary["schedule"].startswith("WarmupCosine: learning rate 0.002 at first, 0.002 at most, ")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("modle.x=1", "Unknown top-level key 'modle'. Did you mean 'model'"),
        ("model.backbone.kernel_sizes=3", "model.backbone.kernel_sizes: nat_mini has no argument"),
        (
            "model.backbone.num_classes=4",
            "model.backbone.num_classes: is 4, but train_dataloader.dataset has 3 classes",
        ),
        ("train_dataloader.dataset.root=nowhere", "train_dataloader.dataset.root: there is no nowhere"),
        ("val_dataloader.dataset.transform.size=8", "val_dataloader.dataset.transform.size: is 8x8, smaller than"),
        ("train_dataloader.batch_size=big", "train_dataloader.batch_size: must be"),
        ("model.frozen_stages=7", "frozen_stages must be -1 (nothing) or between 0 and 2, got 7."),
        ("resume=nowhere.pth", "resume: there is no file nowhere.pth"),
    ],
)
@pytest.mark.parametrize("tool", ["train", "dry run"])
def test_user_errors(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, message: str, tool: str
):
    arguments = [str(config), "--work-dir", str(tmp_path / "work"), "--cfg-options", option]
    assert train_tool.main([*arguments, *(["--dry-run"] if tool == "dry run" else [])]) == 2
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in error
    assert not list(tmp_path.glob("work/*.pth"))


def test_different_class_folders_are_detected_before_the_first_step(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    images = Path(shutil.copytree(config.parent / "images", tmp_path / "images"))
    (images / "val" / "red").rename(images / "val" / "crimson")
    options = ["--cfg-options", f"val_dataloader.dataset.root={images}"]
    assert train_tool.main([str(config), "--work-dir", str(tmp_path / "work"), *options]) == 2
    assert "lacks red" in capsys.readouterr().err
    assert not (tmp_path / "work" / "epoch_1.pth").exists()


def test_exception_in_training_keeps_its_traceback(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(Classifier, "_losses", broken)
    with pytest.raises(ValueError, match="a bug"):
        train_tool.main([str(config), "--work-dir", str(tmp_path)])


def test_exit_code_of_a_preempted_training(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stopped(runner: Runner) -> None:
        raise Preempted("Stopped by SIGTERM.")

    monkeypatch.setattr(Runner, "train", stopped)
    assert train_tool.main([str(config), "--work-dir", str(tmp_path)]) == EXIT_PREEMPTED == 75


def test_failing_plot_does_not_fail_the_training(config: Path, copied: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*args: Any) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr(curves, "draw_learning_curve", fails)
    (copied / "learning_curve.png").unlink()
    assert train_tool.main([str(config), "--work-dir", str(copied), "--resume"]) == 0
    assert not (copied / "learning_curve.png").exists()
