"""tools/train.py and tools/test.py, end to end on a tiny folder of images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo import create_model
from attnzoo.tools import test as test_tool
from attnzoo.tools import train as train_tool
from attnzoo.zoo.analysis.predictions import read_predictions
from attnzoo.zoo.config import load_config
from attnzoo.zoo.tasks import Classifier
from attnzoo.zoo.training import EXIT_PREEMPTED, Preempted, Runner, read_scalars, read_training_checkpoint
from support.tiny_classifier import BACKBONE, COLOURS, write_config

CONFIG = """
_base_ = ["tiny.py"]
default_hooks = dict(logger=dict(interval=2))
custom_hooks = [dict(type="EMAHook", decay=0.5)]
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config, beside a folder of 18 training and 9 validation images in three colours."""
    path = write_config(tmp_path_factory.mktemp("line"), train=6).with_name("line.py")
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def trained(config: Path) -> Path:
    """The work dir of a training."""
    work_dir = config.parent / "trained"
    assert train_tool.main([str(config), "--work-dir", str(work_dir), "--seed", "3"]) == 0
    return work_dir


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copied"))


def test_training_leaves_checkpoints_logs_and_the_curve(trained: Path):
    names = {path.name for path in trained.iterdir()}
    assert {"epoch_2.pth", "best_top1.pth", "scalars.jsonl", "config.py", "learning_curve.png"} <= names
    records = read_scalars(trained)
    assert [record["epoch"] for record in records if record["mode"] == "val"] == [1, 2]
    with Image.open(trained / "learning_curve.png") as image:
        assert image.size[0] > 1000
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 50
    assert load_config(trained / "config.py").randomness.seed == 3


def test_evaluation_writes_results_and_predictions(config: Path, trained: Path, tmp_path: Path):
    checkpoint = trained / "epoch_2.pth"
    arguments = [str(config), str(checkpoint), "--work-dir", str(tmp_path), "--confusion"]
    assert test_tool.main(arguments) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    validated = [record for record in read_scalars(trained) if record["mode"] == "val"][-1]
    assert results["top1"] == pytest.approx(validated["top1"])
    assert results["top2"] == pytest.approx(validated["top2"])
    assert results["images"] == 9
    assert results["checkpoint"] == str(checkpoint)
    assert results["model"] == "nat_mini"
    assert results["averaged_weights"] is True
    assert results["seconds"] > 0
    assert results["versions"]["torch"] == torch.__version__.split("+")[0]
    predictions = read_predictions(tmp_path)
    assert len(predictions) == 9
    right = sum(prediction.correct for prediction in predictions)
    assert 100 * right / 9 == pytest.approx(results["top1"])
    assert {prediction.name for prediction in predictions} == set(COLOURS)
    assert all(Path(prediction.path).is_file() for prediction in predictions)
    confusion = json.loads((tmp_path / "confusion.json").read_text())["confusion"]
    assert np.trace(np.array(confusion)) == right


def test_the_trained_weights_instead_of_the_averaged_ones(config: Path, trained: Path, tmp_path: Path):
    arguments = [str(config), str(trained / "epoch_2.pth"), "--work-dir", str(tmp_path), "--raw"]
    assert test_tool.main([*arguments, "--out", str(tmp_path / "raw.json")]) == 0
    assert json.loads((tmp_path / "raw.json").read_text())["averaged_weights"] is False
    assert not (tmp_path / "results.json").exists()


def test_a_work_dir_stands_for_its_best_checkpoint(copied: Path):
    assert test_tool.find_checkpoint(str(copied)) == str(copied / "best_top1.pth")
    (copied / "best_top1.pth").unlink()
    assert test_tool.find_checkpoint(str(copied)) == str(copied / "epoch_2.pth")
    for path in copied.glob("*.pth"):
        path.write_bytes(b"cut off")
    with pytest.raises(ValueError, match="no intact checkpoint"):
        test_tool.find_checkpoint(str(copied))
    assert test_tool.find_checkpoint("hf-hub:owner/name") == "hf-hub:owner/name"


@pytest.mark.parametrize("use_ema", [False, True])
def test_checkpoints_load_through_create_model(trained: Path, use_ema: bool):
    checkpoint = trained / "epoch_2.pth"
    model = create_model("nat_mini", checkpoint_path=checkpoint, use_ema=use_ema, **BACKBONE)
    assert model.num_classes == 3
    state = read_training_checkpoint(checkpoint)["ema_state_dict" if use_ema else "state_dict"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[f"backbone.{name}"]), name


def test_resuming_goes_on_where_training_stopped(config: Path, copied: Path, capsys: pytest.CaptureFixture[str]):
    options = ["--cfg-options", "train_cfg.max_epochs=3"]
    assert train_tool.main([str(config), "--work-dir", str(copied), "--resume", *options]) == 0
    epochs = [record["epoch"] for record in read_scalars(copied) if record["mode"] == "train"]
    assert sorted(set(epochs)) == [1, 2, 3]
    assert read_training_checkpoint(copied / "epoch_3.pth")["meta"]["epoch"] == 3
    assert "Resumed from" in "".join(capsys.readouterr())


def test_resuming_from_a_path(config: Path, trained: Path, tmp_path: Path):
    options = ["--cfg-options", "train_cfg.max_epochs=3"]
    arguments = [str(config), "--work-dir", str(tmp_path / "new"), "--resume", str(trained / "epoch_1.pth")]
    assert train_tool.main([*arguments, *options]) == 0
    assert read_training_checkpoint(tmp_path / "new" / "epoch_3.pth")["meta"]["iter"] == 9


def test_a_dry_run_tells_much_and_writes_nothing(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    work_dir = tmp_path / "dry"
    arguments = [str(config), "--work-dir", str(work_dir), "--dry-run", "--amp"]
    assert train_tool.main(arguments) == 0
    assert not work_dir.exists()
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if "  " in line)
    assert told["training"] == "18 images, 3 iterations an epoch"
    assert told["validation"] == "9 images"
    assert told["length"] == "2 epochs, 6 iterations"
    count = sum(p.numel() for p in create_model("nat_mini", num_classes=3, **BACKBONE).parameters())
    assert told["parameters"] == f"{count:,}, of which {count:,} are trained"
    assert "G multiply-accumulates at 16x16" in told["model"]
    assert told["schedule"].startswith("WarmupCosine: learning rate from 0.002 over 0.002 to")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("modle.x=1", "There is no top-level key 'modle'. Did you mean 'model'"),
        ("model.backbone.kernel_sizes=3", "model.backbone.kernel_sizes: There is no argument of nat_mini"),
        (
            "model.backbone.num_classes=4",
            "model.backbone.num_classes: is 4, but train_dataloader.dataset has 3 classes",
        ),
        ("train_dataloader.dataset.root=nowhere", "train_dataloader.dataset.root: there is no nowhere"),
        ("val_dataloader.dataset.transform.size=8", "val_dataloader.dataset.transform.size: is 8x8, smaller than"),
        ("train_dataloader.batch_size=big", "train_dataloader.batch_size: must be"),
        ("model.frozen_stages=7", "frozen_stages is -1 (nothing) or 0 to 2 stages"),
        ("resume=nowhere.pth", "resume: there is no file nowhere.pth"),
    ],
)
@pytest.mark.parametrize("tool", ["train", "dry run"])
def test_mistakes_are_one_line(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, said: str, tool: str
):
    arguments = [str(config), "--work-dir", str(tmp_path / "work"), "--cfg-options", option]
    assert train_tool.main([*arguments, *(["--dry-run"] if tool == "dry run" else [])]) == 2
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert said in line
    assert "Traceback" not in error
    assert not list(tmp_path.glob("work/*.pth"))


def test_class_folders_that_differ_are_found_before_the_first_step(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    images = Path(shutil.copytree(config.parent / "images", tmp_path / "images"))
    (images / "val" / "red").rename(images / "val" / "crimson")
    options = ["--cfg-options", f"val_dataloader.dataset.root={images}"]
    assert train_tool.main([str(config), "--work-dir", str(tmp_path / "work"), *options]) == 2
    assert "lacks red" in capsys.readouterr().err
    assert not (tmp_path / "work" / "epoch_1.pth").exists()


def test_a_failure_in_training_keeps_its_traceback(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(Classifier, "_losses", broken)
    with pytest.raises(ValueError, match="a bug"):
        train_tool.main([str(config), "--work-dir", str(tmp_path)])


def test_a_preempted_training_has_its_own_exit_code(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stopped(runner: Runner) -> None:
        raise Preempted("Stopped by SIGTERM.")

    monkeypatch.setattr(Runner, "train", stopped)
    assert train_tool.main([str(config), "--work-dir", str(tmp_path)]) == EXIT_PREEMPTED == 75


def test_a_picture_that_fails_is_no_failed_training(config: Path, copied: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*args: Any) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr(train_tool, "draw_learning_curve", fails)
    (copied / "learning_curve.png").unlink()
    assert train_tool.main([str(config), "--work-dir", str(copied), "--resume"]) == 0
    assert not (copied / "learning_curve.png").exists()


def test_published_weights_offline_are_one_clear_message(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ATTNZOO_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert test_tool.main([str(config), "--pretrained", "--work-dir", str(tmp_path / "work")]) == 2
    error = capsys.readouterr().err
    assert "nat_mini.pth" in error
    assert "Traceback" not in error
    assert not (tmp_path / "work" / "results.json").exists()


def test_either_a_checkpoint_or_the_published_weights(config: Path, capsys: pytest.CaptureFixture[str]):
    for arguments in ([str(config)], [str(config), "a.pth", "--pretrained"]):
        with pytest.raises(SystemExit) as exit_info:
            test_tool.main(arguments)
        assert exit_info.value.code == 2
        assert "either CHECKPOINT or --pretrained" in capsys.readouterr().err


def test_a_head_for_other_classes_is_refused(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.save(create_model("nat_mini", num_classes=5, **BACKBONE).state_dict(), tmp_path / "five.pth")
    assert test_tool.main([str(config), str(tmp_path / "five.pth"), "--work-dir", str(tmp_path)]) == 2
    assert "head has 5 outputs, that of the config's model 3" in capsys.readouterr().err


def test_a_broken_image_fails_an_evaluation_by_name(
    config: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    images = Path(shutil.copytree(config.parent / "images", tmp_path / "images"))
    (images / "val" / "green" / "1.png").write_bytes(b"no image")
    arguments = [str(config), str(trained), "--work-dir", str(tmp_path / "work")]
    assert test_tool.main([*arguments, "--cfg-options", f"test_dataloader.dataset.root={images}"]) == 2
    assert "green/1.png" in capsys.readouterr().err
    assert not (tmp_path / "work" / "results.json").exists()


def test_missing_checkpoints_and_test_data_are_named(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert test_tool.main([str(config), str(tmp_path / "nowhere.pth"), "--work-dir", str(tmp_path)]) == 2
    assert "nowhere.pth" in capsys.readouterr().err
    options = ["--cfg-options", "test_dataloader=none"]
    assert test_tool.main([str(config), "a.pth", "--work-dir", str(tmp_path), *options]) == 2
    assert "no test_dataloader" in capsys.readouterr().err
